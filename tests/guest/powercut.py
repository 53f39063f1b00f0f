"""Power cuts: a record of every write to a drive (dm-log-writes), and the drive as a cut after any of them leaves it.

What the device had been told to flush is there. Of what came after the last flush each write may be there, be missing,
or be torn: cut off at a sector. That is what a drive with a cache of its own may do (dm-log-writes.rst; the record lists
writes in the order in which they were completed, and a flush after all that it covers).
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tests.conftest import run
from tests.guest.conftest import PASSPHRASE
from tests.guest.machine import luks_on

_MAGIC, _FLUSH, _FUA, _DISCARD, _MARK, _METADATA = 0x6A736677736872, 1, 2, 4, 8, 16
SECTOR = 512
NAME = "recorded-disk"


@dataclass(frozen=True)
class Write:
    """One entry of the record. `place` is where its data lie in the log, `at` where they went on the disk; bytes."""

    flags: int
    at: int
    size: int
    place: int
    mark: str = ""

    @property
    def is_flush(self) -> bool:
        return bool(self.flags & _FLUSH)

    @property
    def is_there_at_once(self) -> bool:
        return bool(self.flags & _FUA)


def entries(log: BinaryIO) -> Iterator[Write]:
    """The record, in its order (drivers/md/dm-log-writes.c: `struct log_write_super`, `struct log_write_entry`)."""
    magic, version, count, sector = struct.unpack("<QQQI", log.read(28))
    assert (magic, version) == (_MAGIC, 1), "not a log of writes"
    place = sector
    for _each in range(count):
        log.seek(place)
        header = log.read(sector)
        at, sectors, flags, length = struct.unpack("<QQQQ", header[:32])
        mark = header[32 : 32 + length].decode() if flags & _MARK else ""
        place += sector
        size = sectors * sector
        yield Write(flags, at * sector, size, place, mark)
        place += 0 if flags & _DISCARD else size


class RecordedDrive:
    """A loop device on a mapping of one stick, whose writes another stick records; it stands in for a `Stick`."""

    is_plugged = True

    def __init__(self, below: Path, log: Path, folder: Path) -> None:
        self.below, self.log = below, log
        self.base = folder / "base.img"
        self.sectors = int(run("blockdev", "--getsz", below))
        for module in ("dm-flakey", "dm-log-writes"):
            run("modprobe", module)
        run("dmsetup", "create", NAME, "--table", f"0 {self.sectors} linear {below} 0")
        run("udevadm", "settle")
        found = run("losetup", "--find", "--show", "--partscan", "--direct-io=on", f"/dev/mapper/{NAME}")
        self.device = Path(found.strip())

    def _become(self, table: str) -> None:
        run("dmsetup", "suspend", NAME)
        run("dmsetup", "load", NAME, "--table", table)
        run("dmsetup", "resume", NAME)

    def record(self) -> None:
        """From now on; what is on the drive at this moment is kept."""
        run("sync")
        run("blockdev", "--flushbufs", self.device)
        run("dd", f"if={self.below}", f"of={self.base}", "bs=1M", "conv=sparse", "iflag=direct", "status=none")
        self._become(f"0 {self.sectors} log-writes {self.below} {self.log}")

    def mark(self, text: str) -> None:
        """Put a mark, one word, into the record; from any process."""
        run("dmsetup", "message", NAME, "0", "mark", text)

    def stop(self) -> list[Write]:
        """The record so far, which ends."""
        self._become(f"0 {self.sectors} linear {self.below} 0")
        run("blockdev", "--flushbufs", self.log)
        with self.log.open("rb") as log:
            return list(entries(log))

    def put_back(self, image: Path) -> None:
        """Make the drive what the image is."""
        run("dd", f"if={image}", f"of={self.device}", "bs=1M", "conv=fsync,notrunc", "status=none")
        run("blockdev", "--rereadpt", self.device)
        run("udevadm", "settle")

    def remove(self) -> None:
        run("losetup", "--detach", self.device)
        run("dmsetup", "remove", "--retry", NAME)


class Cuts:
    """The drive at one cut after the other, each not earlier than the one before."""

    def __init__(self, drive: RecordedDrive, record: Sequence[Write], folder: Path) -> None:
        self._record = record
        self._log = drive.log.open("rb")
        self._whole = drive.base
        self._done = 0
        self.image = folder / "cut.img"
        self._folder = folder

    def close(self) -> None:
        self._log.close()
        self.image.unlink(missing_ok=True)

    def cut(self, after: int, chance: random.Random) -> None:
        """Make `image` the drive of which the power failed after so many entries."""
        flushed = max((number + 1 for number, each in enumerate(self._record[:after]) if each.is_flush), default=0)
        with self._whole.open("r+b") as whole:
            for each in self._record[self._done : flushed]:
                self._apply(whole, each, each.size)
        self._done = max(self._done, flushed)
        run("cp", "--sparse=always", self._whole, self.image)
        with self.image.open("r+b") as image:
            for each in self._record[flushed:after]:
                kept = each.size if each.is_there_at_once else self._kept(each, chance)
                self._apply(image, each, kept)

    @staticmethod
    def _kept(each: Write, chance: random.Random) -> int:
        how = chance.random()
        if how < 0.4:
            return 0
        return each.size if how < 0.8 else chance.randrange(max(1, each.size // SECTOR)) * SECTOR

    def _apply(self, image: BinaryIO, each: Write, size: int) -> None:
        image.seek(each.at)
        if each.flags & _DISCARD:
            image.write(bytes(size))
        elif size:
            self._log.seek(each.place)
            image.write(self._log.read(size))

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """The drive of the cut, opened as a machine would that knows nothing of it: its log is replayed."""
        where = self._folder / "cut"
        where.mkdir(exist_ok=True)
        loop = Path(run("losetup", "--find", "--show", "--partscan", self.image).strip())
        run("udevadm", "settle")
        try:
            run("cryptsetup", "open", "--key-file=-", luks_on(loop), "cut", given=PASSPHRASE)
            try:
                run("mount", "-t", "btrfs", "/dev/mapper/cut", where)
                try:
                    yield where
                finally:
                    run("umount", where)
            finally:
                run("cryptsetup", "close", "cut")
        finally:
            run("losetup", "--detach", loop)


def telling(record: Sequence[Write], few: int, chance: random.Random) -> list[int]:
    """Where to cut: right before and after each mark and the flushes beside it, and `few` anywhere."""
    chosen: set[int] = set()
    for number, each in enumerate(record):
        if each.mark:
            flushes = [place for place in range(number) if record[place].is_flush][-2:]
            chosen |= {number, number + 1, *flushes}
    anywhere = [number for number in range(1, len(record) + 1) if number not in chosen]
    return sorted(chosen | set(chance.sample(anywhere, min(few, len(anywhere)))))
