"""A run is stopped at every point where it can be, in every way: what is on the drive then, and what the next run does.

Each fault meets the drive as the one before left it. After each the master changes, so that the next run would keep a
half copy as a snapshot if it took it for a complete one; at the end of each test the drive is opened by hand and holds
exactly the states that were complete. FLASHBACK_FAULTS=all tries every point instead of a selection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.guest.faults import (
    ALL,
    MODE,
    SIGNALS,
    Ended,
    Fault,
    Kind,
    Scene,
    a_scene,
    nothing_held,
    said_the_truth,
    selected,
)
from tests.guest.machine import blank_sticks
from tests.guest.matrix import LEFT_OPEN, STEPS, record, steps_told, unseen

pytestmark = pytest.mark.timeout(7200 if ALL else 900)
Judge = Callable[[str, Ended, Path], None]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with a_scene(blank_sticks()[0]) as made:
        yield made


@pytest.fixture(scope="module")
def points(scene: Scene) -> list[str]:
    found = scene.points("--scrub")
    assert not MODE or steps_told(found) == STEPS["run"], "a run takes other steps than the matrix lists"
    return found


def stop_everywhere(scene: Scene, kind: Kind, points: list[str], chosen: list[str], judge: Judge) -> None:
    """The fault at each chosen point, then the next run; all that went wrong is told together."""
    wrong: list[str] = []
    for point in chosen:
        before = len(wrong)
        scene.change()
        disk = scene.stick.device
        ended = scene.machine.backup("red", "--scrub", fault=Fault(point, kind, disk.name))
        try:
            assert point in ended.points, f"the point was not reached\n{ended}"
            may_stay = kind is Kind.KILL and point.startswith(LEFT_OPEN)
            nothing_held(but=["flashback-red"] if may_stay else [])
            judge(point, ended, disk)
        except (AssertionError, pytest.fail.Exception) as problem:
            wrong.append(f"{kind} {point}: {problem}")
        if "after line complete" in scene.machine.passed():
            scene.finished.append(scene.number)
        try:
            if not scene.stick.is_plugged:
                scene.stick.replug()
            scene.change()
            scene.complete()
        except (AssertionError, pytest.fail.Exception) as problem:
            wrong.append(f"{kind} {point}, the next run: {problem}")
            mend(scene)
        wrong += unseen("run", kind, point, points, ended.code)
        record("run", kind, point, points, ended.code, wrong="\n".join(wrong[before:]))
    scene.look()
    assert not wrong, "\n\n".join(wrong)


def mend(scene: Scene) -> None:
    """Give the next point a fair start."""
    scene.machine.command("close", "red")
    scene.complete()


def is_over(ended: Ended) -> bool:
    """The run had come to its end before the fault could change anything."""
    return ended.code == 0 and "after line complete" in ended.points


def test_killed_at_any_point_the_next_run_carries_on_by_itself(scene: Scene, points: list[str]) -> None:
    def judge(_point: str, ended: Ended, disk: Path) -> None:
        assert ended.code == -9, ended

    stop_everywhere(scene, Kind.KILL, points, selected(points, 10), judge)


@pytest.mark.parametrize("kind", [Kind.TERM, Kind.INT, Kind.HUP])
def test_a_signal_at_any_point_ends_with_everything_released(scene: Scene, points: list[str], kind: Kind) -> None:
    def judge(_point: str, ended: Ended, disk: Path) -> None:
        assert ended.code == 128 + SIGNALS[kind] or is_over(ended), ended
        assert ended.last["exit_code"] == ended.code, ended
        assert ended.last["safe_to_remove"] or ended.last["drive_state"] == "not-involved", ended
        said_the_truth(ended, disk)

    stop_everywhere(scene, kind, points, selected(points, 6 if kind is Kind.TERM else 3), judge)


def test_pulled_at_any_point_it_is_never_called_complete_unless_it_was(scene: Scene, points: list[str]) -> None:
    def judge(point: str, ended: Ended, disk: Path) -> None:
        if "told StepDone close" in ended.points and not point.startswith("told StepDone close"):
            return  # it was pulled when the run had said that it was closed
        assert not ended.last or not ended.last["safe_to_remove"], ended
        assert ended.code in {10, 4} or is_over(ended), ended
        said_the_truth(ended, disk)

    stop_everywhere(scene, Kind.UNPLUG, points, selected(points, 8), judge)


def still_held(ended: Ended) -> None:
    """True when it was said. The mount ends with the process, as it is nobody else's, and the mapping with the mount."""
    assert (ended.code, ended.last["drive_state"], ended.last["safe_to_remove"]) == (12, "still-held", False), ended
    nothing_held()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_program_that_fails_fails_the_run_and_no_more(scene: Scene, points: list[str], when: str) -> None:
    """`after`: it did its work, but says that it failed."""

    def judge(point: str, ended: Ended, disk: Path) -> None:
        assert ended.code not in {-9, 1, 12, 99} or (ended.code == 1 and "lsblk" in point), ended
        assert ended.code != 0 or ended.last["result"] == "complete", ended
        said_the_truth(ended, disk)

    stop_everywhere(scene, Kind.FAIL, points, selected(points, 5, lambda point: is_program(point, when)), judge)


def test_a_program_that_is_missing_is_named(scene: Scene, points: list[str]) -> None:
    def judge(point: str, ended: Ended, disk: Path) -> None:
        if "umount" in point:
            still_held(ended)
            return
        assert ended.code == 6, ended
        assert point.split()[1] in ended.last["error"]["what"], ended
        said_the_truth(ended, disk)

    first = list(dict.fromkeys(selected(points, 6, lambda point: is_program(point, "before") and "#" not in point)))
    stop_everywhere(scene, Kind.MISSING, points, first, judge)


def is_program(point: str, when: str) -> bool:
    """Whether the point lies at the start of a program, which can be missing or fail."""
    words = point.split()
    return words[0] == when and words[1] in {"lsblk", "cryptsetup", "mount", "umount", "btrfs", "rsync", "blkid"}
