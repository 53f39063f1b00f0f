"""What would be on no drive any more, against a search through every state of random rotations."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from flashback.backup.last_copies import Rotation, only_here, vanishing
from flashback.catalogue.seen import Kind
from tests.unit.histories import DRIVES, lived, steps


def searched(world, drive, going, lost):
    """Versions of files that only the states in `going` have, with whether any other version is left."""
    away = {(drive, *name) for name in going}
    left, mine = set(), set()
    paths = set()
    for (where, master), states in world.states.items():
        for state, files in states.items():
            for path, seen in files.items():
                if (where, master, state) not in away and where not in lost:
                    paths.add((master, path))
                if seen.kind not in {Kind.FILE, Kind.SYMLINK}:
                    continue
                key = (master, path, seen.content)
                if (where, master, state) in away:
                    mine.add((key, seen.size))
                elif where not in lost:
                    left.add(key)
    return sorted((key[0], key[1], size, (key[0], key[1]) not in paths) for key, size in mine if key not in left)


@given(steps(), st.data())
@settings(max_examples=60, deadline=None)
def test_what_would_be_nowhere_is_what_a_search_of_all_other_states_does_not_find(done, data):
    with tempfile.TemporaryDirectory() as folder:
        world = lived(Path(folder) / "catalogue", done)
        drive = data.draw(st.sampled_from(DRIVES))
        names = [(m, s) for (where, m), states in world.states.items() if where == drive for s in sorted(states)[:-1]]
        if not names:
            return
        going = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
        lost = frozenset(data.draw(st.sets(st.sampled_from([each for each in DRIVES if each != drive]))))
        rotation = Rotation(world.root, drive, lost)
        found = vanishing(rotation, going)
        assert found is not None
        assert sorted((each.master, each.path, each.size, each.whole) for each in found) == searched(
            world, drive, going, lost
        )
        last = {name for name in names if any(whole for *_, whole in searched(world, drive, [name], lost))}
        assert only_here(rotation, names) == last


def test_of_states_that_the_catalogue_does_not_have_nothing_is_known(tmp_path):
    rotation = Rotation(tmp_path / "catalogue", DRIVES[0])
    assert vanishing(rotation, [("docs", "20260101T000000Z")]) is None
    assert only_here(rotation, [("docs", "20260101T000000Z")]) == frozenset()


def test_nothing_goes_and_nothing_vanishes(tmp_path):
    assert vanishing(Rotation(tmp_path / "catalogue", DRIVES[0]), []) == ()
