"""The fault matrix: each command (`tried`), at each of its points, with each fault; and the lines of what came of it.

Within a step the points are not listed at all: a run without a fault yields them (see `faults`).
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from flashback.core.events import Step
from tests.guest import trouble
from tests.guest.faults import (
    MODE,
    SIGNALS,
    Ended,
    Fault,
    Kind,
    Scene,
    nothing_held,
    said_the_truth,
    selected,
)
from tests.guest.tried import Tried, succeeded

WRONG = (AssertionError, pytest.fail.Exception, OSError, ValueError, LookupError, subprocess.SubprocessError)
"""What a trial that goes wrong can raise: also where it asks the drive by hand."""
KINDS = (
    *(Kind.KILL, Kind.NO_WRITE, Kind.LEDGER_FULL, Kind.FULL, Kind.NO_READ, Kind.SECOND, Kind.BACK, Kind.FORWARD),
    *(Kind.STOP, Kind.CRASH, Kind.MISSING, Kind.FAIL, Kind.UNPLUG, Kind.TERM, Kind.INT, Kind.HUP),
    *(Kind.NO_FLUSH, Kind.METADATA_FULL, Kind.LEDGER_READ_ONLY),
    *(Kind.MASTER_RENAMED, Kind.MASTER_UNMOUNTED, Kind.MASTER_UNREADABLE),
)
"""In the order in which they are tried: what an earlier one tells is worth more."""
RESULTS = os.environ.get("FLASHBACK_FAULT_RESULTS", "")
"""A folder in which each trial leaves a line; tests/fault_matrix.py makes the published table of them."""
NAME = os.environ.get("FLASHBACK_FAULT_GUEST", "guest")
"""Of the file with the lines: guests side by side have one each."""
BEFORE = "before"
"""What stands in the table for the points before the first step of a command."""


def step_of(point: str, points: Iterable[str]) -> str:
    """The step in which a point lies: the last that was begun before it."""
    step = BEFORE
    for each in points:
        if each.startswith("told StepBegun "):
            step = each.removeprefix("told StepBegun ").split()[0]
        if each == point:
            break
    return step


def steps_told(points: Iterable[str]) -> set[str]:
    """The steps that were begun."""
    return {each.split()[2] for each in points if each.startswith("told StepBegun ")}


def unseen(command: str, point: str, points: Iterable[str]) -> list[str]:
    """In words, where the published page has no such step of the command."""
    from tests.fault_matrix import PAGE, read

    step = step_of(point, points)
    if MODE or RESULTS or (command, step) in read(PAGE.read_text("utf-8")):
        return []
    return [f"{command}: the step {step} (at {point}) is not on {PAGE.name}; make faults writes it anew"]


_ended = time.monotonic()


def since_the_last() -> float:
    """Seconds since this was called before: what a trial took, its stage and the command given again included."""
    global _ended
    before, _ended = _ended, time.monotonic()
    return round(_ended - before, 2)


def record(command: str, kind: Kind, point: str, points: Iterable[str], code: int, *, wrong: str = "") -> None:
    """Note a trial for the table."""
    if not RESULTS:
        return
    line = {"command": command, "kind": kind, "point": point, "code": code, "wrong": wrong}
    line |= {"step": step_of(point, points), "of": len(list(points)), "seconds": since_the_last()}
    line["date"] = time.strftime("%Y-%m-%d", time.gmtime())
    with open(f"{RESULTS}/{NAME}.jsonl", "a", encoding="utf-8") as file:
        print(json.dumps(line), file=file)


# --- the trial


def points_of(scene: Scene, tried: Tried) -> list[str]:
    """The points of the command without a fault; it takes the steps that it is listed with, and no others."""
    tried.stage(scene)
    ended = succeeded(scene.machine.command(*tried.argv(scene)))
    tried.again(scene, ended)
    steps = steps_told(ended.points)
    moves = frozenset() if MODE else {Step.MOVE}  # in the ordinary tests nothing moves in the master (`Scene.change`)
    assert steps == tried.steps - moves, (
        f"{tried.name} takes the steps {sorted(steps)}, not those that the matrix lists"
    )
    return list(ended.points)


def try_everywhere(scene: Scene, tried: Tried, points: list[str], few: Mapping[Kind, int]) -> None:
    """These kinds of fault at so many points each (or at each point); everything that went wrong is told together."""
    trials = [(kind, point) for kind in few for point in selected(where(kind, points), few[kind])]
    wrong = [said for kind, point in trials if (said := tried_once(scene, tried, kind, point, points))]
    wrong += [looked] if (looked := look(scene)) else []
    assert not wrong, "\n\n".join(wrong)


def look(scene: Scene) -> str:
    """What is wrong with what is on the drive after one more run, in words."""
    try:
        scene.change()
        scene.complete()
        scene.look()
    except WRONG as problem:
        return f"what is on the drive: {problem}"
    return ""


def where(kind: Kind, points: list[str]) -> list[str]:
    """The points at which such a fault can come."""
    programs = {point.removeprefix("during ") for point in points if point.startswith("during ")}
    starts = [point for point in points if point.startswith("before ") and point[7:] in programs]
    if kind is Kind.FAIL:
        return starts + [point for point in points if point.startswith("after ") and point[6:] in programs]
    if kind is Kind.MISSING:
        return list({point.split()[1]: point for point in reversed(starts)}.values())[::-1]
    if kind is Kind.CRASH:
        return [point for point in points if point.startswith("during ")]
    if kind is Kind.FULL:
        return while_mounted(points)[::2]
    if kind is Kind.METADATA_FULL:
        return while_mounted(points)[::4]
    return [point for point in points if point.startswith(PLACES.get(kind, ""))][:: SPARSE.get(kind, 1)]


def while_mounted(points: list[str]) -> list[str]:
    mounts = [number for number, point in enumerate(points) if point.startswith("after mount")]
    ends = [number for number, point in enumerate(points) if point.startswith("before umount")]
    return points[mounts[0] : ends[-1] + 1] if mounts else []


EACH_STEP, THE_LEDGER = ("told StepBegun", "before lsblk"), "before ledger"
PLACES: dict[Kind, tuple[str, ...]] = {
    Kind.LEDGER_FULL: (*EACH_STEP, THE_LEDGER),
    Kind.LEDGER_READ_ONLY: (*EACH_STEP, THE_LEDGER),
    Kind.NO_FLUSH: (*EACH_STEP, "before syncfs", "before flush", "before line", "before ledger"),
    **dict.fromkeys(trouble.MASTER, (*EACH_STEP, "before rsync", "during rsync")),
}
"""How the names of the points begin to which a fault is confined."""


SPARSE = {
    Kind.INT: 4,
    Kind.HUP: 4,
    Kind.NO_WRITE: 2,
    Kind.NO_READ: 3,
    Kind.STOP: 6,
    Kind.SECOND: 6,
    Kind.BACK: 6,
    Kind.FORWARD: 6,
}
"""Of so many points one is tried."""


def tried_once(scene: Scene, tried: Tried, kind: Kind, point: str, points: list[str]) -> str:
    """What went wrong, in words."""
    said, code = "", 99
    try:
        tried.stage(scene)
        argv, disk = tried.argv(scene), scene.stick.device
        ended = scene.machine.command(*argv, fault=Fault(point, kind, disk.name, home=scene.machine.home))
        code = ended.code
        judge(tried, kind, point, ended, disk)
        tried.judge(kind, point, ended, disk)
        if kind is Kind.SECOND:
            judge_second(scene.machine.second)
    except WRONG as problem:
        said = f"{tried.name}, {kind} at {point}: {type(problem).__name__}: {problem}"
    try:
        if not scene.stick.is_plugged:
            scene.stick.replug()
        trouble.heal(kind, scene)
        tried.again(scene, ended)
        nothing_held()
    except WRONG as problem:
        said += f"{tried.name}, {kind} at {point}, the same again: {type(problem).__name__}: {problem}"
        scene.machine.command("close", "red")
    if (no_fault := scene.machine.home / trouble.NO_FAULT).exists():
        no_fault.unlink()
        return said
    said += "".join(unseen(tried.name, point, points))
    record(tried.name, kind, point, points, code, wrong=said)
    return said


NEVER = {-9, 1, 2, 12, 99}
"""Exit codes that none of these faults leads to, but SIGKILL; 12 would say that something is still held."""
ENDS: dict[Kind, set[int]] = {
    Kind.KILL: {-9},
    Kind.UNPLUG: {0, 4, 10},
    Kind.MISSING: {0, 6},
    Kind.FULL: {0, 10, 11, 15},
    Kind.METADATA_FULL: {0, 4, 10, 11, 15},
    Kind.NO_FLUSH: {0, 4, 10},
    Kind.STOP: {0},
    Kind.SECOND: {0},
    Kind.BACK: {0, 13},
    Kind.FORWARD: {0, 13},
    **{kind: {0, 128 + number} for kind, number in SIGNALS.items() if kind is not Kind.KILL},
}


def judge(tried: Tried, kind: Kind, point: str, ended: Ended, disk: Path) -> None:
    """What holds after any of these faults, whatever the command."""
    assert point in ended.points, f"the point was not reached\n{ended}"
    if kind is Kind.MISSING and "umount" in point:
        assert ended.code == 12 or tried.leaves_open, ended
        if not tried.leaves_open:  # else it is as it was
            nothing_held()
        return
    assert ended.code in ENDS[kind] if kind in ENDS else ended.code not in NEVER, ended
    if ended.last.get("event") == "finished":
        assert ended.last["exit_code"] == ended.code or kind is Kind.KILL, ended
        said_the_truth(ended, disk) if not closed_before_it_was_pulled(kind, point, ended) else None
    if kind is Kind.NO_FLUSH:
        judge_without_flush(point, ended)
    if tried.leaves_open and ended.code != 0:
        return
    nothing_held()


def judge_without_flush(point: str, ended: Ended) -> None:
    """Complete and safe to remove is only what was flushed before."""
    before, after = ended.points[: ended.points.index(point)], ended.points[ended.points.index(point) :]
    if any(each.startswith(("before flush", "before syncfs")) for each in after):
        assert not ended.last.get("safe_to_remove"), ended
        assert ended.code != 0, ended
    if ended.last.get("action", "run") == "run" and ended.last.get("result") == "complete":
        assert "after line complete" in before, ended


def judge_second(second: Ended | None) -> None:
    """The other run came too early, the first had let go already, or no drive was known yet."""
    assert second is not None, "there was no second"
    assert second.code in {0, 3, 4}, second
    assert second.code == 0 or not second.last["safe_to_remove"], second


def closed_before_it_was_pulled(kind: Kind, point: str, ended: Ended) -> bool:
    """It was pulled when the command had already seen that it was closed, or had said its last word."""
    passed = ended.points[: ended.points.index(point) + 1]
    seen = any(each.startswith(("told StepDone close", "told Finished")) for each in passed)
    flushed = point.startswith("after flush") and "after cryptsetup close" in passed  # `close` has no step
    return kind is Kind.UNPLUG and (seen or flushed)
