"""Going down from an open directory, step by step, through nothing but directories: a planted link leads nowhere."""

from __future__ import annotations

import errno
import os
import resource
from typing import Final, Self

DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
DEEPEST: Final = 4096
"""More directories than a path of 4095 bytes can name: so many are open at a time at most, one for each level."""


def is_below(path: bytes) -> bool:
    """Whether it can be the path of something that lies in a directory, or deeper: no absolute one, no `.`, no `..`."""
    return b"\0" not in path and not any(part in {b"", b".", b".."} for part in path.split(b"/"))


class Descent:
    """Finds what lies below the directory that is open as `root` (not closed here), and on its file system.

    `beyond` goes on into other file systems and subvolumes.

    Consecutive paths usually lie in one directory, so the last one stays open.
    """

    def __init__(self, root: int, *, beyond: bool = False) -> None:
        self._root = root
        self._device = None if beyond else os.fstat(root).st_dev
        self._where: bytes | None = None
        self._parent = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._leave()

    def parent(self, path: bytes) -> tuple[int, bytes]:
        """A descriptor of the directory that `path` lies in, valid until the next call, and the last name.

        Raises `ValueError` for a path that is not one of ours, `FileNotFoundError` or `NotADirectoryError` when the
        way there is not made of directories of this subvolume.
        """
        directory, _slash, name = path.rpartition(b"/")
        if not is_below(path):
            raise ValueError(f"not a path below a copy: {path!r}")
        if directory != self._where:
            self._leave()
            self._parent = self._open(directory)
            self._where = directory
        return self._parent, name

    def _open(self, directory: bytes) -> int:
        here = os.dup(self._root)
        for part in filter(None, directory.split(b"/")):
            try:
                here = exchanged(here, self._entered(here, part))
            except OSError:
                os.close(here)
                raise
        return here

    def _entered(self, parent: int, name: bytes) -> int:
        descriptor = os.open(name, DIRECTORY, dir_fd=parent)
        if self._device is None or os.fstat(descriptor).st_dev == self._device:
            return descriptor
        os.close(descriptor)
        raise OSError(errno.EXDEV, "another subvolume or file system lies here")

    def _leave(self) -> None:
        if self._parent >= 0:
            os.close(self._parent)
        self._parent, self._where = -1, None


def exchanged(old: int, new: int) -> int:
    """Close `old`, return `new`."""
    os.close(old)
    return new


def allow_deep_trees(more: int = 0) -> None:
    """Let this process hold a descriptor for each level of the deepest tree, and `more`, as its hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DEEPEST + 256 + more
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
