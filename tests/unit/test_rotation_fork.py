"""A drive whose journal does not go on from what this machine knows is a copy, or was put back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from flashback.rotation.fork import forked
from flashback.rotation.values import MasterCounts, RunRecord, RunResult

BEGUN = datetime(2026, 2, 1, tzinfo=UTC)


def ran(sequence: int, run_id: str | None = None, **more) -> RunRecord:
    counts = (MasterCounts("documents", completed=BEGUN),)
    run = RunRecord("u", sequence, run_id or f"r{sequence}", "here", BEGUN, BEGUN, RunResult.COMPLETE, 0, counts)
    return replace(run, **more)


def test_a_drive_that_knows_the_last_run_goes_on() -> None:
    assert forked([(1, "r1"), (2, "r2")], [ran(2), ran(1)]) is None


def test_a_drive_that_was_used_elsewhere_meanwhile_goes_on() -> None:
    assert forked([(1, "r1"), (2, "theirs")], [ran(1)]) is None


def test_a_journal_that_has_gone_back_is_no_continuation() -> None:
    assert "ends with run 1, and this machine made run 2" in str(forked([(1, "r1")], [ran(2), ran(1)]))


def test_another_run_in_the_place_of_ours_is_a_copy() -> None:
    assert "another run in the place of run 2" in str(forked([(1, "r1"), (2, "theirs")], [ran(2), ran(1)]))


def test_a_copy_that_was_used_longer_elsewhere_is_known_all_the_same() -> None:
    assert "does not have run 2" in str(forked([(1, "r1"), (3, "theirs"), (4, "x")], [ran(2), ran(1)]))


def test_after_a_person_let_it_pass_the_new_run_is_what_counts() -> None:
    assert forked([(1, "r1"), (3, "r3")], [ran(3), ran(2), ran(1)]) is None


def test_a_run_that_left_no_line_that_must_be_there_proves_nothing() -> None:
    held = ran(2, result=RunResult.HELD, exit_code=13, masters=(MasterCounts("documents"),))
    broken = ran(3, exit_code=10, result=RunResult.INCOMPLETE)
    learnt = ran(4, exit_code=None)
    assert forked([(1, "r1")], [learnt, broken, held, ran(1)]) is None


def test_a_machine_that_knows_nothing_accepts_any_journal() -> None:
    assert forked([(7, "x")], []) is None
    assert forked([], []) is None
