"""Which directories of a master need not be entered, because Btrfs says that nothing in them was written (pure).

It rests on what a listing of an earlier moment has, and on the paths that every inode written since has now. A
directory is as it was, with all below it, if it has the path and the inode that it had, all above it were looked at,
and none of the written paths is it or lies below it: a thing that is gone or was moved away shows in the directory that
it was in, and inodes are never given twice on Btrfs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from flashback.walk.listing import Entry, Kind, directories_above


@dataclass(frozen=True, slots=True)
class Narrow:
    """`listed` are the directories to enter; `known` are all directories in these, with their inodes then.

    `anew` are places of which nothing was known before: all below them is looked at.
    """

    listed: frozenset[bytes]
    known: dict[bytes, int]
    anew: frozenset[bytes]

    def is_same(self, path: bytes, inode: int) -> bool:
        """Whether a directory, found in one that was entered, is as it was with all below it."""
        return path not in self.listed and path not in self.anew and self.known.get(path) == inode

    def is_other(self, path: bytes, inode: int) -> bool:
        """Whether what is below a directory must all be looked at: it was not there, or was not known."""
        return path in self.anew or self.known.get(path) != inode


def narrowed(entries: Iterable[Entry], *, written: Collection[bytes], anew: Collection[bytes]) -> Narrow:
    """What can be left out of a walk. `entries` are the earlier listing, `written` the paths to be looked at.

    `anew`: see `Narrow`; these are looked at, too.
    """
    listed = {b""}
    for paths in (written, anew):
        for path in paths:
            if path not in listed:
                listed.add(path)
                listed.update(directories_above(path))
    directory = Kind.DIRECTORY
    known = {
        entry.path: entry.ino
        for entry in entries
        if entry.kind is directory and entry.path.rpartition(b"/")[0] in listed
    }
    return Narrow(frozenset(listed), known, frozenset(anew))
