"""Moving things on the drive, by way of a folder of ours in the copy: chains, swaps and new directories are all alike.

First all that moves is taken out, the deepest first; then it is put in its place, what it lies in first. A file that is
not proven to be the one it is taken for gets a time that no file of the master has, before anything else: until rsync
has compared its content, nobody can take it for up to date, whenever the run is broken off. Where the drive is full,
room is made, and the moving goes on where it was.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterable
from typing import Final

from flashback.backup.deletions import Below, keeping_times, stops_the_run
from flashback.backup.reflink import open_file
from flashback.compare.moves import Moves, by_depth
from flashback.core.errors import NotFinished

UNPROVEN_NS: Final = (1, 2)
"""Times of modification, in nanoseconds since 1970; the second where a file happens to have the first."""
_WATCHED_EVERY: Final = 256
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_WAY: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


def move(incumbent: int, moves: Moves, unproven: Iterable[bytes], watch: Callable[[], None]) -> None:
    """Do it in the copy that is open as `incumbent`. `unproven` are paths as they are after all moves.

    Raises `NoSpace`, `NotFinished` and what `watch` raises. The copy is then incomplete, and compared in full.
    """
    try:
        _Mover(incumbent, moves, watch).move(unproven)
    except OSError as problem:
        watch()
        stops_the_run(problem, "moving files to their new places")
        raise NotFinished(
            f"the copy is not as it was noted: {os.strerror(problem.errno or 0)}",
            hint="run again: both sides are then compared in full",
        ) from problem


class _Mover:
    def __init__(self, incumbent: int, moves: Moves, watch: Callable[[], None]) -> None:
        self.incumbent = incumbent
        self.moves = moves
        self.watch = watch
        self.steps = 0
        self.numbers = {old: b"%d" % number for number, old in enumerate(moves.to)}

    def move(self, unproven: Iterable[bytes]) -> None:
        """See the module."""
        if not self.moves.between:
            self._begin(unproven)
        between = os.open(self.moves.between, _DIRECTORY, dir_fd=self.incumbent)
        try:
            with Below(self.incumbent) as below:
                for old in by_depth(self.moves.to.keys() - self.moves.taken, deepest_first=True):
                    self._take(below, old, between)
            with Below(self.incumbent) as below:
                for new in by_depth(self.moves.source.keys() - self.moves.put):
                    self._put(below, new, between)
        finally:
            os.close(between)
        with keeping_times(self.incumbent):
            os.rmdir(self.moves.between, dir_fd=self.incumbent)
            self.moves.are_done = True

    def _begin(self, unproven: Iterable[bytes]) -> None:
        with Below(self.incumbent) as below:
            for path in unproven:
                self._doubt(below, self.moves.origin(path))
        ours = b".flashback-" + secrets.token_hex(8).encode()
        with keeping_times(self.incumbent):
            os.mkdir(ours, 0o700, dir_fd=self.incumbent)
        self.moves.between = ours

    def _step(self) -> None:
        self.steps += 1
        if self.steps % _WATCHED_EVERY == 0:
            self.watch()

    def _doubt(self, below: Below, path: bytes) -> None:
        self._step()
        file = open_file(*below.parent(path))
        if file is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        try:
            at = os.fstat(file)
            never = UNPROVEN_NS[at.st_mtime_ns == UNPROVEN_NS[0]]
            os.utime(file, ns=(at.st_atime_ns, never))
        finally:
            os.close(file)

    def _take(self, below: Below, old: bytes, between: int) -> None:
        self._step()
        parent, name = below.parent(old)
        with keeping_times(parent):
            os.rename(name, self.numbers[old], src_dir_fd=parent, dst_dir_fd=between)
            self.moves.taken.add(old)

    def _put(self, below: Below, new: bytes, between: int) -> None:
        self._step()
        self._make_way(below, new)
        below.remove(new)
        parent, name = below.parent(new)
        with keeping_times(parent):
            os.rename(self.numbers[self.moves.source[new]], name, src_dir_fd=between, dst_dir_fd=parent)
            self.moves.put.add(new)

    @staticmethod
    def _make_way(below: Below, path: bytes) -> None:
        """Have a directory at every place above; rsync gives the new ones their attributes."""
        try:
            below.parent(path)
        except OSError as problem:
            if problem.errno not in _NO_WAY:
                raise
        else:
            return
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            above = b"/".join(parts[:depth])
            parent, name = below.parent(above)
            try:
                if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                    continue
                below.remove(above)
            except FileNotFoundError:
                pass
            with keeping_times(parent):
                os.mkdir(name, 0o700, dir_fd=parent)
