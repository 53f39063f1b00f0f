"""What a machine under faults stands on: file systems of its own for the master and the ledger, and a weak drive.

All lie on mappings, whose table another process can exchange: what is read or written from then on meets the new one.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.conftest import run

DISK = "disk"
"""Of a machine's home, the folder of the file system on which its master lies, which can be renamed and unmounted."""
MASTER_SIZE = 96 << 20
STATE_SIZE = 160 << 20
DRIVE_SIZE = 400 << 20
SECTOR = 512
NO_FLUSH, NO_MASTER = "flush-errors", "master-errors"
"""Files in a machine's home that say how (see `Weak.can_become`)."""
TAIL = 8
"""Sectors at the end of a weak drive which nobody is given. dm sends a flush to all parts of a mapping, so one that
refuses everything there fails the flush, and no write."""


class Weak:
    """A mapping of `below`, called `name`, which can `become` something else."""

    def __init__(self, name: str, below: Path) -> None:
        self.name = name
        self.below = below
        self.sectors = int(run("blockdev", "--getsz", below))
        run("modprobe", "dm-flakey")
        run("dmsetup", "create", name, given=self.table("linear").encode())
        run("udevadm", "settle")

    @property
    def path(self) -> Path:
        return Path("/dev/mapper") / self.name

    def table(self, how: str) -> str:
        most, all_of_it = self.sectors - TAIL, self.sectors
        refusing = "flakey {} {} 0 3600 1 error_writes"  # up for no second, down for an hour
        flushless = [f"0 {most} linear {self.below} 0", f"{most} {TAIL} {refusing.format(self.below, most)}"]
        return {
            "linear": f"0 {all_of_it} linear {self.below} 0",
            "error": f"0 {all_of_it} error",
            "write errors": f"0 {all_of_it} {refusing.format(self.below, 0)}",
            "flush errors": "\n".join(flushless),
        }[how]

    def become(self, how: str) -> None:
        exchange(self.name, self.table(how))

    def can_become(self, how: str, file: Path) -> None:
        """Another process can have it so, by `becomes`."""
        file.write_text(f"{self.name}\n{self.table(how)}", "ascii")

    def remove(self) -> None:
        run("dmsetup", "remove", "--retry", self.name)


def becomes(file: Path) -> None:
    exchange(*file.read_text("ascii").split("\n", 1))


def exchange(name: str, table: str) -> None:
    """From now on the mapping is what `table` says, without anything being written first."""
    run("dmsetup", "suspend", "--noflush", "--nolockfs", name)
    run("dmsetup", "load", name, given=table.encode())
    run("dmsetup", "resume", name)


class WeakDrive(Weak):
    """A loop device with partitions on such a mapping; it stands in for a `Stick`."""

    is_plugged = True

    def __init__(self, name: str, below: Path) -> None:
        super().__init__(name, below)
        size = str((self.sectors - TAIL) * SECTOR)
        made = run("losetup", "--find", "--show", "--partscan", "--sizelimit", size, self.path)
        self.device = Path(made.strip())

    def remove(self) -> None:
        run("losetup", "--detach", self.device)
        super().remove()


def loop(image: Path, size: int) -> Path:
    """A loop device on a new file with so many bytes, of which those take room that are written."""
    with image.open("wb") as file:
        file.truncate(size)
    return Path(run("losetup", "--find", "--show", image).strip())


@contextmanager
def weak_drive(home: Path) -> Iterator[WeakDrive]:
    """Without a stick, on a file."""
    below = loop(home / "drive.img", DRIVE_SIZE)
    drive = WeakDrive(f"weak-{below.name}", below)
    drive.can_become("flush errors", home / NO_FLUSH)
    try:
        yield drive
    finally:
        drive.remove()
        run("losetup", "--detach", below)


class OwnDisk:
    """A small ext4 on such a mapping, mounted at `where`."""

    def __init__(self, name: str, below: Path, where: Path, mode: int) -> None:
        self.weak = Weak(name, below)
        self.where = where
        run("mkfs.ext4", "-q", "-b", "4096", "-m", "0", "-O", "^has_journal", self.weak.path)
        where.mkdir(exist_ok=True)
        self.mount()
        where.chmod(mode)
        (where / "lost+found").rmdir()

    def mount(self) -> None:
        run("mount", "-o", "noatime", self.weak.path, self.where)

    def whole_again(self) -> None:
        """Nothing that it went through is left of it, but what is on the disk."""
        while os.path.ismount(self.where):
            run("umount", "--lazy", self.where)
        self.weak.become("linear")
        subprocess.run(["e2fsck", "-p", self.weak.path], check=False, capture_output=True)
        self.mount()

    def remove(self) -> None:
        run("umount", "--lazy", self.where)
        self.weak.remove()


@contextmanager
def own_disk(image: Path, size: int, where: Path, mode: int) -> Iterator[OwnDisk]:
    below = loop(image, size)
    disk = OwnDisk(f"{image.stem}-{below.name}", below, where, mode)
    try:
        yield disk
    finally:
        disk.remove()
        run("losetup", "--detach", below)


@contextmanager
def own_grounds(home: Path) -> Iterator[dict[str, OwnDisk]]:
    """The disks of the ledger (`state`) and of the master (`disk`) of the machine in `home`.

    Where the master's was unmounted, an empty folder is in its place: the worst that can happen.
    """
    (home / DISK / "Documents").mkdir(parents=True)
    with ExitStack() as stack:
        state = stack.enter_context(own_disk(home / "state.img", STATE_SIZE, home / "state", 0o700))
        disk = stack.enter_context(own_disk(home / "disk.img", MASTER_SIZE, home / DISK, 0o755))
        disk.weak.can_become("error", home / NO_MASTER)
        yield {"state": state, DISK: disk}
