"""What a killed run left open is put away by the next; what somebody else uses is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from flashback.core.errors import DriveError, Locked, StillHeld
from flashback.core.events import Note
from flashback.core.locks import locked
from flashback.drive import leftover
from flashback.drive.leftover import mounted_by, put_away_on, put_away_own
from flashback.tools import block, cryptsetup, mount
from tests.unit.drives import VOLUME, FakeKernel, a_context

OURS = "flashback-red"


@pytest.fixture
def kernel(tmp_path, monkeypatch) -> FakeKernel:
    kernel = FakeKernel(tmp_path)
    kernel.install(monkeypatch)
    kernel.mappings[OURS] = True
    monkeypatch.setattr(leftover, "ENDS_WITHIN", -1.0)
    monkeypatch.setattr(leftover, "mounted_by", lambda _mapping: ())
    monkeypatch.setattr(block, "luks_volumes", lambda _run: (VOLUME,))
    return kernel


@pytest.fixture
def seen(kernel, monkeypatch) -> None:
    """Some process has it mounted."""
    monkeypatch.setattr(leftover, "mounted_by", lambda _mapping: (mount.ProcessUsing(7, "rsync"),))


def test_what_nobody_has_mounted_is_closed_and_told(kernel, tmp_path) -> None:
    told: list[object] = []
    put_away_own(a_context(tmp_path, None, told), OURS)
    assert kernel.mappings == {}
    assert told == [Note(f"{OURS} was left open by an earlier run that was killed; it was closed")]


def test_nothing_is_said_where_nothing_is_open(kernel, tmp_path) -> None:
    kernel.mappings.clear()
    told: list[object] = []
    put_away_own(a_context(tmp_path, None, told), OURS)
    assert told == []


@pytest.mark.usefixtures("seen")
def test_what_is_mounted_for_a_process_is_left_open_and_the_process_named(kernel, tmp_path) -> None:
    with pytest.raises(StillHeld, match=r"rsync \(process 7\)"):
        put_away_own(a_context(tmp_path), OURS)
    assert kernel.mappings == {OURS: True}


def test_a_mount_that_ends_meanwhile_is_waited_for(kernel, tmp_path, monkeypatch) -> None:
    answers = [(mount.ProcessUsing(7, "btrfs"),), ()]
    monkeypatch.setattr(leftover, "ENDS_WITHIN", 60.0)
    monkeypatch.setattr(leftover, "mounted_by", lambda _mapping: answers.pop(0))
    put_away_own(a_context(tmp_path), OURS)
    assert kernel.mappings == {}


def test_a_new_drive_is_freed_of_what_an_earlier_try_left_open(kernel, tmp_path) -> None:
    put_away_on(a_context(tmp_path), VOLUME.path)
    assert kernel.mappings == {}


def test_a_mapping_of_another_name_is_left_to_its_owner(kernel, tmp_path) -> None:
    kernel.mappings = {"luks-by-hand": True}
    put_away_on(a_context(tmp_path), VOLUME.path)
    assert kernel.mappings == {"luks-by-hand": True}


def test_what_lies_on_another_device_is_left_alone(kernel, tmp_path) -> None:
    put_away_on(a_context(tmp_path), "/dev/sdy")
    assert kernel.mappings == {OURS: True}


@pytest.mark.usefixtures("seen")
def test_what_is_mounted_is_left_to_the_examination_to_refuse(kernel, tmp_path) -> None:
    put_away_on(a_context(tmp_path), VOLUME.path)
    assert kernel.mappings == {OURS: True}


def test_while_a_run_is_at_work_nothing_is_closed(kernel, tmp_path) -> None:
    with locked(tmp_path / "run/locks/run.lock", purpose="run red"), pytest.raises(Locked):
        put_away_on(a_context(tmp_path), VOLUME.path)
    assert kernel.mappings == {OURS: True}


def test_a_mapping_that_vanished_is_mounted_nowhere(monkeypatch) -> None:
    def gone(_path: str) -> None:
        raise DriveError("there is no device")

    monkeypatch.setattr(block, "presence", gone)
    assert mounted_by(OURS) == ()


def test_a_mount_is_found_in_any_namespace_once(tmp_path: Path, monkeypatch) -> None:
    line = b"31 22 0:27 / /mnt/x rw - btrfs /dev/mapper/flashback-red rw\n"
    for pid, namespace, lines in ((1, "a", b""), (7, "b", line), (8, "b", line), (9, "c", line)):
        (tmp_path / str(pid) / "ns").mkdir(parents=True)
        (tmp_path / str(pid) / "ns/mnt").symlink_to(f"mnt:[{namespace}]")
        (tmp_path / str(pid) / "mountinfo").write_bytes(lines)
        (tmp_path / str(pid) / "comm").write_text(f"p{pid}\n")
    monkeypatch.setattr(mount, "PROC", tmp_path)
    monkeypatch.setattr(mount, "_number_of", {cryptsetup.mapper_path(OURS): "254:0"}.get)
    assert mount.namespaces_with("254:0") == (mount.ProcessUsing(7, "p7"), mount.ProcessUsing(9, "p9"))
    assert mount.namespaces_with("8:1") == ()
