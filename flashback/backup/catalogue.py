"""What this machine knows a drive to hold, so that the drive need not be read to find out that nothing changed.

One file for each drive and master in the state directory: the listing of the copy as the last complete run left it,
with the master's own inodes and change times. It is believed only if nobody touched the copy since: the subvolume has
the same UUID, and its Btrfs generation, which grows with any change, is the one noted at the end of that run. Otherwise
both sides are compared in full.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import msgspec

from flashback.backup.compare import What
from flashback.backup.listing import Entry, Kind

VERSION: Final = 1
BATCH: Final = 500
LARGEST_FRAME: Final = 64 * 1024 * 1024
DOUBTFUL: Final = -1
"""The times of an entry whose copy is not known to be what the master had: it differs from anything."""


class CatalogueBroken(Exception):
    """The file is cut off or garbled: nothing of it may be believed."""


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """The first frame of a catalogue: of which state of which subvolume it speaks, and how many `entries` follow."""

    v: int = VERSION
    subvolume: str
    generation: int
    entries: int


class Catalogue:
    """A listing that was believed; its entries can be read once."""

    def __init__(self, file: IO[bytes], stamp: Stamp) -> None:
        self._file = file
        self._count = stamp.entries

    def entries(self) -> Iterator[Entry]:
        """All entries, in the order of listings. Raises `CatalogueBroken` for a file that is not whole."""
        decode = msgspec.msgpack.Decoder(list[Entry]).decode
        seen = 0
        while frame := _frame(self._file):
            try:
                batch = decode(frame)
            except msgspec.MsgspecError as problem:
                raise CatalogueBroken(str(problem)) from problem
            seen += len(batch)
            yield from batch
        if seen != self._count:
            raise CatalogueBroken("it ends before its end")


@contextmanager
def believed(file: Path, *, subvolume: str, generation: int) -> Iterator[Catalogue | None]:
    """The catalogue in `file` if it speaks of exactly this state of this subvolume, else `None`."""
    try:
        opened = open(file, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        yield None
        return
    with opened:
        stamp = _stamp(opened)
        fits = stamp is not None and (stamp.v, stamp.subvolume, stamp.generation) == (VERSION, subvolume, generation)
        yield Catalogue(opened, stamp) if stamp is not None and fits else None


def _stamp(file: IO[bytes]) -> Stamp | None:
    try:
        return msgspec.msgpack.decode(_frame(file), type=Stamp)
    except (msgspec.MsgspecError, CatalogueBroken):
        return None


def _frame(file: IO[bytes]) -> bytes:
    """The next frame, empty at the end. Raises `CatalogueBroken` for one that is cut off."""
    head = file.read(4)
    if not head:
        return b""
    length = int.from_bytes(head, "big")
    frame = file.read(length) if length <= LARGEST_FRAME else b""
    if len(head) != 4 or not length or len(frame) != length:
        raise CatalogueBroken("a frame is cut off")
    return frame


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


@dataclass(slots=True, weakref_slot=True, eq=False)
class Draft:
    """The listing that will be true once the run is complete, gathered while the plan is made.

    It lies in a file without a name until `keep` gives it one.
    """

    _file: IO[bytes]
    _batch: list[Entry]
    _count: int = 0

    @classmethod
    def begun(cls, directory: Path) -> Draft:
        """An empty one; `directory` takes the spool file."""
        draft = cls(tempfile.TemporaryFile(dir=directory, prefix="flashback-"), [])  # noqa: SIM115 - lives as long as it
        weakref.finalize(draft, draft._file.close)
        return draft

    def add(self, entry: Entry) -> None:
        """The next entry, in the order of listings."""
        self._batch.append(entry)
        self._count += 1
        if len(self._batch) >= BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._batch:
            _write(self._file, msgspec.msgpack.encode(self._batch))
            self._batch.clear()

    def keep(self, file: Path, *, subvolume: str, generation: int, doubtful: Collection[bytes]) -> None:
        """Make it the catalogue in `file`, whole or not at all.

        `doubtful` are the paths that were not copied as planned: the drive has something there, or nothing.
        """
        self._flush()
        self._file.seek(0)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        making = file.with_name(f".{file.name}.new")
        stamp = Stamp(subvolume=subvolume, generation=generation, entries=self._count)
        descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as out:
            _write(out, msgspec.msgpack.encode(stamp))
            for frame in self._frames(frozenset(doubtful)):
                _write(out, frame)
            out.flush()
            os.fsync(descriptor)
        making.replace(file)

    def _frames(self, doubtful: Collection[bytes]) -> Iterator[bytes]:
        decode = msgspec.msgpack.Decoder(list[Entry]).decode
        while frame := _frame(self._file):
            if not doubtful:
                yield frame
                continue
            batch = decode(frame)
            marked = [_doubted(entry) if entry.path in doubtful else entry for entry in batch]
            yield msgspec.msgpack.encode(marked) if marked != batch else frame


def _doubted(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, mtime_ns=DOUBTFUL, ctime_ns=DOUBTFUL)


def _write(file: IO[bytes], frame: bytes) -> None:
    file.write(len(frame).to_bytes(4, "big"))
    file.write(frame)


def forget(file: Path) -> None:
    """Believe nothing any more: the copy is about to be changed."""
    file.unlink(missing_ok=True)
