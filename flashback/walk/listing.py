"""A listing: what a tree holds, as a stream of entries in one fixed order, small enough to send through a pipe.

Order: a directory comes before what it holds; the names of one directory are in byte order. This is the order of the
paths themselves once `/` sorts below every other byte, see `order`; two listings can be merged without loading them.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from enum import IntEnum
from typing import Final

import msgspec


class Kind(IntEnum):
    """What an entry is, after the symlink policy: a followed link appears as what it points to.

    `OTHER` is met on a drive only: a socket, a pipe, a device, a nested subvolume or a mount point, none of which
    Flashback puts there.
    """

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3
    OTHER = 4


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=1):
    """One file, directory or (kept) link. `path` is relative to the root, which itself is `b""`.

    `mode` holds the permission bits only; times are nanoseconds since 1970; `target` is a link's text; `xattrs` is a
    digest of the extended attributes and ACLs, empty where there are none. `size` and `blocks` (512 bytes each, as
    in stat) of anything but a file are 0.
    """

    path: bytes
    kind: Kind
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    ctime_ns: int
    dev: int
    ino: int
    nlink: int
    target: bytes = b""
    xattrs: bytes = b""
    blocks: int = 0


class Kept(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=2):
    """A place in the master of which nothing can be said: whatever the drive has at `path` and below it stays.

    It stands in the master's listing instead of an entry, for what cannot be read (a directory, a file), leads nowhere
    (a dangling or looping link), cannot be stored (a socket, a path that is too long) or must not be entered. What an
    exclusion rule leaves out is not kept: it is in no listing, and its earlier copy goes.
    """

    path: bytes


class Same(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=4):
    """A directory in the master that is known to be, with all below it, as it was when the last listing was made.

    It stands instead of all that, and only where the master's listing is held against that last one.
    """

    path: bytes


class Linked(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=5):
    """Said beside a listing: `path` is a link that was followed; what is there may change without the master."""

    path: bytes


Item = Entry | Kept | Same
"""What the master's listing consists of, in one order; no path comes twice."""

KINDS: Final = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.SYMLINK}


def order(path: bytes) -> bytes:
    """The key by which listings are sorted."""
    return path.replace(b"/", b"\0")


def directories_above(path: bytes) -> Iterator[bytes]:
    """Every directory on the way to a path, the nearest first; not the root."""
    while slash := path.rpartition(b"/")[0]:
        yield (path := slash)
