"""`flashback key header` on real headers: what is refused before one byte is written, and what is written then.

That the file system is seen through the copy needs a device mapper (tests/guest/test_keys.py); here it is said to be there.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flashback.rotation.ledger import Ledger
from tests.conftest import run
from tests.tools.test_keys import OLD, Drive

SIZE = 300 << 20
HEADER = 16 << 20
SEEN = """
import contextlib
import flashback.prepare.lost_header as lost
lost._see_data = lambda *asked: None
"""


@pytest.fixture
def big_loop(tmp_path: Path) -> Iterator[str]:
    """A loop device of 300 MiB whose data look as a cipher's would."""
    image = tmp_path / "big.img"
    with image.open("wb") as file:
        file.truncate(SIZE)
        file.seek(HEADER)
        file.write(os.urandom(1 << 20))
    device = run("losetup", "--find", "--show", image).strip()
    yield device
    run("losetup", "--detach", device)


@pytest.fixture
def drive(big_loop: str, tmp_path: Path) -> Drive:
    return Drive(tmp_path, big_loop)


def wipe(drive: Drive, *, length: int = HEADER, start: int = 0) -> None:
    with open(drive.device, "r+b") as device:
        device.seek(start)
        device.write(bytes(length))
        os.fsync(device.fileno())


def start_of(drive: Drive) -> bytes:
    with open(drive.device, "rb") as device:
        return device.read(HEADER)


def restore(
    drive: Drive, *more: str, code: int = 0, secret: bytes = OLD, where: str = ""
) -> subprocess.CompletedProcess[str]:
    words = ("header", "restore", where or drive.device, "--drive", "red", "--yes-overwrite-header")
    return drive.key(*words, "--passphrase-file", drive.file("secret", secret), *more, more=SEEN, code=code)


@pytest.mark.parametrize("length", [4096, 32 << 10, HEADER], ids=["first copy", "both copies", "all of it"])
def test_a_wiped_header_is_put_back_byte_for_byte(drive: Drive, length: int) -> None:
    before = start_of(drive)
    wipe(drive, length=length)
    restore(drive)
    assert start_of(drive) == before
    assert drive.kinds() == {0: "passphrase"}


def test_a_copy_that_somebody_kept_is_as_good(drive: Drive) -> None:
    kept = drive.folder / "red.luks"
    drive.key("header", "save", "red", "--to", str(kept))
    drive.kept.unlink()
    wipe(drive)
    restore(drive, "--from", str(kept))
    assert drive.opens(OLD)
    assert drive.kept_is_current()


def test_a_damaged_key_slot_is_put_back(drive: Drive) -> None:
    wipe(drive, start=32 << 10, length=256 << 10)
    assert not drive.opens(OLD)
    restore(drive)
    assert drive.opens(OLD)


def refused(drive: Drive, *more: str, code: int = 2, secret: bytes = OLD) -> str:
    """What is said; not a byte of the device was written."""
    before = start_of(drive)
    said = restore(drive, *more, code=code, secret=secret).stderr
    assert start_of(drive) == before
    return said


def test_a_wrong_passphrase_writes_nothing(drive: Drive) -> None:
    wipe(drive)
    refused(drive, code=5, secret=b"wrong")


def test_data_that_no_cipher_wrote_are_somebody_elses(drive: Drive) -> None:
    wipe(drive, length=HEADER + (1 << 20))
    assert "is not encrypted" in refused(drive)


def test_the_header_of_another_drive_is_refused(drive: Drive) -> None:
    other = drive.folder / "other.img"
    other.write_bytes(b"")
    os.truncate(other, 32 << 20)
    cheap = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
    run("cryptsetup", "luksFormat", "-q", "--type", "luks2", *cheap, "--key-file=-", other, given=OLD)
    wipe(drive)
    assert "the header of another drive" in refused(drive, "--from", str(other))


def test_a_healthy_header_is_left_alone(drive: Drive) -> None:
    assert "byte for byte" in refused(drive)


def test_without_a_copy_the_other_ways_are_named(drive: Drive) -> None:
    drive.kept.unlink()
    wipe(drive)
    assert "--from FILE" in refused(drive, code=4)


def test_a_script_must_say_that_the_header_may_be_overwritten(drive: Drive) -> None:
    wipe(drive)
    words = ("header", "restore", drive.device, "--drive", "red", "--passphrase-file", drive.file("secret", OLD))
    assert "--yes-overwrite-header" in drive.key(*words, more=SEEN, code=2).stderr
    assert not any(start_of(drive))


def test_which_drive_it_was_has_to_be_said_where_it_cannot_be_told(drive: Drive) -> None:
    wipe(drive)
    words = ("header", "restore", drive.device, "--passphrase-file", drive.file("secret", OLD))
    assert "--drive NAME" in drive.key(*words, more=SEEN, code=2).stderr


def test_a_disk_of_another_size_is_another_drive(drive: Drive) -> None:
    with Ledger.open(drive.state / "ledger.sqlite") as ledger:
        ledger.change(drive.uuid, size=1 << 30)
    wipe(drive)
    assert "but red had 1.0 GiB" in refused(drive)


def test_a_mounted_disk_is_refused(drive: Drive, tmp_path: Path) -> None:
    run("mkfs.ext4", "-q", "-F", drive.device)
    (tmp_path / "mnt").mkdir()
    run("mount", "-o", "ro", drive.device, tmp_path / "mnt")  # the kernel itself writes to it else, when it likes
    try:
        assert "is in use" in refused(drive)
    finally:
        run("umount", tmp_path / "mnt")


def test_a_copy_of_a_damaged_header_does_not_take_the_place_of_a_good_one(drive: Drive) -> None:
    good = drive.kept.read_bytes()
    wipe(drive, start=32 << 10, length=256 << 10)
    drive.key("header", "save", "red", code=4)
    assert drive.kept.read_bytes() == good
