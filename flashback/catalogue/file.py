"""The files of the catalogue: a delta each, called after the state to which it leads.

A file is a sequence of frames (`frames`): a header, batches of entries, an end that counts them. Each batch is msgpack,
compressed; of a path only what differs from the one before is written. On a drive these files are untrusted: every
frame is bounded, every field typed, every path looked at, and the order checked, before anything is done with them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Annotated, Final, NamedTuple

import msgspec

from flashback.catalogue.frames import BAD_CONTENT, CatalogueBroken, proven, write_proven
from flashback.catalogue.seen import Kind, Seen, order
from flashback.core.text import parse_stamp

VERSION: Final = 1
BATCH: Final = 1000
"""Entries of a batch, at most: more are refused before they take up memory."""
LARGEST_BATCH: Final = 32 * 1024 * 1024
"""Bytes of a batch once it is unpacked; what is written never comes near."""
LONGEST_PATH: Final = 16 * 1024
LONGEST_TARGET: Final = 4096
_FRESH: Final = 8
_INT64: Final = 2**63
_NAME: Final = re.compile(r"(\d{8}T\d{6}Z)-([0-9a-f]{16})\.delta", re.ASCII)
_BAD_PARTS: Final = frozenset({b"", b".", b".."})
_Row = tuple[int, bytes, int, int, int, int, int, int, bytes]


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of itself. `state` is when the state was completed, as a snapshot's name, `mark` tells it from
    any other record of it, `base` is the stem of the state before, empty for a whole listing. `run` left the state;
    `path` is where the master lay then, for people.
    """

    v: int = VERSION
    master: str
    state: str
    mark: str
    base: str = ""
    run: str = ""
    path: str = ""

    @property
    def stem(self) -> str:
        """How the state is called in names of files and in `base`."""
        return f"{self.state}-{self.mark}"

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.stem}.delta"


class _End(msgspec.Struct, frozen=True):
    entries: int


class Batches(NamedTuple):
    """What a file holds: its header, and its entries, to be read once. The header alone costs one frame."""

    header: Header
    entries: Iterator[Seen]


def is_name(name: str) -> bool:
    """Whether a file may be one of the catalogue's."""
    match = _NAME.fullmatch(name)
    return match is not None and parse_stamp(match[1]) is not None


def write(file: IO[bytes], header: Header, entries: Iterable[Seen]) -> int:
    """Write a whole file; return how many entries it has."""
    packed = _Packed(entries)

    def frames() -> Iterator[bytes]:
        yield b"H" + msgspec.msgpack.encode(header)
        yield from packed
        yield b"Z" + msgspec.msgpack.encode(_End(packed.count))

    write_proven(file, frames())
    return packed.count


class _Packed:
    def __init__(self, entries: Iterable[Seen]) -> None:
        self._entries = entries
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        rows: list[_Row] = []
        before = b""
        for each in self._entries:
            shared = _shared(before, each.path)
            kind = each.kind + (_FRESH if each.fresh else 0)
            rows.append(
                (shared, each.path[shared:], kind, each.mode, each.uid, each.gid, each.size, each.mtime_ns, each.target)
            )
            before = each.path
            if len(rows) == BATCH:
                yield self._batch(rows)
        if rows:
            yield self._batch(rows)

    def _batch(self, rows: list[_Row]) -> bytes:
        self.count += len(rows)
        packed = b"E" + zlib.compress(msgspec.msgpack.encode(rows), 1)
        rows.clear()
        return packed


def _shared(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
    most = min(len(one), len(other))
    differing = int.from_bytes(one[:most], "big") ^ int.from_bytes(other[:most], "big")
    return most - (differing.bit_length() + 7) // 8


def read(file: IO[bytes], name: str) -> Batches:
    """Read the file called `name`; its entries come checked. Raises `CatalogueBroken`, also while they are read."""
    frames = proven(file)
    header = _header(next(frames, b""))
    if header.name != name:
        raise CatalogueBroken("it speaks of another state than its name")
    return Batches(header, _entries(frames))


def _header(frame: bytes) -> Header:
    if frame[:1] != b"H":
        raise CatalogueBroken("it has no header")
    try:
        header = msgspec.msgpack.decode(frame[1:], type=Header)
    except BAD_CONTENT as problem:
        raise CatalogueBroken(str(problem)) from problem
    known = header.v == VERSION and is_name(header.name) and (not header.base or is_name(f"{header.base}.delta"))
    if not known or header.base >= header.stem or len(header.path) > LONGEST_TARGET or len(header.run) > 100:
        raise CatalogueBroken("its header is none of ours")
    return header


def _entries(frames: Iterator[bytes]) -> Iterator[Seen]:
    decode = msgspec.msgpack.Decoder(Annotated[list[_Row], msgspec.Meta(max_length=BATCH)]).decode
    before, key_before, count = b"", b"", 0
    for frame in frames:
        if frame[:1] == b"Z":
            _check_end(frame[1:], count, frames)
            return
        try:
            rows = decode(_unpacked(frame))
        except BAD_CONTENT as problem:
            raise CatalogueBroken(str(problem)) from problem
        for shared, rest, kind, mode, uid, gid, size, mtime_ns, target in rows:
            if not 0 <= shared <= len(before):
                raise CatalogueBroken("a path has no beginning")
            path = before[:shared] + rest
            key = order(path)
            if count and key <= key_before:
                raise CatalogueBroken("it is not in order")
            count += 1
            before, key_before = path, key
            seen = Seen(path, kind & ~_FRESH, mode, uid, gid, size, mtime_ns, target, bool(kind & _FRESH))
            _check(seen)
            yield seen
    raise CatalogueBroken("it ends before its end")


def _unpacked(frame: bytes) -> bytes:
    if frame[:1] != b"E":
        raise CatalogueBroken("a frame of an unknown kind")
    try:
        engine = zlib.decompressobj()
        batch = engine.decompress(frame[1:], LARGEST_BATCH)
    except zlib.error as problem:
        raise CatalogueBroken(str(problem)) from problem
    if not engine.eof:
        raise CatalogueBroken("a batch is too large or cut off")
    return batch


def _check_end(end: bytes, count: int, frames: Iterator[bytes]) -> None:
    try:
        said = msgspec.msgpack.decode(end, type=_End)
    except BAD_CONTENT as problem:
        raise CatalogueBroken(str(problem)) from problem
    if said.entries != count or next(frames, None) is not None:
        raise CatalogueBroken("it ends before its end")


def _check(seen: Seen) -> None:
    """Nothing that leads out of a master, no number that nothing could have."""
    path = seen.path
    if path and (b"\0" in path or len(path) > LONGEST_PATH or not _BAD_PARTS.isdisjoint(path.split(b"/"))):
        raise CatalogueBroken("a path that cannot be")
    fine = (
        Kind.GONE <= seen.kind <= Kind.OTHER
        and 0 <= seen.mode <= 0o7777
        and 0 <= seen.uid < 2**32
        and 0 <= seen.gid < 2**32
        and 0 <= seen.size < _INT64
        and -_INT64 <= seen.mtime_ns < _INT64
        and len(seen.target) <= LONGEST_TARGET
    )
    if not fine:
        raise CatalogueBroken("a file as none can be")
