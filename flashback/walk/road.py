"""By which road a master is read: as it is, from a snapshot of its Btrfs, or only where Btrfs says that it was written.

Decisions over values, and the little that is remembered from one run over a drive to the next. At any doubt the whole
master is walked; that costs time and never a file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from flashback.config.values import Master
from flashback.walk.reader import Owner

VERSION: Final = 1
MOST_UNSURE: Final = 50_000
"""So many places that must be looked at each time are remembered; with more of them the whole is walked."""
FEW: Final = 1000
"""Fewer written files and directories than these are never too many."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was seen of a master and where it lies. `inside` are things in it that a snapshot would not have."""

    wanted: bool = True
    private: bool = True
    on_btrfs: bool = True
    whole: bool = True
    writable: bool = True
    folder: bool = True
    mounts: tuple[str, ...] = ()
    subvolumes: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()
    masters: tuple[str, ...] = ()


def obstacle(facts: Facts) -> str:
    """Why no snapshot is taken, as half a sentence; empty where nothing speaks against it."""
    return next((why for against, why in _obstacles(facts) if against), "")


def _obstacles(facts: Facts) -> Iterable[tuple[object, str]]:
    yield not facts.wanted, "the configuration says `btrfs: never`"
    yield not facts.on_btrfs, "it is not on Btrfs"
    yield not facts.private, "this process has no mount namespace of its own"
    yield not facts.whole, "the top of its subvolume is not in reach"
    yield not facts.writable, "its file system cannot be written to"
    yield facts.mounts, f"something else is mounted in it: {', '.join(facts.mounts[:3])}"
    yield facts.subvolumes, f"another subvolume lies in it: {', '.join(facts.subvolumes[:3])}"
    yield facts.ours, f"Flashback keeps its own files in it: {', '.join(facts.ours[:3])}"
    yield facts.masters, f"it and another master lie in each other: {', '.join(facts.masters[:3])}"
    yield not facts.folder, "a dry run makes no folder for snapshots"


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """What the last run over a drive knew of a master: the catalogue is its state as of the end of `transaction`.

    `subvolume` is the UUID of the one it lies in, `root` its own inode, `token` what was then written beside it; `how`
    stands for everything that decides what a walk finds, `catalogue` for the file, which has so many `entries`.
    `unsure` are places of which the master itself says nothing certain: followed links, what could not be read.
    """

    v: int = VERSION
    subvolume: str
    transaction: int
    root: int
    token: str
    how: str
    catalogue: tuple[int, int, int]
    entries: int
    unsure: list[bytes]


@dataclass(frozen=True, slots=True)
class Now:
    """The same as it is now, of a master of which a snapshot was taken."""

    subvolume: str
    transaction: int
    root: int
    token: str
    how: str
    catalogue: tuple[int, int, int]


def doubt(then: Remembered | None, now: Now) -> str:
    """Why the whole master is to be walked, as half a sentence; empty where what was written since will do."""
    return next((why for against, why in _doubts(then, now) if against), "")


def _doubts(then: Remembered | None, now: Now) -> Iterable[tuple[bool, str]]:
    if then is None or then.v != VERSION:
        yield True, "no earlier run over this drive took a snapshot"
        return
    yield then.subvolume != now.subvolume, "the subvolume is another one than last time"
    yield then.root != now.root, "the directory is another one than last time"
    yield not then.token or then.token != now.token, "the mark of the last run is not there"
    yield not 0 < then.transaction <= now.transaction, "the file system was set back"
    yield not now.how or then.how != now.how, "rules, owner or program are not as they were last time"
    yield then.catalogue != now.catalogue, "the list of what the drive holds is not that of the last run"


def most_written(then: Remembered) -> int:
    """With more files and directories written than these, a walk of everything is quicker."""
    return max(FEW, then.entries // 4)


def how(master: Master, owner: Owner, place: bytes, version: str) -> str:
    """Everything besides the master's files that decides what a walk finds."""
    with suppress(OSError):
        groups = sorted(os.getgrouplist(owner.name, owner.gid))
        rules = [(rule.pattern, rule.include) for rule in master.rules]
        said = (VERSION, version, str(master.path), place, str(master.symlinks), rules, owner.name, owner.uid, groups)
        return hashlib.blake2b(repr(said).encode(), digest_size=16).hexdigest()
    return ""


@dataclass(slots=True)
class Looked:
    """What a walk said besides its entries: the places of which nothing is certain next time."""

    unsure: set[bytes] = field(default_factory=set)

    def add(self, path: bytes) -> None:
        """One more; beyond the limit they are only counted as too many."""
        if len(self.unsure) <= MOST_UNSURE:
            self.unsure.add(path)

    @property
    def too_many(self) -> bool:
        """Whether not all of them are known."""
        return len(self.unsure) > MOST_UNSURE


def identity(file: Path) -> tuple[int, int, int]:
    """What tells a file from any other that had its name; zeros where there is none."""
    try:
        at = os.stat(file)
    except OSError:
        return (0, 0, 0)
    return (at.st_ino, at.st_mtime_ns, at.st_size)


def recall(file: Path) -> Remembered | None:
    """What `file` remembers; `None` where it cannot be read or makes no sense."""
    with suppress(OSError, ValueError, RecursionError, msgspec.MsgspecError):
        return msgspec.msgpack.decode(file.read_bytes(), type=Remembered)
    return None


def remember(file: Path, what: Remembered) -> None:
    """Write it, whole or not at all. Raises `OSError`."""
    making = file.with_name(f".{file.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(making, flags, 0o600), "wb") as out:
        out.write(msgspec.msgpack.encode(what))
        out.flush()
        os.fsync(out.fileno())
    making.replace(file)
