"""Faults in a run that need a stage of their own: what is on the drive then, and what the next run does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run
from tests.guest.conftest import Stick, wait_for
from tests.guest.faults import (
    Ended,
    Fault,
    Kind,
    Scene,
    a_scene,
    manifest,
    mappings,
    nothing_held,
    pull,
    said_the_truth,
)
from tests.guest.machine import blank_sticks
from tests.guest.test_copy_eio import FailingDisk
from tests.guest.tried import with_secret

pytestmark = pytest.mark.timeout(600)
MIB = 1 << 20


@pytest.fixture(scope="module")
def both_sticks() -> list[Stick]:
    return blank_sticks()


@pytest.fixture(scope="module")
def shared(both_sticks: list[Stick]) -> Iterator[Scene]:
    with a_scene(both_sticks[0]) as made:
        yield made


@pytest.fixture
def scene(shared: Scene) -> Iterator[Scene]:
    """A drive with a complete state and a master that has changed since; afterwards it is looked at by hand."""
    shared.change()
    yield shared
    if not shared.stick.is_plugged:
        shared.stick.replug()
    shared.look()


def carries_on(scene: Scene) -> None:
    """The next run, after another change of the master."""
    if not scene.stick.is_plugged:
        scene.stick.replug()
    scene.change()
    scene.complete()


def stopped(scene: Scene, at: str, *, kind: Kind | None = None, action: Callable[[], None] | None = None) -> Ended:
    """A run with a fault, after which nothing is held and what it said is true."""
    disk = scene.stick.device
    ended = scene.machine.backup(fault=Fault(at, kind, disk.name, action))
    assert at in ended.points, ended
    nothing_held()
    said_the_truth(ended, disk)
    return ended


# --- pulled


def test_pulled_when_rsync_has_ended_with_0_it_is_not_complete_and_the_next_run_carries_on(scene: Scene) -> None:
    """LINUX.md 6.1: rsync and umount end with 0, and nothing of what was copied is on the drive."""
    ended = stopped(scene, "after rsync", kind=Kind.UNPLUG)
    assert (ended.code, ended.last["result"], ended.last["drive_state"]) == (10, "incomplete", "gone")
    assert not ended.last["safe_to_remove"]
    assert "before line complete" not in ended.points
    carries_on(scene)


def test_pulled_when_everything_but_the_check_is_done_it_is_not_complete(scene: Scene) -> None:
    ended = stopped(scene, "told StepBegun sync", kind=Kind.UNPLUG)
    assert (ended.code, ended.last["result"]) == (10, "incomplete")
    assert "before line complete" not in ended.points
    carries_on(scene)


def test_pulled_while_rsync_copies_the_run_ends_soon_and_the_next_one_carries_on(scene: Scene) -> None:
    (scene.machine.master / "large").write_bytes(os.urandom(24 * MIB))
    ended = stopped(scene, "during rsync", kind=Kind.UNPLUG)
    assert (ended.code, ended.last["drive_state"]) == (10, "gone")
    (scene.machine.master / "large").unlink()
    carries_on(scene)


def test_put_back_at_once_it_counts_as_pulled(scene: Scene) -> None:
    """The disk is there again when the run looks, but it is another insertion, and what was written is lost."""

    def pull_and_put_back() -> None:
        pull(scene.stick.device.name)
        Path(f"/sys/class/scsi_host/{scene.stick.host}/scan").write_text("- - -", "ascii")
        wait_for(lambda: scene.stick.is_plugged, "the stick to come back")

    ended = scene.machine.backup(fault=Fault("after rsync", action=pull_and_put_back))
    nothing_held()
    assert (ended.code, ended.last["drive_state"]) == (10, "gone"), ended
    assert not ended.last["safe_to_remove"], ended
    assert "before line complete" not in ended.points
    carries_on(scene)


# --- killed while it is opened to look around in


def test_killed_before_anything_is_mounted_to_look_around_in_the_drive_closes_by_itself(scene: Scene) -> None:
    ended = scene.machine.command(*with_secret(scene, "mount", "red"), fault=Fault("after cryptsetup open", Kind.KILL))
    assert ended.code == -signal.SIGKILL, ended
    nothing_held()


@pytest.mark.parametrize("at", ["after mount btrfs", "after umount"])
def test_killed_when_it_is_mounted_to_look_around_in_the_drive_can_be_put_away(scene: Scene, at: str) -> None:
    ended = scene.machine.command(*with_secret(scene, "mount", "red"), fault=Fault(at, Kind.KILL))
    assert (ended.code, mappings()) == (-signal.SIGKILL, ["flashback-red-browse"]), ended
    closed = scene.machine.command("close", "red", "--json")
    assert (closed.code, closed.last["safe_to_remove"]) == (0, True), closed
    nothing_held()


def test_stopped_before_all_is_mounted_to_look_around_in_everything_is_released(scene: Scene) -> None:
    ended = scene.machine.command(*with_secret(scene, "mount", "red"), fault=Fault("after mount btrfs", Kind.TERM))
    assert ended.code == 128 + signal.SIGTERM, ended
    nothing_held()
    said_the_truth(ended, scene.stick.device)


# --- somebody else


def test_a_second_run_ends_with_3_and_disturbs_nothing(scene: Scene) -> None:
    second: list[str] = []

    def start_another() -> None:
        began = time.monotonic()
        done = scene.machine.flashback("run", "--json", "--passphrase-file", str(scene.machine.secret))
        Path(scene.machine.home / "second").write_text(f"{done.returncode} {time.monotonic() - began}\n{done.stdout}")

    ended = scene.machine.backup(fault=Fault("told StepBegun copy", action=start_another))
    second = (scene.machine.home / "second").read_text().splitlines()
    assert second[0].startswith("3 "), second
    assert '"safe_to_remove":false' in second[-1]
    assert ended.code == 0, ended
    scene.finished.append(scene.number)
    nothing_held()


def kill_child(named: str) -> None:
    """Kill the child of this process that runs the program `named`, once there is one."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")

    def killed() -> bool:
        for pid in children.read_text("ascii").split():
            if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].endswith(b"/" + named.encode()):
                os.kill(int(pid), signal.SIGKILL)
                return True
        return False

    wait_for(killed, f"a child that runs {named}")


def test_when_rsync_is_killed_the_run_is_incomplete_and_the_next_one_carries_on(scene: Scene) -> None:
    ended = stopped(scene, "during rsync", action=lambda: kill_child("rsync"))
    assert (ended.code, ended.last["result"]) == (10, "incomplete"), ended
    assert ended.last["safe_to_remove"]
    carries_on(scene)


def test_when_the_reader_of_the_master_is_killed_nothing_is_deleted(scene: Scene, monkeypatch) -> None:
    from flashback.walk.child import Children

    fork = Children.fork

    def killed_at_birth(*given: Any) -> int:
        child = fork(*given)
        os.kill(child, signal.SIGKILL)
        return child

    monkeypatch.setattr(Children, "fork", killed_at_birth)
    ended = scene.machine.backup()
    monkeypatch.undo()
    nothing_held()
    assert (ended.code, ended.last["result"]) == (10, "incomplete"), ended
    assert "before line begun" not in ended.points
    carries_on(scene)


# --- the master


@pytest.fixture
def elsewhere(scene: Scene) -> Iterator[Path]:
    """The master's content on a file system of its own, mounted at its place."""
    master, kept = scene.machine.master, scene.machine.home / "kept"
    run("cp", "-a", master, kept)
    for each in master.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    run("mount", "-t", "tmpfs", "-o", "mode=755,uid=1000,gid=1000", "tmpfs", master)
    run("cp", "-a", f"{kept}/.", master)
    yield master
    subprocess.run(["umount", "--lazy", master], check=False, capture_output=True)
    run("cp", "-a", f"{kept}/.", master)
    shutil.rmtree(kept)


def unmount_outside(place: Path) -> None:
    """Unmount it where everybody sees it, not only in the namespace of the run."""
    run("nsenter", f"--mount=/proc/{os.getppid()}/ns/mnt", "umount", "--lazy", place)


@pytest.mark.parametrize("at", ["told StepBegun plan", "told StepDone plan", "told StepBegun copy", "during rsync"])
def test_a_master_that_is_unmounted_meanwhile_deletes_nothing(scene: Scene, elsewhere: Path, at: str) -> None:
    below = manifest(elsewhere)
    done = scene.machine.backup()
    assert done.code == 0, done
    scene.finished.append(scene.number)
    assert below in scene.states
    (elsewhere / "version").write_text("changed once more")
    changed = manifest(elsewhere)
    ended = stopped(scene, at, action=lambda: unmount_outside(elsewhere))
    if at == "during rsync" and ended.code == 0:  # rsync stood in it already, so nothing was gone
        scene.states[changed] = scene.number = scene.number + 1
        scene.finished.append(scene.number)
    else:
        assert (ended.code, ended.last["result"]) in {(10, "incomplete"), (13, "held")}, ended
        assert "told StepBegun delete" not in ended.points
    run("mount", "-t", "tmpfs", "-o", "mode=755,uid=1000,gid=1000", "tmpfs", elsewhere)
    run("cp", "-a", f"{scene.machine.home}/kept/.", elsewhere)
    carries_on(scene)
    shutil.rmtree(scene.machine.home / "kept")
    run("cp", "-a", elsewhere, scene.machine.home / "kept")


def test_a_master_that_cannot_be_read_in_one_place_ends_with_11_and_keeps_the_earlier_content(
    scene: Scene, both_sticks: list[Stick], tmp_path: Path
) -> None:
    where = scene.machine.home / "failing"
    where.mkdir()
    disk = FailingDisk(both_sticks[1].device, where)
    master = scene.machine.master
    try:
        big = master / "big"
        run("cp", "-a", big, where / "big")
        run("mount", "--bind", where / "big", big)
        scene.complete()
        before = big.read_bytes()
        with big.open("r+b") as file:
            file.write(os.urandom(4096))
        disk.spoil(where / "big", 3 * MIB)
        ended = scene.machine.backup()
        assert ended.code == 11, ended
        assert [each["path"] for each in ended.last["unread"]] == ["big"], ended
        assert ended.last["result"] == "incomplete"
        with scene.machine.opened(scene.stick.device) as drive:
            assert (drive / "documents/current/big").read_bytes() == before
        disk.heal()
        scene.states[manifest(master)] = scene.number
        run("umount", big)
        run("cp", "-a", where / "big", big)
    finally:
        subprocess.run(["umount", "-q", master / "big"], check=False)
        disk.close()
        where.rmdir()
    scene.finished.append(scene.number)  # unread files or not: it was brought to its end
    scene.states[manifest(scene.machine.master)] = scene.number
    carries_on(scene)


# --- the drive


def test_a_drive_that_is_full_ends_with_15_and_a_smaller_master_fits_again(scene: Scene) -> None:
    with scene.machine.opened(scene.stick.device, read_only=False) as drive:
        free = os.statvfs(drive).f_bavail * os.statvfs(drive).f_frsize
        run("fallocate", "-l", str(free - 12 * MIB), drive / "filler")
    (scene.machine.master / "large").write_bytes(os.urandom(20 * MIB))
    ended = scene.machine.backup()
    nothing_held()
    said_the_truth(ended, scene.stick.device)
    assert ended.code == 15, ended
    assert ended.last["safe_to_remove"], ended
    scene.finished = scene.finished[len(ended.last["pruned"]) :]  # the oldest made way, down to the floor
    (scene.machine.master / "large").unlink()
    with scene.machine.opened(scene.stick.device, read_only=False) as drive:
        (drive / "filler").unlink()
    carries_on(scene)


# --- scrub


@pytest.fixture
def slow_scrub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrub takes so long that the fault meets it in the kernel."""
    from flashback.tools import btrfs

    scrub = btrfs.Scrub.run

    def slowly(scrubbing: btrfs.Scrub, *given: Any) -> btrfs.ScrubCounts:
        for limit in Path("/sys/fs/btrfs").glob("*/devinfo/1/scrub_speed_max"):
            limit.write_text(str(MIB), "ascii")
        return scrub(scrubbing, *given)

    monkeypatch.setattr(btrfs.Scrub, "run", slowly)


@pytest.mark.usefixtures("slow_scrub")
def test_killed_during_a_scrub_the_next_run_carries_on(scene: Scene) -> None:
    scene.complete()
    ended = scene.machine.backup("--scrub", fault=Fault("scrubbing", Kind.KILL))
    assert ended.code == -9, ended
    nothing_held()
    carries_on(scene)


@pytest.mark.usefixtures("slow_scrub")
@pytest.mark.parametrize("kind", [Kind.TERM, Kind.UNPLUG])
def test_stopped_during_a_scrub_everything_is_released(scene: Scene, kind: Kind) -> None:
    scene.complete()
    ended = stopped_scrubbing(scene, kind)
    assert ended.code == {Kind.TERM: 143, Kind.UNPLUG: 10}[kind], ended
    carries_on(scene)


def stopped_scrubbing(scene: Scene, kind: Kind) -> Ended:
    disk = scene.stick.device
    ended = scene.machine.backup("--scrub", fault=Fault("scrubbing", kind, disk.name))
    assert "scrubbing" in ended.points
    nothing_held()
    said_the_truth(ended, disk)
    return ended


# --- the ledger


@pytest.fixture
def small_state(scene: Scene) -> Iterator[Path]:
    """The ledger on a small file system of its own."""
    state, kept = scene.machine.state, scene.machine.home / "kept-state"
    run("cp", "-a", state, kept)
    run("mount", "-t", "tmpfs", "-o", "size=2M,mode=700", "tmpfs", state)
    run("cp", "-a", f"{kept}/ledger.sqlite", state)
    yield state
    run("mount", "-o", "remount,rw", state)
    (state / "filler").unlink(missing_ok=True)
    run("cp", "-a", state / "ledger.sqlite", kept)
    run("umount", state)
    run("cp", "-a", f"{kept}/.", state)
    shutil.rmtree(kept)


def fill(place: Path) -> None:
    with (place / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            return


def test_a_ledger_that_is_read_only_ends_the_run_before_a_byte_is_written(scene: Scene, small_state: Path) -> None:
    run("mount", "-o", "remount,ro", small_state)
    ended = scene.machine.backup()
    nothing_held()
    said_the_truth(ended, scene.stick.device)
    assert ended.code not in {0, 1, 12, 99}, ended
    assert "ledger" in ended.last["error"]["what"], ended
    assert "before line begun" not in ended.points
    run("mount", "-o", "remount,rw", small_state)
    carries_on(scene)


@pytest.mark.parametrize("at", ["before lsblk", "told StepBegun copy", "told StepDone close"])
def test_a_ledger_that_is_full_leaves_nothing_open(scene: Scene, small_state: Path, at: str) -> None:
    ended = stopped(scene, at, action=lambda: fill(small_state))
    assert ended.code != 0, ended
    assert ended.code not in {1, 12, 99}, ended
    assert "ledger" in ended.last["error"]["what"], ended
    assert ended.last["drive_state"] in {"closed", "not-opened"}, ended
    if "after line complete" in ended.points:
        scene.finished.append(scene.number)
    (small_state / "filler").unlink(missing_ok=True)
    carries_on(scene)
