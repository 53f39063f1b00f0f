"""An init is stopped at every point where it can be: it leaves nothing open, and can simply be run again."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.guest.conftest import Stick
from tests.guest.faults import (
    ALL,
    MODE,
    SIGNALS,
    Ended,
    Fault,
    FaultyMachine,
    Kind,
    nothing_held,
    said_the_truth,
    selected,
)
from tests.guest.machine import blank_sticks
from tests.guest.matrix import STEPS, record, steps_told, unseen

pytestmark = pytest.mark.timeout(7200 if ALL else 900)
LEFT_OPEN = ("during cryptsetup open", "after cryptsetup open", "before cryptsetup close --deferred")
"""Killed here, the mapping stays open; the next init of the device puts it away."""


@pytest.fixture(scope="module")
def spare() -> Stick:
    return blank_sticks()[0]


@pytest.fixture(scope="module")
def machine() -> Iterator[FaultyMachine]:
    home = Path(tempfile.mkdtemp(dir="/srv"))  # pytest's own folders let no owner but root reach the master
    home.chmod(0o755)
    machine = FaultyMachine(home)
    (machine.master / "file").write_text("content")
    yield machine
    shutil.rmtree(home)


def initialised(machine: FaultyMachine, stick: Stick, fault: Fault | None = None) -> Ended:
    key = machine.home / "recovery"
    key.unlink(missing_ok=True)
    argv = ["init", str(stick.device), "--name", "red", "--master", str(machine.master), "--erase", "--json"]
    argv += ["--passphrase-file", str(machine.secret), "--recovery-key-file", str(key), "--no-first-run"]
    return machine.command(*argv, fault=fault)


@pytest.fixture(scope="module")
def points(machine: FaultyMachine, spare: Stick) -> list[str]:
    ended = initialised(machine, spare)
    assert ended.code == 0, ended
    assert not MODE or steps_told(ended.points) == STEPS["init"], "an init takes other steps than the matrix lists"
    return list(ended.points)


def stop_everywhere(
    machine: FaultyMachine,
    stick: Stick,
    kind: Kind,
    points: list[str],
    chosen: list[str],
    judge: Callable[[Ended, Path], None],
) -> None:
    wrong: list[str] = []
    for point in chosen:
        shutil.rmtree(machine.state, ignore_errors=True)
        disk, before = stick.device, len(wrong)
        ended = initialised(machine, stick, Fault(point, kind, disk.name))
        try:
            assert point in ended.points, ended
            may_stay = kind is Kind.KILL and point.startswith(LEFT_OPEN)
            nothing_held(but=["flashback-red"] if may_stay else [])
            judge(ended, disk)
            if not stick.is_plugged:
                stick.replug()
            again = initialised(machine, stick)
            if "after ledger enrol" in ended.points and again.code == 2:
                pass  # it was known already
            else:
                assert again.code == 0, f"again: {again}"
            nothing_held()
            backup = machine.backup()
            assert backup.code == 0, f"the first run: {backup}"
        except (AssertionError, pytest.fail.Exception) as problem:
            wrong.append(f"{kind} {point}: {problem}")
            nothing_held()
        wrong += unseen("init", kind, point, points, ended.code)
        record("init", kind, point, points, ended.code, wrong="\n".join(wrong[before:]))
    assert not wrong, "\n\n".join(wrong)


def test_killed_at_any_point_it_can_be_run_again(machine: FaultyMachine, spare: Stick, points: list[str]) -> None:
    def judge(ended: Ended, _disk: Path) -> None:
        assert ended.code == -9, ended

    stop_everywhere(machine, spare, Kind.KILL, points, selected(points, 3), judge)


@pytest.mark.parametrize("kind", [Kind.TERM, Kind.INT, Kind.HUP] if MODE else [Kind.TERM])
def test_a_signal_at_any_point_ends_with_everything_released(
    machine: FaultyMachine, spare: Stick, points: list[str], kind: Kind
) -> None:
    def judge(ended: Ended, disk: Path) -> None:
        assert ended.code == 128 + SIGNALS[kind] or "after ledger enrol" in ended.points, ended
        said_the_truth(ended, disk)

    stop_everywhere(machine, spare, kind, points, selected(points, 2 if kind is Kind.TERM else 1), judge)


def test_pulled_at_any_point_it_leaves_nothing_open(machine: FaultyMachine, spare: Stick, points: list[str]) -> None:
    def judge(ended: Ended, disk: Path) -> None:
        assert ended.code not in {-9, 1, 12, 99}, ended
        if "after ledger enrol" not in ended.points:
            assert ended.code != 0, ended
            said_the_truth(ended, disk)

    stop_everywhere(machine, spare, Kind.UNPLUG, points, selected(points, 3), judge)


def test_a_program_that_fails_fails_the_init_and_leaves_nothing_open(
    machine: FaultyMachine, spare: Stick, points: list[str]
) -> None:
    def judge(ended: Ended, disk: Path) -> None:
        assert ended.code not in {-9, 1, 12, 99}, ended
        assert ended.code != 0 or "after ledger enrol" in ended.points, ended
        said_the_truth(ended, disk)

    needed = [each for each in points if each.startswith("before") and each.split()[1] in NEEDED]
    stop_everywhere(machine, spare, Kind.FAIL, points, selected(needed, 3), judge)


NEEDED = {"sfdisk", "cryptsetup", "mkfs.btrfs", "mount"}


def test_a_drive_that_is_made_anew_and_stopped_half_way_can_be_made_anew_again(
    machine: FaultyMachine, spare: Stick
) -> None:
    shutil.rmtree(machine.state, ignore_errors=True)
    assert initialised(machine, spare).code == 0
    ended = initialised(machine, spare, Fault("after cryptsetup luksFormat", Kind.KILL))
    assert ended.code == -9, ended
    again = initialised(machine, spare)
    assert again.code == 0, again
    assert machine.backup().code == 0


def test_a_drive_that_was_to_be_made_anew_but_was_not_touched_is_what_it_was(
    machine: FaultyMachine, spare: Stick
) -> None:
    shutil.rmtree(machine.state, ignore_errors=True)
    assert initialised(machine, spare).code == 0
    ended = initialised(machine, spare, Fault("before sfdisk always", Kind.FAIL))
    assert ended.code == 4, ended
    assert machine.backup("red").code == 0
