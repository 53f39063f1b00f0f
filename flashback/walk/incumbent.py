"""The walk of what a drive holds: everything that is there, nothing believed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from flashback.core.descent import allow_deep_trees
from flashback.walk.listing import Entry, Kind
from flashback.walk.places import (
    ENCODING,
    ENTER,
    ERRORS,
    Level,
    entry_of,
    file_of,
    in_proc,
    xattrs_of,
)

BATCH: Final = 400
"""Entries that are gathered at a time, so that the working directory is changed seldom."""


def walk_incumbent(root: int, *, with_xattrs: bool = True) -> Iterator[Entry]:
    """List the copy on a drive that is open as `root`, everything that is there, nothing believed.

    No rule applies, no link is followed, no other device or subvolume is entered: these, and all that is neither file,
    directory nor link, are `Kind.OTHER`. Raises `OSError` on whatever cannot be read: the drive is then damaged.

    The process must have no other thread: while a batch is gathered, its working directory is the one that is walked,
    since the calls for attributes take no directory descriptor, and cost three times as much by way of /proc.
    """
    allow_deep_trees()
    walk = _Incumbent(root, with_xattrs=with_xattrs)
    stack = [walk.opened(os.dup(root), b"", os.fstat(root), None)]  # closes it when it fails
    try:
        yield stack[0].entry
        while stack:
            items, below, over = walk.next_of(stack[-1])
            if below is not None:
                stack.append(below)
            elif over:
                os.close(stack.pop().fd)
            yield from items
    finally:
        for level in stack:
            os.close(level.fd)


class _Incumbent:
    def __init__(self, root: int, *, with_xattrs: bool) -> None:
        self.device = os.fstat(root).st_dev
        self.xattrs = xattrs_of if with_xattrs else _none

    def opened(self, fd: int, path: bytes, at: os.stat_result, parent: Level | None) -> Level:
        """A directory that was opened as `fd`. Raises `OSError`, with `fd` closed, when it cannot be read."""
        entry = entry_of(path, Kind.DIRECTORY, at, xattrs=self.xattrs(fd))
        try:
            names = sorted(name.encode(ENCODING, ERRORS) for name in os.listdir(fd))
        except OSError:
            os.close(fd)
            raise
        return Level(fd, entry, path + b"/" if path else b"", iter(names), in_proc(fd), parent)

    def next_of(self, level: Level) -> tuple[list[Entry], Level | None, bool]:
        """What comes next in a directory, up to and including the first directory in it; whether that was all."""
        items: list[Entry] = []
        with _standing_in(level) as here:
            below = self._gather(level, here, items)
        if below is not None:
            items.append(below.entry)
        return items, below, below is None and len(items) < BATCH

    def _gather(self, level: Level, here: bytes, items: list[Entry]) -> Level | None:
        """Nearly all time is spent here, hence names instead of attributes."""
        fd, before, device, look, xattrs = level.fd, level.before, self.device, os.stat, self.xattrs
        for name in level.names:
            at = look(name, dir_fd=fd, follow_symlinks=False)
            kind = at.st_mode & 0o170000
            if at.st_dev == device and kind == stat.S_IFREG:
                items.append(file_of(before + name, at, xattrs(here + name)))
            elif at.st_dev == device and kind == stat.S_IFDIR:
                below = os.open(name, ENTER | os.O_NOFOLLOW, dir_fd=fd)
                return self.opened(below, before + name, at, level)
            elif at.st_dev == device and kind == stat.S_IFLNK:
                target = os.readlink(name, dir_fd=fd)
                items.append(entry_of(before + name, Kind.SYMLINK, at, xattrs=xattrs(here + name), target=target))
            else:
                items.append(entry_of(before + name, Kind.OTHER, at))
            if len(items) >= BATCH:
                break
        return None


@contextmanager
def _standing_in(level: Level) -> Iterator[bytes]:
    """Make it the working directory for the block, where there is a way back; what names in it are to begin with."""
    try:
        home = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield level.attributes
        return
    try:
        os.fchdir(level.fd)
        yield b""
    finally:
        os.fchdir(home)
        os.close(home)


def _none(_where: bytes | int) -> bytes:
    return b""
