"""A master on a disk that cannot be read in one place: the copy never holds zeros instead (LINUX.md 5.4)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flashback.core.events import RemarkKind
from tests.conftest import run
from tests.guest.conftest import Stick
from tests.tools.test_copy import Rig

MIB = 1024 * 1024
SECTOR = 512


class FailingDisk:
    """An ext4 on a mapping of which one stretch can be made unreadable."""

    def __init__(self, device: Path, where: Path) -> None:
        self.name = f"failing-{os.getpid()}"
        self.device, self.where = device, where
        self.sectors = int(run("blockdev", "--getsz", device))
        run("dmsetup", "create", self.name, "--table", self._linear(0, self.sectors))
        run("udevadm", "settle")
        run("mkfs.ext4", "-q", "-b", "4096", f"/dev/mapper/{self.name}")
        run("mount", f"/dev/mapper/{self.name}", where)

    def _linear(self, start: int, length: int) -> str:
        return f"{start} {length} linear {self.device} {start}"

    def spoil(self, file: Path, offset: int) -> None:
        """The block of `file` at `offset` cannot be read any more."""
        run("sync", "-f", file)
        bad = self._physical(file, offset) // SECTOR
        table = [self._linear(0, bad), f"{bad} 8 error", self._linear(bad + 8, self.sectors - bad - 8)]
        self._load("\n".join(table) + "\n")
        Path("/proc/sys/vm/drop_caches").write_text("3", "ascii")

    def heal(self) -> None:
        """Everything can be read again."""
        self._load(self._linear(0, self.sectors))

    def _load(self, table: str) -> None:
        run("dmsetup", "suspend", self.name)
        run("dmsetup", "load", self.name, given=table.encode())
        run("dmsetup", "resume", self.name)

    @staticmethod
    def _physical(file: Path, offset: int) -> int:
        """Bytes from the start of the disk, by FIEMAP as filefrag shows it."""
        for line in run("filefrag", "-b4096", "-v", file).splitlines():
            words = line.replace(":", " ").replace("..", " ").split()
            if len(words) > 5 and words[0].isdigit() and int(words[1]) * 4096 <= offset <= int(words[2]) * 4096:
                return (int(words[3]) - int(words[1])) * 4096 + offset
        raise AssertionError(f"{file} has no block at {offset}")

    def close(self) -> None:
        run("umount", self.where)
        run("dmsetup", "remove", "--retry", self.name)


@pytest.fixture
def disk(sticks: list[Stick], tmp_path: Path) -> Iterator[FailingDisk]:
    (tmp_path / "disk").mkdir()
    made = FailingDisk(sticks[1].device, tmp_path / "disk")
    yield made
    made.close()


@pytest.fixture
def rig(disk: FailingDisk, sticks: list[Stick], tmp_path: Path) -> Iterator[Rig]:
    run("mkfs.btrfs", "-q", "--csum", "blake2", sticks[0].device)
    (tmp_path / "drive").mkdir()
    run("mount", sticks[0].device, tmp_path / "drive")
    (disk.where / "master").mkdir()
    yield Rig(disk.where / "master", tmp_path / "drive")
    run("umount", tmp_path / "drive")


@pytest.mark.parametrize("size", [8 * MIB, 1 * MIB], ids=["in place", "as a whole"])
def test_what_cannot_be_read_to_its_end_keeps_its_earlier_copy(rig: Rig, disk: FailingDisk, size: int) -> None:
    file, old = rig.master / "file", os.urandom(size)
    file.write_bytes(old)
    rig.copy()
    rig.snapshot()
    with file.open("r+b") as changed:
        changed.write(os.urandom(4096))
    disk.spoil(file, size // 2)
    result = rig.copy()
    assert [(remark.kind, remark.path) for remark in result.remarks] == [(RemarkKind.UNREADABLE, b"file")]
    assert (rig.current / "file").read_bytes() == old

    disk.heal()
    assert rig.copy().remarks == ()
    assert rig.is_equal()
