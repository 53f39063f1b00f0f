"""What looks like an accident is held until a person allows it by name."""

from __future__ import annotations

import pytest

from flashback.backup.guard import Hold, HoldName, MasterFacts, enforce, holds_for, known_holds
from flashback.config.values import Guards
from flashback.core.errors import Exit, HeldByGuard, UsageError

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
