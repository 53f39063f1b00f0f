"""A listing as it will be once things were moved on the drive, sorted on disk, and the comparison with it."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, TypeVar

import msgspec

from flashback.catalogue.frames import CatalogueBroken, read_frame, write_frame
from flashback.compare.changes import ChangeSet, Spool
from flashback.compare.comparison import MOVED, Comparison, Count, compare
from flashback.compare.known import Catalogue, Draft
from flashback.compare.moves import Moves
from flashback.compare.renames import Search, SinceMoved
from flashback.walk.listing import Entry, Item, Kept, Kind, order

IN_MEMORY: Final = 20_000
BATCH: Final = 500

Listing = Callable[[], AbstractContextManager[Catalogue | None]]


def _key(item: Item) -> bytes:
    return order(item.path)


@dataclass(slots=True)
class Renamed:
    """The drive's listing after `moves`. `elsewhere` is given the paths that change, `gone` what makes way."""

    listing: Listing
    moves: Moves
    directory: Path
    elsewhere: Spool
    gone: Count = field(default_factory=Count)

    def entries(self) -> Iterator[Entry]:
        """In order, what was moved with `MOVED` for its blocks. Raises `CatalogueBroken`, `OSError` without room."""
        moved = _Sorted(self.directory)
        for entry in self._read():
            place = self._place(entry)
            if place is None:
                self.gone.add(entry)
                self.elsewhere.add(entry.path)
            elif place != entry.path:
                self.elsewhere.add(entry.path)
                self.elsewhere.add(place)
                moved.add(msgspec.structs.replace(entry, path=place, blocks=MOVED))
        stays = (entry for entry in self._read() if self._place(entry) == entry.path)
        yield from heapq.merge(stays, *moved.runs(), key=_key)

    def _place(self, entry: Entry) -> bytes | None:
        return self.moves.place(entry.path, directory=entry.kind is Kind.DIRECTORY)

    def _read(self) -> Iterator[Entry]:
        with self.listing() as catalogue:
            if catalogue is None:
                raise CatalogueBroken("it is not what it was a moment ago")
            yield from catalogue.entries()


class _Sorted:
    """Entries that are put in order, `IN_MEMORY` at a time; the rest lies in files without names."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._batch: list[Entry] = []
        self._files: list[IO[bytes]] = []

    def add(self, entry: Entry) -> None:
        self._batch.append(entry)
        if len(self._batch) >= IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        self._batch.sort(key=_key)
        file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - it lives as long as the iterator over it
        for start in range(0, len(self._batch), BATCH):
            write_frame(file, msgspec.msgpack.encode(self._batch[start : start + BATCH]))
        file.seek(0)
        self._files.append(file)
        self._batch = []

    def runs(self) -> list[Iterable[Entry]]:
        self._batch.sort(key=_key)
        return [self._batch, *map(_run, self._files)]


def _run(file: IO[bytes]) -> Iterator[Entry]:
    decode = msgspec.msgpack.Decoder(list[Entry]).decode
    with file:
        while frame := read_frame(file):
            yield from decode(frame)


def master_again(draft: Draft, kept: Iterable[bytes]) -> Iterator[Item]:
    """What the walk said, from the draft: what the drive keeps is in that, too, and is left out."""
    inside: bytes | None = None
    items: Iterable[Item] = heapq.merge((Kept(path) for path in kept), draft.entries(), key=_key)
    for item in items:
        if isinstance(item, Kept):
            inside = item.path
            yield item
        elif inside is None or (item.path != inside and not item.path.startswith(inside + b"/")):
            yield item


_T = TypeVar("_T")


def both(one: Callable[[_T], None], other: Callable[[_T], None]) -> Callable[[_T], None]:
    """Both are told."""

    def tell(what: _T) -> None:
        one(what)
        other(what)

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
    kept: Spool,
    listing: Listing,
    spool: Path,
    catalogues: Path,
    watch: Callable[[], None],
) -> Look:
    """The same comparison once what was renamed is moved on the drive; `first` itself where nothing was."""
    look, moves = first, Moves({})
    for seek in (Search.directories, Search.files):
        pairs = seek(search)
        if not pairs or not first.draft.is_whole:
            continue
        moves = moves.then(pairs)
        search = Search()
        look = _compared(Renamed(listing, moves, spool, Spool(spool)), first, search, kept, spool, catalogues, watch)
        if look.changes.moves is None:
            return first
    return look


def _compared(
    renamed: Renamed,
    first: Look,
    search: Search,
    kept: Spool,
    spool: Path,
    catalogues: Path,
    watch: Callable[[], None],
) -> Look:
    draft, unproven = Draft.begun(catalogues), Spool(spool)
    differs = SinceMoved(unproven.add)
    comparison = compare(
        master_again(first.draft, kept),
        renamed.entries(),
        differs=differs,
        record=lambda entry: draft.add(_unmarked(entry)),
        gone=search.gone,
    )
    changes = ChangeSet.collect(comparison, directory=spool, watch=watch, tally=search.change)
    if not (comparison.keeps_links and differs.shared):
        changes.moved_by(renamed.moves, renamed.elsewhere, unproven, renamed.gone)
    return Look(changes, draft, comparison)


def _unmarked(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, blocks=0) if entry.blocks == MOVED else entry
