"""What is to be said now: once when it is due, once when it is overdue, then once per period."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flashback.config.values import Rotation
from flashback.rotation.exposure import Fleet
from flashback.rotation.ledger import Ledger
from flashback.rotation.outlook import outlook
from flashback.rotation.reminders import Reminder, reminders
from flashback.rotation.values import Backup, HoldRecord
from tests.unit.drives import RED, UUID

DAY = timedelta(days=1)
DONE = datetime(2026, 2, 1, tzinfo=UTC)
HOLD = HoldRecord(UUID, "run", "mass-deletion", "40 files would be deleted", DONE)


def said(days: int, told=None, holds=(), *, plugged=frozenset()) -> tuple[Reminder, ...]:
    now = DONE + days * DAY
    fleet = Fleet(
        drives=(RED,), backups=(Backup(UUID, "documents", 1, DONE, DONE),), masters=("documents",), plugged=plugged
    )
    return reminders(outlook(fleet, Rotation(), now=now), holds, told or {}, every=7 * DAY, now=now)


def test_a_fresh_drive_is_not_spoken_of() -> None:
    assert said(1) == ()


@pytest.mark.parametrize(("days", "state"), [(8, "due"), (15, "overdue")])
def test_a_drive_is_spoken_of_when_it_is(days, state) -> None:
    (found,) = said(days)
    assert (found.drive, found.state) == ("red", state)
    assert f"red is {state}: its last complete backup was {days} days ago" in found.what
    assert found.next_step == "plug it in, then: flashback run red"


def test_a_drive_that_is_plugged_in_need_not_be_plugged_in() -> None:
    (found,) = said(8, plugged=frozenset({UUID}))
    assert found.next_step == "flashback run red"


def test_what_was_said_is_not_said_again_within_the_period() -> None:
    told = {UUID: ("overdue", DONE + 15 * DAY)}
    assert said(16, told) == ()
    assert len(said(22, told)) == 1


def test_over_a_year_a_forgotten_drive_is_spoken_of_once_when_due_and_then_once_a_week() -> None:
    told: dict = {}
    times = []
    for day in range(365):
        for found in said(day, told):
            told[found.about] = (found.state, DONE + day * DAY)
            times.append((day, found.state))
    assert times[0] == (7, "due")
    assert [day for day, state in times if state == "overdue"] == list(range(14, 365, 7))


def test_a_hold_comes_before_the_drives_and_says_what_to_do() -> None:
    first, second = said(8, holds=[HOLD])
    assert (first.state, second.state) == ("held", "due")
    assert "40 files would be deleted" in first.what
    assert "flashback run red --allow mass-deletion" in first.next_step


def test_a_hold_is_said_once_per_period() -> None:
    (first,) = said(1, holds=[HOLD])
    told = {first.about: (first.state, DONE + DAY)}
    assert said(2, told, [HOLD]) == ()
    assert [each.state for each in said(8, {**told, UUID: ("due", DONE + 8 * DAY)}, [HOLD])] == ["held"]


def test_the_ledger_remembers_what_was_said(tmp_path) -> None:
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        ledger.remind(UUID, "due", at=DONE)
        ledger.remind(UUID, "overdue", at=DONE + DAY)
        assert ledger.reminded() == {UUID: ("overdue", DONE + DAY)}
