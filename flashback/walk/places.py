"""What both walks share: a directory that is being walked, and how an entry is made of what the kernel says."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from flashback.walk.filter import NO_RULE, Place
from flashback.walk.listing import Entry, Kind

ENCODING: Final = sys.getfilesystemencoding()
ERRORS: Final = sys.getfilesystemencodeerrors()
ENTER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOCTTY
"""How a directory is opened; `O_NOFOLLOW` besides, where a link must not be followed."""
_ACLS: Final = frozenset({"system.posix_acl_access", "system.posix_acl_default"})
_NAMESPACES: Final = ("user.", "security.")


@dataclass(slots=True)
class Level:
    """A directory that is open: `names` are those still to come, `before` is its path with a slash after it.

    `links` is how many links were followed on the way to it; `room` is how long a name in it may be, in bytes;
    `marked` says that a marker file in it keeps out everything else; `attributes` is its path in /proc. `anew`: nothing
    below it may be taken for what it was.
    """

    fd: int
    entry: Entry
    before: bytes
    names: Iterator[bytes]
    attributes: bytes
    parent: Level | None = None
    place: Place = NO_RULE
    links: int = 0
    room: int = 255
    marked: bool = False
    anew: bool = False

    def leaves_out(self, name: bytes, *, directory: bool) -> bool:
        """Whether the rules exclude a link in it that is taken for a directory, or for a file."""
        rule = (self.place.directory if directory else self.place.file)(name)
        return rule is not None and not rule.include

    def closes_loop(self, at: os.stat_result) -> bool:
        """Whether the directory `at` is this one or one of those above it."""
        above: Level | None = self
        while above is not None:
            if above.entry.ino == at.st_ino and above.entry.dev == at.st_dev:
                return True
            above = above.parent
        return False


def entry_of(path: bytes, kind: Kind, at: os.stat_result, *, xattrs: bytes = b"", target: bytes = b"") -> Entry:
    """An entry of anything but a file."""
    return Entry(
        path,
        kind,
        stat.S_IMODE(at.st_mode),
        at.st_uid,
        at.st_gid,
        0,
        at.st_mtime_ns,
        at.st_ctime_ns,
        at.st_dev,
        at.st_ino,
        at.st_nlink,
        target,
        xattrs,
    )


def file_of(path: bytes, at: os.stat_result, xattrs: bytes, kind: Kind = Kind.FILE) -> Entry:
    """A file's entry; called for nearly everything, hence by position and with the default at hand."""
    return Entry(
        path,
        kind,
        at.st_mode & 0o7777,
        at.st_uid,
        at.st_gid,
        at.st_size,
        at.st_mtime_ns,
        at.st_ctime_ns,
        at.st_dev,
        at.st_ino,
        at.st_nlink,
        b"",
        xattrs,
        at.st_blocks,
    )


def in_proc(fd: int) -> bytes:
    """The path of what lies in an open directory, for the calls that take no directory descriptor (xattr(7))."""
    return b"/proc/self/fd/%d/" % fd


def xattrs_of(where: bytes | int, *, follow: bool = False) -> bytes:
    """A digest of the extended attributes and ACLs that a backup carries, by one system call where there are none.

    `where` is a path or a descriptor. Those of the namespaces `user` and `security` count, and the two ACLs. `follow`
    says that it was reached by a link, which is followed: then only the ACLs count, since of what a link leads to
    rsync 3.5.0 was seen to carry nothing else. What cannot be read, or vanished meanwhile, counts as not there.
    """
    try:
        found = os.listxattr(where, follow_symlinks=follow or isinstance(where, int))
    except OSError:
        return b""
    return _digest(where, found, follow=follow) if found else b""


def _digest(where: bytes | int, found: list[str], *, follow: bool) -> bytes:
    namespaces = () if follow else _NAMESPACES
    digest = hashlib.blake2b(digest_size=16)
    counted = False
    for name in sorted(name for name in found if name.startswith(namespaces) or name in _ACLS):
        with suppress(OSError):
            value = os.getxattr(where, name, follow_symlinks=follow or isinstance(where, int))
            text = os.fsencode(name)
            digest.update(b"%d:%b%d:%b" % (len(text), text, len(value), value))
            counted = True
    return digest.digest() if counted else b""
