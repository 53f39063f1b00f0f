"""Nothing is called complete before the drive has taken it."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import pytest

from flashback.core.errors import DriveGone, NotFinished
from flashback.drive.commit import commit
from flashback.drive.session import OpenDrive
from flashback.tools import block, btrfs
from tests.unit.drives import RED, VOLUME

BEFORE = {"write_errs": 2, "read_errs": 0}


@pytest.fixture
def drive(tmp_path, monkeypatch):
    """An open drive with which all is well."""
    root = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr(btrfs, "sync", lambda fd: None)
    monkeypatch.setattr(btrfs, "error_counts", lambda fsid: dict(BEFORE))
    monkeypatch.setattr(block, "still_there", lambda presence: True)
    presence = block.Presence("8:17", 7)
    yield OpenDrive(RED, VOLUME, "flashback-red", tmp_path, root, "f", presence, BEFORE, read_only=False)
    os.close(root)


def failing_sync(_fd: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_a_drive_with_which_all_is_well_passes(drive) -> None:
    commit(drive)


def test_it_is_the_top_directory_that_is_synced(drive, monkeypatch) -> None:
    synced = []
    monkeypatch.setattr(btrfs, "sync", synced.append)
    commit(drive)
    assert synced == [drive.root]


def test_it_is_synced_once_since_a_second_time_would_say_that_all_is_well(drive, monkeypatch) -> None:
    synced = []

    def sync_that_fails_once(fd: int) -> None:
        synced.append(fd)
        if len(synced) == 1:
            failing_sync(fd)

    monkeypatch.setattr(btrfs, "sync", sync_that_fails_once)
    with pytest.raises(NotFinished):
        commit(drive)


def test_a_sync_that_fails_is_told(drive, monkeypatch) -> None:
    monkeypatch.setattr(btrfs, "sync", failing_sync)
    with pytest.raises(NotFinished, match="did not take what was written: Input/output error"):
        commit(drive)


def test_a_sync_that_finds_no_room_is_told_as_that_and_not_tried_again_for_more_room(drive, monkeypatch) -> None:
    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(btrfs, "sync", full)
    with pytest.raises(NotFinished, match="red is full"):
        commit(drive)


def test_a_sync_that_fails_since_the_drive_was_pulled_is_told_as_that(drive, monkeypatch) -> None:
    monkeypatch.setattr(btrfs, "sync", failing_sync)
    monkeypatch.setattr(block, "still_there", lambda presence: False)
    with pytest.raises(DriveGone, match="red was unplugged"):
        commit(drive)


def test_a_drive_that_is_gone_is_told_although_the_sync_succeeded(drive, monkeypatch) -> None:
    monkeypatch.setattr(block, "still_there", lambda presence: False)
    with pytest.raises(DriveGone):
        commit(drive)


def test_a_file_system_that_turned_read_only_is_told(drive, monkeypatch) -> None:
    monkeypatch.setattr(os, "fstatvfs", lambda fd: SimpleNamespace(f_flag=os.ST_RDONLY))
    with pytest.raises(NotFinished, match="turned read-only"):
        commit(drive)


@pytest.mark.parametrize("counter", [*BEFORE, "flush_errs"])
def test_a_counter_that_rose_is_told_by_name(drive, monkeypatch, counter) -> None:
    monkeypatch.setattr(btrfs, "error_counts", lambda fsid: {**BEFORE, counter: BEFORE.get(counter, 0) + 1})
    with pytest.raises(NotFinished, match=counter):
        commit(drive)


def test_errors_of_earlier_years_are_not_held_against_this_run(drive) -> None:
    assert drive.errors_before["write_errs"] == 2
    commit(drive)


def test_counters_that_were_reset_meanwhile_are_no_error(drive, monkeypatch) -> None:
    monkeypatch.setattr(btrfs, "error_counts", lambda fsid: {"write_errs": 0})
    commit(drive)
