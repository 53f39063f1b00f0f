"""What lies where a drive's file system begins is either a cipher's or somebody else's."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashback.prepare.lost_header import looks_encrypted


@given(seed=st.integers())
def test_what_a_cipher_wrote_looks_encrypted(seed: int) -> None:
    assert looks_encrypted(random.Random(seed).randbytes(4096))


@pytest.mark.parametrize(
    "sample",
    [bytes(4096), b"\xff" * 4096, b"plain text, line after line\n" * 147, bytes(range(128)) * 32, b"", b"short"],
    ids=["zeros", "ones", "text", "ascii", "nothing", "too short"],
)
def test_what_no_cipher_wrote_does_not(sample: bytes) -> None:
    assert not looks_encrypted(sample[:4096])


@given(seed=st.integers())
def test_half_a_block_of_zeros_is_no_ciphers(seed: int) -> None:
    assert not looks_encrypted(bytes(2048) + random.Random(seed).randbytes(2048))
