"""What this machine knows a drive to hold, so that the drive need not be read to find out that nothing changed.

One file for each drive and master in the state directory: the listing of the copy as the last complete run left it,
with the master's own inodes and change times. It is believed only if nobody touched the copy since: the last run that
the drive's journal calls complete is the one that wrote it, the subvolume has the same UUID, and its Btrfs generation,
which grows with any change, is the one noted at the end of that run. Otherwise both sides are compared in full.

The file is frames: four bytes of length, a digest, the content. Each digest is over the one before and the content, so
that no frame can be garbled, left out or exchanged unnoticed. See docs/explanation/catalogue.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import msgspec

from flashback.backup.compare import What
from flashback.backup.listing import Entry, Kind

VERSION: Final = 1
LARGEST_FRAME: Final = 64 * 1024 * 1024
DIGEST: Final = 16
"""Bytes; against accidents, not against somebody who can write to root's state directory."""
DOUBTFUL: Final = -1
"""The times of an entry whose copy is not known to be what the master had: it differs from anything."""


class CatalogueBroken(Exception):
    """The file is cut off, garbled or of no use: nothing of it may be believed."""


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
            except msgspec.MsgspecError as problem:
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
        frames = _proven(opened)
        stamp = _stamp(frames)
        yield Catalogue(frames, stamp) if stamp is not None and stamp.fits(state) else None


def _stamp(frames: Iterator[bytes]) -> Stamp | None:
    try:
        return msgspec.msgpack.decode(next(frames, b""), type=Stamp)
    except (msgspec.MsgspecError, CatalogueBroken):
        return None


def _proven(file: IO[bytes]) -> Iterator[bytes]:
    """The content of each frame, once its digest was found to be right. Raises `CatalogueBroken`."""
    before = b""
    while frame := read_frame(file):
        digest, content = frame[:DIGEST], frame[DIGEST:]
        if digest != digest_after(before, content):
            raise CatalogueBroken("a frame is garbled")
        before = digest
        yield content


def digest_after(before: bytes, content: bytes) -> bytes:
    """The digest of a frame; `before` is that of the frame before it, empty for the first."""
    return hashlib.blake2b(content, key=before, digest_size=DIGEST).digest()


def read_frame(file: IO[bytes]) -> bytes:
    """The next frame, empty at the end. Raises `CatalogueBroken` for one that is cut off or cannot be read."""
    try:
        head = file.read(4)
        if not head:
            return b""
        length = int.from_bytes(head, "big")
        frame = file.read(length) if length <= LARGEST_FRAME else b""
    except OSError as problem:
        raise CatalogueBroken(str(problem)) from problem
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


def write_frame(file: IO[bytes], frame: bytes) -> None:
    """Length and content."""
    file.write(len(frame).to_bytes(4, "big"))
    file.write(frame)


def forget(file: Path) -> None:
    """Believe nothing any more, as far as that can be arranged: what remains does not fit the drive's state."""
    with suppress(OSError):
        file.unlink(missing_ok=True)
