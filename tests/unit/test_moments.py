"""Moments and states as people type them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from flashback.config.moments import begun, drive_before, listed, moment
from flashback.core.errors import UsageError

EAST = timezone(timedelta(hours=2))
NOW = datetime(2026, 5, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("2026-01-31", datetime(2026, 1, 31, 21, 59, 59, tzinfo=UTC)),
        ("2026-01-31 14:00", datetime(2026, 1, 31, 12, 0, 59, tzinfo=UTC)),
        ("2026-01-31T14:00:05", datetime(2026, 1, 31, 12, 0, 5, tzinfo=UTC)),
        ("2026-01-31T14:00:05Z", datetime(2026, 1, 31, 14, 0, 5, tzinfo=UTC)),
        ("2026-01-31Z", datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)),
        ("20260131T140005Z", datetime(2026, 1, 31, 14, 0, 5, tzinfo=UTC)),
    ],
)
def test_a_date_means_its_end_in_the_zone_of_the_machine(typed, meant):
    assert moment(typed, NOW, end=True, zone=EAST) == meant


@pytest.mark.parametrize("typed", ["yesterday", "", "2026-13-01", "31.1.2026", "2026-01-31 25:00"])
def test_what_is_no_date_is_refused(typed):
    with pytest.raises(UsageError):
        moment(typed, NOW)


@pytest.mark.parametrize("typed", ["9999-12-31", "0001-01-01 00:00", "99999999y", "99999w"])
def test_a_date_that_no_calendar_can_reckon_with_is_no_date(typed):
    with pytest.raises(UsageError, match="no date"):
        moment(typed, NOW, end=True, zone=EAST)


@pytest.mark.parametrize(
    ("typed", "ago"),
    [
        ("30min", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(days=14)),
        ("6m", timedelta(days=180)),
        ("1y", timedelta(days=365)),
    ],
)
def test_an_age_is_said_as_in_the_configuration_and_in_months_and_years(typed, ago):
    assert moment(typed, NOW) == moment(typed, NOW, end=True) == NOW - ago


def test_a_drive_is_what_stands_before_a_colon_unless_that_belongs_to_a_time():
    assert drive_before("RED:latest", {"red"}) == ("red", "latest")
    assert drive_before("red:2026-05-02 14:10", {"red"}) == ("red", "2026-05-02 14:10")
    assert drive_before("2026-05-02 14:10", {"red"}) == ("", "2026-05-02 14:10")
    assert drive_before("latest", {"red"}) == ("", "latest")


def test_a_drive_that_nobody_knows_is_refused_with_those_that_there_are():
    with pytest.raises(UsageError, match="no drive green") as raised:
        drive_before("green:latest", {"red", "blue"})
    assert raised.value.hint.startswith("there are blue, red;")


def test_a_whole_name_is_itself_even_where_another_begins_so():
    assert begun("current", ["current", "20260101T000000Z"]) == "current"
    assert begun("cur", ["current"]) is None


def test_of_many_states_the_newest_and_the_oldest_are_named():
    assert listed([]) == "no state"
    assert listed(["c", "b", "a"]) == "c, b, a"
    assert listed([str(each) for each in range(20, 0, -1)]) == "20, 19, 18, 17, 16, 14 more, 1"
