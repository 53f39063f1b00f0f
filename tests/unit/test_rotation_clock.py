"""Whether the clock can be right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flashback.rotation.clock import impossible, too_soon
from flashback.rotation.values import RunRecord, RunResult

BUILT = datetime(2026, 1, 1, tzinfo=UTC)
LAST = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("now", "last", "words"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), None, "before this program was built"),
        (BUILT - 2 * DAY, None, "before this program was built"),
        (BUILT + DAY, LAST, "before the last run"),
        (LAST - timedelta(minutes=6), LAST, "before the last run"),
        (datetime(2099, 1, 1, tzinfo=UTC), LAST, "after the last run"),
        (datetime(2099, 1, 1, tzinfo=UTC), None, "after this program was built"),
    ],
)
def test_an_impossible_date_is_told_with_the_reason(now, last, words):
    reason = impossible(now, last_run=last, built=BUILT)
    assert reason is not None
    assert words in reason


@pytest.mark.parametrize(
    ("now", "last"),
    [
        (BUILT, None),
        (LAST, LAST),
        (LAST - timedelta(minutes=4), LAST),
        (LAST + 400 * DAY, LAST),
        (BUILT + 1000 * DAY, None),
        (BUILT, datetime(2025, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_date_that_can_be_is_let_pass(now, last):
    assert impossible(now, last_run=last, built=BUILT) is None


def ended(ago: timedelta, result=RunResult.COMPLETE) -> RunRecord:
    return RunRecord("u", 1, "r", "here", LAST - ago, LAST - ago, result, 0)


HOUR = timedelta(hours=1)


def test_a_run_without_a_person_waits_for_its_interval() -> None:
    assert "the last run ended" in str(too_soon(LAST, [ended(timedelta(minutes=59))], HOUR))
    assert too_soon(LAST, [ended(HOUR)], HOUR) is None
    assert too_soon(LAST, [], HOUR) is None


def test_a_run_that_was_broken_off_or_held_may_be_tried_again_at_once() -> None:
    ends = (RunResult.INCOMPLETE, RunResult.HELD, RunResult.FAILED)
    assert too_soon(LAST, [ended(timedelta(minutes=1), each) for each in ends], HOUR) is None


def test_a_run_that_ended_in_the_future_makes_nobody_wait() -> None:
    assert too_soon(LAST, [ended(-DAY)], HOUR) is None
