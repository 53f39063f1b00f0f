"""What was moved or renamed in a master since its catalogue was written, found by inode (pure).

Nothing here needs to be right: what comes of a move is compared like anything else, and a file that is not provably the
one it seems to be has its whole content compared by rsync. A wrong guess costs time.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from typing import Final

from flashback.compare.changes import IN_PLACE_FROM
from flashback.compare.known import DOUBTFUL, Since
from flashback.compare.values import MOVED, Change, What
from flashback.walk.listing import Entry, Kind, directories_above

FILES: Final = 50_000
"""So many files, the largest, are remembered as gone, and as many as new: about 30 MB in all."""
DIRECTORIES: Final = 20_000
_SKETCH: Final = 6
"""So many of a directory's names and inodes are remembered; one that two have in common makes them one."""

_Known = tuple[int, int, int, int, bytes, bytes]
"""Size, inode, time of modification, kind, a link's target, path; the largest is kept longest."""


class Search:
    """Given every change and everything that the drive would lose; `directories` and `files` say what goes together."""

    def __init__(self) -> None:
        self._lost: list[_Known] = []
        self._found: list[_Known] = []
        self._lost_directories: dict[bytes, int] = {}
        self._found_directories: dict[bytes, int] = {}
        self._lost_sketches: dict[bytes, list[int]] = {}
        self._found_sketches: dict[bytes, list[int]] = {}

    def gone(self, old: Entry) -> None:
        """Something that the drive would lose."""
        _sketched(self._lost_sketches, old)
        if old.mtime_ns == DOUBTFUL:
            return
        if old.kind is Kind.DIRECTORY:
            _remember(self._lost_directories, old)
        elif old.nlink == 1:
            _keep_largest(self._lost, old)

    def change(self, change: Change) -> None:
        """Any difference."""
        new, old = change.entry, change.old
        if new is None:
            return
        if old is not None and change.what is not What.REPLACE:
            if new.ino == old.ino or not new.path:
                return
            if new.kind is not Kind.DIRECTORY and (new.size, new.mtime_ns) == (old.size, old.mtime_ns):
                return  # FAT and some network file systems number their files anew with each mount
            self.gone(old)
        _sketched(self._found_sketches, new)
        if new.kind is Kind.DIRECTORY:
            _remember(self._found_directories, new)
        elif new.nlink == 1:
            _keep_largest(self._found, new)

    def directories(self) -> dict[bytes, bytes]:
        """Directories with the inode of one that is gone, and something in them that was in that one."""
        by_inode: dict[int, list[bytes]] = {}
        for path, inode in sorted(self._found_directories.items()):
            by_inode.setdefault(inode, []).append(path)
        to: dict[bytes, bytes] = {}
        for old, inode in sorted(self._lost_directories.items(), key=lambda item: (item[0].count(b"/"), item[0])):
            for new in by_inode.get(inode, ()):
                if self._are_one(old, new):
                    by_inode[inode].remove(new)
                    if _carried(to, old) != new:
                        to[old] = new
                    break
        return to

    def _are_one(self, old: bytes, new: bytes) -> bool:
        return bool({*self._lost_sketches.get(old, ())} & {*self._found_sketches.get(new, ())})

    def files(self) -> dict[bytes, bytes]:
        """Files and links with the inode of one that is gone, and its size and time; large ones by inode alone."""
        by_inode: dict[int, list[_Known]] = {}
        for each in sorted(self._found, key=lambda known: known[-1]):
            by_inode.setdefault(each[1], []).append(each)
        to = {}
        for old in sorted(self._lost, key=lambda known: known[-1]):
            for new in by_inode.get(old[1], ()):
                if new[:-1] == old[:-1] or (new[3] == old[3] == Kind.FILE and min(new[0], old[0]) >= IN_PLACE_FROM):
                    by_inode[old[1]].remove(new)
                    to[old[-1]] = new[-1]
                    break
        return to


def _carried(to: Mapping[bytes, bytes], path: bytes) -> bytes:
    """Where a path goes with the directories above it."""
    for above in directories_above(path):
        if above in to:
            return to[above] + path[len(above) :]
    return path


def _keep_largest(heap: list[_Known], entry: Entry) -> None:
    known = (entry.size, entry.ino, entry.mtime_ns, int(entry.kind), entry.target, entry.path)
    if len(heap) < FILES:
        heapq.heappush(heap, known)
    else:
        heapq.heappushpop(heap, known)


def _remember(directories: dict[bytes, int], entry: Entry) -> None:
    if len(directories) < DIRECTORIES:
        directories[entry.path] = entry.ino


def _sketched(sketches: dict[bytes, list[int]], entry: Entry) -> None:
    """Remember what is in a directory by the lowest hashes of names and inodes, the same ones wherever it is."""
    parent, _slash, name = entry.path.rpartition(b"/")
    sketch = sketches.get(parent)
    if sketch is None:
        if len(sketches) >= DIRECTORIES:
            return
        sketch = sketches[parent] = []
    mark = hash((name, entry.ino))
    if len(sketch) < _SKETCH or mark < sketch[-1]:
        sketch.append(mark)
        sketch.sort()
        del sketch[_SKETCH:]


class SinceMoved(Since):
    """`Since`, for a listing in which things were moved. `unproven` is given what rsync is to compare as a whole."""

    def __init__(self, unproven: Callable[[bytes], None]) -> None:
        super().__init__()
        self._unproven = unproven
        self.shared = False

    def __call__(self, new: Entry, old: Entry) -> What | None:
        """The same inode with the same time of change is the same file; with another one it only seems to be."""
        what = super().__call__(new, old)
        if old.blocks != MOVED or what is not What.ATTRIBUTES or new.kind is not Kind.FILE:
            return what
        if (new.ino, new.ctime_ns) == (old.ino, old.ctime_ns):
            return what
        self._unproven(new.path)
        self.shared |= new.nlink > 1 or old.nlink > 1
        return What.MOVED
