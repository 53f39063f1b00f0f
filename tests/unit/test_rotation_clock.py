"""Whether the clock can be right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flashback.rotation.clock import impossible

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
