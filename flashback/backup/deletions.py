"""Taking things off the drive by explicit list: below one directory, through descriptors, never through a link.

The paths are our own listing's, but the drive is untrusted and may have changed under us: every component is opened
with O_NOFOLLOW, `..` is refused, and nothing on another device (a nested subvolume, a mount) is entered or removed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self

from flashback.core.errors import NoSpace, NotFinished

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HOPELESS: Final = frozenset({errno.EROFS, errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.EUCLEAN})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Below:
    """Work below the directory that is open as `root` (not closed here). Directories that it changes keep their times.

    Consecutive paths usually lie in one directory, so the last one stays open.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._device = os.fstat(root).st_dev
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
        if any(part in {b"", b".", b".."} for part in path.split(b"/")) or b"\0" in path:
            raise ValueError(f"not a path below a copy: {path!r}")
        if directory != self._where:
            self._leave()
            self._parent = self._open(directory)
            self._where = directory
        return self._parent, name

    def remove(self, path: bytes) -> bool:
        """Remove a file, link or whole directory; false when it was not there.

        Raises `OSError` when something of it could not be removed.
        """
        try:
            parent, name = self.parent(path)
            with keeping_times(parent):
                self._remove(parent, name)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def _remove(self, parent: int, name: bytes) -> None:
        try:
            os.unlink(name, dir_fd=parent)
        except IsADirectoryError:
            self._remove_tree(parent, name)

    def _remove_tree(self, parent: int, name: bytes) -> None:
        """From the bottom up with two descriptors, however deep it is: the way up is checked, not trusted."""
        here = self._entered(parent, name)
        try:
            levels = [(name, os.fstat(parent), self._subdirectories_of_emptied(here))]
            while levels:
                _name, above, waiting = levels[-1]
                if waiting:
                    next_name, at = waiting.pop(), os.fstat(here)
                    here = _exchanged(here, self._entered(here, next_name))
                    levels.append((next_name, at, self._subdirectories_of_emptied(here)))
                    continue
                here = _exchanged(here, _climbed(here, above))
                os.rmdir(levels.pop()[0], dir_fd=here)
        finally:
            os.close(here)

    def _entered(self, parent: int, name: bytes) -> int:
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
        if os.fstat(descriptor).st_dev == self._device:
            return descriptor
        os.close(descriptor)
        raise OSError(errno.EXDEV, "another subvolume or file system lies here")

    @staticmethod
    def _subdirectories_of_emptied(directory: int) -> list[bytes]:
        """Remove all that is no directory; return the names of the directories."""
        found = []
        with os.scandir(directory) as entries:
            listed = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_directory in listed:
            if is_directory:
                found.append(name)
            else:
                os.unlink(name, dir_fd=directory)
        return found

    def _open(self, directory: bytes) -> int:
        here = os.dup(self._root)
        for part in filter(None, directory.split(b"/")):
            try:
                here = _exchanged(here, self._entered(here, part))
            except OSError:
                os.close(here)
                raise
        return here

    def _leave(self) -> None:
        if self._parent >= 0:
            os.close(self._parent)
        self._parent, self._where = -1, None


@contextmanager
def keeping_times(directory: int) -> Iterator[None]:
    """Give a directory its times back after what the block does in it: they are the master's by then."""
    before = os.fstat(directory)
    try:
        yield
    finally:
        os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))


def stops_the_run(problem: OSError, doing: str) -> None:
    """Raise what a failure to write means for the whole run; return when it concerns one file alone."""
    if problem.errno in _FULL:
        raise NoSpace(f"the drive is full: {doing} failed", hint="remove snapshots or exclude something") from problem
    if problem.errno in _HOPELESS:
        raise NotFinished(
            f"the drive does not take it any more: {doing} failed ({os.strerror(problem.errno or 0)})",
            hint="check cable and port, then run again: it carries on from where it stopped",
        ) from problem


def _exchanged(old: int, new: int) -> int:
    os.close(old)
    return new


def _climbed(here: int, above: os.stat_result) -> int:
    """The directory above, which must be the one that we came from."""
    descriptor = os.open("..", _DIRECTORY, dir_fd=here)
    found = os.fstat(descriptor)
    if (found.st_dev, found.st_ino) == (above.st_dev, above.st_ino) and stat.S_ISDIR(found.st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.ESTALE, "the directory was moved while it was being removed")
