"""What a person types, and which file and state is meant by it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashback.config.values import Master
from flashback.core.errors import UsageError
from flashback.drive.states import State
from flashback.recover.wanted import Wanted, When, moment, wanted

EAST = timezone(timedelta(hours=2))


@pytest.fixture
def masters(tmp_path: Path) -> tuple[Master, ...]:
    (tmp_path / "home/Documents/work").mkdir(parents=True)
    return (
        Master("documents", tmp_path / "home/Documents"),
        Master("work", tmp_path / "home/Documents/work"),
    )


@pytest.mark.parametrize(
    ("typed", "master", "path"),
    [
        ("home/Documents/a.txt", "documents", b"a.txt"),
        ("./home/Documents/b/../a.txt", "documents", b"a.txt"),
        ("home/Documents", "documents", b""),
        ("home/Documents/", "documents", b""),
        ("documents:b//c/", "documents", b"b/c"),
        ("documents:", "documents", b""),
        ("home/Documents/work/x", "work", b"x"),
        ("home/Documents/worker", "documents", b"worker"),
        ("home/Documents/a:b", "documents", b"a:b"),
        ("home/Documents/\udcff", "documents", b"\xff"),
    ],
)
def test_a_path_is_found_in_its_master(masters, tmp_path, typed, master, path):
    found = wanted(typed, masters, cwd=tmp_path)
    assert (found.master, found.path) == (master, path)
    assert found.home == next(each.path for each in masters if each.name == master)


def test_an_absolute_path_and_one_from_inside_the_master_are_the_same(masters, tmp_path):
    inside = wanted("a.txt", masters, cwd=tmp_path / "home/Documents")
    assert inside == wanted(str(tmp_path / "home/Documents/a.txt"), masters, cwd=Path("/"))


def test_a_path_by_way_of_a_link_to_the_master_is_found(masters, tmp_path):
    (tmp_path / "short").symlink_to("home/Documents")
    assert wanted("short/a.txt", masters, cwd=tmp_path).path == b"a.txt"


def test_a_master_that_is_not_configured_here_may_be_on_the_drive(tmp_path):
    assert wanted("photos:a", (), cwd=tmp_path) == Wanted("photos", b"a", None)


@pytest.mark.parametrize("typed", ["/etc/passwd", "home", "documents:../x", "documents:a/../../x"])
def test_what_lies_in_no_master_is_refused(masters, tmp_path, typed):
    with pytest.raises(UsageError):
        wanted(typed, masters, cwd=tmp_path)


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
    assert moment(typed, zone=EAST) == meant


@pytest.mark.parametrize("typed", ["yesterday", "", "2026-13-01", "31.1.2026", "2026-01-31 25:00"])
def test_what_is_no_date_is_refused(typed):
    with pytest.raises(UsageError):
        moment(typed)


def states(*days: int) -> list[State]:
    return [State("m", f"202601{day:02}T000000Z", datetime(2026, 1, day, tzinfo=UTC)) for day in reversed(days)]


@given(st.sets(st.integers(1, 28)), st.integers(1, 28))
def test_the_state_of_a_moment_is_the_newest_of_those_not_after_it(days, day):
    found = When(at=datetime(2026, 1, day, tzinfo=UTC)).of(states(*sorted(days)))
    before = [each for each in days if each <= day]
    assert [each.moment.day for each in found[:1]] == ([max(before)] if before else [])


def test_a_state_is_known_by_its_name_and_the_latest_copy_by_its_moment_too():
    current = State("m", "current", datetime(2026, 1, 9, tzinfo=UTC))
    every = [current, *states(3, 5)]
    assert When(snapshot="current").of(every) == (current,)
    assert When(snapshot="20260109T000000Z").of(every) == (current,)
    assert [each.name for each in When(snapshot="20260103T000000Z").of(every)] == ["20260103T000000Z"]


def test_a_copy_that_is_not_complete_is_of_no_moment():
    broken = State("m", "current", datetime(2026, 1, 9, tzinfo=UTC), complete=False)
    assert When(at=datetime(2026, 1, 30, tzinfo=UTC)).of([broken]) == ()


@pytest.mark.parametrize("typed", ["9999-12-31", "9999-12-31Z", "0001-01-01 00:00"])
def test_a_date_that_no_calendar_can_reckon_with_is_no_date(typed):
    with pytest.raises(UsageError, match="no date"):
        moment(typed, zone=EAST)
