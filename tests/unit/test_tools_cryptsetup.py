"""LUKS metadata as untrusted data, and mappings as the kernel lists them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashback.core.command import Command, Result
from flashback.core.errors import DriveError
from flashback.core.secret import Secret
from flashback.drive import header
from flashback.tools import cryptsetup

WORD = st.sampled_from(["", "0", "1", "-1", "x", "kdf", "memory", "offset", "16777216", "9" * 30])
JSON = st.recursive(
    st.none() | st.integers() | WORD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3),
    max_leaves=10,
)
UUID = "6e9695b8-a925-4a8b-84bc-8df68e75f86a"


def test_every_key_slot_states_its_memory() -> None:
    slots = {"0": {"kdf": {"type": "argon2id", "memory": 262144}}, "1": {"kdf": {"type": "pbkdf2"}}, "x": {}, "2": 5}
    assert header.kdf_memories({"keyslots": slots}) == {0: 262144, 1: 0}


def test_the_header_ends_where_the_data_begin() -> None:
    assert header.header_length({"segments": {"0": {"offset": "16777216"}}}) == 16777216


def test_an_enormous_offset_is_capped() -> None:
    assert header.header_length({"segments": {"0": {"offset": "999999999999999999"}}}) == 64 * 1024 * 1024


@pytest.mark.parametrize(
    "metadata",
    [{}, {"segments": []}, {"segments": {"0": {}}}, {"segments": {"0": {"offset": "0"}}},
     {"segments": {"0": {"offset": "-16777216"}}}, {"segments": {"0": {"offset": "1" * 5000}}},
     {"segments": {"0": {"offset": "16777216"}, "1": {"offset": "12"}}}],
)  # fmt: skip
def test_a_header_without_a_possible_length_is_refused(metadata: dict[str, Any]) -> None:
    with pytest.raises(DriveError, match="does not say where its data begin"):
        header.header_length(metadata)


@given(metadata=st.dictionaries(st.sampled_from(["keyslots", "segments"]), JSON))
def test_no_metadata_stop_us(metadata: dict[str, Any]) -> None:
    header.kdf_memories(metadata)
    try:
        assert header.header_length(metadata) >= header.SHORTEST_HEADER
    except DriveError:
        pass


def test_the_digest_covers_exactly_the_bytes_asked_for(tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.write_bytes(b"h" * 3_000_000 + b"data")
    expected = hashlib.blake2b(b"h" * 3_000_000, digest_size=32).hexdigest()
    assert cryptsetup.header_digest(str(device), 3_000_000) == expected


def test_a_device_shorter_than_its_header_has_no_digest(tmp_path: Path) -> None:
    (tmp_path / "device").write_bytes(b"short")
    with pytest.raises(DriveError, match="ends before"):
        cryptsetup.header_digest(str(tmp_path / "device"), 6)


def test_a_device_that_is_not_there_has_no_digest() -> None:
    with pytest.raises(DriveError, match="cannot be read"):
        cryptsetup.header_digest("/dev/does-not-exist", 6)


def test_a_cheap_kdf_is_never_the_default_hardness() -> None:
    assert "argon2id" in cryptsetup.STANDARD.options()
    assert not cryptsetup.STANDARD.cheap
    assert "1000" in cryptsetup.PRACTICE.options()


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cryptsetup, "SYS_BLOCK", tmp_path)
    for number, name, uuid in ((0, "red", f"CRYPT-LUKS2-{UUID.replace('-', '')}-red"), (1, "vg-root", "LVM-xyz")):
        home = tmp_path / f"dm-{number}"
        (home / "dm").mkdir(parents=True)
        (home / "slaves").mkdir()
        (home / "dm/name").write_text(name + "\n")
        (home / "dm/uuid").write_text(uuid + "\n")
    (tmp_path / "sda1").mkdir()
    (tmp_path / "dm-0/slaves/sda1").symlink_to(tmp_path / "sda1")
    return tmp_path


def test_mappings_of_a_volume_are_found_whatever_their_name(kernel: Path) -> None:
    (found,) = cryptsetup.mappings_of(UUID.upper())
    assert (found.name, found.path, found.backing, found.alive) == ("red", "/dev/dm-0", "/dev/sda1", True)


def test_a_mapping_whose_device_was_pulled_is_not_alive(kernel: Path) -> None:
    (kernel / "sda1").rmdir()
    (found,) = cryptsetup.mappings_of(UUID)
    assert (found.backing, found.alive) == (None, False)


def test_another_volume_has_no_mappings(kernel: Path) -> None:
    assert cryptsetup.mappings_of("00000000-0000-0000-0000-000000000000") == ()


def test_a_mapping_is_open_when_the_kernel_has_it(kernel: Path) -> None:
    assert cryptsetup.is_open("vg-root")
    assert not cryptsetup.is_open("blue")


def test_opening_ends_with_us_so_that_a_kill_meanwhile_leaves_no_mapping() -> None:
    """Deriving the key takes seconds; nobody would be left to close what is opened afterwards."""
    given: list[Command] = []

    def run(command: Command) -> Result:
        given.append(command)
        return Result(command, 0)

    cryptsetup.open_with(run, "/dev/sdx1", "flashback-red", secret=Secret(b"x"))
    assert [command.dies_with_us for command in given] == [True]
