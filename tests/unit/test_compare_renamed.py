"""The second comparison, after renames: looking only at what differed comes to the same as looking at everything."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashback.compare import differing
from flashback.compare.changes import ChangeSet
from flashback.compare.comparison import compare
from flashback.compare.differing import Differing, Sorted
from flashback.compare.known import Draft, Since
from flashback.compare.renamed import Look, each, noting, with_renames
from flashback.compare.renames import Search
from flashback.compare.spool import Spool
from flashback.walk.listing import Entry, Kept, Kind, order

NAMES = [b"a", b"b", b"c", b"d"]


class Tree:
    """A file system as simple as can be: path -> inode; inode -> kind, size, time of change.

    `followed` are links that appear as the file they lead to, whose time of change does not say when they were moved.
    """

    def __init__(self) -> None:
        self.followed: set[bytes] = set()
        self.names: dict[bytes, int] = {b"": 1}
        self.inodes: dict[int, tuple[Kind, int, int]] = {1: (Kind.DIRECTORY, 0, 0)}
        self.now = 0

    def put(self, path: bytes, kind: Kind, size: int) -> None:
        self.now += 1
        inode = max(self.inodes) + 1
        self.names[path], self.inodes[inode] = inode, (kind, size, self.now)

    def is_directory(self, path: bytes) -> bool:
        return path in self.names and self.inodes[self.names[path]][0] is Kind.DIRECTORY

    def below(self, path: bytes) -> list[bytes]:
        return [each for each in self.names if each.startswith(path + b"/")]

    def remove(self, path: bytes) -> None:
        for name in [path, *self.below(path)]:
            self.names.pop(name, None)
            self.followed.discard(name)

    def rename(self, old: bytes, new: bytes) -> None:
        if new == old or new.startswith(old + b"/"):
            return
        moving = {name: self.names.pop(name) for name in [old, *self.below(old)]}
        self.remove(new)
        self.names |= {new + name[len(old) :]: inode for name, inode in moving.items()}
        followed = self.followed & moving.keys()
        self.followed = (self.followed & self.names.keys()) | {new + name[len(old) :] for name in followed}
        if old not in followed:
            self.touch(moving[old])

    def swap(self, one: bytes, other: bytes) -> None:
        if not one.startswith(other + b"/") and not other.startswith(one + b"/") and one != other:
            self.rename(one, b"between")
            self.rename(other, one)
            self.rename(b"between", other)

    def touch(self, inode: int) -> None:
        self.now += 1
        kind, size, _ctime = self.inodes[inode]
        self.inodes[inode] = (kind, size, self.now)

    def listing(self, kept: frozenset[bytes] = frozenset()) -> list[Entry | Kept]:
        links = [inode for name, inode in self.names.items() if name not in self.followed]
        items: list[Entry | Kept] = []
        for path in sorted(self.names, key=order):
            if any(path == each or path.startswith(each + b"/") for each in kept):
                items += [Kept(path)] if path in kept and not path.startswith(tuple(k + b"/" for k in kept)) else []
                continue
            inode = self.names[path]
            kind, size, ctime = self.inodes[inode]
            nlink = 1 if kind is Kind.DIRECTORY else max(1, links.count(inode))
            items.append(Entry(path, kind, 0o644, 0, 0, size, size, ctime, 7, inode, nlink))
        return items


PLACES = [*NAMES, *(a + b"/" + b for a in NAMES[:3] for b in NAMES[:3]), b"a/b/a", b"a/b/b"]


def made(draw, tree: Tree, least: int = 1) -> None:
    for path in sorted(draw(st.lists(st.sampled_from(PLACES), min_size=least, max_size=14, unique=True))):
        if path in tree.names or not tree.is_directory(path.rpartition(b"/")[0]):
            continue
        files = sorted(name for name in tree.names if not tree.is_directory(name))
        if draw(st.integers(0, 9)) < (7 if path.count(b"/") == 0 else 3):
            tree.put(path, Kind.DIRECTORY, 0)
        elif files and draw(st.integers(0, 3)) == 0:
            tree.names[path] = tree.names[draw(st.sampled_from(files))]
            tree.followed.add(path)
        elif files and draw(st.integers(0, 3)) == 0:
            tree.names[path] = tree.names[draw(st.sampled_from(files))]
            tree.touch(tree.names[path])
        else:
            tree.put(path, Kind.FILE, draw(st.sampled_from([1, 2, 5 << 20])))


def happened(draw, tree: Tree, what: str) -> None:
    there = sorted(path for path in tree.names if path)
    if what == "make" or not there:
        made(draw, tree)
        return
    one, other = draw(st.sampled_from(there)), draw(st.sampled_from([*there, *PLACES]))
    if what == "rename" and tree.is_directory(other.rpartition(b"/")[0]):
        tree.rename(one, other)
    elif what == "swap" and other in tree.names:
        tree.swap(one, other)
    elif what == "remove":
        tree.remove(one)
    elif what == "touch":
        tree.touch(tree.names[one])


@st.composite
def days(draw):
    """What the drive is known to hold, and what the master says after a day on which much was moved about."""
    tree = Tree()
    made(draw, tree, 10)
    made(draw, tree)
    before = [item for item in tree.listing() if isinstance(item, Entry)]
    for what in draw(
        st.lists(st.sampled_from(["rename", "rename", "swap", "remove", "touch", "make"]), min_size=1, max_size=6)
    ):
        happened(draw, tree, what)
    there = sorted(path for path in tree.names if path)
    kept = draw(st.lists(st.sampled_from([*there, b"a/c"]), max_size=2)) if draw(st.integers(0, 2)) == 0 else []
    return before, tree.listing(frozenset(kept))


class Known:
    def __init__(self, entries: list[Entry]) -> None:
        self.list = entries

    def entries(self):
        return iter(self.list)


def looked(folder: Path, before: list[Entry], now: list[Entry | Kept]) -> tuple[object, ...]:
    """All that a plan takes from it."""
    kept, search, differs = Spool(folder), Search(), Differing(folder)
    draft = Draft.begun(folder)
    comparison = compare(
        noting(iter(now), kept),
        iter(before),
        differs=Since(),
        record=draft.add,
        gone=each(search.gone, differs.gone),
        alike=differs.alike,
    )
    changes = ChangeSet.collect(comparison, directory=folder, tally=each(search.change, differs.change))
    look = with_renames(
        Look(changes, draft, comparison),
        search,
        differs,
        kept,
        lambda: nullcontext(Known(before)),  # type: ignore[arg-type, return-value]
        folder,
        folder,
        lambda: None,
    )
    found = look.changes
    lists = {name: sorted(value) for name, value in vars(found).items() if isinstance(value, Spool)}
    counts = (found.totals(), found.on_drive, found.unchanged, found.moved, found.lower_bound_bytes)
    moves = found.moves.to if found.moves is not None else None
    return lists, counts, moves, list(look.draft.entries()), look.comparison.keeps_links, found.master_root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spool")


@given(day=days())
@settings(max_examples=300, deadline=None)
def test_looking_at_what_differed_comes_to_the_same_as_looking_at_everything(folder: Path, day) -> None:
    before, now = day
    with patch.object(Differing, "suffices", return_value=False):
        everything = looked(folder, before, now)
    assert looked(folder, before, now) == everything


def test_a_directory_that_was_renamed_is_found_without_reading_the_list_of_the_drive_again(folder: Path) -> None:
    tree = Tree()
    for name in (b"quiet", b"busy"):
        tree.put(name, Kind.DIRECTORY, 0)
        tree.put(name + b"/file", Kind.FILE, 5)
    before = [item for item in tree.listing() if isinstance(item, Entry)]
    tree.rename(b"busy", b"new")
    with patch("flashback.compare.renamed._read_again", side_effect=AssertionError):
        _lists, _counts, moves, *_rest = looked(folder, before, tree.listing())
    assert moves == {b"busy": b"new"}


def test_neither_are_directories_that_took_the_place_of_one_another(folder: Path) -> None:
    tree = Tree()
    for size, name in enumerate((b"one", b"other", b"quiet")):
        tree.put(name, Kind.DIRECTORY, 0)
        tree.put(name + b"/file", Kind.FILE, size)
    before = [item for item in tree.listing() if isinstance(item, Entry)]
    tree.swap(b"one", b"other")
    with patch("flashback.compare.renamed._read_again", side_effect=AssertionError):
        _lists, counts, moves, *_rest = looked(folder, before, tree.listing())
    assert moves == {b"one": b"other", b"other": b"one"}
    assert counts[0]["files_unchanged"] == 1


def test_entries_are_put_in_order_whatever_their_number_and_can_be_read_twice(tmp_path: Path) -> None:
    entries = [Entry(b"%d/%d" % (n % 7, n), Kind.FILE, 0, 0, 0, 0, 0, 0, 0, n, 1) for n in range(50)]
    with patch.object(differing, "IN_MEMORY", 8), patch.object(differing, "BATCH", 3):
        found = Sorted(tmp_path)
        for entry in entries:
            found.add(entry)
        expected = sorted(entries, key=lambda entry: order(entry.path))
        assert [list(found), list(found)] == [expected, expected]
