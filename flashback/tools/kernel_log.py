"""The kernel log (/dev/kmsg): the only place where Btrfs names the files whose checksums do not match."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

KMSG: Final = Path("/dev/kmsg")
_LONGEST: Final = 64 * 1024
_DAMAGE: Final = re.compile(
    rb"BTRFS \w+ \(device (?P<device>[^ )]+)[^)]*\): (?:scrub: )?checksum error at logical .*?"
    rb"\broot (?P<root>\d{1,20}),? inode (?P<inode>\d{1,20}),? .*?\(path: (?P<path>.*?)\)?$",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file that cannot be read whole: subvolume id, inode, and its path from the subvolume's top."""

    root: int
    inode: int
    path: bytes


class KernelLog:
    """The kernel's messages from the moment of `from_now()` on. `readable` is false where we may not read them."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._lines: list[bytes] = []

    @classmethod
    def from_now(cls) -> Self:
        """Mark the log's present end. Never raises: without permission the log stays empty and not `readable`."""
        try:
            descriptor = os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return cls(None)
        try:
            os.lseek(descriptor, 0, os.SEEK_END)
        except OSError:
            os.close(descriptor)
            return cls(None)
        return cls(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def readable(self) -> bool:
        """Whether an empty result means that nothing was said."""
        return self._descriptor is not None

    def damaged(self, device: str) -> tuple[DamagedFile, ...]:
        """The files that Btrfs complained of since then, each once, on the mounted `device` (dm-0, /dev/mapper/x).

        The kernel limits how often it says so: with much damage some files are missing here.
        """
        self._read()
        name = _kernel_name(device)
        found = (_DAMAGE.search(line) for line in self._lines)
        files = (
            DamagedFile(int(each["root"]), int(each["inode"]), each["path"])
            for each in found
            if each is not None and each["device"] == name
        )
        return tuple(dict.fromkeys(files))

    def damaged_files(self, device: str) -> tuple[bytes, ...]:
        """Their paths alone, each once."""
        return tuple(dict.fromkeys(each.path for each in self.damaged(device)))

    def _read(self) -> None:
        while self._descriptor is not None:
            try:
                self._lines.append(message(os.read(self._descriptor, _LONGEST)))
            except BlockingIOError:
                return
            except OSError as problem:
                if problem.errno != errno.EPIPE:  # EPIPE: the log turned over, reading goes on with what is left
                    with contextlib.suppress(OSError):
                        os.close(self._descriptor)
                    self._descriptor = None


def _kernel_name(device: str) -> bytes:
    """`dm-0` for /dev/mapper/x, which is a link to it only where udev runs; else the name itself."""
    with contextlib.suppress(OSError):
        number = os.stat(device).st_rdev
        if number:
            return os.path.basename(os.path.realpath(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")).encode()
    return os.path.basename(device).encode()


def message(record: bytes) -> bytes:
    r"""The text of a record `priority,sequence,time,flags;text\n KEY=value...`, with its escapes (`\x0a`) undone.

    Source: Linux, Documentation/ABI/testing/dev-kmsg.
    """
    text = record.partition(b";")[2].partition(b"\n")[0]
    return re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes((int(found[1], 16),)), text)
