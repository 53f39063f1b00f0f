"""Random histories on several drives: what the catalogue answers is what somebody finds who looks at every state."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashback.catalogue import index as index_room
from flashback.catalogue.index import Index
from flashback.catalogue.lookup import Lookup
from flashback.catalogue.seen import Kind, Seen, compose, difference, listing, order
from tests.unit.histories import DRIVES, flat, lived, roots, steps


@given(roots, roots)
def test_a_listing_and_the_difference_make_the_other_listing(one, other):
    old, new = list(flat(one).values()), list(flat(other).values())
    assert list(listing(compose(old, difference(old, new)))) == new


@given(roots, roots, roots)
def test_two_deltas_in_one_do_what_both_do(one, two, three):
    first, second, third = (list(flat(each).values()) for each in (one, two, three))
    joined = list(compose(difference(first, second), difference(second, third)))
    assert [order(each.path) for each in joined] == sorted(order(each.path) for each in joined)
    assert list(listing(compose(first, joined))) == third


def test_a_directory_that_went_and_came_back_does_not_bring_back_what_was_in_it():
    folder, child = Seen(b"d", int(Kind.DIRECTORY)), Seen(b"d/x", int(Kind.FILE))
    gone = Seen(b"d", int(Kind.GONE))
    assert list(listing(compose([folder, child], compose([gone], [folder])))) == [folder]


def everything(lookup):
    """Which path is how in which states, as the index has it."""
    return {
        (state.tree.drive, state.tree.master, state.name, held.seen.path): held.seen
        for (node,) in lookup.index.rows("SELECT id FROM nodes")
        for held in lookup.versions(node)
        for state in held.states
    }


@given(steps(), st.sampled_from([0, index_room.FEW]), st.sampled_from([1, 5, index_room.GATHERED]))
@settings(max_examples=60, deadline=None)
def test_every_path_is_in_the_states_that_hold_it_and_in_no_other(done, few, gathered):
    """Also where the index is made anew as soon as it has the name of anything that is gone, however it is written."""
    room = mock.patch.multiple(index_room, FEW=few, GATHERED=gathered)
    with tempfile.TemporaryDirectory() as folder, room:
        world = lived(Path(folder) / "catalogue", done)
        with world.shelves.index() as index:
            assert everything(Lookup(index)) == {
                (*key, state, path): seen
                for key, states in world.states.items()
                for state, listing in states.items()
                for path, seen in listing.items()
            }


@given(steps(), st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_nowhere_else_is_what_a_search_of_all_states_does_not_find(done, data):
    with tempfile.TemporaryDirectory() as folder:
        world = lived(Path(folder) / "catalogue", done)
        with world.shelves.index() as index:
            lookup = Lookup(index)
            states = lookup.states()
            if not states:
                return
            chosen = data.draw(st.lists(st.sampled_from(states), min_size=1, unique=True))
            marked = {(each.tree.drive, each.tree.master, each.name) for each in chosen}
            where: dict[tuple, set] = {}
            for (drive, master), each in world.states.items():
                for state, files in each.items():
                    for path, seen in files.items():
                        if seen.kind in {Kind.FILE, Kind.SYMLINK}:
                            where.setdefault((master, path, seen.content), set()).add((drive, master, state))
            expected = sorted(
                (key for key, found in where.items() if found <= marked), key=lambda key: (key[0], order(key[1]), key)
            )
            found = [(each.newest.tree.master, each.seen.path, each.seen.content) for each in lookup.only_in(chosen)]
            assert found == expected


@given(steps(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_path_can_be_had_from_the_newest_state_of_each_drive_that_has_it(done, data):
    with tempfile.TemporaryDirectory() as folder:
        world = lived(Path(folder) / "catalogue", done)
        paths = sorted({path for each in world.states.values() for files in each.values() for path in files})
        path = data.draw(st.sampled_from([*paths, b"not/there"]))
        with world.shelves.index() as index:
            found = Lookup(index).candidates(path, master="docs")
        expected = [
            (max(state for state, files in states.items() if path in files), drive)
            for (drive, master), states in world.states.items()
            if master == "docs" and any(path in files for files in states.values())
        ]
        newest = sorted(sorted(expected, key=lambda each: each[1]), key=lambda each: each[0], reverse=True)
        assert [(each.newest.name, each.newest.tree.drive) for each in found] == newest
        assert all(each.seen == world.states[each.newest.tree.drive, "docs"][each.newest.name][path] for each in found)


@given(steps(), st.data())
@settings(max_examples=60, deadline=None)
def test_two_states_differ_in_what_a_comparison_of_both_shows(done, data):
    with tempfile.TemporaryDirectory() as folder:
        world = lived(Path(folder) / "catalogue", done)
        with world.shelves.index() as index:
            lookup = Lookup(index)
            if not (states := lookup.states()):
                return
            one, other = data.draw(st.sampled_from(states)), data.draw(st.sampled_from(states))
            old, new = (world.states[each.tree.drive, each.tree.master][each.name] for each in (one, other))
            expected = {(old.get(path), new.get(path)) for path in {*old, *new} if old.get(path) != new.get(path)}
            found = list(lookup.differing(one, other))
            assert len(found) == len(expected)
            assert set(found) == expected
            for path, seen in new.items():
                assert lookup.entry(other, path) == seen
                below = [each for each in new.values() if each.path.rpartition(b"/")[0] == path and each.path]
                assert sorted(lookup.children(other, path)) == sorted(below)


def test_what_changed_and_changed_back_within_pruned_states_is_one_answer(tmp_path):
    world = lived(tmp_path / "catalogue", [])
    one, other = Seen(b"", int(Kind.FILE), size=1), Seen(b"", int(Kind.FILE), size=2)
    states = [world.run(DRIVES[0], "docs", {b"f": each}) for each in (one, other, one)]
    with world.shelves.index():
        pass
    world.prune(DRIVES[0], "docs", states[1])
    for _anew in range(2):
        with world.shelves.index() as index:
            lookup = Lookup(index)
            (held,) = lookup.versions(lookup.node(b"f"))
            assert [state.name for state in held.states] == [states[0], states[2]]
        (world.root / "index.sqlite").unlink()


def test_the_names_of_what_is_long_gone_do_not_stay_in_the_index_for_ever(tmp_path, monkeypatch):
    """A folder in which every file has a new name each time, as mail has."""
    monkeypatch.setattr(index_room, "FEW", 10)
    world, names = lived(tmp_path / "catalogue", []), []
    states: list[str] = []
    for number in range(60):
        mail = {b"%03d-%d" % (number, each): Seen(b"", int(Kind.FILE), size=1) for each in range(5)}
        states.append(world.run(DRIVES[0], "docs", mail))
        if len(states) > 2:
            world.prune(DRIVES[0], "docs", states.pop(0))
        with world.shelves.index() as index:
            names.append(index.rows("SELECT count(*) FROM nodes")[0][0])
            assert Lookup(index).node(b"%03d-0" % number) is not None
    assert max(names) < 60


@pytest.mark.parametrize("kind", [Kind.GONE, Kind.SYMLINK, Kind.FILE])
def test_what_vanished_before_any_state_had_it_is_no_trouble_nor_is_what_lay_below_it(tmp_path, kind):
    """A directory that was new when a run was planned, and gone (or something else) when it was to be copied."""
    delta = [Seen(b"d", kind), Seen(b"d/e", Kind.GONE), Seen(b"d/e/x", Kind.GONE), Seen(b"f", Kind.FILE)]
    with Index.open(tmp_path / "index") as index:
        with index.writing():
            index.enter(1, 1, [Seen(b"", Kind.DIRECTORY)])
        with index.writing():
            index.enter(1, 2, delta)
        assert index.rows("SELECT name FROM nodes JOIN versions ON id = node WHERE since = 2 ORDER BY name") == [
            (each.path,) for each in delta if each.kind != Kind.GONE
        ]
