"""Real LUKS2 headers in files; opening needs a kernel with dm-crypt (tests/guest)."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from flashback.core.command import Programs
from flashback.core.errors import DriveError
from flashback.core.secret import Secret
from flashback.drive import header
from flashback.tools import block, cryptsetup
from tests.conftest import run

OLD, NEW = Secret(b"old \xc3\xa4\n"), Secret(b"recovery-key")


@pytest.fixture
def device(tmp_path: Path, programs: Programs) -> str:
    (tmp_path / "volume").touch()
    os.truncate(tmp_path / "volume", 32 << 20)
    path = str(tmp_path / "volume")
    cryptsetup.format_volume(programs, path, label="flashback-red", passphrase=OLD, kdf=cryptsetup.PRACTICE)
    return path


def opens(device: str, secret: Secret) -> bool:
    try:
        run("cryptsetup", "open", "--test-passphrase", "--key-file=-", device, given=secret.reveal())
    except AssertionError:
        return False
    return True


def test_a_volume_is_opened_by_its_passphrase_byte_for_byte(device: str) -> None:
    assert opens(device, OLD)
    assert not opens(device, Secret(OLD.reveal().rstrip(b"\n")))


def test_a_volume_is_marked_as_ours_and_has_sectors_of_4096(device: str) -> None:
    dump = run("cryptsetup", "luksDump", device)
    assert "flashback-red" in dump
    assert "Subsystem:     \tflashback" in dump
    assert "sector: 4096" in dump
    assert block.luks_header(device) == (2, run("cryptsetup", "luksUUID", device).strip(), "flashback-red")


def test_no_slot_takes_more_memory_than_the_ceiling(device: str, programs: Programs) -> None:
    """With a KDF that is quick but real, since `luksAddKey` measures anew when it is not told."""
    kdf = cryptsetup.Kdf(memory_kib=32768, parallel=1, iter_ms=1)
    cryptsetup.format_volume(programs, device, label="x", passphrase=OLD, kdf=kdf)
    cryptsetup.add_key(programs, device, passphrase=OLD, new=NEW, kdf=kdf)
    memories = header.kdf_memories(cryptsetup.metadata(programs, device))
    assert sorted(memories) == [0, 1]
    assert all(0 < memory <= 32768 for memory in memories.values())


def test_a_second_key_opens_too(device: str, programs: Programs) -> None:
    cryptsetup.add_key(programs, device, passphrase=OLD, new=NEW, kdf=cryptsetup.PRACTICE)
    assert opens(device, NEW)
    assert opens(device, OLD)


def test_a_token_can_be_read_again(device: str, programs: Programs) -> None:
    token = {"type": "flashback", "keyslots": [], "version": 1}
    cryptsetup.import_token(programs, device, json.dumps(token))
    assert cryptsetup.metadata(programs, device)["tokens"] == {"0": token}


def test_the_digest_changes_with_the_header_and_not_with_the_data(device: str, programs: Programs) -> None:
    length = header.header_length(cryptsetup.metadata(programs, device))
    assert length == 16777216
    before = cryptsetup.header_digest(device, length)
    with open(device, "r+b") as volume:
        volume.seek(length)
        volume.write(b"data")
    assert cryptsetup.header_digest(device, length) == before
    cryptsetup.add_key(programs, device, passphrase=OLD, new=NEW, kdf=cryptsetup.PRACTICE)
    assert cryptsetup.header_digest(device, length) != before


def test_a_header_backup_brings_a_wiped_volume_back(device: str, programs: Programs, tmp_path: Path) -> None:
    kept = tmp_path / "red.header"
    kept.write_bytes(b"older")
    cryptsetup.backup_header(programs, device, kept)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o400
    with open(device, "r+b") as volume:
        volume.write(bytes(1 << 20))
    assert not opens(device, OLD)
    cryptsetup.restore_header(programs, device, kept)
    assert opens(device, OLD)


def test_a_device_without_a_header_has_no_metadata(tmp_path: Path, programs: Programs) -> None:
    (tmp_path / "blank").write_bytes(bytes(1 << 20))
    with pytest.raises(DriveError, match="no LUKS2 header"):
        cryptsetup.metadata(programs, str(tmp_path / "blank"))
