"""What is held in memory does not grow with the number of files: seen at two sizes, the second ten times the first."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import msgspec
import pytest

from flashback.backup.history import of_entry
from flashback.catalogue import file as files
from flashback.compare import differing
from flashback.compare.changes import ChangeSet
from flashback.compare.comparison import compare
from flashback.compare.differing import Differing
from flashback.compare.known import Draft, Since
from flashback.compare.renamed import Look, each, noting, with_renames
from flashback.compare.renames import Search
from flashback.compare.spool import Spool
from flashback.walk.listing import Entry, Kind

FEW = 1_000
GROWTH = 300_000
"""Bytes; what is held for each file would be a million and more."""


def listed(number: int, *, changed: bool = False) -> Iterator[Entry]:
    """So many files in directories of twenty, the last of them renamed where it is `changed`."""
    yield Entry(b"", Kind.DIRECTORY, 0o755, 1000, 1000, 0, 1, 1, 64, 1, 1)
    for folder in range(number // 20):
        last = changed and folder == number // 20 - 1
        path = b"topic %06d%s" % (folder, b" renamed" if last else b"")
        yield Entry(path, Kind.DIRECTORY, 0o755, 1000, 1000, 0, 1, 1, 64, folder + 2, 1)
        for place in range(20):
            inode = 10**7 + folder * 20 + place
            yield Entry(b"%s/letter %07d" % (path, place), Kind.FILE, 0o644, 1000, 1000, 9, 1, 1, 64, inode, 1)


def first_copy(folder: Path, number: int) -> None:
    draft = Draft.begun(folder)
    ChangeSet.collect(compare(listed(number), iter(()), record=draft.add), directory=folder)


def renamed(folder: Path, number: int) -> None:
    kept, search, differs, draft = Spool(folder), Search(), Differing(folder), Draft.begun(folder)
    gone = each(search.gone, differs.gone)
    master = noting(listed(number, changed=True), kept)
    comparison = compare(master, listed(number), differs=Since(), record=draft.add, gone=gone)
    changes = ChangeSet.collect(comparison, directory=folder, tally=each(search.change, differs.change))
    first = Look(changes, draft, comparison)
    look = with_renames(first, search, differs, kept, nullcontext, folder, folder, lambda: None)
    assert look.changes.moved.files == 20


def everything_changed(folder: Path, number: int) -> None:
    differs = Differing(folder)
    master = (msgspec.structs.replace(entry, mtime_ns=9) for entry in listed(number))
    comparison = compare(master, listed(number), differs=Since(), gone=differs.gone)
    with patch.multiple(differing, IN_MEMORY=500, BATCH=10):
        ChangeSet.collect(comparison, directory=folder, tally=differs.change)
        assert sum(1 for _ in differs.old) == sum(1 for _ in listed(number))


def what_a_state_holds(folder: Path, number: int) -> None:
    header = files.Header(master="docs", state="20260101T000000Z", mark="0" * 16)
    with open(folder / "delta", "wb") as out:
        files.write(out, header, map(of_entry, listed(number)))
    with open(folder / "delta", "rb") as written:
        assert sum(1 for _ in files.read(written, header.name).entries) == sum(1 for _ in listed(number))


@pytest.mark.parametrize("work", [first_copy, renamed, everything_changed, what_a_state_holds])
def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path, work: Callable[[Path, int], None]) -> None:
    def peak(number: int) -> int:
        tracemalloc.start()
        try:
            work(tmp_path, number)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)  # what is made once
    assert peak(10 * FEW) < peak(FEW) + GROWTH
