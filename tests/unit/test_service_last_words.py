"""The last words of a run: said once, whatever comes in between, and true when this machine cannot remember the run."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest

from flashback.backup import service
from flashback.backup.report import RunRequest
from flashback.core.errors import DriveState, Exit, NotFinished
from flashback.core.events import Finished, Note
from flashback.core.signals import StopSignals
from flashback.rotation.trouble import LedgerUnwritable
from tests.unit.drives import RED, VOLUME, Candidate, a_context, a_signal


@pytest.fixture
def world(tmp_path, monkeypatch):
    """`world.run()` backs up; `world.execute` is what the run does, `world.remember` what the ledger does."""
    world = SimpleNamespace(told=[], execute=lambda: None, remember=lambda: None, sequence=1)

    class FakeRun:
        def __init__(self, *_given: object) -> None:
            self.report = SimpleNamespace(sequence=world.sequence)

        def execute(self) -> None:
            world.execute()

    class FakeSession:
        state, safe_to_remove = DriveState.CLOSED, True

        def __init__(self, _context: object, candidate: Candidate, *, compress: str, waits: bool) -> None:
            self.candidate = candidate

    def finished(*_given: object, **_more: object) -> Finished:
        return Finished("complete", Exit.DONE, "red", DriveState.CLOSED, safe_to_remove=True)

    monkeypatch.setattr(service, "Run", FakeRun)
    monkeypatch.setattr(service, "Session", FakeSession)
    monkeypatch.setattr(service.outcome, "finished", finished)
    monkeypatch.setattr(service.outcome, "facts", lambda *_given, **_more: {})
    monkeypatch.setattr(service, "remember", lambda *_given, **_more: world.remember())
    context = a_context(tmp_path, None, world.told)

    def run() -> int:
        config = SimpleNamespace(compress="no")
        with context.signals:
            return service.back_up(context, config, None, Candidate(RED, VOLUME), RunRequest())  # type: ignore[arg-type]

    world.context, world.run = context, run
    return world


def refuse() -> None:
    raise LedgerUnwritable("the ledger cannot be written: no space", hint="make room")


def test_a_signal_that_comes_when_all_is_done_changes_nothing(world) -> None:
    world.remember = a_signal
    assert world.run() == 0
    assert [type(event) for event in world.told] == [Finished]
    assert world.told[0].exit_code is Exit.DONE


def test_a_signal_that_comes_when_all_is_done_is_known_to_whoever_goes_on(world) -> None:
    world.remember = a_signal
    world.run()
    assert isinstance(world.context.signals, StopSignals)
    assert world.context.signals.first == signal.SIGINT


def test_a_backup_that_the_machine_cannot_remember_is_told_as_complete_with_the_state_of_the_drive(world) -> None:
    world.remember = refuse
    assert world.run() == Exit.MISSING
    (last,) = world.told
    assert (last.result, last.drive_state, last.safe_to_remove) == ("complete", DriveState.CLOSED, True)
    assert last.error["what"].startswith("the backup on red is complete, but this machine cannot remember it: the")


def test_the_first_cause_stays_the_cause_when_the_ledger_fails_as_well(world) -> None:
    def stop() -> None:
        raise NotFinished("the drive is tired")

    world.execute, world.remember = stop, refuse
    assert world.run() == Exit.NOT_FINISHED
    note, last = world.told
    assert isinstance(note, Note)
    assert "will not remember" in note.text
    assert last.error["what"] == "the drive is tired"


def test_a_run_that_never_began_is_not_remembered(world) -> None:
    world.sequence, world.remember = 0, refuse
    assert world.run() == 0
