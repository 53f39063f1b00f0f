"""How a master and its copy differ at one path, as a value, and a count of many (pure)."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from flashback.walk.listing import Entry, Kind

MOVED: Final = -1
"""The `blocks` of a drive's entry that lies elsewhere until it is moved."""


class What(StrEnum):
    """How the drive differs from the master at one path. `LINK`: only in what else is the same file (hard links).

    `MOVED`: it seems to be the file that was moved here, and its content is to be compared.
    """

    ADD = "add"
    CHANGE = "change"
    ATTRIBUTES = "attributes"
    LINK = "link"
    MOVED = "moved"
    REPLACE = "replace"
    DELETE = "delete"


class Count(msgspec.Struct, gc=False):
    """`files` are all that are not directories; `bytes` are the sizes of regular files."""

    files: int = 0
    bytes: int = 0
    directories: int = 0

    def add(self, entry: Entry) -> None:
        """One more."""
        if entry.kind is Kind.DIRECTORY:
            self.directories += 1
        else:
            self.files += 1
            self.bytes += entry.size


class Change(msgspec.Struct, frozen=True, gc=False):
    """One difference. `entry`: what the master has; `old`: the drive; `gone` counts what `DELETE`, `REPLACE` remove.

    `REPLACE`: the kinds differ, so the old one must go first. `apart`: the drive's file shares its inode with one that
    is another file in the master; they must be parted before anything is written, or both would change.
    """

    path: bytes
    what: What
    entry: Entry | None
    old: Entry | None
    gone: Count | None = None
    apart: bool = False


def difference(new: Entry, old: Entry) -> What | None:
    """How the drive's `old` differs from the master's `new` in itself; `None` if not at all."""
    if new.kind is not old.kind:
        return What.REPLACE
    same_attributes = new.uid == old.uid and new.gid == old.gid and new.mtime_ns == old.mtime_ns
    if new.kind is Kind.SYMLINK:
        if new.target != old.target:
            return What.CHANGE
        return None if same_attributes and new.xattrs == old.xattrs else What.ATTRIBUTES
    if new.kind is Kind.FILE and (new.size != old.size or new.mtime_ns != old.mtime_ns):
        return What.CHANGE
    if same_attributes and new.mode == old.mode and new.xattrs == old.xattrs:
        return None
    return What.ATTRIBUTES
