"""What looks like an accident is held until a person allows it by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flashback.compare.guard import Accepted, Hold, HoldName, MasterFacts, enforce, holds_for, known_holds
from flashback.compare.inspect import Inspection
from flashback.compare.tally import Counts
from flashback.config.values import Guards
from flashback.core.errors import Exit, HeldByGuard, UsageError
from flashback.walk.content import Damage

GOOD = MasterFacts("documents", "/home/alice/Documents", missing=False, files=10, files_before=12)
EMPTY = MasterFacts("photos", "/mnt/photos", missing=False, files=0, files_before=4321)
GONE = MasterFacts("music", "/mnt/music", missing=True, files=0, files_before=0)


def names(*masters: MasterFacts, clock: str | None = None) -> list[HoldName]:
    return [hold.name for hold in holds_for(masters, clock=clock, limits=Guards())]


def test_good_masters_are_not_held() -> None:
    assert names(GOOD) == []


def test_a_missing_master_is_held() -> None:
    assert names(GONE) == [HoldName.MISSING_MASTER]


def test_an_empty_master_is_held() -> None:
    assert names(EMPTY) == [HoldName.EMPTY_MASTER]


def test_an_empty_master_is_held_on_a_first_run_too() -> None:
    assert names(MasterFacts("photos", "/mnt/photos", missing=False, files=0, files_before=0)) == [
        HoldName.EMPTY_MASTER
    ]


def test_an_impossible_date_is_held() -> None:
    assert holds_for([GOOD], clock="the clock says 1970", limits=Guards()) == (
        Hold(HoldName.CLOCK, "the clock says 1970"),
    )


def test_every_hold_is_told_at_once() -> None:
    assert names(GONE, EMPTY, GOOD, clock="1970") == [
        HoldName.MISSING_MASTER,
        HoldName.EMPTY_MASTER,
        HoldName.CLOCK,
    ]


def test_an_empty_master_is_told_with_what_would_be_lost() -> None:
    (hold,) = holds_for([EMPTY], clock=None, limits=Guards())
    assert hold.why == "/mnt/photos (photos) holds no file, and its copy has 4,321; is it mounted?"


# --- allowing


def test_without_a_hold_nothing_is_raised() -> None:
    enforce((), (), drive="red")


def test_a_hold_stops_the_run() -> None:
    with pytest.raises(HeldByGuard) as caught:
        enforce(holds_for([EMPTY], clock=None, limits=Guards()), (), drive="red")
    assert caught.value.holds == ("empty-master",)
    assert caught.value.exit_code is Exit.HELD_BY_GUARD


def test_a_hold_that_is_allowed_passes() -> None:
    enforce(holds_for([EMPTY], clock=None, limits=Guards()), {"empty-master"}, drive="red")


def test_allowing_one_does_not_allow_another() -> None:
    with pytest.raises(HeldByGuard) as caught:
        enforce(holds_for([EMPTY], clock="1970", limits=Guards()), {"empty-master"}, drive="red")
    assert caught.value.holds == ("clock",)


def test_the_hint_is_the_command_that_allows_all_of_them_once() -> None:
    with pytest.raises(HeldByGuard) as caught:
        enforce(holds_for([GONE, EMPTY, EMPTY], clock=None, limits=Guards()), (), drive="red")
    assert caught.value.hint.endswith("flashback run red --allow missing-master --allow empty-master")


def test_each_hold_is_a_finding_with_its_reason() -> None:
    with pytest.raises(HeldByGuard) as caught:
        enforce(holds_for([GONE, EMPTY], clock=None, limits=Guards()), (), drive="red")
    assert [finding.split(":")[0] for finding in caught.value.findings] == ["missing-master", "empty-master"]


# --- the names


@pytest.mark.parametrize("name", list(HoldName))
def test_every_guard_can_be_named(name) -> None:
    assert known_holds([str(name)]) == {name}


@pytest.mark.parametrize("name", ["", "all", "Clock", "\x1b[2J"])
def test_a_name_that_no_guard_has_is_a_usage_error(name) -> None:
    with pytest.raises(UsageError) as caught:
        known_holds(["clock", name])
    assert "\x1b" not in caught.value.what


def test_the_error_names_the_guards() -> None:
    with pytest.raises(UsageError) as caught:
        known_holds(["all"])
    assert caught.value.hint == f"the guards: {', '.join(HoldName)}"


# --- deletions, damage and growth: at the edge of each number

LIMITS = Guards()


def master(**more) -> MasterFacts:
    return MasterFacts("docs", "/d", missing=False, **{"files": 900, "files_before": 1000, **more})


def held(facts: MasterFacts, limits: Guards = LIMITS) -> list[str]:
    return [str(hold.name) for hold in holds_for([facts], limits=limits)]


@pytest.mark.parametrize(
    ("before", "deleted", "moved", "is_held"),
    [
        (1000, 300, 0, True),
        (1000, 299, 0, False),
        (1000, 300, 1, False),
        (60, 19, 0, False),
        (60, 20, 0, True),
        (10, 3, 0, False),
        (10, 7, 0, False),
        (10, 8, 0, True),
        (5, 5, 0, True),
        (4, 4, 0, False),
    ],
)
def test_a_deletion_is_held_by_its_share_and_number(before, deleted, moved, is_held) -> None:
    counts = Counts(deleted=deleted, moved=moved)
    assert (held(master(files_before=before, counts=counts)) == ["mass-deletion"]) is is_held


def test_a_few_large_files_count_by_their_bytes() -> None:
    counts = Counts(deleted=40, deleted_bytes=600)
    assert held(master(counts=counts, bytes_before=1000)) == ["mass-deletion"]
    assert held(master(counts=counts, bytes_before=1001)) == []


def test_new_files_that_look_sound_make_good_for_half_of_what_went() -> None:
    went = Counts(deleted=500, added=500)
    assert held(master(counts=went)) == []
    assert held(master(counts=went, inspection=Inspection(sound=0.0))) == ["mass-deletion"]
    assert held(master(counts=Counts(deleted=700, added=5000))) == ["mass-deletion"]


@pytest.mark.parametrize(
    ("before", "damaged", "emptied", "is_held"),
    [(1000, 20, 0, True), (1000, 19, 0, False), (1000, 10, 10, True), (10, 5, 0, True), (10, 4, 0, False)],
)
def test_damage_is_held_by_its_number(before, damaged, emptied, is_held) -> None:
    facts = master(files_before=before, counts=Counts(emptied=emptied), inspection=Inspection(damaged))
    assert (held(facts) == ["mass-change"]) is is_held


GIB = 1 << 30


@pytest.mark.parametrize(
    ("before", "grown", "largest", "usual", "is_held"),
    [
        (30 * GIB, 20 * GIB, 20 * GIB, 0, True),
        (50 * GIB, 20 * GIB, 20 * GIB, 0, False),
        (30 * GIB, 19 * GIB, 19 * GIB, 0, False),
        (30 * GIB, 20 * GIB, 20 * GIB, 11 * GIB, False),
        (30 * GIB, 60 * GIB, GIB, 0, True),
        (61 * GIB, 60 * GIB, GIB, 0, False),
        (30 * GIB, 59 * GIB, GIB, 0, False),
    ],
)
def test_growth_is_held_by_its_size_and_in_proportion(before, grown, largest, usual, is_held) -> None:
    counts = Counts(grown=grown, largest=(largest, b"x.log"))
    assert (held(master(bytes_before=before, counts=counts, grown_before=usual)) == ["growth"]) is is_held


def test_a_drive_without_a_copy_is_filled_without_a_word() -> None:
    counts = Counts(added=9000, grown=900 * GIB, largest=(900 * GIB, b"x"))
    assert held(master(files_before=0, counts=counts)) == []


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("deleted_files", master(counts=Counts(deleted=1000))),
        ("damaged_files", master(inspection=Inspection(1000))),
        ("growth", master(counts=Counts(grown=900 * GIB, largest=(900 * GIB, b"x")))),
    ],
)
def test_zero_switches_a_guard_off(name, facts) -> None:
    assert held(facts)
    assert held(facts, replace(LIMITS, **{name: 0})) == []


def test_what_a_person_accepted_is_not_held_again_and_what_came_after_is() -> None:
    counts, accepted = Counts(deleted=700), {"mass-deletion": Accepted(files=300, bytes=0, damaged=0)}
    assert held(master(files=300, counts=counts, accepted=accepted)) == []
    assert held(master(files=211, counts=counts, accepted=accepted)) == []
    assert held(master(files=210, counts=counts, accepted=accepted)) == ["mass-deletion"]


def test_accepted_damage_and_growth_are_measured_from_what_was_accepted() -> None:
    accepted = {"mass-change": Accepted(900, 0, 50), "growth": Accepted(900, 100 * GIB, 0)}
    assert held(master(inspection=Inspection(69), accepted=accepted)) == []
    assert held(master(inspection=Inspection(70), accepted=accepted)) == ["mass-change"]
    counts = Counts(grown=99 * GIB, largest=(99 * GIB, b"x"))
    assert held(master(bytes=119 * GIB, counts=counts, accepted=accepted)) == []
    assert held(master(bytes=120 * GIB, counts=counts, accepted=accepted)) == ["growth"]


def encrypted(count: int, *, before: int, files: int = 2000) -> MasterFacts:
    inspection = Inspection(damaged=count, how=(Damage.SCRAMBLED,))
    return MasterFacts(
        "docs", "/d", missing=False, files=files, files_before=files, inspection=inspection, damaged_before=before
    )


@pytest.mark.parametrize(
    ("count", "before", "is_held"), [(5, 14, False), (5, 15, True), (0, 200, False), (19, 0, False), (19, 1, True)]
)
def test_files_that_are_encrypted_a_few_at_a_time_are_added_up(count, before, is_held) -> None:
    holds = holds_for([encrypted(count, before=before)], limits=Guards())
    assert [hold.name for hold in holds] == ([HoldName.MASS_CHANGE] if is_held else [])
    assert not is_held or f"and {before} file" in holds[0].why


def test_other_damage_is_not_added_to_what_was_encrypted_before() -> None:
    emptied = replace(encrypted(0, before=19), inspection=Inspection(damaged=5, how=(Damage.BLANKED,)))
    assert holds_for([emptied], limits=Guards()) == ()


def test_a_copy_of_the_drive_is_held() -> None:
    assert [hold.name for hold in holds_for([GOOD], clone="it knows nothing", limits=LIMITS)] == [HoldName.CLONE]
