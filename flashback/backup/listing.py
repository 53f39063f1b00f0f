"""A listing: what a tree holds, as a stream of entries in one fixed order, small enough to send through a pipe.

Order: a directory comes before what it holds; the names of one directory are in byte order. This is the order of the
paths themselves once `/` sorts below every other byte, see `order`; two listings can be merged without loading them.
"""

from __future__ import annotations

import stat
from enum import IntEnum
from typing import Final

import msgspec


class Kind(IntEnum):
    """What an entry is, after the symlink policy: a followed link appears as what it points to."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
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


KINDS: Final = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.SYMLINK}


def order(path: bytes) -> bytes:
    """The key by which listings are sorted."""
    return path.replace(b"/", b"\0")
