"""What is lost and what only moved, in bounded memory."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashback.compare import tally
from flashback.compare.tally import Counts, Tally, is_spare
from flashback.compare.values import Change, What
from flashback.walk.listing import Entry, Kind


def entry(path: str, size: int = 10, mtime: int = 1, kind: Kind = Kind.FILE) -> Entry:
    return Entry(path.encode(), kind, 0o644, 1, 1, size, mtime, 1, 1, 1, 1, blocks=-(-size // 512))


def counts(gone=(), added=(), changed=(), seed: int = 0) -> Counts:
    found = Tally(seed)
    for old in gone:
        found.gone(old)
    for new in added:
        found.change(Change(new.path, What.ADD, new, None))
    for new, old in changed:
        found.change(Change(new.path, What.CHANGE, new, old))
    return found.counts()


def test_a_file_that_is_elsewhere_with_its_size_and_time_has_moved() -> None:
    assert counts([entry("a/x")], [entry("b/y")]).moved == 1


def test_a_file_that_is_elsewhere_with_its_name_and_size_has_moved() -> None:
    assert counts([entry("a/x", mtime=1)], [entry("b/x", mtime=2)]).moved == 1


def test_one_file_that_came_makes_good_for_one_that_went() -> None:
    assert counts([entry("a/x"), entry("a/y"), entry("a/z")], [entry("b/x")]).moved == 1


def test_a_file_of_another_size_has_not_moved() -> None:
    assert counts([entry("a/x", 10)], [entry("b/x", 11)]).moved == 0


def test_a_new_extension_makes_a_pair_to_be_looked_into() -> None:
    found = counts([entry("a/x.jpg", 10)], [entry("a/x.jpg.locked", 42, 9)])
    assert (b"a/x.jpg", b"a/x.jpg.locked") in found.samples[3].pairs
    found = counts([entry("a/x.jpg", 10)], [entry("a/x.enc", 42, 9)])
    assert (b"a/x.jpg", b"a/x.enc") in found.samples[3].pairs


def test_directories_and_links_are_not_counted() -> None:
    found = counts([entry("a", kind=Kind.DIRECTORY), entry("b", kind=Kind.SYMLINK)])
    assert (found.deleted, found.grown) == (0, 0)


@pytest.mark.parametrize(
    "path",
    ["node_modules/a/b.js", "x/node_modules/b", "p/build/m.txt", "p/.git/objects/ab/cd", "x.o", "a/b.pyc", ".cache/x"],
)
def test_what_programs_make_again_is_spare(path) -> None:
    assert is_spare(path.encode())
    found = counts([entry(path)], [entry(path + "2/x.o")])
    assert (found.deleted, found.spare_deleted, found.added) == (0, 1, 0)


@pytest.mark.parametrize(
    "path", ["building/x", "rebuild/x", "mybuild/y", "build", "a.object", "p/.git/config", "target.txt"]
)
def test_what_only_sounds_like_it_is_not(path) -> None:
    assert not is_spare(path.encode())


def test_a_file_that_has_nothing_left_is_emptied_and_needs_no_look() -> None:
    found = counts(changed=[(entry("a.txt", 0), entry("a.txt", 5))])
    assert (found.emptied, found.changed, found.emptied_examples) == (1, 1, (b"a.txt",))
    assert all(not sample.pairs for sample in found.samples)


def test_a_build_does_not_hide_what_people_made() -> None:
    changes = [(entry(f"src/{n}.c", 11), entry(f"src/{n}.c")) for n in range(5000)]
    changes += [(entry(f"photos/{n}.jpg", 11), entry(f"photos/{n}.jpg")) for n in range(30)]
    precious, others, *_ = counts(changed=changes).samples
    assert (precious.count, len(precious.pairs)) == (30, 30)
    assert (others.count, len(others.pairs)) == (5000, tally.SAMPLE)


def test_growth_is_what_comes_less_what_goes_and_names_the_largest() -> None:
    found = counts([entry("old", 100)], [entry("a", 30), entry("b", 500)], [(entry("c", 40), entry("c", 15))])
    assert (found.grown, found.largest) == (455, (500, b"b"))


def test_a_hole_is_no_growth() -> None:
    new = Entry(b"disk", Kind.FILE, 0o644, 1, 1, 1 << 40, 1, 1, 1, 1, 1, blocks=8)
    assert counts(added=[new]).grown == 4096


def test_the_directories_that_lose_most_are_named() -> None:
    found = counts(
        [entry(f"photos/2025/{n}") for n in range(9)] + [entry(f"a/b/c/{n}") for n in range(3)] + [entry("x")]
    )
    assert found.deleted_below == ((b"photos/2025", 9), (b"a/b", 3), (b"", 1))


NAMES = st.sampled_from([f"{d}/{n}{e}" for d in "ab" for n in "xyz" for e in ("", ".jpg", ".jpg.x")])
FILES = st.builds(entry, NAMES, st.integers(0, 3), st.integers(0, 2))


@given(st.lists(FILES, max_size=30), st.lists(FILES, max_size=30), st.integers(0, 2**32 - 1))
def test_what_moved_is_what_the_two_sides_have_in_common(gone, added, seed) -> None:
    found = counts(gone, added, seed=seed)

    def common(key) -> int:
        return (Counter(map(key, gone)) & Counter(map(key, added))).total()

    by_time = common(lambda each: (each.size, each.mtime_ns))
    by_name = common(lambda each: (each.size, each.path.rpartition(b"/")[2]))
    assert found.moved == max(by_time, by_name)
    assert found.moved <= found.deleted == len(gone)


def test_beyond_the_limit_what_moved_is_estimated_and_memory_does_not_grow(monkeypatch) -> None:
    monkeypatch.setattr(tally, "LIMIT", 512)
    number = 20_000
    gone = [entry(f"a/{n}", n, n) for n in range(number)]
    added = [entry(f"b/{n}x", n, n) for n in range(0, number, 2)]
    found = counts(gone, added)
    assert found.deleted == number
    assert abs(found.moved - number // 2) < number // 10
