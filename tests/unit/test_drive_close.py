"""`close`: a drive that was left open is put away, and "safe to remove" is said only when it is true."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flashback.core.errors import DriveError, DriveState, Locked, StillHeld
from flashback.core.locks import locked
from flashback.drive import session
from flashback.drive.close import close_drive
from flashback.tools import block, cryptsetup, mount
from tests.unit.drives import GREEN, OTHER, RED, VOLUME, FakeKernel, a_context

BOTH = [RED, GREEN]


@pytest.fixture
def plugged() -> list:
    """The LUKS volumes that are plugged in; `kernel` puts red among them."""
    return []


@pytest.fixture
def kernel(tmp_path, monkeypatch, plugged) -> FakeKernel:
    kernel = FakeKernel(tmp_path)
    kernel.install(monkeypatch)
    plugged.append(kernel.candidate.volume)
    monkeypatch.setattr(block, "luks_volumes", lambda _run: tuple(plugged))
    return kernel


@pytest.fixture
def left_open(kernel, tmp_path) -> FakeKernel:
    kernel.mappings["luks-by-hand"] = True
    kernel.mounted = [tmp_path / "media"]
    return kernel


@pytest.fixture
def close(kernel, tmp_path):
    def close(wanted=None, known=BOTH):
        told = []
        close_drive(a_context(tmp_path, told=told), known, wanted)
        return told[-1]

    return close


@pytest.mark.parametrize("wanted", [None, "red"])
def test_an_open_drive_is_unmounted_and_closed(left_open, close, wanted) -> None:
    close(wanted)
    assert left_open.holds_nothing


def test_a_drive_beside_a_partition_that_is_in_use_is_not_safe(left_open, close) -> None:
    left_open.shared = True
    last = close()
    assert (last.drive_state, last.safe_to_remove) == (DriveState.CLOSED, False)


def test_an_open_drive_is_safe_afterwards(left_open, close) -> None:
    last = close()
    assert (last.result, last.drive_state, last.safe_to_remove) == ("complete", DriveState.CLOSED, True)


def test_safe_is_said_after_the_device_was_flushed(left_open, close) -> None:
    close()
    assert left_open.flushed == [str(left_open.device)]


def test_a_drive_that_is_not_open_is_nothing_to_do_and_safe(close) -> None:
    last = close()
    assert (last.result, last.safe_to_remove) == ("nothing-to-do", True)


def test_a_drive_that_was_pulled_while_open_is_put_away_and_told_as_gone(left_open, close, plugged) -> None:
    left_open.mappings["luks-by-hand"] = False
    left_open.device.unlink()
    plugged.clear()
    last = close("red")
    assert left_open.holds_nothing
    assert (last.drive_state, last.safe_to_remove) == (DriveState.GONE, False)


def test_a_drive_that_is_there_and_cannot_be_read_any_more_is_not_told_as_gone(left_open, close, plugged) -> None:
    plugged.clear()
    last = close("red")
    assert left_open.holds_nothing
    assert (last.drive_state, last.safe_to_remove) == (DriveState.CLOSED, False)


def test_a_drive_in_use_names_who_is_in_the_way(left_open, close) -> None:
    left_open.busy = True
    with pytest.raises(StillHeld, match=r"vim \(process 7\)"):
        close()


def test_a_drive_that_is_mounted_where_we_do_not_see_it_names_who_sees_it(kernel, close, monkeypatch) -> None:
    def busy() -> None:
        raise StillHeld(("the mapping luks-by-hand is open (Device is still in use)",))

    kernel.mappings["luks-by-hand"] = True
    kernel.trouble["close"] = busy
    monkeypatch.setattr(session, "mounted_by", lambda _mapping: (mount.ProcessUsing(7, "cont\x1bainer"),))
    with pytest.raises(StillHeld, match=r"luks-by-hand is still mounted for cont\\x1bainer \(process 7\)"):
        close()


def test_a_mapping_that_stays_although_closing_succeeded_is_not_called_safe(left_open, close, monkeypatch) -> None:
    monkeypatch.setattr(cryptsetup, "close", lambda _run, _mapping: None)
    with pytest.raises(StillHeld, match="luks-by-hand"):
        close()


def test_while_a_run_is_at_work_nothing_is_put_away(left_open, close, tmp_path) -> None:
    with locked(tmp_path / "run/locks/run.lock", purpose="run red"), pytest.raises(Locked):
        close()
    assert left_open.mappings


def test_of_two_that_are_plugged_in_the_open_one_is_meant(left_open, close, plugged) -> None:
    plugged.append(replace(VOLUME, uuid=OTHER, path="/dev/sdz1", disk="/dev/sdz"))
    assert close().drive == "red"


def test_of_two_closed_ones_none_is_meant(close, plugged) -> None:
    plugged.append(replace(VOLUME, uuid=OTHER, path="/dev/sdz1", disk="/dev/sdz"))
    with pytest.raises(DriveError, match="several drives are here"):
        close()


def test_with_no_drive_there_is_nothing_to_close(close, plugged) -> None:
    plugged.clear()
    with pytest.raises(DriveError, match="no drive of the rotation is open or plugged in"):
        close()


def test_a_name_that_no_drive_has_is_refused(close) -> None:
    with pytest.raises(DriveError, match="no drive called violet"):
        close("violet")
