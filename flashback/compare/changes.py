"""What a run is going to do to one master's copy: counted for people, and as work lists on disk, whatever their length.

Memory does not grow with the number of changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from flashback.compare.comparison import Comparison
from flashback.compare.moves import Moves
from flashback.compare.spool import Spool
from flashback.compare.values import MOVED, Change, Count, What
from flashback.walk.listing import Entry, Kind

IN_PLACE_FROM: Final = 4 * 1024 * 1024
"""Files of at least so many bytes are changed in place, so that snapshots go on sharing what did not change."""
HOLES_FROM: Final = 64 * 1024
"""Holes of smaller files are filled with zeros, which the drive compresses."""
LARGEST: Final = 10
"""How many directories `largest` names."""
_REMEMBERED: Final = 4096
"""Directories that are summed up at one time; beyond that the smallest are forgotten."""


class _Largest:
    """Bytes by directory, as far as its first two names; exact for listings in order, near enough otherwise."""

    def __init__(self) -> None:
        self._sums: dict[bytes, list[int]] = {}

    def add(self, path: bytes, *, copied: int = 0, deleted: int = 0) -> None:
        directory = b"/".join(path.split(b"/", 2)[:2]) if path.count(b"/") > 1 else path.rpartition(b"/")[0]
        sums = self._sums.get(directory)
        if sums is None:
            if len(self._sums) >= _REMEMBERED:
                self._sums = dict(self._ranked()[: _REMEMBERED // 2])
            sums = self._sums[directory] = [0, 0]
        sums[0] += copied
        sums[1] += deleted

    def _ranked(self) -> list[tuple[bytes, list[int]]]:
        return sorted(self._sums.items(), key=lambda item: (-sum(item[1]), item[0]))

    def as_json(self) -> list[dict[str, Any]]:
        return [
            {"path": os.fsdecode(path) or ".", "bytes": copied, "bytes_deleted": deleted}
            for path, (copied, deleted) in self._ranked()[:LARGEST]
            if copied or deleted
        ]


class ChangeSet:
    """The differences of one master. Everything here is final once `collect` has returned.

    Work lists: `remove_first` (another kind stands in the way), `apart` (to be parted from
    another name of the same file), `whole` (copied as a whole by rsync, or only their attributes), `holes` (likewise,
    but with holes to be kept), `in_place` (large files on both sides, with one name each), `remove_after`. All names of
    one file are on the same list, and in the same piece of it. `master_root` is the inode of what was walked.
    """

    def __init__(self, directory: Path) -> None:
        self.remove_first = Spool(directory)
        self.apart = Spool(directory)
        self.whole = Spool(directory, with_root=True)
        self.holes = Spool(directory, with_root=True)
        self.in_place = Spool(directory)
        self.remove_after = Spool(directory)
        self.counts = {what: Count() for what in What}
        self.master_root: tuple[int, int] | None = None
        self.unchanged = Count()
        self.moves: Moves | None = None
        self.elsewhere = Spool(directory)
        self.unproven = Spool(directory)
        self.moved = Count()
        self.on_drive = Count()
        self.lower_bound_bytes = 0
        self.bytes_to_read = 0
        self._files_listed = 0
        self._largest = _Largest()
        self._inodes: set[tuple[int, int]] = set()
        self._group: tuple[int, int] | None = None
        self._list = self.whole

    @classmethod
    def collect(
        cls,
        comparison: Comparison,
        *,
        directory: Path,
        watch: Callable[[], None] = lambda: None,
        tally: Callable[[Change], None] = lambda _change: None,
    ) -> ChangeSet:
        """Read both listings to their end. `directory` takes the spool files; `watch` may raise.

        `tally` is told each change. Raises `OSError` where `directory` has no room: here, before anything is done with
        what was listed.
        """
        changes = cls(directory)
        for change in comparison.changes(watch):
            changes._add(change)
            tally(change)
        changes.unchanged, changes.on_drive = comparison.unchanged, comparison.on_drive
        changes.master_root = comparison.root
        changes._add_moved(comparison.moved)
        for spool in changes.lists:
            spool.settle()
        return changes

    def _add_moved(self, idle: Count) -> None:
        self._files_listed += idle.files
        self.moved.files += idle.files
        self.moved.bytes += idle.bytes
        self.moved.directories += idle.directories

    def moved_by(self, moves: Moves, elsewhere: Spool, unproven: Spool, gone: Count, on_drive: Count) -> None:
        """These come first. `elsewhere` are the paths that change by that, `gone` counts what makes way."""
        self.moves, self.elsewhere, self.unproven = moves, elsewhere, unproven
        elsewhere.settle()
        unproven.settle()
        self.on_drive = on_drive
        deleted = self.counts[What.DELETE]
        deleted.files += gone.files
        deleted.bytes += gone.bytes
        deleted.directories += gone.directories

    def _add(self, change: Change) -> None:
        if change.gone is not None:
            self._add_deletion(change.path, change.gone, first=change.what is What.REPLACE)
        if change.apart:
            self.apart.add(change.path)
        if change.entry is not None:
            self._add_entry(change, change.entry)

    def _add_deletion(self, path: bytes, gone: Count, *, first: bool) -> None:
        (self.remove_first if first else self.remove_after).add(path)
        total = self.counts[What.DELETE]
        total.files += gone.files
        total.bytes += gone.bytes
        total.directories += gone.directories
        self._largest.add(path, deleted=gone.bytes)

    def _add_entry(self, change: Change, entry: Entry) -> None:
        moved = change.old is not None and change.old.blocks == MOVED and change.what not in _COPIED
        (self.moved if moved else self.counts[change.what]).add(entry)
        linked = entry.nlink > 1 and entry.kind is not Kind.DIRECTORY
        group = (entry.dev, entry.ino) if linked else None
        bound = linked and group == self._group  # they come one after the other
        if not bound:
            self._group, self._list = group, self._list_for(change, entry, linked=linked)
        self._list.add(change.path, bound=bound)
        if entry.kind is Kind.DIRECTORY:
            return
        self._files_listed += 1
        if (change.what in _COPIED or change.what is What.MOVED) and self._first_of_its_inode(entry):
            self._largest.add(change.path, copied=entry.size)
            self.bytes_to_read += entry.size
            self.lower_bound_bytes += _needed(entry, change.old if self._list is self.in_place else None)

    def _list_for(self, change: Change, entry: Entry, *, linked: bool) -> Spool:
        """All names of one file belong on one list: its holes decide about that, and not what is to be done to each."""
        if _goes_in_place(change):
            return self.in_place
        return self.holes if _has_holes(entry) and (linked or change.what in _COPIED) else self.whole

    def _first_of_its_inode(self, entry: Entry) -> bool:
        if entry.nlink < 2:
            return True
        inode = (entry.dev, entry.ino)
        fresh = inode not in self._inodes
        self._inodes.add(inode)
        return fresh

    @property
    def lists(self) -> tuple[Spool, ...]:
        """All of them, those of what is moved included."""
        return (self.remove_first, self.apart, *self.copied, self.remove_after, self.elsewhere, self.unproven)

    @property
    def copied(self) -> tuple[Spool, ...]:
        """What rsync is given, those first that take long for each file."""
        return self.in_place, self.holes, self.whole

    @property
    def steps(self) -> int:
        """How many places are to be touched."""
        return sum(map(len, self.lists)) - len(self.unproven)

    @property
    def is_empty(self) -> bool:
        """Nothing is to be done."""
        return self.steps == 0

    @property
    def files_added(self) -> int:
        """Files and links that the drive does not have, or has as something else."""
        return self.counts[What.ADD].files + self.counts[What.REPLACE].files

    @property
    def files_to_copy(self) -> int:
        """Files and links whose content is to be copied."""
        return self.files_added + self.counts[What.CHANGE].files

    @property
    def files_in_master(self) -> int:
        """All files and links that the master's listing names, changed or not."""
        return self._files_listed + self.unchanged.files

    @property
    def bytes_in_master(self) -> int:
        """The sizes of all these."""
        listed = sum(count.bytes for what, count in self.counts.items() if what is not What.DELETE)
        return listed + self.unchanged.bytes + self.moved.bytes

    @property
    def files_on_drive(self) -> int:
        """All files and links of the copy, before the run."""
        return self.on_drive.files

    def as_json(self) -> dict[str, Any]:
        """JSON-ready (docs/reference/json.md): the totals, and `largest`, the directories (two names deep at most) with
        the most bytes copied and deleted.
        """
        return {**self.totals(), "largest": self._largest.as_json()}

    def totals(self) -> dict[str, int]:
        """Numbers only, no name from a file system. Sizes are those of the files, not what they take on the drive.

        `files_*` count files and links; `files_attributes` are those that differ in owner, mode, times, extended
        attributes or hard links only.
        """
        counts = self.counts
        return {
            "files_added": self.files_added,
            "bytes_added": counts[What.ADD].bytes + counts[What.REPLACE].bytes,
            "files_changed": counts[What.CHANGE].files,
            "bytes_changed": counts[What.CHANGE].bytes,
            "files_attributes": counts[What.ATTRIBUTES].files + counts[What.LINK].files,
            "files_deleted": counts[What.DELETE].files,
            "bytes_deleted": counts[What.DELETE].bytes,
            "files_moved": self.moved.files,
            "bytes_moved": self.moved.bytes,
            "files_unchanged": self.unchanged.files,
            "bytes_unchanged": self.unchanged.bytes,
            "directories_added": counts[What.ADD].directories + counts[What.REPLACE].directories,
            "directories_changed": counts[What.ATTRIBUTES].directories,
            "directories_deleted": counts[What.DELETE].directories,
            "directories_moved": self.moved.directories,
            "directories_unchanged": self.unchanged.directories,
        }


_COPIED: Final = frozenset({What.ADD, What.CHANGE, What.REPLACE})


def _has_holes(entry: Entry) -> bool:
    """Whether it takes less room in the master than its size says (there may be another reason: compression)."""
    return entry.size >= HOLES_FROM and entry.blocks * 512 < entry.size


def _goes_in_place(change: Change) -> bool:
    new, old = change.entry, change.old
    if new is None or old is None or new.kind is not Kind.FILE or not new.nlink == old.nlink == 1:
        return False
    return change.what is What.MOVED or (change.what is What.CHANGE and min(new.size, old.size) >= IN_PLACE_FROM)


def _needed(entry: Entry, overwritten: Entry | None) -> int:
    """Bytes that a file takes at least, before compression: holes take nothing, in place only growth is certain."""
    if overwritten is not None:
        return max(0, entry.size - overwritten.size)
    return min(entry.size, entry.blocks * 512) if entry.size >= HOLES_FROM else entry.size
