"""What a person types, and which file and state is meant by it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashback.config.values import Master
from flashback.core.errors import UsageError
from flashback.drive.states import State
from flashback.recover.wanted import Wanted, When, wanted, when


@pytest.fixture
def masters(tmp_path: Path) -> tuple[Master, ...]:
    (tmp_path / "home/Documents/letters").mkdir(parents=True)
    return (
        Master("documents", tmp_path / "home/Documents"),
        Master("letters", tmp_path / "home/Documents/letters"),
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
        ("home/Documents/letters/x", "letters", b"x"),
        ("home/Documents/letterset", "documents", b"letterset"),
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


def test_latest_is_the_newest_complete_state_and_no_older_one():
    current = State("m", "current", datetime(2026, 1, 9, tzinfo=UTC))
    broken = State("m", "current", None, complete=False)
    assert When("latest").of([current, *states(3, 5)]) == (current,)
    assert When("latest").of([*states(3, 5), broken]) == tuple(states(5))
    assert When("latest").of([broken]) == ()


def test_the_beginning_of_a_name_is_enough_where_no_other_begins_so():
    current = State("m", "current", datetime(2026, 1, 25, tzinfo=UTC))
    every = [current, *states(3, 5, 21)]
    assert [each.moment.day for each in When("20260103").of(every)] == [3]
    assert When("20260125").of(every) == (current,)
    assert When("20260104").of(every) == ()
    with pytest.raises(UsageError, match="one of 2 states") as raised:
        When("2026012").of(every)
    assert raised.value.findings == ("20260121T000000Z", "20260125T000000Z")


NOW = datetime(2026, 1, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("snapshot", "at", "meant"),
    [
        ("", "", When()),
        ("latest", "", When("latest")),
        ("2026", "", When("2026")),
        ("20260103T000000Z", "", When("20260103T000000Z")),
        ("7d", "", When(at=datetime(2026, 1, 13, 12, tzinfo=UTC))),
        ("2026-01-03Z", "", When(at=datetime(2026, 1, 3, 23, 59, 59, tzinfo=UTC))),
        ("", "2w", When(at=datetime(2026, 1, 6, 12, tzinfo=UTC))),
        ("", "30min", When(at=datetime(2026, 1, 20, 11, 30, tzinfo=UTC))),
    ],
)
def test_a_state_and_a_time_are_read_alike(snapshot, at, meant):
    assert when(snapshot, at, NOW) == meant


@pytest.mark.parametrize(("snapshot", "at"), [("newest", ""), ("", "latest"), ("latest", "7d"), ("2026-13-01", "")])
def test_what_is_neither_a_state_nor_a_time_is_refused(snapshot, at):
    with pytest.raises(UsageError):
        when(snapshot, at, NOW)


def test_a_file_with_a_colon_in_its_name_is_that_file_if_it_is_there(masters, tmp_path):
    inside = tmp_path / "home/Documents"
    (inside / "letters:2026").touch()
    assert wanted("letters:2026", masters, cwd=inside) == Wanted("documents", b"letters:2026", inside)
    assert wanted("letters:2027", masters, cwd=inside).master == "letters"


def test_a_file_with_a_colon_that_is_gone_is_that_file_where_no_master_is_called_so(masters, tmp_path):
    inside = tmp_path / "home/Documents"
    assert wanted("notes:2026.txt", masters, cwd=inside) == Wanted("documents", b"notes:2026.txt", inside)
    assert wanted("notes:2026.txt", masters, cwd=inside, others={"notes"}) == Wanted("notes", b"2026.txt", None)
    assert wanted("notes:2026.txt", masters, cwd=tmp_path) == Wanted("notes", b"2026.txt", None)
