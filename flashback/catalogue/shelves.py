"""The catalogue on this machine: a shelf for each drive and master, and the index over all of them.

    catalogue/<LUKS UUID>/history/<master>/   the deltas, and a note of what the drive has
    catalogue/index.sqlite                    made from these

Root's alone: which files somebody has is private.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flashback.catalogue.index import Index, IndexBroken, discard

if TYPE_CHECKING:
    from flashback.catalogue.shelf import Link, Shelf

HISTORY: Final = "history"
INDEX: Final = "index.sqlite"
_UUID: Final = re.compile(r"[0-9a-fA-F-]{8,64}", re.ASCII)
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Place:
    """Where the catalogue of one master on one drive lies here."""

    drive: str
    master: str
    folder: Path

    @property
    def fingerprint(self) -> str:
        """Another one after any change: every change makes or renames a file in the folder."""
        at = os.stat(self.folder)
        return f"{at.st_ino} {at.st_mtime_ns} {at.st_ctime_ns}"


class Shelves:
    """`root` is the folder `catalogue` in this machine's state."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def places(self) -> tuple[Place, ...]:
        """All there are, by drive and master."""
        found = []
        for drive in _names(self.root):
            folder = self.root / drive / HISTORY
            if _UUID.fullmatch(drive):
                found += [Place(drive, name, folder / name) for name in _names(folder)]
        return tuple(found)

    def place(self, drive: str, master: str) -> Place:
        """One of them, which need not be there."""
        return Place(drive, master, self.root / drive / HISTORY / master)

    @contextmanager
    def shelf(self, drive: str, master: str) -> Iterator[Shelf]:
        """The shelf of one master on one drive, made where there is none. Raises `OSError`."""
        from flashback.catalogue.shelf import Shelf

        folder = self.place(drive, master).folder
        for each in (self.root, self.root / drive, folder.parent, folder):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
            each.chmod(0o700)
        fd = os.open(folder, _DIRECTORY)
        try:
            yield Shelf(fd)
        finally:
            os.close(fd)

    @contextmanager
    def passing(self) -> Iterator[Shelf]:
        """A shelf of nobody's, gone after the block. Raises `OSError`."""
        import tempfile

        from flashback.catalogue.shelf import Shelf

        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="passing-", dir=self.root) as folder:
            fd = os.open(folder, _DIRECTORY)
            try:
                yield Shelf(fd)
            finally:
                os.close(fd)

    @contextmanager
    def index(self) -> Iterator[Index]:
        """The index, up to date with the shelves. Raises `OSError` where it cannot be made."""
        file = self.root / INDEX
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with Index.open(file) as index:
            try:
                self._bring_up_to_date(index)
                of_use = not index.is_worn()
            except IndexBroken:
                of_use = False
            if of_use:
                yield index
                return
            discard(file)
        with Index.open(file) as index:
            try:
                self._bring_up_to_date(index)
            except IndexBroken as problem:
                raise OSError(f"{file}: {problem}") from problem
            yield index

    def bring_up_to_date(self) -> None:
        """Have the index ready for whoever asks next. Raises `OSError`."""
        with self.index():
            pass

    def _bring_up_to_date(self, index: Index) -> None:
        known = {
            (drive, master): (tree, fingerprint)
            for tree, drive, master, fingerprint in index.rows("SELECT id, drive, master, fingerprint FROM trees")
        }
        for place in self.places():
            tree, before = known.pop((place.drive, place.master), (0, ""))
            if place.fingerprint != before:
                self._take_in(index, place, tree)
        for tree, _fingerprint in known.values():
            with index.writing():
                index.forget(tree)

    def _take_in(self, index: Index, place: Place, tree: int) -> None:
        """Enter what the shelf has more than the index. A file that turns out to be garbled is let go, and its state
        counts as one of which nothing is known: the drive itself has it still.
        """
        from flashback.catalogue.frames import CatalogueBroken

        with self.shelf(place.drive, place.master) as shelf:
            for link in (*shelf.chain(), None):
                try:
                    with index.writing():
                        _enter_all(index, shelf, place, tree)
                except CatalogueBroken:
                    if link is None:
                        raise
                    _let_go_of_garbled(shelf)
                else:
                    return


def _enter_all(index: Index, shelf: Shelf, place: Place, tree: int) -> None:
    """Bring one tree up to date; from nothing, where what the index has is not the beginning of the chain."""
    fingerprint, links, note = place.fingerprint, shelf.chain(), shelf.note()
    entered = index.rows("SELECT number, state, mark FROM states WHERE tree = ? ORDER BY number", tree)
    if not _continues(links, [f"{state}-{mark}" for _number, state, mark in entered]):
        entered = []
    if not entered:
        index.forget(tree)
        sql = "INSERT INTO trees (drive, master, path, current, unknown, fingerprint) VALUES (?, ?, '', '', 0, '')"
        tree = int(index.db.execute(sql, (place.drive, place.master)).lastrowid or 0)
    number, last = (entered[-1][0], entered[-1][1]) if entered else (0, "")
    for link in links:
        if link.state > last:
            number += 1
            _enter(index, shelf, link, tree, number)
    index.db.execute("UPDATE states SET living = 0 WHERE tree = ? AND living", (tree,))
    living = [(tree, state) for state in note.states]
    index.db.executemany("UPDATE states SET living = 1 WHERE tree = ? AND state = ?", living)
    index.drop_dead(tree)
    unknown = len(set(note.states) - {link.state for link in links})
    index.db.execute(
        "UPDATE trees SET path = ?, current = ?, unknown = ?, fingerprint = ? WHERE id = ?",
        (note.path, note.current, unknown, fingerprint, tree),
    )


def _let_go_of_garbled(shelf: Shelf) -> None:
    """Cut the chain before the first file that cannot be read to its end."""
    from flashback.catalogue.frames import CatalogueBroken

    links = shelf.chain()
    for position, link in enumerate(links):
        try:
            with shelf.read(link.header.name) as batches:
                for _seen in batches.entries:
                    pass
        except CatalogueBroken:
            shelf.cut(links, position)
            return


def _enter(index: Index, shelf: Shelf, link: Link, tree: int, number: int) -> None:
    with shelf.read(link.header.name) as (header, entries):
        index.enter(tree, number, entries)
    index.db.execute("INSERT INTO states VALUES (?, ?, ?, ?, 0)", (tree, number, header.state, header.mark))


def _continues(links: tuple[Link, ...], entered: list[str]) -> bool:
    """Whether the chain goes on from the last state that was entered. Joined ones need not be there any more."""
    stems = [link.header.stem for link in links]
    if not entered:
        return True
    if entered[-1] not in stems:
        return False
    known = set(entered)
    return all(stem in known for stem in stems[: stems.index(entered[-1])])


def _names(folder: Path) -> list[str]:
    with suppress(FileNotFoundError):
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    return []
