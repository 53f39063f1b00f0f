"""What this machine knows a drive to hold, so that the drive need not be read to find out that nothing changed.

One file for each drive and master in the state directory: the listing of the copy as the last complete run left it,
with the master's own inodes and change times. It is believed only if nobody touched the copy since: the last run that
the drive's journal calls complete is the one that wrote it, the subvolume has the same UUID, and its Btrfs generation,
which grows with any change, is the one noted at the end of that run. Otherwise both sides are compared in full.
See docs/explanation/catalogue.md, and `flashback.catalogue.frames` for the file's form.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Final

import msgspec

from flashback.catalogue.frames import BAD_CONTENT, CatalogueBroken, proven, read_frame, write_frame, write_proven
from flashback.compare.values import What
from flashback.walk.listing import Entry, Kind

VERSION: Final = 1
BATCH: Final = 500
"""Entries in a frame."""
DOUBTFUL: Final = -1
"""The times of an entry whose copy is not known to be what the master had: it differs from anything."""


@dataclass(frozen=True, slots=True)
class State:
    """A state of the copy on a drive: the subvolume's UUID and Btrfs generation, and the id of the run that left it."""

    subvolume: str
    generation: int
    run: str


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """The first frame of a catalogue: of which state of which subvolume it speaks, and how many `entries` follow."""

    v: int = VERSION
    subvolume: str
    generation: int
    run: str
    entries: int

    def fits(self, state: State) -> bool:
        """Whether it speaks of exactly this state. What no run left (an empty id) fits nothing."""
        mine = (self.v, self.subvolume, self.generation, self.run)
        return bool(state.run) and mine == (VERSION, state.subvolume, state.generation, state.run)


class Catalogue:
    """A listing that was believed; its entries can be read once."""

    def __init__(self, frames: Iterator[bytes], stamp: Stamp) -> None:
        self._frames = frames
        self._count = stamp.entries

    def entries(self) -> Iterator[Entry]:
        """All entries, in the order of listings. Raises `CatalogueBroken` for a file that is not whole."""
        decode = msgspec.msgpack.Decoder(list[Entry]).decode
        seen = 0
        for frame in self._frames:
            try:
                batch = decode(frame)
            except BAD_CONTENT as problem:
                raise CatalogueBroken(str(problem)) from problem
            seen += len(batch)
            yield from batch
        if seen != self._count:
            raise CatalogueBroken("it ends before its end")


@contextmanager
def believed(file: Path, state: State) -> Iterator[Catalogue | None]:
    """The catalogue in `file` if it speaks of exactly this `state`, else `None`, as where it cannot be read."""
    try:
        opened = open(file, "rb")  # noqa: SIM115 - closed below
    except OSError:
        yield None
        return
    with opened:
        frames = proven(opened)
        stamp = _stamp(frames)
        yield Catalogue(frames, stamp) if stamp is not None and stamp.fits(state) else None


def _stamp(frames: Iterator[bytes]) -> Stamp | None:
    try:
        return msgspec.msgpack.decode(next(frames, b""), type=Stamp)
    except (*BAD_CONTENT, CatalogueBroken):
        return None


def changed_since(new: Entry, old: Entry) -> What | None:
    """How a master's `new` entry differs from the catalogue's `old` one.

    Inode and change time of the master are in both: where they are equal, nothing about the file has changed, its
    extended attributes included, so these need not be read. Where they differ and the rest is equal, rsync looks.
    """
    if new.kind is not old.kind:
        return What.REPLACE
    if new.kind is Kind.SYMLINK and new.target != old.target:
        return What.CHANGE
    if new.kind is Kind.FILE and (new.size != old.size or new.mtime_ns != old.mtime_ns):
        return What.CHANGE
    same = (new.ctime_ns, new.ino, new.mode, new.uid, new.gid, new.mtime_ns)
    return None if same == (old.ctime_ns, old.ino, old.mode, old.uid, old.gid, old.mtime_ns) else What.ATTRIBUTES


class Since:
    """`changed_since`, and how many entries it met of which nothing differs but inode and change time: `seeming`."""

    def __init__(self) -> None:
        self.seeming = 0

    def __call__(self, new: Entry, old: Entry) -> What | None:
        """See `changed_since`."""
        what = changed_since(new, old)
        if what is What.ATTRIBUTES:
            same = (new.mode, new.uid, new.gid, new.mtime_ns)
            self.seeming += same == (old.mode, old.uid, old.gid, old.mtime_ns)
        return what


@dataclass(slots=True, weakref_slot=True, eq=False)
class Draft:
    """The listing that will be true once the run is complete, gathered while the plan is made.

    It lies in a file without a name until `keep` gives it one. A machine that has no room for it is no reason to end a
    backup: the draft is then spoilt, and the next run compares both sides.
    """

    _file: IO[bytes] | None
    _batch: list[Entry]
    count: int = 0

    @classmethod
    def begun(cls, directory: Path) -> Draft:
        """An empty one; `directory` takes the spool file, and is made where it is missing."""
        draft = cls(None, [])
        with suppress(OSError):
            _make_private(directory)
            file = tempfile.TemporaryFile(dir=directory, prefix="flashback-")  # noqa: SIM115 - lives as long as it
            weakref.finalize(draft, _close, file)
            draft._file = file
        return draft

    def add(self, entry: Entry) -> None:
        """The next entry, in the order of listings."""
        self._batch.append(entry)
        self.count += 1
        if len(self._batch) >= BATCH:
            self._flush()

    @property
    def is_whole(self) -> bool:
        """Whether everything that was added can be had again."""
        return self._file is not None

    def entries(self) -> Iterator[Entry]:
        """What was added, in order; nothing may be added any more. Raises `CatalogueBroken`."""
        self._flush()
        if self._file is None:
            raise CatalogueBroken("there is no draft")
        self._file.seek(0)
        decode = msgspec.msgpack.Decoder(list[Entry]).decode
        while frame := read_frame(self._file):
            yield from decode(frame)

    def spoil(self) -> None:
        """It cannot be told what the drive will hold: `keep` then forgets what there was."""
        self._file = None

    def _flush(self) -> None:
        if self._file is not None and self._batch:
            try:
                write_frame(self._file, msgspec.msgpack.encode(self._batch))
            except OSError:
                self.spoil()
        self._batch.clear()

    def keep(self, file: Path, state: State, *, doubtful: Collection[bytes]) -> None:
        """Make it the catalogue in `file`, whole or not at all; then there is none.

        `doubtful` are the paths that were not copied as planned: the drive has something there and below, or nothing.
        One of which the listing knows nothing leaves the whole in doubt.
        """
        making = file.with_name(f".{file.name}.new")
        try:
            self._flush()
            _make_private(file.parent.parent)
            _make_private(file.parent)
            self._write_to(making, state, frozenset(doubtful))
            making.replace(file)
        except (OSError, CatalogueBroken):
            forget(making)
            forget(file)

    def _write_to(self, making: Path, state: State, doubtful: frozenset[bytes]) -> None:
        stamp = Stamp(subvolume=state.subvolume, generation=state.generation, run=state.run, entries=self.count)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(making, flags, 0o600)
        with open(descriptor, "wb") as out:
            os.fchmod(descriptor, 0o600)
            write_proven(out, chain([msgspec.msgpack.encode(stamp)], self._contents(doubtful)))
            out.flush()
            os.fsync(descriptor)

    def _contents(self, doubtful: frozenset[bytes]) -> Iterator[bytes]:
        """The frames of the file to be. Raises `CatalogueBroken` when something doubtful is not among the entries."""
        if self._file is None:
            raise CatalogueBroken("there is no draft")
        self._file.seek(0)
        decode = msgspec.msgpack.Decoder(list[Entry]).decode
        unknown = set(doubtful)
        while frame := read_frame(self._file):
            if not doubtful:
                yield frame
                continue
            batch = decode(frame)
            unknown.difference_update(entry.path for entry in batch)
            marked = [_doubted(entry) if _lies_in(entry.path, doubtful) else entry for entry in batch]
            yield msgspec.msgpack.encode(marked)
        if unknown:
            raise CatalogueBroken("what went wrong is not in the listing")


def _doubted(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, mtime_ns=DOUBTFUL, ctime_ns=DOUBTFUL)


def _lies_in(path: bytes, places: Collection[bytes]) -> bool:
    """Whether a path is one of these, or below one."""
    while path not in places:
        path, slash, _name = path.rpartition(b"/")
        if not slash:
            return False
    return True


def _make_private(folder: Path) -> None:
    """Make a folder that is root's alone, whatever the umask."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)


def _close(file: IO[bytes]) -> None:
    with suppress(OSError):  # a full disk, where it would write what it still has
        file.close()


def forget(file: Path) -> None:
    """Believe nothing any more, as far as that can be arranged: what remains does not fit the drive's state."""
    with suppress(OSError):
        file.unlink(missing_ok=True)
