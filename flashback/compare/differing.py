"""What differed in a comparison, on both sides and in order, so that a second one need not look at all the rest.

It lies on disk but for `IN_MEMORY` entries, whatever its length.
"""

from __future__ import annotations

import heapq
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Final

import msgspec

from flashback.catalogue.frames import read_frame, write_frame
from flashback.compare.comparison import Comparison
from flashback.compare.moves import Moves
from flashback.compare.values import Change, Count, What
from flashback.walk.listing import Entry, Item, Kind, directories_above, order

IN_MEMORY: Final = 8_000
BATCH: Final = 50
"""Entries that are read at a time of each part that was put in order by itself."""


def by_path(item: Item) -> bytes:
    """The key by which listings are sorted."""
    return order(item.path)


class Sorted:
    """Entries that are put in order; iterable again once all were added. Raises `OSError` where there is no room."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._batch: list[Entry] = []
        self._file: IO[bytes] | None = None
        self._parts: list[tuple[int, int]] = []

    def add(self, entry: Entry) -> None:
        """One more, in any order."""
        self._batch.append(entry)
        if len(self._batch) >= IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        self._batch.sort(key=by_path)
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - it lives as long as the list
            weakref.finalize(self, self._file.close)
        begin = self._file.tell()
        for start in range(0, len(self._batch), BATCH):
            write_frame(self._file, msgspec.msgpack.encode(self._batch[start : start + BATCH]))
        self._file.flush()
        self._parts.append((begin, self._file.tell()))
        self._batch = []

    def __iter__(self) -> Iterator[Entry]:
        self._batch.sort(key=by_path)
        parts = [_Part(self._file.fileno(), *part).entries() for part in self._parts] if self._file is not None else []
        return heapq.merge(self._batch, *parts, key=by_path) if parts else iter(self._batch)


class _Part:
    """A part of a file that is read by itself."""

    def __init__(self, fd: int, begin: int, end: int) -> None:
        self._fd, self._at, self._end = fd, begin, end

    def read(self, length: int) -> bytes:
        found = os.pread(self._fd, min(length, self._end - self._at), self._at)
        self._at += len(found)
        return found

    def entries(self) -> Iterator[Entry]:
        decode = msgspec.msgpack.Decoder(list[Entry]).decode
        while frame := read_frame(self):
            yield from decode(frame)


class Differing:
    """Given every change and everything that the drive would lose: what the master has of it (`new`), and the drive.

    Of hard links all that there are belong to it, since what is to be done about one depends on the others; and all
    that lies below a directory which has taken the place of another, since either may be moved. `again` counts what of
    it does not differ.
    """

    def __init__(self, directory: Path) -> None:
        self.new, self.old = Sorted(directory), Sorted(directory)
        self.again = Count()
        self._exchanged = b""

    def alike(self, new: Entry, old: Entry) -> None:
        """Something that does not differ."""
        if self._is_below(new.path):
            self.new.add(new)
            self.old.add(old)
            self.again.add(new)

    def gone(self, old: Entry) -> None:
        """Something that the drive would lose."""
        self.old.add(old)

    def change(self, change: Change) -> None:
        """Any difference."""
        new, old = change.entry, change.old
        if new is None or _linked(new, old):
            return
        self.new.add(new)
        if old is not None and change.what is not What.REPLACE:
            self.old.add(old)
            if new.kind is Kind.DIRECTORY and new.ino != old.ino and new.path and not self._is_below(new.path):
                self._exchanged = new.path + b"/"

    def _is_below(self, path: bytes) -> bool:
        return bool(self._exchanged) and path.startswith(self._exchanged)

    def complete(self, comparison: Comparison) -> None:
        """After the last change."""
        for member in comparison.linked:
            self.new.add(member.new)
            if member.old is not None and member.what is not What.REPLACE:
                self.old.add(member.old)

    @staticmethod
    def suffices(moves: Moves, kept: Iterable[bytes]) -> bool:
        """Whether nothing else comes into it when things are moved.

        Each directory that moves is gone from its place or another is there, and so it is where it comes to: all below
        either belongs to it, but for `kept`, the places of which nothing can be said.
        """
        ends = {*moves.to, *moves.source}
        return all(ends.isdisjoint(chain((path,), directories_above(path))) for path in kept)


def _linked(new: Entry, old: Entry | None) -> bool:
    return new.kind is not Kind.DIRECTORY and (new.nlink > 1 or (old is not None and old.nlink > 1))
