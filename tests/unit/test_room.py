"""The plan of space, over random drives and histories: never below the floor, as few as will do, in the right order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from flashback.backup import room
from flashback.backup.room import Candidates, Goes, Missing, Need
from flashback.config.values import Keep
from flashback.core.text import stamp
from flashback.rotation.retention import Value
from flashback.tools.btrfs import Space
from flashback.tools.btrfs_trees import Freed

MIB = 1 << 20
NOW = datetime(2027, 6, 1, tzinfo=UTC)
SPACE = Space(
    size=1000 * MIB,
    free_estimate=0,
    unallocated=0,
    data_total=900 * MIB,
    data_used=800 * MIB,
    metadata_total=50 * MIB,
    metadata_used=20 * MIB,
    reserved=5 * MIB,
)
keeps = st.builds(
    Keep,
    last=st.integers(0, 4),
    hourly=st.integers(0, 3),
    daily=st.integers(0, 7),
    weekly=st.integers(0, 4),
    monthly=st.integers(0, 12),
    yearly=st.integers(0, 5),
    min_free=st.sampled_from([0, 0.05, 100 * MIB]),
)
states = st.lists(st.integers(0, 2000), min_size=1, max_size=25, unique=True)
"""Ages in days."""


def named(ages: list[int]) -> list[str]:
    return sorted(stamp(NOW - timedelta(days=age)) for age in ages)


# --- how much is missing


def test_what_is_allocated_to_neither_can_become_either() -> None:
    space = replace(SPACE, unallocated=100 * MIB)
    assert room.missing(SPACE, Need(100 * MIB, 25 * MIB), 0) == Missing(0, 0)
    assert room.missing(SPACE, Need(101 * MIB, 26 * MIB), 0) == Missing(MIB, MIB)
    assert room.missing(space, Need(200 * MIB, 25 * MIB), 0) == Missing(0, 0)
    assert room.missing(space, Need(100 * MIB, 75 * MIB), 0) == Missing(0, 0)
    assert room.missing(space, Need(150 * MIB, 65 * MIB), 0) == Missing(30 * MIB, 0)


def test_the_reserve_comes_on_top() -> None:
    assert room.missing(SPACE, Need(50 * MIB, 0), 80 * MIB) == Missing(30 * MIB, 0)


def test_the_reserve_is_a_share_or_bytes() -> None:
    assert room.reserve_of(Keep(min_free=0.05), 1000) == 50
    assert room.reserve_of(Keep(min_free=7), 1000) == 7


def test_a_run_with_nothing_to_do_needs_nothing() -> None:
    assert room.need_of([], ballast=0) == Need()


# --- what goes


def candidates(decided, sizes: list[int]) -> Candidates:
    goes = room.in_order(decided)
    return Candidates(
        tuple(replace(each, freed=Freed(size * MIB, size)) for each, size in zip(goes, sizes, strict=False))
    )


@given(states, keeps, st.integers(0, 400), st.lists(st.integers(0, 60), min_size=50, max_size=50), st.data())
def test_as_few_go_as_will_do_in_order_and_never_one_of_the_floor(ages, keep, wanted, sizes, data) -> None:
    names = named(ages)
    pins = {("m", name) for name in data.draw(st.sets(st.sampled_from(names)))}
    decided = room.decisions({"m": names}, {}, pins, keep, NOW)
    known, need = candidates(decided, sizes), Need(wanted * MIB, 0)
    reserve = room.reserve_of(keep, SPACE.size)
    plan = room.plan(SPACE, need, reserve, known.goes, lambda _goes: known)
    away = {each.name for each in plan.goes}
    assert away <= set(names)
    assert {each.name for each in decided["m"].floor}.isdisjoint({*away, *(each.name for each in plan.further)})
    assert names[-1] not in away
    assert not {name for _master, name in pins} & away
    assert list(plan.goes) == list(known.goes[: len(plan.goes)])
    freed = sum(each.freed.data for each in plan.goes)
    short = room.missing(SPACE, need, reserve if plan.reaches_reserve else 0).data
    if plan.goes:
        assert freed >= short > freed - plan.goes[-1].freed.data
    if plan.hopeless:
        every = sum(each.freed.data for each in known.goes)
        assert not plan.goes
        assert room.missing(SPACE, Need(need.data // 2), 0).data > every


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3), st.booleans()), max_size=60), keeps)
def test_over_a_life_of_runs_and_prunes_the_floor_is_never_crossed(steps, keep) -> None:
    """A drive whose states cost random room; each step is days that pass, how much comes, and a run or a `prune`."""
    now, names, sizes, numbers, pins = NOW, [], {}, {}, set()
    for number, (days, bulk, is_prune) in enumerate(steps, 1):
        now += timedelta(days=days)
        decided = room.decisions({"m": names}, numbers, pins, keep, now)
        floor = {each.name for each in decided["m"].floor}
        order = room.in_order(decided)
        if is_prune:
            gone = [each for each in order if each.verdict.value is Value.NONE]
        else:
            used = sum(sizes[name] for name in names)
            space = replace(SPACE, data_used=min(used, SPACE.data_total))
            known = Candidates(tuple(replace(each, freed=Freed(sizes[each.name], 0)) for each in order))
            reserve = room.reserve_of(keep, space.size)
            gone = list(room.plan(space, Need(bulk * 60 * MIB, 0), reserve, order, lambda _goes, k=known: k).goes)
        assert floor.isdisjoint({each.name for each in gone})
        names = [name for name in names if name not in {each.name for each in gone}]
        assert floor <= set(names)
        if not is_prune:
            names.append(stamp(now))
            sizes[names[-1]], numbers["m", names[-1]] = bulk * 60 * MIB, number
            if number % 7 == 0:
                pins.add(("m", names[-1]))
        assert pins <= {("m", name) for name in names}


def test_nothing_is_measured_and_nothing_goes_where_there_is_room() -> None:
    def measure(_goes):
        raise AssertionError("it was measured")

    plan = room.plan(SPACE, Need(50 * MIB, MIB), 0, (), measure)
    assert (plan.goes, plan.hopeless) == ((), False)


def test_compression_that_the_drive_shows_is_reckoned_with() -> None:
    names = named([1, 2, 3, 4, 5])
    decided = room.decisions({"m": names}, {}, (), Keep(last=1, daily=0, weekly=0, monthly=0, yearly=0), NOW)
    known = replace(candidates(decided, [50] * 4), ratio=0.5)
    assert len(room.plan(SPACE, Need(220 * MIB), 0, known.goes, lambda _goes: known).goes) == 1
    known = replace(known, ratio=1.0)
    assert len(room.plan(SPACE, Need(220 * MIB), 0, known.goes, lambda _goes: known).goes) == 3


def test_a_reserve_that_cannot_be_reached_costs_no_state() -> None:
    names = named([1, 2, 3])
    decided = room.decisions({"m": names}, {}, (), Keep(last=1, daily=0, weekly=0, monthly=0, yearly=0), NOW)
    known = candidates(decided, [10, 10])
    plan = room.plan(SPACE, Need(90 * MIB), 500 * MIB, known.goes, lambda _goes: known)
    assert (plan.goes, plan.reaches_reserve, plan.hopeless) == ((), False, False)


def test_where_the_trees_cannot_be_read_they_go_one_by_one_when_the_drive_is_full() -> None:
    names = named([1, 2, 3])
    decided = room.decisions({"m": names}, {}, (), Keep(last=1, daily=0, weekly=0, monthly=0, yearly=0), NOW)
    goes = room.in_order(decided)
    plan = room.plan(SPACE, Need(400 * MIB), 0, goes, lambda known: Candidates(tuple(known), measured=False))
    assert (plan.goes, plan.further, plan.hopeless) == ((), goes, False)


def test_several_masters_make_way_in_one_order() -> None:
    rules = Keep(last=1, daily=0, weekly=0, monthly=0, yearly=0)
    decided = room.decisions({"a": named([9, 5, 1]), "b": named([8, 6, 2])}, {}, (), rules, NOW)
    assert [each.name for each in room.in_order(decided)] == named([9, 8, 6, 5])


def test_the_json_of_one_that_goes_has_its_reasons_and_what_comes_free() -> None:
    decided = room.decisions({"m": named([2, 1])}, {}, (), Keep(last=1, daily=0, weekly=0, monthly=0, yearly=0), NOW)
    (goes,) = room.in_order(decided)
    assert isinstance(goes, Goes)
    assert replace(goes, freed=Freed(5, 1)).as_json() == {
        "master": "m",
        "name": named([2])[0],
        "keep": False,
        "rule": "none",
        "reasons": ["not among the last 1"],
        "bytes": 5,
    }
