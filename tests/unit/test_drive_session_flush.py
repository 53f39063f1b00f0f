"""A drive that is closed, but has not confirmed that everything is on the medium, is not called safe."""

from __future__ import annotations

import errno
import os

import pytest

from flashback.core.errors import DriveGone, DriveState, NotFinished
from flashback.drive import gone
from flashback.drive.session import Session
from flashback.tools import block
from tests.unit.drives import a_context


@pytest.fixture
def session(kernel, tmp_path) -> Session:
    return Session(a_context(tmp_path), kernel.candidate)


def refusing(times: int):
    """A flush that fails so many times: the kernel reports a lost write once."""
    calls: list[str] = []

    def flush(path: str) -> None:
        calls.append(path)
        if len(calls) <= times:
            raise DriveGone(f"{path} cannot be flushed: Input/output error")

    return flush


def used(session: Session) -> Session:
    with session.context.signals, session.held(purpose="test"):
        pass
    return session


def test_a_flushed_drive_is_safe(session) -> None:
    assert used(session).safe_to_remove


def test_a_flush_that_fails_fails_the_run_although_the_next_one_succeeds(session, monkeypatch) -> None:
    monkeypatch.setattr(block, "flush", refusing(1))
    with pytest.raises(NotFinished, match="did not confirm") as caught:
        used(session)
    assert caught.value.drive_state is DriveState.CLOSED
    assert not session.safe_to_remove


def test_a_drive_in_whose_place_another_device_was_plugged_in_is_gone(session, kernel, monkeypatch) -> None:
    """/dev/sdx1 exists and can be flushed, but it is not the insertion that was opened."""
    monkeypatch.setattr(block, "still_there", lambda _presence: False)
    assert used(session).state is DriveState.GONE
    assert kernel.flushed == []
    assert not session.safe_to_remove


def test_a_drive_beside_a_partition_that_is_in_use_is_closed_but_not_safe(session, kernel) -> None:
    kernel.shared = True
    assert used(session).state is DriveState.CLOSED
    assert not session.safe_to_remove


def test_a_disk_that_the_kernel_lets_go_of_a_moment_after_the_mapping_is_safe(session, monkeypatch) -> None:
    answers = iter([True, True, False])
    monkeypatch.setattr(gone, "LET_GO_WITHIN", 60.0)
    monkeypatch.setattr(block, "in_use", lambda _disk: next(answers))
    assert used(session).safe_to_remove


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.EUCLEAN])
def test_an_error_of_a_disk_that_nobody_was_prepared_for_is_a_run_that_did_not_finish(session, number) -> None:
    with pytest.raises(NotFinished, match=os.strerror(number)) as caught:
        failing(session, number)
    assert caught.value.drive_state is DriveState.CLOSED


def test_an_error_that_comes_of_pulling_the_drive_is_told_as_that(session, monkeypatch) -> None:
    monkeypatch.setattr(block, "still_there", lambda _presence: False)
    with pytest.raises(DriveGone, match="unplugged"):
        failing(session, errno.EIO)


def test_another_error_of_the_operating_system_stays_what_it_is(session) -> None:
    with pytest.raises(PermissionError):
        failing(session, errno.EACCES)


def failing(session: Session, number: int) -> None:
    with session.context.signals, session.held(purpose="test"):
        raise OSError(number, os.strerror(number), "current")
