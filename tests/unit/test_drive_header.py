"""What a LUKS2 header says about its key slots, as untrusted data; and when two headers are of one volume."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashback.drive import header
from flashback.drive.header import SlotKind

DIGEST = {"type": "pbkdf2", "keyslots": ["0", "1"], "segments": ["0"], "hash": "sha256", "iterations": 1000,
          "salt": "c2FsdA==", "digest": "ZGlnZXN0"}  # fmt: skip
METADATA: dict[str, Any] = {
    "keyslots": {
        "0": {"type": "luks2", "kdf": {"type": "argon2id", "memory": 262144}},
        "1": {"type": "luks2", "kdf": {"type": "pbkdf2"}},
    },
    "tokens": {"0": {"type": "flashback", "keyslots": ["1"], "v": 1}},
    "segments": {"0": {"type": "crypt", "offset": "16777216", "size": "dynamic", "encryption": "aes-xts-plain64"}},
    "digests": {"0": DIGEST},
}
WORD = st.sampled_from(["", "0", "1", "-1", "type", "keyslots", "segments", "kdf", "flashback", "9" * 30])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | WORD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3),
    max_leaves=12,
)


def changed(**sections: Any) -> dict[str, Any]:
    return deepcopy(METADATA) | sections


def kinds(metadata: dict[str, Any]) -> list[tuple[int, SlotKind]]:
    return [(slot.number, slot.kind) for slot in header.slots_of(metadata)]


def test_the_slots_of_our_token_hold_a_recovery_key() -> None:
    assert kinds(METADATA) == [(0, SlotKind.PASSPHRASE), (1, SlotKind.RECOVERY)]


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        ("systemd-fido2", SlotKind.FIDO2),
        ("systemd-tpm2", SlotKind.TPM2),
        ("systemd-pkcs11", SlotKind.SMARTCARD),
        ("systemd-recovery", SlotKind.RECOVERY),
        ("clevis", SlotKind.OTHER),
    ],
)
def test_a_token_of_another_program_says_what_opens_its_slot(token: str, kind: SlotKind) -> None:
    assert (1, kind) in kinds(changed(tokens={"0": {"type": token, "keyslots": ["1"]}}))


def test_a_slot_that_holds_another_key_is_no_slot_of_the_volume() -> None:
    unbound = DIGEST | {"keyslots": ["1"], "segments": []}
    found = kinds(changed(digests={"0": DIGEST | {"keyslots": ["0"]}, "1": unbound}))
    assert [number for number, _kind in found] == [0]


def test_a_slot_says_what_it_takes() -> None:
    first, second = header.slots_of(METADATA)
    assert first.words == "passphrase (argon2id, 256 MiB of memory)"
    assert second.words == "recovery key (pbkdf2)"


def test_our_token_is_found_wherever_it_lies() -> None:
    assert header.token_number(changed(tokens={"0": {"type": "clevis"}, "3": {"type": "flashback"}})) == 3
    assert header.token_number(changed(tokens={})) is None


def test_headers_with_other_slots_and_tokens_are_of_one_volume() -> None:
    digests = {"0": DIGEST | {"keyslots": ["7"]}}
    assert header.differences(METADATA, changed(keyslots={}, tokens={}, digests=digests)) == ()


@pytest.mark.parametrize(
    ("sections", "differing"),
    [
        ({"digests": {"0": DIGEST | {"digest": "eA=="}}}, ("volume key",)),
        ({"digests": {"0": DIGEST | {"salt": "eA=="}}}, ("volume key",)),
        ({"digests": {"0": DIGEST, "1": DIGEST | {"digest": "eA=="}}}, ("volume key",)),
        ({"segments": {"0": METADATA["segments"]["0"] | {"encryption": "null"}}}, ("encryption",)),
        ({"segments": {"0": METADATA["segments"]["0"] | {"offset": "32768"}}}, ("encryption",)),
        ({"segments": {}, "digests": {}}, ("volume key", "encryption")),
    ],
)
def test_another_key_or_encryption_is_another_volume(sections: dict[str, Any], differing: tuple[str, ...]) -> None:
    assert header.differences(METADATA, changed(**sections)) == differing


def test_two_headers_that_say_nothing_are_not_of_one_volume() -> None:
    assert header.differences({}, {}) == ("volume key", "encryption")


@given(metadata=st.dictionaries(st.sampled_from(list(METADATA)), JSON))
def test_no_header_stops_us(metadata: dict[str, Any]) -> None:
    for slot in header.slots_of(metadata):
        assert slot.words
    header.token_number(metadata)
    header.differences(metadata, METADATA)
