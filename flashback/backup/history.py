"""Keeping the catalogue (`flashback.catalogue`) of a drive that is open: on the drive, and the same on this machine.

After a run that changed something, what it touched is looked at on the drive once more, and that is the delta. Where
it is not known what was touched (another hand was there, a run was killed before it came to this, or everything is
new), states are walked and held against the one before. Nothing here decides what a backup holds, and nothing that
fails here makes a run fail: a state of which nothing is known is said, and `flashback catalogue rebuild` reads it.
"""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flashback.backup.deletions import Below
from flashback.backup.plan import read_journal, snapshots_of
from flashback.catalogue.file import Header
from flashback.catalogue.frames import CatalogueBroken
from flashback.catalogue.seen import Kind as CatalogueKind
from flashback.catalogue.seen import Seen, difference, order
from flashback.catalogue.shelf import Link, Note, Shelf
from flashback.catalogue.shelves import Shelves
from flashback.config.masters import valid_name
from flashback.core.errors import DriveError
from flashback.core.text import shown, stamp
from flashback.drive import journal, layout
from flashback.drive.session import OpenDrive
from flashback.walk.incumbent import walk_incumbent
from flashback.walk.listing import KINDS, Entry, Kind
from flashback.walk.places import entry_of, file_of

MOST_LOOKED_AT: Final = 100_000
"""So many places are looked at one by one; where there are more, the whole copy is walked."""
MOST_WALKED: Final = 3
"""So many states that are missing are walked during a run; the others wait for `flashback catalogue rebuild`."""
CATALOGUE: Final = "catalogue"


@dataclass(frozen=True, slots=True)
class Touched:
    """What a run did to a copy: the state it was in `before`, and the places that may have changed since then.

    `paths` is `None` where that is not known; of a directory that is gone, itself is enough.
    """

    before: str
    paths: frozenset[bytes] | None


@dataclass(frozen=True, slots=True)
class Living:
    """What a drive has of one master: its states by name, oldest first, that of the copy, and the run that left each.

    `runs` knows only what the journal knows.
    """

    states: tuple[str, ...]
    current: str
    runs: dict[str, str]

    @classmethod
    def seen_on(cls, drive: OpenDrive, master: str) -> Living:
        """As the folders and the journal of an open drive say."""
        lines = read_journal(drive)
        runs = {
            stamp(line.moment): line.run
            for line in lines
            if line.master == master and line.mark is journal.Mark.COMPLETE
        }
        incumbent = journal.incumbent(lines, master)
        current = stamp(incumbent.completed) if incumbent.complete and incumbent.completed else ""
        names = {*snapshots_of(drive, master), *([current] if current else [])}
        return cls(tuple(sorted(names)), current, runs)


class History:
    """Keeps the catalogue of one open drive. `tell` is given a sentence for whatever a person should know.

    The index for quick answers is brought up to date by whoever asks it; `with_index` does that at once.
    """

    def __init__(
        self, drive: OpenDrive, shelves: Shelves, tell: Callable[[str], None], *, with_index: bool = True
    ) -> None:
        self.drive = drive
        self.shelves = shelves
        self.tell = tell
        self.with_index = with_index
        self._made: set[str] = set()

    def keep(self, master: str, path: Path | None = None, change: Touched | None = None) -> None:
        """Bring the catalogue of a master up to date, here and on the drive. Raises `DriveGone`.

        `path` is where the master lies here, `change` what a run did to the copy just now.
        """
        try:
            living = Living.seen_on(self.drive, master)
            with self._on_drive(master) as shelf:
                links = self._record(shelf, self._known(shelf, master, living), master, living, path, change)
                self._mirror(shelf, shelf.tidy(links, frozenset(living.states)), master, living, path)
        except (OSError, CatalogueBroken, DriveError) as problem:
            self.drive.watch()
            self.tell(f"The catalogue of {master} on {self.drive.known.name} could not be kept: {_why(problem)}")

    def rebuild(self, master: str, path: Path | None = None) -> int:
        """Make it anew from the states on the drive alone; return how many there are. Raises `OSError`, `DriveGone`.

        Of a drive that is only read the catalogue here is made; what the drive has of its own stays as it is.
        """
        living = Living.seen_on(self.drive, master)
        with self.shelves.passing() if self.drive.read_only else self._on_drive(master) as shelf:
            links = shelf.cut((), 0)
            for state in living.states:
                links = (*links, self._walked(shelf, links, master, living, state, path))
            self._mirror(shelf, links, master, living, path)
        return len(living.states)

    def learn(self, master: str, path: Path | None = None) -> None:
        """Take over what the drive says, which is only read. What cannot be believed is left out."""
        try:
            living = Living.seen_on(self.drive, master)
            with ExitStack() as opened:
                folder = self.drive.root
                for name in (layout.OURS, CATALOGUE, master):
                    folder = opened.enter_context(layout.directory(folder, name))
                shelf = Shelf(folder)
                self._mirror(shelf, _of_this_drive(shelf.chain(), living), master, living, path)
        except FileNotFoundError:
            return
        except (OSError, DriveError) as problem:
            self.drive.watch()
            self.tell(f"The catalogue of {master} on {self.drive.known.name} could not be read: {_why(problem)}")

    def distrust(self, master: str, state: str) -> None:
        """Forget a state and all after it, here and on the drive: it is not what it was. Raises `DriveGone`."""
        try:
            with self.shelves.shelf(self.drive.known.uuid, master) as mine, self._on_drive(master) as shelf:
                for each in (mine, shelf):
                    links = each.chain()
                    each.cut(links, sum(link.state < state for link in links))
        except (OSError, DriveError) as problem:
            self.drive.watch()
            self.tell(f"The catalogue of {master} on {self.drive.known.name} could not be kept: {_why(problem)}")

    @contextmanager
    def _on_drive(self, master: str) -> Iterator[Shelf]:
        with ExitStack() as opened:
            folder = opened.enter_context(layout.directory(self.drive.root, layout.OURS))
            for name in (CATALOGUE, master):
                folder = opened.enter_context(layout.made_directory(folder, name))
            yield Shelf(folder)

    # --- the drive's own

    def _known(self, shelf: Shelf, master: str, living: Living) -> tuple[Link, ...]:
        """The drive's chain. Where this machine has files of the same names, the drive's need not be read for it; where
        this machine knows more of the drive's states than the drive, the drive gets it back.
        """
        try:
            with self.shelves.shelf(self.drive.known.uuid, master) as mine:
                here = mine.chain()
                if [link.header.name for link in here] == shelf.names():
                    return here
                theirs, wanted = shelf.chain(), set(living.states)
                known = {link.state for link in _of_this_drive(here, living)} & wanted
                if known > {link.state for link in _of_this_drive(theirs, living)} & wanted:
                    for link in here:
                        shelf.copy(mine, link.header.name)
                    return shelf.chain()
                return theirs
        except (OSError, CatalogueBroken):
            return shelf.chain()

    def _record(
        self,
        shelf: Shelf,
        known: tuple[Link, ...],
        master: str,
        living: Living,
        path: Path | None,
        change: Touched | None,
    ) -> tuple[Link, ...]:
        """Write the states that are newer than what is known, each as what it changed; return the whole chain."""
        links = _of_this_drive(known, living)
        if len(links) < len(known):
            links = shelf.cut(links, len(links))
        last = links[-1].state if links else ""
        later = [state for state in living.states if state > last]
        if change is not None and change.paths is not None and later == [living.current] and last == change.before:
            return (*links, self._looked_at(shelf, links, master, living, path, change.paths))
        if len(later) > MOST_WALKED:
            self.tell(
                f"{len(later) - MOST_WALKED} older snapshots of {master} on {self.drive.known.name} are not in the "
                f"catalogue; `flashback catalogue rebuild {self.drive.known.name}` reads them in"
            )
        for state in later[-MOST_WALKED:]:
            links = (*links, self._walked(shelf, links, master, living, state, path))
        return links

    def _looked_at(
        self,
        shelf: Shelf,
        links: Sequence[Link],
        master: str,
        living: Living,
        path: Path | None,
        paths: frozenset[bytes],
    ) -> Link:
        header = self._header(links, master, living, living.current, path)
        with self._state(master, living, living.current) as current:
            return self._written(shelf, header, looked_at(current, paths))

    def _walked(
        self,
        shelf: Shelf,
        links: Sequence[Link],
        master: str,
        living: Living,
        state: str,
        path: Path | None,
    ) -> Link:
        header = self._header(links, master, living, state, path)
        with self._state(master, living, state) as folder, shelf.listing(links) as before:
            new = (of_entry(entry) for entry in self._watching(walk_incumbent(folder, with_xattrs=False)))
            return self._written(shelf, header, difference(before, new) if header.base else new)

    def _written(self, shelf: Shelf, header: Header, entries: Iterable[Seen]) -> Link:
        self._made.add(header.name)
        return shelf.write(header, entries)

    def _watching(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        for number, entry in enumerate(entries):
            if number % 10_000 == 0:
                self.drive.watch()
            yield entry

    def _header(self, links: Sequence[Link], master: str, living: Living, state: str, path: Path | None) -> Header:
        return Header(
            master=master,
            state=state,
            mark=uuid.uuid4().hex[:16],
            base=links[-1].header.stem if links else "",
            run=living.runs.get(state, ""),
            path=str(path or ""),
        )

    @contextmanager
    def _state(self, master: str, living: Living, state: str) -> Iterator[int]:
        """A descriptor of the folder of a state."""
        with ExitStack() as opened:
            folder = opened.enter_context(layout.directory(self.drive.root, master))
            if state == living.current:
                yield opened.enter_context(layout.directory(folder, layout.CURRENT))
                return
            snapshots = opened.enter_context(layout.directory(folder, layout.SNAPSHOTS))
            yield opened.enter_context(layout.directory(snapshots, state))

    # --- this machine's

    def _mirror(self, shelf: Shelf, links: Sequence[Link], master: str, living: Living, path: Path | None) -> None:
        """Have this machine know what the drive says, and no more; what is found to be garbled is not taken over."""
        try:
            with self.shelves.shelf(self.drive.known.uuid, master) as mine:
                have = {link.header.name: link.header for link in mine.chain()}
                for link in links:
                    if have.get(link.header.name) != link.header:
                        take = mine.take_over if link.header.name in self._made else mine.copy
                        with suppress(CatalogueBroken):
                            take(shelf, link.header.name)
                wanted = {link.header.name for link in links}
                for name in mine.names():
                    if name not in wanted:
                        mine.remove(name)
                said = next((link.header.path for link in reversed(links) if link.header.path), "")
                mine.keep_note(Note(living.states, living.current, str(path) if path else said))
            if self.with_index:
                self.shelves.bring_up_to_date()
        except OSError as problem:
            self.drive.watch()
            self.tell(f"This machine could not note what is on {self.drive.known.name}: {_why(problem)}")


def masters_on(drive: OpenDrive) -> tuple[str, ...]:
    """The masters that have a folder on an open drive, whoever put them there."""
    fresh = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=drive.root)
    try:
        names = sorted(entry.name for entry in os.scandir(fresh) if entry.is_dir(follow_symlinks=False))
    finally:
        os.close(fresh)
    return tuple(name for name in names if valid_name(name))


def looked_at(root: int, paths: Iterable[bytes]) -> Iterator[Seen]:
    """How these paths are now in the copy that is open as `root`, in order; what is not there is gone."""
    device = os.fstat(root).st_dev
    with Below(root) as below:
        for path in sorted(paths, key=order):
            try:
                yield of_entry(_entry(below, path, device) if path else entry_of(b"", Kind.DIRECTORY, os.fstat(root)))
            except (FileNotFoundError, NotADirectoryError):
                yield Seen(path, int(CatalogueKind.GONE))


def _entry(below: Below, path: bytes, device: int) -> Entry:
    parent, name = below.parent(path)
    at = os.stat(name, dir_fd=parent, follow_symlinks=False)
    kind = KINDS.get(stat.S_IFMT(at.st_mode), Kind.OTHER) if at.st_dev == device else Kind.OTHER
    if kind is Kind.FILE:
        return file_of(path, at, b"")
    target = os.readlink(name, dir_fd=parent) if kind is Kind.SYMLINK else b""
    return entry_of(path, kind, at, target=target)


def of_entry(entry: Entry) -> Seen:
    """The catalogue's words for an entry of a listing."""
    return Seen(entry.path, int(entry.kind), entry.mode, entry.uid, entry.gid, entry.size, entry.mtime_ns, entry.target)


def _of_this_drive(links: Sequence[Link], living: Living) -> tuple[Link, ...]:
    """The chain up to a state that another run left than the drive's journal names; an old journal may not say."""
    wrong = (at for at, link in enumerate(links) if living.runs.get(link.state, link.header.run) != link.header.run)
    return tuple(links[: next(wrong, len(links))])


def _why(problem: Exception) -> str:
    return (os.strerror(problem.errno) if isinstance(problem, OSError) and problem.errno else shown(str(problem))) + "."
