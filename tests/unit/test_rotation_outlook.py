"""Due and overdue, the four disasters, and the advice against brute force."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flashback.config.values import Rotation
from flashback.rotation.exposure import Disaster, Fleet, after_backup, exposure, exposures, freshest, sentence, span
from flashback.rotation.outlook import State, advise, drive_outlook, outlook, reminder_due
from flashback.rotation.values import Backup, KnownDrive, Standing

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
WEEKLY = Rotation(due_after=7 * DAY, overdue_after=14 * DAY)
DOCUMENTS = ("documents",)


def drive(name, place="", **more):
    return KnownDrive(f"uuid-{name}", name, "digest", 1, NOW - 100 * DAY, place=place, **more)


def backup(name, days, master="documents", *, sequence=None, took=timedelta()):
    begun = NOW - timedelta(days=days)
    return Backup(f"uuid-{name}", master, int(10_000 - days) if sequence is None else sequence, begun, begun + took)


def fleet(drives, backups, masters=DOCUMENTS, plugged=()):
    return Fleet(tuple(drives), tuple(backups), tuple(masters), frozenset(f"uuid-{name}" for name in plugged))


def line(of, **more):
    return drive_outlook(of, of.drives[0], WEEKLY, now=NOW, **more)


def lost_days(of):
    """Days of work lost per disaster, in the order of `Disaster`; None for everything."""
    found = exposures(of, now=NOW)
    assert [each.disaster for each in found] == list(Disaster)
    return [None if each.since is None else (NOW - each.since) / DAY for each in found]


class TestState:
    @pytest.mark.parametrize(
        ("days", "state"),
        [(0, State.FRESH), (6.99, State.FRESH), (7, State.DUE), (13.99, State.DUE), (14, State.OVERDUE)],
    )
    def test_age_decides(self, days, state):
        assert line(fleet([drive("red")], [backup("red", days)])).state is state

    def test_a_drive_without_a_backup_is_never(self):
        found = line(fleet([drive("red")], []))
        assert (found.state, found.last, found.age) == (State.NEVER, None, None)

    @pytest.mark.parametrize(("standing", "state"), [(Standing.LOST, State.LOST), (Standing.RETIRED, State.RETIRED)])
    def test_lost_and_retired_are_said_whatever_the_age(self, standing, state):
        found = line(fleet([drive("red", standing=standing)], [backup("red", 99)]))
        assert found.state is state
        assert not found.late

    def test_a_drive_is_as_old_as_its_oldest_master(self):
        of = fleet([drive("red")], [backup("red", 1), backup("red", 20, "photos")], ("documents", "photos"))
        assert line(of).state is State.OVERDUE
        assert line(of).last == NOW - 20 * DAY

    def test_a_master_it_is_not_meant_to_carry_does_not_age_it(self):
        of = fleet([drive("red", masters=DOCUMENTS)], [backup("red", 1)], ("documents", "photos"))
        assert line(of).state is State.FRESH
        assert line(of).left_out == ("photos",)

    def test_a_master_that_is_still_missing_makes_it_due(self):
        of = fleet([drive("red")], [backup("red", 1)], ("documents", "photos"))
        assert line(of).state is State.DUE
        assert line(of).missing == ("photos",)

    def test_a_backup_from_the_future_is_not_believed(self):
        assert line(fleet([drive("red")], [backup("red", -30)])).state is State.NEVER

    def test_when_it_will_be_due_is_told(self):
        found = line(fleet([drive("red")], [backup("red", 1)]))
        assert (found.due_at, found.overdue_at) == (NOW + 6 * DAY, NOW + 13 * DAY)

    def test_age_counts_from_completion(self):
        assert line(fleet([drive("red")], [backup("red", 7, took=DAY)])).age == 6 * DAY

    def test_an_overdue_drive_fails_the_check(self):
        assert outlook(fleet([drive("red")], [backup("red", 14)]), WEEKLY, now=NOW).late

    def test_a_due_drive_does_not_fail_the_check(self):
        assert not outlook(fleet([drive("red")], [backup("red", 13)]), WEEKLY, now=NOW).late

    @pytest.mark.parametrize(("days", "late"), [(13, False), (14, True)])
    def test_a_drive_never_used_fails_the_check_once_it_had_its_time(self, days, late):
        new = replace(drive("red"), enrolled=NOW - days * DAY)
        assert outlook(fleet([new], []), WEEKLY, now=NOW).late is late


THREE = fleet(
    [drive("red", "home"), drive("green", "pocket"), drive("blue", "offsite: parents")],
    [backup("red", 1), backup("green", 3), backup("blue", 41)],
)


class TestExposure:
    def test_each_disaster_costs_exactly_the_work_since_the_best_copy_that_remains(self):
        assert lost_days(THREE) == [1, 41, 1, 3]

    def test_moving_a_drive_from_home_to_offsite_changes_only_the_fire(self):
        moved = replace(THREE, drives=(replace(THREE.drives[0], place="offsite"), *THREE.drives[1:]))
        assert lost_days(moved) == [1, 1, 1, 3]

    def test_moving_a_drive_from_pocket_to_offsite_changes_fire_and_theft(self):
        of = fleet([drive("green", "pocket"), drive("blue", "offsite")], [backup("green", 3), backup("blue", 41)])
        moved = replace(of, drives=(replace(of.drives[0], place="offsite"), of.drives[1]))
        assert lost_days(of) == [3, 41, 41, 41]
        assert lost_days(moved) == [3, 3, 3, 41]

    def test_a_drive_that_is_plugged_in_shares_the_fate_of_the_machine(self):
        plugged = replace(THREE, plugged=frozenset({"uuid-blue", "uuid-red"}))
        assert lost_days(plugged) == [1, None, None, 3]

    @pytest.mark.parametrize("standing", [Standing.LOST, Standing.RETIRED])
    def test_a_drive_that_is_lost_or_retired_does_not_count(self, standing):
        drives = (replace(THREE.drives[0], standing=standing), *THREE.drives[1:])
        assert lost_days(replace(THREE, drives=drives)) == [3, 41, 41, 41]

    def test_without_any_backup_everything_is_lost(self):
        assert lost_days(fleet([drive("red", "offsite")], [])) == [None] * 4

    def test_a_single_drive_that_turns_out_bad_loses_everything(self):
        assert lost_days(fleet([drive("red", "offsite")], [backup("red", 2)])) == [2, 2, 2, None]

    @pytest.mark.parametrize("place", ["", "home", "Home", "home: top drawer", "HOME office"])
    def test_home_by_any_spelling_and_no_place_burn_with_the_house(self, place):
        assert lost_days(fleet([drive("red", place)], [backup("red", 2)])) == [2, None, 2, None]

    @pytest.mark.parametrize("place", ["offsite", "bank", "homeland", "at my brother's", "\u00dcbersee", "#3"])
    def test_any_other_place_survives_the_fire(self, place):
        assert lost_days(fleet([drive("red", place)], [backup("red", 2)])) == [2, 2, 2, None]

    def test_each_master_is_counted_on_its_own_and_the_worst_is_told(self):
        of = fleet(
            [drive("red", "offsite"), drive("blue", "offsite", masters=DOCUMENTS)],
            [backup("red", 9), backup("red", 9, "photos"), backup("blue", 2)],
            ("documents", "photos"),
        )
        found = exposure(of, Disaster.MACHINE, now=NOW)
        assert [(each.master, (NOW - each.since) / DAY, each.drive) for each in found.masters] == [
            ("documents", 2, "blue"),
            ("photos", 9, "red"),
        ]
        assert found.since == NOW - 9 * DAY

    def test_work_done_while_the_run_went_on_counts_as_lost(self):
        of = fleet([drive("red", "offsite")], [backup("red", 2, took=DAY)])
        assert exposure(of, Disaster.MACHINE, now=NOW).since == NOW - 2 * DAY

    def test_the_freshest_of_two_from_one_moment_is_that_with_the_higher_number(self):
        of = fleet([drive("red"), drive("blue")], [backup("red", 2, sequence=8), backup("blue", 2, sequence=9)])
        found = freshest(of, now=NOW)
        assert found is not None
        assert found.name == "blue"

    def test_no_master_means_nothing_to_lose(self):
        assert lost_days(fleet([drive("red")], [], ())) == [0] * 4

    def test_the_survivors_are_named(self):
        assert exposure(THREE, Disaster.BAG, now=NOW).survivors == ("red", "blue")


class TestSentences:
    def test_work_lost_is_told_with_the_moment_and_the_span(self):
        told = sentence(exposure(THREE, Disaster.HOUSE, now=NOW), now=NOW)
        assert told == "if the house burns: you lose the work since 2026-01-19 12:00 UTC (41 days)"

    def test_everything_and_nothing_are_told_as_such(self):
        of = fleet([drive("red")], [backup("red", 0)])
        assert sentence(exposure(of, Disaster.HOUSE, now=NOW), now=NOW) == "if the house burns: you lose everything"
        assert sentence(exposure(of, Disaster.MACHINE, now=NOW), now=NOW).endswith("you lose nothing")

    def test_a_master_that_would_be_lost_whole_is_named(self):
        of = fleet([drive("red")], [backup("red", 0)], ("documents", "photos"))
        assert sentence(exposure(of, Disaster.MACHINE, now=NOW), now=NOW).endswith("you lose all of photos")

    @pytest.mark.parametrize(
        ("length", "text"),
        [
            (timedelta(minutes=1), "1 minute"),
            (timedelta(minutes=119), "119 minutes"),
            (timedelta(hours=47), "47 hours"),
            (timedelta(days=2), "2 days"),
        ],
    )
    def test_spans_are_in_the_largest_unit_of_which_there_are_two(self, length, text):
        assert span(length) == text


class TestAdvice:
    def test_it_names_the_drive_and_why(self):
        found = advise(THREE, WEEKLY, now=NOW)
        assert found is not None
        assert found.drive.name == "blue"
        assert found.why == (
            "blue (offsite: parents): if the house burns, the work of 41 days is lost; "
            "with a backup on it now, nothing would be"
        )

    def test_a_first_copy_out_of_the_house_comes_before_all_else(self):
        of = fleet([drive("red", "home"), drive("blue", "bank")], [backup("red", 300)])
        found = advise(of, WEEKLY, now=NOW)
        assert found is not None
        assert "everything is lost" in found.why

    def test_of_equals_the_one_that_waited_longest(self):
        of = fleet([drive("a", "home"), drive("b", "home"), drive("c", "home")], [backup(n, 0) for n in "ac"])
        of = replace(of, backups=(*of.backups, backup("b", 0.5)))
        found = advise(of, WEEKLY, now=NOW)
        assert found is not None
        assert found.drive.name == "b"

    def test_a_single_drive_is_the_next_one(self):
        found = advise(fleet([drive("red")], [backup("red", 0)]), WEEKLY, now=NOW)
        assert found is not None
        assert found.why == "red was backed up just now, and no other drive would protect more"

    def test_without_a_drive_that_counts_there_is_none(self):
        assert advise(fleet([drive("red", standing=Standing.LOST)], []), WEEKLY, now=NOW) is None
        assert advise(fleet([], []), WEEKLY, now=NOW) is None

    def test_it_names_the_master_where_there_are_several(self):
        both = ("documents", "photos")
        of = fleet([drive("red", "bank")], [backup("red", 1), backup("red", 30, "photos")], both)
        found = advise(of, WEEKLY, now=NOW)
        assert found is not None
        assert "of photos" in found.why

    def test_it_is_the_same_whether_the_drive_is_plugged_in_or_not(self):
        plugged = replace(THREE, plugged=frozenset({"uuid-blue"}))
        assert advise(plugged, WEEKLY, now=NOW) == advise(THREE, WEEKLY, now=NOW)


def random_fleet(chance):
    masters = ("documents", "photos", "mail")[: chance.randint(1, 3)]
    drives, backups = [], []
    for number in range(chance.randint(1, 6)):
        name = f"d{number}"
        carried = None if chance.random() < 0.6 else tuple(m for m in masters if chance.random() < 0.6)
        standing = chance.choices(list(Standing), [8, 1, 1])[0]
        place = chance.choice(["", "home", "home: desk", "pocket", "offsite", "bank"])
        drives.append(drive(name, place, masters=carried, standing=standing))
        backups += [
            backup(name, chance.choice([-90, 0, 0.01, 1, 1, 7, 14, 33.3, 400]), master, sequence=chance.randint(1, 999))
            for master in masters
            if chance.random() < 0.7
        ]
    plugged = [each.name for each in drives if chance.random() < 0.2]
    return fleet(drives, backups, masters, plugged)


def brute_loss(of, masters_on, plugged):
    """By another road: for each disaster and master look at every drive; (masters wholly lost, seconds of work)."""
    good = [b for b in of.backups if b.completed <= NOW + timedelta(minutes=5)] if masters_on is None else masters_on
    active = {d.uuid: d for d in of.drives if d.standing == "active"}
    counted = sorted(
        (b for b in good if b.drive_uuid in active and b.master in of.masters),
        key=lambda b: (b.begun, b.sequence, b.drive_uuid),
    )
    results = []
    for disaster in ("machine", "house", "bag", "freshest"):
        for master in of.masters:
            ages = []
            for b in counted:
                word = active[b.drive_uuid].place.lower().replace(":", " ").split(" ")[0] or "home"
                here = b.drive_uuid in plugged
                survives = {
                    "machine": True,
                    "house": word not in ("home", "pocket") and not here,
                    "bag": word != "pocket" and not here,
                    "freshest": b.drive_uuid != counted[-1].drive_uuid,
                }[disaster]
                if b.master == master and survives:
                    ages.append(max((NOW - b.begun).total_seconds(), 0))
            results.append(min(ages) if ages else None)
    return results


def brute_total(of, backups):
    results = brute_loss(of, backups, frozenset())
    return (results.count(None), round(sum(each for each in results if each is not None), 3))


def brute_after(of, each):
    good = [b for b in of.backups if b.completed <= NOW + timedelta(minutes=5)]
    carried = [m for m in of.masters if each.masters is None or m in each.masters]
    kept = [b for b in good if b.drive_uuid != each.uuid or b.master not in carried]
    return kept + [Backup(each.uuid, m, 10**6, NOW, NOW) for m in carried]


@pytest.mark.parametrize("seed", range(10))
def test_advice_is_the_brute_force_optimum_in_a_thousand_random_fleets(seed):
    chance = random.Random(seed)
    for _ in range(100):
        of = random_fleet(chance)
        carrying = [d for d in of.drives if d.standing == "active" and (d.masters is None or d.masters)]
        found = advise(of, WEEKLY, now=NOW)
        if not carrying:
            assert found is None
            continue
        assert found is not None
        totals = {each.uuid: brute_total(of, brute_after(of, each)) for each in carrying}
        assert totals[found.drive.uuid] == min(totals.values())


@pytest.mark.parametrize("seed", range(10))
def test_exposure_is_exact_in_a_thousand_random_fleets(seed):
    chance = random.Random(1000 + seed)
    for _ in range(100):
        of = random_fleet(chance)
        expected = brute_loss(of, None, of.plugged)
        found = [loss.since for each in exposures(of, now=NOW) for loss in each.masters]
        assert [None if since is None else (NOW - since).total_seconds() for since in found] == expected
        for each, start in zip(exposures(of, now=NOW), range(0, len(expected), len(of.masters)), strict=True):
            part = expected[start : start + len(of.masters)]
            assert each.since == (None if None in part else NOW - timedelta(seconds=max(part)))


def test_after_a_backup_the_drive_is_fresh():
    blue = THREE.drives[2]
    of = after_backup(THREE, blue, now=NOW)
    assert drive_outlook(of, blue, WEEKLY, now=NOW).state is State.FRESH


class TestReminders:
    @staticmethod
    def due(days, told, hours_later=0, every=3 * DAY):
        of = fleet([drive("red")], [backup("red", days)])
        now = NOW + timedelta(hours=hours_later)
        found = drive_outlook(of, of.drives[0], WEEKLY, now=now)
        return reminder_due(found, told=told, every=every, now=now)

    def test_a_fresh_drive_is_not_spoken_of(self):
        assert not self.due(1, None)

    def test_once_when_due(self):
        assert self.due(8, None)
        assert not self.due(13, (State.DUE, NOW - 5 * DAY))

    def test_once_when_overdue(self):
        assert self.due(15, (State.DUE, NOW - 7 * DAY))

    def test_then_at_most_once_a_period(self):
        assert not self.due(15, (State.OVERDUE, NOW - 2 * DAY))
        assert self.due(18, (State.OVERDUE, NOW - 3 * DAY))

    def test_anew_after_a_backup(self):
        assert self.due(8, (State.DUE, NOW - 30 * DAY))

    def test_never_of_a_retired_drive(self):
        of = fleet([drive("red", standing=Standing.RETIRED)], [])
        assert not reminder_due(line(of), told=None, every=DAY, now=NOW)
