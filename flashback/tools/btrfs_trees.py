"""How much comes free when subvolumes are deleted, one after the other: read from the trees of the file system itself.

What one snapshot holds alone (`btrfs filesystem du`) says little of several: what two of them share is in neither sum,
and comes free only with both. Quotas would know, and would have to be switched on, which writes and slows everything.
So each tree block is read once from the device, however many snapshots share it, and every extent is set down to the
last of its owners in the order of deletion. Nothing is written, and the kernel is not asked.

Layouts: https://btrfs.readthedocs.io/en/latest/dev/On-disk-format.html, unchanged since Linux 2.6.31. What is read is
a drive's word: each block is checked to be the one that was meant, and levels only fall, so that no loop can be made.
"""

from __future__ import annotations

import bisect
import mmap
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from flashback.core.errors import DriveError

SUPER: Final = 65536
MAGIC: Final = b"_BHRfS_M"
KEPT: Final = 2**63
"""The place in the order of what is not deleted at all."""
BATCH: Final = 1024 * 1024
_SECTOR: Final = 4096

_HEADER: Final = 101
_KEY_POINTER: Final = struct.Struct("<QBQQQ")
_ITEM: Final = struct.Struct("<QBQII")
_KEY: Final = struct.Struct("<QBQ")
_CHUNK: Final = struct.Struct("<QQQQIIIHH")
_STRIPE: Final = struct.Struct("<QQ16s")
_EXTENT: Final = struct.Struct("<Q4xBQQ")
_EXTENT_DATA, _ROOT_ITEM, _CHUNK_ITEM = 108, 132, 228
_FS_TREE, _FIRST_FREE, _LAST_FREE = 5, 256, 2**64 - 256
_SEVERAL_DEVICES: Final = 0x3D8
"""Profiles that spread a block over several devices, or more than two copies: RAID 0, 1, 10, 5, 6, 1C3, 1C4."""
_HIGHEST: Final = 8
_END: Final = 2**62
"""No device is so long; the kernel's own offsets end at 2**63."""


@dataclass(frozen=True, slots=True)
class Freed:
    """Bytes that come free with the deletion of one subvolume, after those before it. `metadata` counts one copy."""

    data: int
    metadata: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One `Freed` for each that was asked about. What was looked at takes `stored` bytes and is `plain` bytes long."""

    freed: tuple[Freed, ...]
    stored: int
    plain: int

    @property
    def ratio(self) -> float | None:
        """How much compression leaves, `None` where no data was looked at."""
        return self.stored / self.plain if self.plain else None


@dataclass(slots=True)
class _Seen:
    """Running sums over the data that is looked at."""

    stored: int = 0
    plain: int = 0


@dataclass(frozen=True, slots=True)
class _Block:
    """What a pointer promises: `owner` is the place of its last owner in the order of deletion."""

    owner: int
    generation: int


@dataclass(slots=True)
class _Chunks:
    """From the addresses that trees use to places on the device: both copies where there are two."""

    starts: list[int] = field(default_factory=list)
    spans: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)

    def add(self, logical: int, item: bytes) -> None:
        if len(item) < _CHUNK.size:
            raise _unreadable("a chunk is cut off")
        length, _owner, _stripe, kind, _align, _width, _sector, stripes, _sub = _CHUNK.unpack_from(item)
        if kind & _SEVERAL_DEVICES or not 1 <= stripes <= 2 or len(item) < _CHUNK.size + stripes * _STRIPE.size:
            raise _unreadable("it spreads over several devices")
        places = tuple(_STRIPE.unpack_from(item, _CHUNK.size + n * _STRIPE.size)[1] for n in range(stripes))
        at = bisect.bisect_left(self.starts, logical)
        if self.starts[at : at + 1] != [logical]:
            self.starts.insert(at, logical)
            self.spans.insert(at, (length, places))

    def physical(self, logical: int, copy: int = 0) -> int | None:
        """Where on the device, or `None` where there is no such copy. Raises `DriveError` for no address at all."""
        at = bisect.bisect_right(self.starts, logical) - 1
        if at < 0 or logical - self.starts[at] >= self.spans[at][0]:
            raise _unreadable("a tree points out of every chunk")
        _length, places = self.spans[at]
        return places[copy] + logical - self.starts[at] if copy < len(places) else None


@dataclass(slots=True)
class _Trees:
    """The trees as they were committed last."""

    fd: int
    node: int
    chunks: _Chunks
    watch: Callable[[], None]

    def blocks(self, wanted: Mapping[int, _Block], level: int) -> Iterator[tuple[int, bytes]]:
        """The blocks of one level, in the order in which they lie on the device, neighbours read together."""
        places = sorted((self.chunks.physical(logical) or 0, logical) for logical in wanted)
        for run in _runs(places, self.node):
            self.watch()
            content = self._read(run[0][0], len(run) * self.node)
            for number, (_place, logical) in enumerate(run):
                block = content[number * self.node : (number + 1) * self.node]
                yield logical, self._checked(logical, block, level, wanted[logical].generation)

    def _checked(self, logical: int, block: bytes, level: int, generation: int) -> bytes:
        if _is_meant(block, logical, level, generation):
            return block
        other = self.chunks.physical(logical, 1)
        if other is not None and _is_meant(block := self._read(other, self.node), logical, level, generation):
            return block
        raise _unreadable("a tree block is not what its parent says")

    def _read(self, place: int, length: int) -> bytes:
        return _read(self.fd, place, length)

    def below(self, logical: int, level: int, generation: int) -> Iterator[bytes]:
        """All leaves of one small tree."""
        waiting = {logical: _Block(0, generation)}
        for height in range(level, 0, -1):
            children: dict[int, _Block] = {}
            for _logical, block in self.blocks(waiting, height):
                children.update((child, _Block(0, born)) for child, born in _children(block))
            waiting = children
        for _logical, block in self.blocks(waiting, 0):
            yield block


def freed(device: str, order: Sequence[int], *, watch: Callable[[], None] = lambda: None) -> Measured:
    """What the deletion of these subvolumes (by number), one after the other, frees each time.

    The file system must have been synced, and nobody may write to it meanwhile. The sum of the first n is what these n
    free together. Raises `DriveError` where the trees cannot be read or changed meanwhile, and what `watch` raises.
    """
    with _opened(device) as fd:
        trees, generation, root = _mounted(fd, watch)
        found = _freed(trees, {number: place for place, number in enumerate(order)}, root, len(order))
        if _superblock(fd)[1] != generation:
            raise _unreadable("somebody wrote to it meanwhile")
    return found


def _freed(trees: _Trees, places: Mapping[int, int], root: tuple[int, int, int], count: int) -> Measured:
    data, metadata, seen = [0] * count, [0] * count, _Seen()
    levels: list[dict[int, _Block]] = [{} for _ in range(_HIGHEST)]
    for number, logical, level, generation in _subvolumes(trees, root):
        _claim(levels[level], logical, places.get(number, KEPT), generation)
    for level in range(_HIGHEST - 1, 0, -1):
        for logical, block in trees.blocks(levels[level], level):
            owner = levels[level][logical].owner
            for child, generation in _children(block):
                _claim(levels[level - 1], child, owner, generation)
    for each in (block for level in levels for block in level.values() if block.owner != KEPT):
        metadata[each.owner] += trees.node
    for owner, length in _extents(trees, levels[0], seen):
        data[owner] += length
    return Measured(tuple(map(Freed, data, metadata)), seen.stored, seen.plain)


def _claim(level: dict[int, _Block], logical: int, owner: int, generation: int) -> None:
    known = level.get(logical)
    if known is None or known.owner < owner:
        level[logical] = _Block(owner, generation)


def _extents(trees: _Trees, leaves: Mapping[int, _Block], seen: _Seen) -> Iterable[tuple[int, int]]:
    """Last owner and length of each extent that comes free: first what those name that go, then less what stays."""
    going = {logical: block for logical, block in leaves.items() if block.owner != KEPT}
    found: dict[int, tuple[int, int]] = {}
    for logical, block in trees.blocks(going, 0):
        owner = leaves[logical].owner
        for place, length in _extents_in(block, seen):
            found[place] = max(found.get(place, (0, 0)), (owner, length))
    if found or not seen.plain:
        staying = {logical: block for logical, block in leaves.items() if block.owner == KEPT}
        for _logical, block in trees.blocks(staying, 0):
            for place, _length in _extents_in(block, seen):
                found.pop(place, None)
    return found.values()


def _extents_in(leaf: bytes, seen: _Seen) -> Iterator[tuple[int, int]]:
    for _number, kind, _offset, at, size in _items(leaf):
        if kind == _EXTENT_DATA and size >= 53:  # shorter ones hold their data in the tree
            plain, how, place, length = _EXTENT.unpack_from(leaf, _HEADER + at + 8)
            if how and place:  # an address of 0 is a hole
                seen.stored += length
                seen.plain += plain
                yield place, length


def _subvolumes(trees: _Trees, root: tuple[int, int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Number, address, level and generation of each tree of files; those that are being deleted already are none."""
    for leaf in trees.below(*root):
        for number, kind, _offset, at, size in _items(leaf):
            if kind != _ROOT_ITEM or size < 239 or not (number == _FS_TREE or _FIRST_FREE <= number <= _LAST_FREE):
                continue
            item = leaf[_HEADER + at : _HEADER + at + size]
            references, level = struct.unpack_from("<I", item, 216)[0], item[238]
            if level >= _HIGHEST:
                raise _unreadable("a tree is higher than any can be")
            if references:
                yield number, struct.unpack_from("<Q", item, 176)[0], level, struct.unpack_from("<Q", item, 160)[0]


def _mounted(fd: int, watch: Callable[[], None]) -> tuple[_Trees, int, tuple[int, int, int]]:
    """The trees, the generation that they have, and where the tree of trees begins."""
    block, generation = _superblock(fd)
    root, chunk_root = struct.unpack_from("<QQ", block, 0x50)
    node, length, chunk_generation = (struct.unpack_from(what, block, at)[0] for what, at in _SIZES)
    if node not in {4096 << n for n in range(5)} or length > 2048 or max(block[0xC6:0xC8]) >= _HIGHEST:
        raise _unreadable("its superblock is odd")
    trees = _Trees(fd, node, _system_chunks(block[0x32B : 0x32B + length]), watch)
    for leaf in trees.below(chunk_root, block[0xC7], chunk_generation):
        for _number, kind, offset, at, size in _items(leaf):
            if kind == _CHUNK_ITEM:
                trees.chunks.add(offset, leaf[_HEADER + at : _HEADER + at + size])
    return trees, generation, (root, block[0xC6], generation)


_SIZES: Final = (("<I", 0x94), ("<I", 0xA0), ("<Q", 0xA4))
"""In the superblock: bytes of a tree block, of the first chunks, and the generation of the tree of chunks."""


def _superblock(fd: int) -> tuple[bytes, int]:
    block = _read(fd, SUPER, _SECTOR)
    if block[0x40:0x48] != MAGIC:
        raise _unreadable("there is no Btrfs")
    return block, struct.unpack_from("<Q", block, 0x48)[0]


def _system_chunks(content: bytes) -> _Chunks:
    chunks, at = _Chunks(), 0
    while at + _KEY.size + _CHUNK.size <= len(content):
        logical = _KEY.unpack_from(content, at)[2]
        stripes = _CHUNK.unpack_from(content, at + _KEY.size)[7]
        end = at + _KEY.size + _CHUNK.size + stripes * _STRIPE.size
        chunks.add(logical, content[at + _KEY.size : end])
        at = end
    return chunks


def _runs(places: Sequence[tuple[int, int]], node: int) -> Iterator[list[tuple[int, int]]]:
    run: list[tuple[int, int]] = []
    for each in places:
        if run and (each[0] != run[-1][0] + node or len(run) * node >= BATCH):
            yield run
            run = []
        run.append(each)
    if run:
        yield run


def _is_meant(block: bytes, logical: int, level: int, generation: int) -> bool:
    return (
        len(block) > _HEADER
        and struct.unpack_from("<Q", block, 48)[0] == logical
        and struct.unpack_from("<Q", block, 80)[0] == generation
        and block[100] == level
    )


def _children(block: bytes) -> Iterator[tuple[int, int]]:
    count = min(struct.unpack_from("<I", block, 96)[0], (len(block) - _HEADER) // _KEY_POINTER.size)
    pointers = _KEY_POINTER.iter_unpack(block[_HEADER : _HEADER + count * _KEY_POINTER.size])
    return ((logical, generation) for _number, _kind, _offset, logical, generation in pointers)


def _items(leaf: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Key (three numbers), place and size of each item of a leaf; those that lie outside of it are left out."""
    count = min(struct.unpack_from("<I", leaf, 96)[0], (len(leaf) - _HEADER) // _ITEM.size)
    room = len(leaf) - _HEADER
    for each in _ITEM.iter_unpack(leaf[_HEADER : _HEADER + count * _ITEM.size]):
        if each[3] + each[4] <= room:
            yield each


def _read(fd: int, place: int, length: int) -> bytes:
    """Past the cache of the device, which does not know what the file system wrote since."""
    if place >= _END:
        raise _unreadable("a tree points out of every device")
    with mmap.mmap(-1, length) as buffer:
        try:
            got = os.preadv(fd, [buffer], place)
        except OSError as problem:
            raise _unreadable(os.strerror(problem.errno or 0)) from problem
        if got != length:
            raise _unreadable("the device ends before it")
        return buffer[:]


@contextmanager
def _opened(device: str) -> Iterator[int]:
    try:
        fd = os.open(device, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as problem:
        raise _unreadable(os.strerror(problem.errno or 0)) from problem
    try:
        yield fd
    finally:
        os.close(fd)


def _unreadable(why: str) -> DriveError:
    return DriveError(f"it cannot be seen how much comes free: {why}")
