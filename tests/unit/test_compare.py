"""Two listings held against each other: what differs, and what is never touched."""

from __future__ import annotations

import pytest

from flashback.compare.comparison import compare
from flashback.compare.values import Change, What
from flashback.walk.listing import Entry, Kept, Kind, order

FILE, DIRECTORY, SYMLINK, OTHER = Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.OTHER


def entry(path: str | bytes, kind: Kind = FILE, **more) -> Entry:
    name = path.encode() if isinstance(path, str) else path
    facts = {"mode": 0o644, "uid": 1, "gid": 1, "size": 10 if kind is FILE else 0, "mtime_ns": 5, "ctime_ns": 5}
    return Entry(path=name, kind=kind, **{**facts, "dev": 1, "ino": hash(name), "nlink": 1, **more})


def tree(*items: Entry | Kept | str) -> list[Entry | Kept]:
    """Names ending in a slash are directories; the root is always there."""
    made = [
        item if not isinstance(item, str) else entry(item.rstrip("/"), DIRECTORY if item.endswith("/") else FILE)
        for item in items
    ]
    return sorted([entry("", DIRECTORY), *made], key=lambda item: order(item.path))


def changes(master, incumbent) -> list[Change]:
    return list(compare(tree(*master), tree(*incumbent)).changes())


def said(master, incumbent) -> list[tuple[bytes, What]]:
    return [(change.path, change.what) for change in changes(master, incumbent)]


def test_equal_trees_differ_in_nothing_and_are_counted():
    both = tree("a", "d/", "d/x", entry("l", SYMLINK, target=b"a"))
    comparison = compare(both, both)
    assert list(comparison.changes()) == []
    assert (comparison.unchanged.files, comparison.unchanged.bytes, comparison.unchanged.directories) == (3, 20, 2)
    assert (comparison.on_drive.files, comparison.on_drive.directories) == (3, 2)


def test_the_root_of_the_master_is_remembered():
    comparison = compare([entry("", DIRECTORY, dev=7, ino=256)], [])
    assert [change.path for change in comparison.changes()] == [b""]
    assert comparison.root == (7, 256)


@pytest.mark.parametrize(
    ("kind", "differing", "what"),
    [
        (FILE, {"size": 11}, What.CHANGE),
        (FILE, {"mtime_ns": 6}, What.CHANGE),
        (FILE, {"mode": 0o600}, What.ATTRIBUTES),
        (FILE, {"uid": 2}, What.ATTRIBUTES),
        (FILE, {"gid": 2}, What.ATTRIBUTES),
        (FILE, {"xattrs": b"x"}, What.ATTRIBUTES),
        (DIRECTORY, {"mode": 0o700}, What.ATTRIBUTES),
        (DIRECTORY, {"mtime_ns": 6}, What.ATTRIBUTES),
        (DIRECTORY, {"uid": 2}, What.ATTRIBUTES),
        (DIRECTORY, {"xattrs": b"x"}, What.ATTRIBUTES),
        (SYMLINK, {"target": b"other"}, What.CHANGE),
        (SYMLINK, {"mtime_ns": 6}, What.ATTRIBUTES),
        (SYMLINK, {"gid": 2}, What.ATTRIBUTES),
    ],
)
def test_each_difference_counts(kind, differing, what):
    assert said([entry("a", kind, **differing)], [entry("a", kind)]) == [(b"a", what)]


@pytest.mark.parametrize(
    ("kind", "differing"),
    [
        (FILE, {"ctime_ns": 9, "ino": 99, "dev": 9, "blocks": 8}),
        (SYMLINK, {"mode": 0o777}),
        (DIRECTORY, {"nlink": 5, "size": 4096}),
    ],
)
def test_what_a_copy_cannot_have_in_common_does_not_count(kind, differing):
    assert said([entry("a", kind, **differing)], [entry("a", kind)]) == []


def test_a_directory_comes_before_its_neighbours_that_sort_between_it_and_its_content():
    assert said(["a/", "a/x", "a b", "a-"], ["a/", "a b"]) == [(b"a/x", What.ADD), (b"a-", What.ADD)]


def test_a_directory_that_is_gone_is_one_deletion_with_the_count_of_what_it_holds():
    [change] = changes(["a"], ["a", "d/", "d/e/", "d/e/x", "d/y", "d z"][:5])
    assert (change.path, change.what) == (b"d", What.DELETE)
    assert (change.gone.files, change.gone.bytes, change.gone.directories) == (2, 20, 2)


def test_what_sorts_after_a_deleted_directory_is_still_compared():
    assert said(["d.x", "e"], ["d/", "d/x", "d.x", "e"]) == [(b"d", What.DELETE)]


@pytest.mark.parametrize("new", [FILE, DIRECTORY, SYMLINK])
@pytest.mark.parametrize("old", [FILE, DIRECTORY, SYMLINK, OTHER])
def test_another_kind_replaces(new, old):
    expected = [] if new is old else [(b"a", What.REPLACE)]
    assert said([entry("a", new)], [entry("a", old)]) == expected


def test_a_directory_that_became_a_file_takes_what_it_held_along():
    [change] = changes(["d"], ["d/", "d/x", "d/e/", "d/e/y"])
    assert (change.what, change.gone.files, change.gone.directories) == (What.REPLACE, 2, 2)


def test_what_is_kept_stays_with_all_below_it():
    assert said([Kept(b"d"), Kept(b"k")], ["d/", "d/x", "d/e/", "d/e/y", "k", "z"]) == [(b"z", What.DELETE)]


def test_what_is_kept_and_not_on_the_drive_is_nothing():
    assert said([Kept(b"d"), Kept(b"k"), "z"], ["z"]) == []


def test_a_master_that_cannot_be_listed_deletes_nothing():
    assert list(compare([Kept(b"")], tree("a", "d/", "d/x")).changes()) == []


def test_no_directory_above_what_is_kept_is_deleted():
    drive = ["d/", "d/a", "d/k/", "d/k/x", "d/z"]
    assert said([Kept(b"d/k")], drive) == [(b"d/a", What.DELETE), (b"d/z", What.DELETE)]


def test_watch_is_called_in_the_middle_of_equal_trees():
    both = [entry(f"{number:06}") for number in range(10_000)]
    calls = []
    list(compare(both, both).changes(lambda: calls.append(1)))
    assert len(calls) == 2


def linked(path: str, inode: int, nlink: int = 2, **more) -> Entry:
    return entry(path, ino=inode, nlink=nlink, **more)


def test_the_same_groups_of_hard_links_are_unchanged():
    assert said([linked("a", 1), linked("b", 1)], [linked("a", 77), linked("b", 77)]) == []


def test_a_new_group_is_listed_as_a_whole():
    found = said([linked("a", 1), linked("b", 1)], ["a", "b"])
    assert found == [(b"a", What.LINK), (b"b", What.LINK)]


def test_a_group_with_a_changed_member_is_listed_as_a_whole():
    found = said([linked("a", 1), linked("b", 1)], [linked("a", 7), linked("b", 7, mode=0)])
    assert found == [(b"a", What.LINK), (b"b", What.ATTRIBUTES)]


def test_a_group_with_a_new_member_is_listed_as_a_whole():
    found = said([linked("a", 1, 3), linked("b", 1, 3), linked("c", 1, 3)], [linked("a", 7), linked("b", 7)])
    assert found == [(b"a", What.LINK), (b"b", What.LINK), (b"c", What.ADD)]


def test_files_that_are_no_longer_one_are_parted_all_but_the_first():
    found = changes(["a", "b"], [linked("a", 7), linked("b", 7)])
    assert [(change.path, change.what, change.apart) for change in found] == [(b"b", What.LINK, True)]


def test_a_file_is_parted_from_one_that_is_kept():
    found = changes(["a", Kept(b"k")], [linked("a", 7), linked("k", 7)])
    assert [(change.path, change.apart) for change in found] == [(b"a", True)]


def test_a_file_whose_other_name_is_deleted_needs_nothing():
    assert said(["a"], [linked("a", 7), linked("b", 7)]) == [(b"b", What.DELETE)]


def test_names_outside_the_master_make_no_group():
    assert said([linked("a", 1)], ["a"]) == []


@pytest.mark.parametrize("kind", [DIRECTORY, SYMLINK])
def test_a_file_that_became_another_kind_does_not_part_its_other_name(kind):
    found = changes([entry("a", kind), "b"], [linked("a", 7), linked("b", 7)])
    assert [(change.path, change.what, change.apart) for change in found] == [(b"a", What.REPLACE, False)]


def test_directories_have_no_hard_links_whatever_their_count_says():
    both = tree(entry("d", DIRECTORY, nlink=5), entry("e", DIRECTORY, nlink=5))
    assert list(compare(both, both).changes()) == []
