"""Listings: their order, and what goes through a pipe."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from flashback.walk.listing import Entry, Item, Kept, Kind, order

names = st.binary(min_size=1, max_size=3).filter(lambda name: b"/" not in name and b"\0" not in name)


@given(st.sets(st.lists(names, min_size=1, max_size=3).map(tuple)))
def test_the_order_of_paths_is_that_of_their_names_one_directory_at_a_time(paths):
    joined = [b"/".join(path) for path in paths]
    assert sorted(joined, key=order) == [b"/".join(path) for path in sorted(paths)]


def test_a_directory_comes_before_what_it_holds_and_before_names_that_begin_like_it():
    assert sorted([b"a.b", b"a/x", b"a", b"", b"a b"], key=order) == [b"", b"a", b"a/x", b"a b", b"a.b"]


def test_entries_and_kept_places_are_told_apart_when_they_are_read_back():
    entry = Entry(b"\xff\n", Kind.SYMLINK, 0o777, 1, 2, 0, 3, 4, 5, 6, 1, target=b"x")
    sent: list[Item] = [entry, Kept(b"y")]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=list[Item]) == sent
