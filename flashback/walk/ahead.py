"""Processes that enter a master's directories before the walk comes to them, so that it finds them in memory.

They say nothing, and nothing depends on them. Where the kernel has to read from a disk, whoever asks for one thing
after the other waits most of the time; here some things are asked for at once, and the other processors do a part of
the work. Of a master that is in memory it would cost processor time for nothing: it is begun once the walk was seen to
read from a disk, and ends where nothing has to be read any more.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from flashback.config.values import Symlinks
from flashback.walk.filter import Filter
from flashback.walk.frames import blocks_read
from flashback.walk.listing import Item
from flashback.walk.markers import LOOKED_AT, valid
from flashback.walk.master import MasterWalk, Produce, Said
from flashback.walk.narrow import Narrow
from flashback.walk.places import ENCODING, ENTER, ERRORS, Level

LEAST: Final = 256
"""Blocks of 512 bytes that the walk has the kernel read, before this is worth its start."""
PATIENCE: Final = 2000
"""So many names a process meets without that anything is read for it, before it ends."""
AT_ONCE: Final = 4
"""Processes."""
CLAIMS: Final = 1_000_003
"""Bytes that the processes share: one for a directory, by its inode; of two that have the same, one may be left out.

A prime number, since file systems put a meaning into the high bits of an inode, and begin with the same low ones."""
FREE, TAKEN, DONE = range(3)
"""Nobody has entered it; somebody is in it or below; nothing in it is left to be entered."""
CHILDLESS: Final = 2
"""Links to a directory without another in it, where they are counted (ext4, XFS): its name, and `.` in it."""
_MARKERS: Final = frozenset(map(os.fsdecode, LOOKED_AT))


def walking_ahead(
    path: Path,
    *,
    filter: Filter,  # noqa: A002 - it is what it is
    symlinks: Symlinks,
    avoid: frozenset[tuple[int, int]] = frozenset(),
    narrow: Narrow | None = None,
) -> Iterator[Produce]:
    """What these processes run: together they enter what `walking` enters, but for links.

    Asking for the first raises `OSError` where there is no room for what they share.
    """
    claims = mmap.mmap(-1, CLAIMS)

    def one(number: int) -> Produce:
        def produce(_emit: Callable[[Said], None]) -> None:
            root = os.open(path, ENTER)
            try:
                walk = WalkAhead(filter, symlinks, avoid, _nothing, with_xattrs=False, own_process=False)
                walk.narrow, walk.claims, walk.number, walk.is_first = narrow, claims, number, number == 0
                with suppress(Met):
                    for _items in walk.walk(root):
                        pass
            finally:
                os.close(root)

        return produce

    yield from map(one, range(AT_ONCE))


class Met(Exception):
    """For `PATIENCE` names nothing had to be read."""


class WalkAhead(MasterWalk):
    """Has the kernel read the directories and inodes that the master's walk asks for, and makes nothing of them.

    `is_first`: the directory that is entered next is nobody else's.
    """

    claims: mmap.mmap
    number: int
    is_first: bool
    blocks = 0
    names = 0

    def _next(self, level: Level) -> tuple[list[Item], Level | None, bool]:
        for name in level.names:
            if len(name) > level.room:
                continue
            try:
                at = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
            except OSError:
                continue
            self.is_first = self.claims[at.st_ino % CLAIMS] == FREE
            if at.st_nlink == CHILDLESS and not self.is_first:
                continue
            self.claims[at.st_ino % CLAIMS] = TAKEN
            below = self._entered(level, name, at, follow=False)
            if isinstance(below, Level):
                return [], below, False
        self.claims[level.entry.ino % CLAIMS] = DONE
        return [], None, True

    def _names(self, level: Level) -> Iterator[bytes]:
        """Those of directories that the rules leave; each process begins at another one.

        Files are looked at, those that the rules leave out as well: to ask the rules costs more.
        """
        judge = level.place.directory
        found: list[tuple[bytes, int]] = []
        markers: list[bytes] = []
        with os.scandir(level.fd) as entries:
            for entry in entries:
                self.names += 1
                if self.names % PATIENCE == 0:
                    self._look_back()
                if entry.name in _MARKERS:
                    markers.append(os.fsencode(entry.name))
                elif entry.is_dir(follow_symlinks=False):
                    name = entry.name.encode(ENCODING, ERRORS)
                    rule = judge(name)
                    if rule is None or rule.include:
                        found.append((name, entry.inode()))
                elif self.is_first:
                    os.access(entry.name, os.F_OK, dir_fd=level.fd, follow_symlinks=False)
        if markers and level.parent is not None and valid(level.fd, markers) is not None:
            return iter(())
        found.sort()
        first = self.number * len(found) // AT_ONCE
        return self._in_turn(found[first:] + found[:first])

    def _look_back(self) -> None:
        before, self.blocks = self.blocks, blocks_read()
        if before == self.blocks:
            raise Met

    def _in_turn(self, found: list[tuple[bytes, int]]) -> Iterator[bytes]:
        """Those that nobody has entered when it is their turn, then those in which others still are."""
        later = []
        for name, inode in found:
            claim = self.claims[inode % CLAIMS]
            if claim == FREE:
                yield name
            elif claim == TAKEN:
                later.append((name, inode))
        for name, inode in later:
            if self.claims[inode % CLAIMS] == TAKEN:
                yield name


def _nothing(_said: object) -> None:
    pass
