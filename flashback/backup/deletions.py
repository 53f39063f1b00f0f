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
from typing import Final

from flashback.core.descent import DIRECTORY, Descent, exchanged
from flashback.core.errors import NoSpace, NotFinished

_HOPELESS: Final = frozenset({errno.EROFS, errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.EUCLEAN})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Below(Descent):
    """Work below an open directory; directories that it changes keep their times."""

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
                    here = exchanged(here, self._entered(here, next_name))
                    levels.append((next_name, at, self._subdirectories_of_emptied(here)))
                    continue
                here = exchanged(here, _climbed(here, above))
                os.rmdir(levels.pop()[0], dir_fd=here)
        finally:
            os.close(here)

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


def _climbed(here: int, above: os.stat_result) -> int:
    """The directory above, which must be the one that we came from."""
    descriptor = os.open("..", DIRECTORY, dir_fd=here)
    found = os.fstat(descriptor)
    if (found.st_dev, found.st_ino) == (above.st_dev, above.st_ino) and stat.S_ISDIR(found.st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.ESTALE, "the directory was moved while it was being removed")
