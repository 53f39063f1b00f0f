"""The walk of what a drive holds: everything that is there, nothing believed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from flashback.backup.listing import Entry, Kind
from flashback.backup.places import (
    ENCODING,
    ENTER,
    ERRORS,
    Frame,
    allow_deep_trees,
    entry_of,
    file_of,
    in_proc,
    xattrs_of,
)


def walk_incumbent(root: int, *, with_xattrs: bool = True) -> Iterator[Entry]:
    """List the copy on a drive that is open as `root`, everything that is there, nothing believed.

    No rule applies, no link is followed, no other device or subvolume is entered: these, and all that is neither file,
    directory nor link, are `Kind.OTHER`. Raises `OSError` on whatever cannot be read: the drive is then damaged.
    """
    allow_deep_trees()
    top = _opened(os.dup(root), b"", os.fstat(root), None, with_xattrs=with_xattrs)  # closes it when it fails
    stack = [top]
    try:
        yield top.entry
        while stack:
            for item in _incumbent_files(stack[-1], top.entry.dev, with_xattrs=with_xattrs):
                if isinstance(item, Frame):
                    stack.append(item)
                    yield item.entry
                    break
                yield item
            else:
                os.close(stack.pop().fd)
    finally:
        for frame in stack:
            os.close(frame.fd)


def _opened(fd: int, path: bytes, at: os.stat_result, parent: Frame | None, *, with_xattrs: bool) -> Frame:
    entry = entry_of(path, Kind.DIRECTORY, at, xattrs=xattrs_of(fd) if with_xattrs else b"")
    try:
        names = sorted(name.encode(ENCODING, ERRORS) for name in os.listdir(fd))
    except OSError:
        os.close(fd)
        raise
    return Frame(fd, entry, path + b"/" if path else b"", iter(names), in_proc(fd), parent)


def _incumbent_files(frame: Frame, device: int, *, with_xattrs: bool) -> Iterator[Entry | Frame]:
    fd, before = frame.fd, frame.before
    for name in frame.names:
        at = os.stat(name, dir_fd=fd, follow_symlinks=False)
        kind = stat.S_IFMT(at.st_mode)
        path = before + name
        if at.st_dev != device or kind not in {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}:
            yield entry_of(path, Kind.OTHER, at)
        elif kind == stat.S_IFDIR:
            below = os.open(name, ENTER | os.O_NOFOLLOW, dir_fd=fd)
            yield _opened(below, path, at, frame, with_xattrs=with_xattrs)
        else:
            xattrs = xattrs_of(frame.attributes + name) if with_xattrs else b""
            if kind == stat.S_IFREG:
                yield file_of(path, at, xattrs)
            else:
                yield entry_of(path, Kind.SYMLINK, at, xattrs=xattrs, target=os.readlink(name, dir_fd=fd))
