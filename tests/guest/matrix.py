"""The fault matrix: each command, at each of its points, with each fault; and the table of what came of it.

`TRIED` is the list of the commands that hold a drive, with the steps that each of them takes. A unit test holds it
against the code: a new step (`core.events.Step`) or a new command without a line here fails it. Within a step the
points are not listed at all: a run without a fault yields them (see `faults`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from flashback.core.events import Step
from tests.guest.conftest import PASSPHRASE
from tests.guest.faults import (
    MODE,
    SIGNALS,
    Ended,
    Fault,
    Kind,
    Scene,
    manifest,
    nothing_held,
    said_the_truth,
    selected,
)
from tests.guest.machine import luks_on

KINDS = (Kind.KILL, Kind.TERM, Kind.INT, Kind.HUP, Kind.UNPLUG)
RESULTS = os.environ.get("FLASHBACK_FAULT_RESULTS", "")
"""A folder in which each trial leaves a line; tests/fault_matrix.py makes the published table of them."""
BEFORE = "before"
"""What stands in the table for the points before the first step of a command."""
OTHER = b"quite another passphrase"
ONE_STAYS = "keep: {last: 1, daily: 0, weekly: 0, monthly: 0, yearly: 0, min_free: 0B}\n"


@dataclass(frozen=True)
class Tried:
    """A command that holds a drive. `steps`: those that it says it takes. `leaves_open`: its purpose is another.

    `stage` is called before each trial and `again` after it, in the place of the command alone.
    """

    name: str
    steps: frozenset[Step]
    argv: Callable[[Scene], tuple[str, ...]]
    stage: Callable[[Scene], None]
    again: Callable[[Scene, Ended], None]
    leaves_open: bool = False


def with_secret(scene: Scene, *words: str) -> tuple[str, ...]:
    return (*words, "--json", "--passphrase-file", str(scene.machine.secret))


def succeeded(ended: Ended) -> Ended:
    assert ended.code == 0, ended
    return ended


def nothing(*_given: object) -> None:
    """No stage is needed."""


# --- prune


def something_to_prune(scene: Scene) -> None:
    """One state more than the rules keep."""
    scene.machine.back_up_only(scene.machine.master)
    scene.machine.configure(scene.machine.config.read_text("utf-8") + ONE_STAYS)
    for _each in range(2 if len(scene.finished) < 2 else 1):
        scene.change()
        scene.complete()


def pruned(scene: Scene, _ended: Ended) -> None:
    """What no rule keeps is gone in the end; what stays is looked at when all is over."""
    succeeded(scene.machine.command(*with_secret(scene, "prune", "red")))
    scene.finished = scene.finished[-2:]


# --- restore


def no_target(scene: Scene) -> None:
    shutil.rmtree(target(scene), ignore_errors=True)


def target(scene: Scene) -> Path:
    return scene.machine.home / "restored"


def restored(scene: Scene, ended: Ended) -> None:
    """Whatever has its name there already is whole; given again, the command completes it."""
    master = scene.machine.master
    ready = target(scene) / "documents"
    if ready.exists() or ended.code == 0:
        assert manifest(ready) == manifest(master), ended
    succeeded(scene.machine.command(*restore(scene)))
    assert manifest(ready) == manifest(master)
    left = [path.name for path in target(scene).iterdir() if path != ready]
    assert left == [], "working directories were left behind"


def restore(scene: Scene) -> tuple[str, ...]:
    return with_secret(scene, "restore", "--all", "--drive", "red", "--to", str(target(scene)))


# --- adopt


def forgotten(scene: Scene) -> None:
    shutil.rmtree(scene.machine.state)


def adopted(scene: Scene, ended: Ended) -> None:
    """Known or not, it can be adopted (again), and has all that it remembers."""
    done = succeeded(scene.machine.command(*adopt(scene)))
    assert done.last["snapshots"] == len(scene.finished) - 1, done


def adopt(scene: Scene) -> tuple[str, ...]:
    return with_secret(scene, "drive", "adopt", str(scene.stick.device), "--name", "red", "--yes")


# --- close


def being_looked_at(scene: Scene) -> None:
    succeeded(scene.machine.command(*with_secret(scene, "mount", "red")))


def closed(scene: Scene, _ended: Ended) -> None:
    succeeded(scene.machine.command("close", "red", "--json"))


# --- keys


def key_change(scene: Scene) -> tuple[str, ...]:
    """From whichever passphrase opens the drive now to the other one."""
    new = scene.machine.home / "new-secret"
    new.write_bytes(OTHER if scene.machine.secret.read_bytes() == PASSPHRASE else PASSPHRASE)
    new.chmod(0o600)
    return with_secret(scene, "key", "change", "red", "--new-passphrase-file", str(new))


def a_key_opens(scene: Scene, ended: Ended) -> None:
    """The new one, if that was said; else one of the two; and the drive is known with the header that it has now."""
    secrets = [scene.machine.home / name for name in ("new-secret", "secret")]
    opening = [each.read_bytes() for each in secrets if opens(scene.stick.device, each)]
    assert opening, f"neither passphrase opens the drive\n{ended}"
    if ended.code == 0:
        assert opening[0] == secrets[0].read_bytes(), ended
    scene.machine.secret.write_bytes(opening[0])
    succeeded(scene.machine.command(*with_secret(scene, "verify", "red", "--sample", "1")))
    for number in range(2, 8):  # a slot that was added and not settled; the next trial is to have its own
        cryptsetup = ["cryptsetup", "luksDump", str(luks_on(scene.stick.device))]
        if f"\n  {number}: luks2" in subprocess.run(cryptsetup, check=True, capture_output=True, text=True).stdout:
            removal = with_secret(scene, "key", "remove", "red", "--slot", str(number))
            scene.machine.command(*removal)


def opens(device: Path, secret: Path) -> bool:
    asked = ["cryptsetup", "open", "--test-passphrase", "--key-file=-", str(luks_on(device))]
    return subprocess.run(asked, input=secret.read_bytes(), check=False, capture_output=True).returncode == 0


OPENED = frozenset({Step.OPEN, Step.CLOSE})
PRUNE = Tried("prune", OPENED | {Step.PRUNE}, lambda s: with_secret(s, "prune", "red"), something_to_prune, pruned)
RESTORE = Tried("restore", OPENED | {Step.PLAN, Step.RESTORE, Step.VERIFY}, restore, no_target, restored)
SCRUB = Tried(
    "scrub",
    OPENED | {Step.SCRUB},
    lambda s: with_secret(s, "scrub", "red"),
    nothing,
    lambda s, _e: nothing(succeeded(s.machine.command(*with_secret(s, "scrub", "red")))),
)
VERIFY = Tried(
    "verify",
    OPENED | {Step.VERIFY},
    lambda s: with_secret(s, "verify", "red"),
    nothing,
    lambda s, _e: nothing(succeeded(s.machine.command(*with_secret(s, "verify", "red")))),
)
ADOPT = Tried("drive adopt", OPENED, adopt, forgotten, adopted)
CLOSE = Tried("close", frozenset(), lambda _s: ("close", "red", "--json"), being_looked_at, closed, leaves_open=True)
KEY_CHANGE = Tried("key change", frozenset(), key_change, nothing, a_key_opens)
BY_FILE = {
    "run": frozenset({*OPENED, Step.PLAN, Step.SNAPSHOT, Step.MOVE, Step.COPY, Step.DELETE, Step.SYNC, Step.SCRUB}),
    "init": frozenset({Step.PARTITION, Step.FORMAT}),
}
"""The commands with a file of tests of their own."""
TRIED = (PRUNE, RESTORE, SCRUB, VERIFY, ADOPT, CLOSE, KEY_CHANGE)
STEPS = BY_FILE | {each.name: each.steps for each in TRIED}


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


def unseen(command: str, kind: Kind, point: str, points: Iterable[str], code: int) -> list[str]:
    """In words, where the published page has no such outcome of this fault in this command."""
    from tests.fault_matrix import PAGE, code_said, read

    if MODE or RESULTS or not PAGE.exists():
        return []
    rows = [row.get(kind) for key, row in read(PAGE.read_text("utf-8")).items() if key[0] == command]
    if code_said(code) in {each for cell in rows if cell is not None for each in cell[1]}:
        return []
    step = step_of(point, points)
    return [f"{command}, {kind} at {point} ({step}): {code} is not on {PAGE.name}; make faults writes it anew"]


def record(command: str, kind: Kind, point: str, points: Iterable[str], code: int, *, wrong: str = "") -> None:
    """Note a trial for the table."""
    if not RESULTS:
        return
    line = {"command": command, "kind": kind, "point": point, "code": code, "wrong": wrong}
    line |= {"step": step_of(point, points), "of": len(list(points))}
    with open(f"{RESULTS}/{os.getpid()}.jsonl", "a", encoding="utf-8") as file:
        print(json.dumps(line), file=file)


# --- the trial


LEFT_OPEN = ("during cryptsetup open", "after cryptsetup open", "before cryptsetup close --deferred")
"""Killed here, the mapping stays open: it is not yet told to close itself. The next command puts it away."""


def points_of(scene: Scene, tried: Tried) -> list[str]:
    """The points of the command without a fault; it takes the steps that it is listed with, and no others."""
    tried.stage(scene)
    ended = succeeded(scene.machine.command(*tried.argv(scene)))
    tried.again(scene, ended)
    steps = steps_told(ended.points)
    assert steps == tried.steps, f"{tried.name} takes the steps {sorted(steps)}, not those that the matrix lists"
    return list(ended.points)


def try_everywhere(scene: Scene, tried: Tried, points: list[str], few: Mapping[Kind, int]) -> None:
    """Each kind of fault at each point (or at so many of them); everything that went wrong is told together."""
    trials = [(kind, point) for kind in KINDS for point in selected(points, few[kind])]
    wrong = [said for kind, point in trials if (said := tried_once(scene, tried, kind, point, points))]
    scene.change()
    scene.complete()
    scene.look()
    assert not wrong, "\n\n".join(wrong)


def tried_once(scene: Scene, tried: Tried, kind: Kind, point: str, points: list[str]) -> str:
    """What went wrong, in words."""
    said = ""
    tried.stage(scene)
    argv, disk = tried.argv(scene), scene.stick.device
    ended = scene.machine.command(*argv, fault=Fault(point, kind, disk.name))
    try:
        judge(tried, kind, point, ended, disk)
    except (AssertionError, pytest.fail.Exception) as problem:
        said = f"{tried.name}, {kind} at {point}: {problem}"
    try:
        if not scene.stick.is_plugged:
            scene.stick.replug()
        tried.again(scene, ended)
        nothing_held()
    except (AssertionError, pytest.fail.Exception) as problem:
        said += f"{tried.name}, {kind} at {point}, the same again: {problem}"
        scene.machine.command("close", "red")
    said += "".join(unseen(tried.name, kind, point, points, ended.code))
    record(tried.name, kind, point, points, ended.code, wrong=said)
    return said


def judge(tried: Tried, kind: Kind, point: str, ended: Ended, disk: Path) -> None:
    """What holds after any of these faults, whatever the command."""
    assert point in ended.points, f"the point was not reached\n{ended}"
    if kind is Kind.KILL:
        assert ended.code == -9, ended
    elif kind is Kind.UNPLUG:
        assert ended.code in {0, 4, 10}, ended
    else:
        assert ended.code in {128 + SIGNALS[kind], 0}, ended
    if ended.last.get("event") == "finished":
        assert ended.last["exit_code"] == ended.code or kind is Kind.KILL, ended
        said_the_truth(ended, disk) if not closed_before_it_was_pulled(kind, point, ended) else None
    if tried.leaves_open and ended.code != 0:
        return
    nothing_held(but=["flashback-red"] if kind is Kind.KILL and point.startswith(LEFT_OPEN) else [])


def closed_before_it_was_pulled(kind: Kind, point: str, ended: Ended) -> bool:
    """It was pulled when the command had already seen that it was closed."""
    return kind is Kind.UNPLUG and "told StepDone close" in ended.points[: ended.points.index(point) + 1]
