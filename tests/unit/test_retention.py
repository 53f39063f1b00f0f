"""Which snapshots stay, which go: examples, and properties over random histories."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashback.config.values import Keep
from flashback.core.text import stamp
from flashback.rotation.retention import Snapshot, Value, decide, prune_order

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NONE = Keep(last=0, hourly=0, daily=0, weekly=0, monthly=0, yearly=0)
STANDARD = Keep()


def taken(*moments, pinned=()):
    """Snapshots of these moments, in the order of their runs."""
    return [Snapshot(stamp(at), at, at in pinned, number) for number, at in enumerate(moments, 1)]


def names(verdicts):
    return [each.snapshot.name for each in verdicts]


def every(step, count, *, until=NOW):
    return [until - step * n for n in reversed(range(count))]


class TestRules:
    def test_last_keeps_the_newest_so_many(self):
        snapshots = taken(*every(DAY, 6))
        decision = decide(snapshots, replace(NONE, last=2), now=NOW)
        assert names(decision.keep) == [each.name for each in snapshots[-2:]]
        assert names(decision.prune) == [each.name for each in snapshots[:-2]]

    def test_daily_keeps_the_newest_of_each_day(self):
        morning, evening = NOW - 2 * DAY, NOW - 2 * DAY + timedelta(hours=6)
        decision = decide(taken(morning, evening, NOW), replace(NONE, daily=7), now=NOW)
        assert names(decision.prune) == [stamp(morning)]

    def test_a_day_without_a_snapshot_takes_no_place(self):
        moments = [NOW - 300 * DAY, NOW - 200 * DAY, NOW - 100 * DAY, NOW]
        decision = decide(taken(*moments), replace(NONE, daily=3), now=NOW)
        assert names(decision.keep) == [stamp(at) for at in moments[1:]]

    @pytest.mark.parametrize(
        ("rule", "step"),
        [
            ("hourly", timedelta(hours=1)),
            ("daily", DAY),
            ("weekly", 7 * DAY),
            ("monthly", 31 * DAY),
            ("yearly", 366 * DAY),
        ],
    )
    def test_each_rule_counts_its_own_periods(self, rule, step):
        snapshots = taken(*[at for at in every(step, 5) for at in (at, at + timedelta(minutes=9))])
        decision = decide(snapshots, replace(NONE, **{rule: 3}), now=NOW + DAY)
        assert names(decision.keep) == [each.name for each in snapshots[5::2]]

    def test_weeks_are_those_of_the_calendar_over_new_year(self):
        thursday, friday, monday = (datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 5))
        old = datetime(2025, 12, 29, tzinfo=UTC)
        decision = decide(taken(old, thursday, friday, monday), replace(NONE, weekly=9), now=NOW)
        assert names(decision.keep) == [stamp(friday), stamp(monday)]

    def test_days_are_those_of_utc(self):
        west = datetime.fromisoformat("2026-02-01T22:00:00-05:00")
        decision = decide(taken(west, datetime(2026, 2, 2, 9, tzinfo=UTC)), replace(NONE, daily=9), now=NOW)
        assert len(decision.prune) == 1

    def test_no_rule_deletes_nothing(self):
        assert decide(taken(*every(DAY, 50)), NONE, now=NOW).prune == ()

    def test_nothing_to_decide_is_decided(self):
        decision = decide([], STANDARD, now=NOW)
        assert (decision.keep, decision.prune) == ((), ())

    def test_five_years_of_daily_runs_leave_what_the_rules_promise(self):
        held = []
        for number, at in enumerate(every(DAY, 5 * 365), 1):
            held.append(Snapshot(stamp(at), at, sequence=number))
            gone = set(names(decide(held, STANDARD, now=at).prune))
            held = [each for each in held if each.name not in gone]
        months = {each.completed.timetuple()[:2] for each in held}
        assert len({each.completed.year for each in held}) == 5
        assert len(months) == 12 + 3
        assert len(held) < 7 + 8 + 12 + 5


class TestReasons:
    def test_every_verdict_has_a_reason(self):
        decision = decide(taken(*every(timedelta(hours=7), 400)), STANDARD, now=NOW)
        assert all(each.reasons for each in (*decision.keep, *decision.prune))

    def test_what_goes_is_told_what_stands_for_it(self):
        first, second = NOW - timedelta(hours=2), NOW - timedelta(hours=1)
        decision = decide(taken(first, second, NOW), replace(NONE, last=1, daily=1, monthly=1), now=NOW)
        assert decision.prune[0].reasons == (
            "not among the last 1",
            f"its day is kept by {stamp(NOW)}",
            f"its month is kept by {stamp(NOW)}",
        )

    def test_what_is_too_old_is_told_so(self):
        decision = decide(taken(*every(DAY, 3)), replace(NONE, daily=2), now=NOW)
        assert decision.prune[0].reasons == ("older than the newest 2 days",)

    def test_what_stays_is_told_by_which_rules(self):
        decision = decide(taken(*every(DAY, 2)), replace(NONE, last=1, daily=2, yearly=1), now=NOW)
        assert [each.reasons for each in decision.keep] == [
            ("daily 2 of 2",),
            ("the newest complete state", "among the last 1", "daily 1 of 2", "yearly 1 of 1"),
        ]


class TestFloor:
    def test_the_newest_stays_even_if_the_rules_keep_none(self):
        decision = decide(taken(*every(DAY, 3)), replace(NONE, daily=1), now=NOW)
        assert [each.name for each in decision.floor] == [stamp(NOW)]

    def test_a_pin_stays_for_ever(self):
        old = NOW - 2000 * DAY
        decision = decide(taken(old, *every(DAY, 30), pinned=(old,)), STANDARD, now=NOW)
        assert stamp(old) in [each.name for each in decision.floor]

    def test_newest_is_by_the_number_of_the_run_not_by_the_date(self):
        late, early = Snapshot("late", NOW, sequence=1), Snapshot("early", NOW - DAY, sequence=2)
        decision = decide([late, early], replace(NONE, last=1), now=NOW)
        assert "early" in [each.name for each in decision.floor]

    def test_a_run_under_a_clock_set_back_does_not_expose_the_last_ones(self):
        snapshots = [*taken(*every(DAY, 9)), Snapshot("back", NOW - 900 * DAY, sequence=10)]
        decision = decide(snapshots, replace(NONE, last=3), now=NOW)
        assert {"back", snapshots[8].name, snapshots[7].name} <= {each.name for each in decision.floor}
        assert decision.prune == ()


class TestTimeInTheSafe:
    def test_the_present_has_no_part_in_what_stays(self):
        snapshots = taken(*every(timedelta(hours=9), 300))
        today = decide(snapshots, STANDARD, now=NOW)
        assert decide(snapshots, STANDARD, now=NOW + 3650 * DAY) == today

    def test_a_drive_that_comes_back_after_a_year_loses_nothing_of_what_it_had(self):
        held = [each.snapshot for each in decide(taken(*every(DAY, 900)), STANDARD, now=NOW).keep]
        back = NOW + 365 * DAY
        assert decide(held, STANDARD, now=back).prune == ()

    def test_its_first_run_then_displaces_no_more_than_one_a_rule(self):
        held = [each.snapshot for each in decide(taken(*every(DAY, 900)), STANDARD, now=NOW).keep]
        back = NOW + 365 * DAY
        decision = decide([*held, Snapshot(stamp(back), back, sequence=901)], STANDARD, now=back)
        assert len(decision.prune) <= 5


class TestMakingSpace:
    def test_what_no_rule_keeps_goes_first_then_the_least_valuable_then_the_oldest(self):
        decision = decide(taken(*every(timedelta(hours=6), 900)), STANDARD, now=NOW)
        order = prune_order(decision)
        assert [each.value for each in order] == sorted(each.value for each in order)
        for one, two in pairwise(order):
            if one.value == two.value:
                assert one.snapshot.completed < two.snapshot.completed

    def test_the_floor_is_not_in_it(self):
        decision = decide(taken(*every(DAY, 90)), STANDARD, now=NOW)
        assert not set(names(prune_order(decision))) & {each.name for each in decision.floor}

    def test_all_else_is_in_it_once(self):
        snapshots = taken(*every(DAY, 90))
        decision = decide(snapshots, STANDARD, now=NOW)
        order = names(prune_order(decision))
        assert sorted(order + [each.name for each in decision.floor]) == [each.name for each in snapshots]

    def test_a_last_copy_goes_after_all_that_exist_elsewhere(self):
        decision = decide(taken(*every(DAY, 90)), STANDARD, now=NOW)
        oldest = decision.prune[0].snapshot.name
        assert names(prune_order(decision, only_here={oldest}))[-1] == oldest


MOMENTS = st.integers(0, 2000 * 86400).map(lambda seconds: NOW - timedelta(seconds=seconds))
KEEPS = st.builds(
    Keep,
    last=st.integers(0, 4),
    hourly=st.integers(0, 5),
    daily=st.integers(0, 8),
    weekly=st.integers(0, 5),
    monthly=st.integers(0, 13),
    yearly=st.integers(0, 4),
)


@st.composite
def histories(draw):
    """Years of plugs: bursts and pauses, some pins; most in order, some runs under a wrong clock, some forgotten."""
    start = draw(MOMENTS)
    pauses = draw(st.lists(st.sampled_from([1, 2, 9, 24, 25, 48, 24 * 7, 24 * 40, 24 * 400]), max_size=30))
    moments = [start]
    for hours in pauses:
        moments.append(moments[-1] + timedelta(hours=hours))
    moments += draw(st.lists(st.sampled_from(ODD) | MOMENTS, max_size=3))
    numbers = draw(st.permutations(range(1, len(moments) + 1))) if draw(st.booleans()) else range(1, len(moments) + 1)
    known = draw(st.lists(st.booleans(), min_size=len(moments), max_size=len(moments)))
    pins = draw(st.sets(st.sampled_from(moments), max_size=2))
    found = {
        stamp(at): Snapshot(stamp(at), at, at in pins, number if sure else None)
        for at, number, sure in zip(moments, numbers, known, strict=True)
    }
    return list(found.values())


ODD = tuple(datetime(year, 1, 1, tzinfo=UTC) for year in (1970, 1999, 2038, 2099, 9999))
PRESENTS = st.sampled_from([NOW, NOW + 400 * DAY, datetime(1970, 1, 2, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)])


@given(histories(), KEEPS, PRESENTS)
def test_what_stays_and_what_goes_is_just_what_was_there(snapshots, keep, now):
    decision = decide(snapshots, keep, now=now)
    assert sorted(names(decision.keep) + names(decision.prune)) == sorted(each.name for each in snapshots)


@given(histories(), KEEPS, PRESENTS)
def test_asked_again_about_what_stayed_all_of_it_stays(snapshots, keep, now):
    stayed = [each.snapshot for each in decide(snapshots, keep, now=now).keep]
    assert decide(stayed, keep, now=now).prune == ()


@given(histories(), KEEPS, PRESENTS)
def test_the_floor_is_never_crossed(snapshots, keep, now):
    decision = decide(snapshots, keep, now=now)
    ordered = sorted(snapshots, key=lambda each: (each.sequence or 0, each.completed))
    floor = {each.name for each in decision.floor}
    assert {each.name for each in ordered[-max(keep.last, 1) :]} <= floor
    assert {each.name for each in snapshots if each.pinned} <= floor
    assert not floor & {*names(decision.prune), *names(prune_order(decision))}


@given(histories(), KEEPS)
def test_never_fewer_are_kept_than_the_rules_say(snapshots, keep):
    sane = [each for each in snapshots if each.completed.year in range(2020, 2027)]
    stayed = [each.snapshot.completed for each in decide(sane, keep, now=datetime(2030, 1, 1, tzinfo=UTC)).keep]
    for form, wanted in (
        ("%Y%m%d%H", keep.hourly),
        ("%Y%m%d", keep.daily),
        ("%G%V", keep.weekly),
        ("%Y%m", keep.monthly),
        ("%Y", keep.yearly),
    ):
        there = {each.completed.strftime(form) for each in sane}
        assert len({at.strftime(form) for at in stayed}) >= min(wanted, len(there))


@given(histories(), KEEPS, st.sampled_from(ODD), st.integers(1, 60) | st.none())
def test_an_impossible_date_is_never_a_reason_to_delete_another(snapshots, keep, odd, number):
    among = {each.name for each in snapshots}
    before = set(names(decide(snapshots, keep, now=NOW).prune))
    with_odd = [*snapshots, Snapshot("odd", odd, sequence=number)]
    after = set(names(decide(with_odd, keep, now=NOW).prune))
    assert after & among <= before
    assert "odd" not in after


@given(histories(), KEEPS, PRESENTS)
def test_a_wrong_present_can_only_make_more_stay(snapshots, keep, now):
    right = set(names(decide(snapshots, keep, now=datetime(9999, 12, 30, tzinfo=UTC)).prune))
    assert set(names(decide(snapshots, keep, now=now).prune)) <= right


@given(histories(), KEEPS, st.integers(0, 5000))
def test_months_in_the_safe_make_nothing_go(snapshots, keep, days):
    sane = [each for each in snapshots if each.completed <= NOW]
    assert decide(sane, keep, now=NOW + days * DAY) == decide(sane, keep, now=NOW)


@settings(max_examples=50)
@given(st.lists(histories(), min_size=2, max_size=3), KEEPS, st.data())
def test_no_last_copy_goes_while_a_redundant_one_is_left(drives, keep, data):
    """Each drive makes space down to a random point; what it deleted by then is looked at."""
    contents = [{each.name: data.draw(st.integers(0, 9)) for each in drive} for drive in drives]
    for drive, content in zip(drives, contents, strict=True):
        elsewhere = {version for other in contents if other is not content for version in other.values()}
        only_here = {name for name, version in content.items() if version not in elsewhere}
        order = names(prune_order(decide(drive, keep, now=NOW), only_here=only_here))
        deleted = order[: data.draw(st.integers(0, len(order)))]
        if set(deleted) & only_here:
            assert set(order) - only_here <= set(deleted)
        for name in deleted:
            del content[name]


def test_values_rank_from_what_goes_first_to_what_never_goes():
    assert list(Value) == sorted(Value)
    assert max(Value) is Value.FLOOR
