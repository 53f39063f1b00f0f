"""What has changed in a Btrfs subvolume since a transaction, without looking at its files: asked of the kernel's trees.

Every inode carries the number of the transaction that last wrote it down, and so do the blocks of the tree that it
lies in, up to the root. So the kernel passes over whatever is older without reading it; this is what `btrfs subvolume
find-new` does too, which then tells of new extents only. Here every inode counts that was written: content, mode,
times, attributes, names in a directory, number of links. What is gone shows in the directory that it was in.

Numbers and layouts are those of linux/btrfs.h and linux/btrfs_tree.h (Linux 6.1). Needs root.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from flashback.core.errors import DriveError, FlashbackError, NoSpace

TOP: Final = 256
"""The number of a subvolume's first directory."""
_MAGIC: Final = 0x94
_SEARCH: Final = 3 << 30 | 112 << 16 | _MAGIC << 8 | 17  # BTRFS_IOC_TREE_SEARCH_V2
_INO_PATHS: Final = 3 << 30 | 56 << 16 | _MAGIC << 8 | 35
_SNAP_CREATE: Final = 1 << 30 | 4096 << 16 | _MAGIC << 8 | 23  # BTRFS_IOC_SNAP_CREATE_V2
_READ_ONLY: Final = 2  # BTRFS_SUBVOL_RDONLY
_BUFFER: Final = 1 << 20
_PATHS: Final = 4096
"""Bytes that the kernel fills with paths at most (btrfs_ioctl_ino_to_path)."""
_ROOT_TREE: Final = 1
_LAST: Final = 2**64 - 256
_HEADER: Final = struct.Struct("=QQQII")
_NUMBER: Final = struct.Struct("=Q")
_INODE_ITEM, _XATTR_ITEM, _DIR_ITEM, _DIR_INDEX, _EXTENT_DATA, _ROOT_REF = 1, 24, 84, 96, 108, 156
_TRANSACTION_AT: Final = {_INODE_ITEM: 8, _XATTR_ITEM: 17, _DIR_ITEM: 17, _DIR_INDEX: 17, _EXTENT_DATA: 0}
"""Where in an item the number of its transaction stands; that of an inode would do, the others are for safety."""


class CannotSay(Exception):
    """The kernel's answer is not complete."""


@dataclass(frozen=True, slots=True)
class _Item:
    number: int
    kind: int
    offset: int
    content: bytes


def snapshot(source: int, parent: int, name: str) -> None:
    """Make a read-only snapshot of the subvolume that is open as `source`, in the directory open as `parent`.

    By descriptors, since the directories on the way may be another user's. Raises `DriveError`, `NoSpace`.
    """
    asked = struct.pack("=qQQ32s4040s", source, 0, _READ_ONLY, b"", os.fsencode(name))
    try:
        fcntl.ioctl(parent, _SNAP_CREATE, bytearray(asked))
    except OSError as problem:
        kind: type[FlashbackError] = NoSpace if problem.errno in {errno.ENOSPC, errno.EDQUOT} else DriveError
        raise kind(os.strerror(problem.errno or 0)) from problem


def changed_inodes(fd: int, since: int, *, most: int) -> set[int]:
    """The inodes of the subvolume open as `fd` that were written in transaction `since` or later, and perhaps others.

    Raises `CannotSay` when there are more than `most`, `OSError`.
    """
    found: set[int] = set()
    for answer, count in _answers(fd, 0, (TOP, 0, 0), (_LAST, 255, 2**64 - 1), since):
        at = 0
        for _ in range(count):
            _leaf, number, _offset, kind, length = _HEADER.unpack_from(answer, at)
            at += _HEADER.size
            place = _TRANSACTION_AT.get(kind)
            if place is not None and _NUMBER.unpack_from(answer, at + place)[0] >= since:
                found.add(number)
            at += length
        if len(found) > most:
            raise CannotSay(f"more than {most} files and directories were written")
    return found


def paths_of(fd: int, number: int) -> tuple[bytes, ...]:
    """Every path of an inode in the subvolume open as `fd`, from its top; none for one that is being deleted.

    Raises `CannotSay` where they are too many or too long for the kernel's answer, `OSError`.
    """
    if number == TOP:
        return (b"",)
    answer = ctypes.create_string_buffer(_PATHS)
    asked = bytearray(struct.pack("=QQ32sQ", number, _PATHS, b"", ctypes.addressof(answer)))
    try:
        fcntl.ioctl(fd, _INO_PATHS, asked)
    except OSError as problem:
        if problem.errno == errno.ENOENT:
            return ()
        raise
    _left, missing, count, missed = struct.unpack_from("=IIII", answer, 0)
    if missing or missed:
        raise CannotSay("a file has more names than the kernel tells")
    places = struct.unpack_from(f"={count}Q", answer, 16)
    return tuple(answer.raw[16 + place : answer.raw.index(b"\0", 16 + place)] for place in places)


def subvolumes_in(fd: int, number: int) -> tuple[bytes, ...]:
    """The paths of the subvolumes that lie in the subvolume `number`, which is open as `fd`. Raises as `paths_of`."""
    found = []
    for item in _items(fd, _ROOT_TREE, (number, _ROOT_REF, 0), (number, _ROOT_REF, 2**64 - 1)):
        directory, _sequence, length = struct.unpack_from("=QQH", item.content)
        name = item.content[18 : 18 + length]
        found += [above + b"/" + name if above else name for above in paths_of(fd, directory)]
    return tuple(found)


_Key = tuple[int, int, int]


def _items(fd: int, tree: int, first: _Key, last: _Key) -> Iterator[_Item]:
    for answer, count in _answers(fd, tree, first, last, 0):
        at = 0
        for _ in range(count):
            _leaf, number, offset, kind, length = _HEADER.unpack_from(answer, at)
            at += _HEADER.size
            if kind == first[1]:
                yield _Item(number, kind, offset, answer[at : at + length])
            at += length


def _answers(fd: int, tree: int, first: _Key, last: _Key, since: int) -> Iterator[tuple[bytes, int]]:
    """Items of a tree (0: that which `fd` lies in) whose block was written in `since` or later, with their number.

    Keys are (number, kind, offset). Raises `OSError`.
    """
    asked = bytearray(112 + _BUFFER)
    (number, kind, offset), end = first, last
    while True:
        struct.pack_into(
            "=7Q3I", asked, 0, *(tree, number, end[0], offset, end[2], since, 2**64 - 1, kind, end[1], 2**32 - 1)
        )
        struct.pack_into("=Q", asked, 104, _BUFFER)
        fcntl.ioctl(fd, _SEARCH, asked)
        count: int = struct.unpack_from("=I", asked, 64)[0]
        if not count:
            return
        answer = bytes(asked[112:])
        yield answer, count
        at = 0
        for _ in range(count):
            _leaf, number, offset, kind, length = _HEADER.unpack_from(answer, at)
            at += _HEADER.size + length
        number, kind, offset = _after(number, kind, offset)
        if number > end[0]:
            return


def _after(number: int, kind: int, offset: int) -> _Key:
    if offset < 2**64 - 1:
        return number, kind, offset + 1
    return (number, kind + 1, 0) if kind < 255 else (number + 1, 0, 0)
