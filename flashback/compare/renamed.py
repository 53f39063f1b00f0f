"""A listing as it will be once things were moved on the drive, sorted on disk, and the comparison with it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from flashback.catalogue.frames import CatalogueBroken
from flashback.compare.changes import ChangeSet
from flashback.compare.comparison import Comparison, compare
from flashback.compare.differing import Differing, Sorted, by_path
from flashback.compare.known import Catalogue, Draft
from flashback.compare.moves import Moves
from flashback.compare.renames import Search, SinceMoved
from flashback.compare.spool import Spool
from flashback.compare.values import MOVED, Count
from flashback.walk.listing import Entry, Item, Kept, Kind

Listing = Callable[[], AbstractContextManager[Catalogue | None]]


@dataclass(slots=True)
class Renamed:
    """A listing of the drive after `moves`, as `read` gives it before, each time from its beginning.

    `elsewhere` is given the paths that change, `gone` what makes way.
    """

    read: Callable[[], Iterable[Entry]]
    moves: Moves
    directory: Path
    elsewhere: Spool
    gone: Count = field(default_factory=Count)

    def entries(self) -> Iterator[Entry]:
        """In order, what was moved with `MOVED` for its blocks. Raises `CatalogueBroken`, `OSError` without room."""
        moved = Sorted(self.directory)
        for entry in self.read():
            place = self._place(entry)
            if place is None:
                self.gone.add(entry)
                self.elsewhere.add(entry.path)
            elif place != entry.path:
                self.elsewhere.add(entry.path)
                self.elsewhere.add(place)
                moved.add(msgspec.structs.replace(entry, path=place, blocks=MOVED))
        stays = (entry for entry in self.read() if self._place(entry) == entry.path)
        yield from heapq.merge(stays, moved, key=by_path)

    def _place(self, entry: Entry) -> bytes | None:
        return self.moves.place(entry.path, directory=entry.kind is Kind.DIRECTORY)


def _read_again(listing: Listing) -> Iterator[Entry]:
    with listing() as catalogue:
        if catalogue is None:
            raise CatalogueBroken("it is not what it was a moment ago")
        yield from catalogue.entries()


def master_again(draft: Draft, kept: Iterable[bytes]) -> Iterator[Item]:
    """What the walk said, from the draft: what the drive keeps is in that, too, and is left out."""
    inside: bytes | None = None
    items: Iterable[Item] = heapq.merge((Kept(path) for path in kept), draft.entries(), key=by_path)
    for item in items:
        if isinstance(item, Kept):
            inside = item.path
            yield item
        elif inside is None or (item.path != inside and not item.path.startswith(inside + b"/")):
            yield item


_T = TypeVar("_T")


def each(*those: Callable[[_T], None]) -> Callable[[_T], None]:
    """All of them are told."""

    def tell(what: _T) -> None:
        for one in those:
            one(what)

    return tell


def noting(items: Iterator[Item], kept: Spool) -> Iterator[Item]:
    """The same, with the places noted of which nothing can be said."""
    for item in items:
        if isinstance(item, Kept):
            kept.add(item.path)
        yield item


@dataclass(slots=True)
class Look:
    """What came of a comparison."""

    changes: ChangeSet
    draft: Draft
    comparison: Comparison


def with_renames(
    first: Look,
    search: Search,
    differing: Differing,
    kept: Spool,
    listing: Listing,
    spool: Path,
    catalogues: Path,
    watch: Callable[[], None],
) -> Look:
    """The same comparison once what was renamed is moved on the drive; `first` itself where nothing was.

    Only what differed is looked at again, where that is enough.
    """
    look, moves = first, Moves({})
    for seek in (Search.directories, Search.files):
        pairs = seek(search)
        if not pairs or not first.draft.is_whole:
            continue
        if not len(moves):
            differing.complete(first.comparison)
        moves = moves.then(pairs)
        search = Search()
        if differing.suffices(moves, kept):
            look = _of_what_differed(moves, first, search, differing, kept, spool, watch)
        else:
            look = _of_all(moves, first, search, kept, listing, spool, catalogues, watch)
        if look.changes.moves is None:
            return first
    return look


def _of_what_differed(
    moves: Moves,
    first: Look,
    search: Search,
    differing: Differing,
    kept: Spool,
    spool: Path,
    watch: Callable[[], None],
) -> Look:
    """Everything else is as it was found before, the draft too: it has what the master has."""
    renamed, unproven = Renamed(lambda: differing.old, moves, spool, Spool(spool)), Spool(spool)
    differs = SinceMoved(unproven.add)
    master: Iterator[Item] = heapq.merge(map(Kept, kept), differing.new, key=by_path)
    comparison = compare(master, renamed.entries(), differs=differs, gone=search.gone)
    comparison.go_on_from(first.comparison, differing.again)
    changes = ChangeSet.collect(comparison, directory=spool, watch=watch, tally=search.change)
    return _moved(Look(changes, first.draft, comparison), first, differs, renamed, unproven)


def _of_all(
    moves: Moves,
    first: Look,
    search: Search,
    kept: Spool,
    listing: Listing,
    spool: Path,
    catalogues: Path,
    watch: Callable[[], None],
) -> Look:
    renamed, unproven = Renamed(lambda: _read_again(listing), moves, spool, Spool(spool)), Spool(spool)
    draft, differs = Draft.begun(catalogues), SinceMoved(unproven.add)
    comparison = compare(
        master_again(first.draft, kept),
        renamed.entries(),
        differs=differs,
        record=lambda entry: draft.add(_unmarked(entry)),
        gone=search.gone,
    )
    changes = ChangeSet.collect(comparison, directory=spool, watch=watch, tally=search.change)
    return _moved(Look(changes, draft, comparison), first, differs, renamed, unproven)


def _moved(look: Look, first: Look, differs: SinceMoved, renamed: Renamed, unproven: Spool) -> Look:
    if not (look.comparison.keeps_links and differs.shared):
        look.changes.moved_by(renamed.moves, renamed.elsewhere, unproven, renamed.gone, first.changes.on_drive)
    return look


def _unmarked(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, blocks=0) if entry.blocks == MOVED else entry
