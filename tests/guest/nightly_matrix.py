"""All commands under every fault, in blocks that guests side by side take from one list (tests/fault_matrix.py)."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import run
from tests.guest.faults import FaultyMachine, Kind, Scene, a_home, selected
from tests.guest.grounds import own_grounds, weak_drive
from tests.guest.machine import blank_sticks
from tests.guest.matrix import KINDS, NAME, RESULTS, look, points_of, record, tried_once, where
from tests.guest.tried import TRIED, Preparing, Tried, clear
from tests.guest.trouble import JUMPS

pytestmark = pytest.mark.timeout(6 * 3600)
COMMANDS = os.environ.get("FLASHBACK_FAULT_COMMANDS", "").split(",")
OURS = [each for each in KINDS if each in os.environ.get("FLASHBACK_FAULT_KINDS", ",".join(KINDS)).split(",")]
ON_A_WEAK_DRIVE = {Kind.NO_FLUSH}
"""Kinds for which there have to be other drives than the sticks."""
BLOCK = 20
FEW = 8
"""Points after which somebody looks by hand at what is on the drive, at the latest; and after which it is too early."""


Scenes = dict[tuple[bool, str], Scene]
Points = dict[tuple[bool, str], list[str]]
"""By whether their drive is a weak one, and by command."""


@pytest.fixture
def scenes() -> Iterator[Scenes]:
    """The scene of each command: a drive that they share, and another stick for `init`; the same with weak drives."""
    sticks = blank_sticks()
    with ExitStack() as stack:

        def machine() -> FaultyMachine:
            home = stack.enter_context(a_home())
            return FaultyMachine(home, stack.enter_context(own_grounds(home)))

        made: Scenes = {}
        for weak in {each in ON_A_WEAK_DRIVE for each in OURS}:
            machines = machine(), machine()
            drives = [stack.enter_context(weak_drive(each.home)) for each in machines] if weak else sticks
            shared = Scene(machines[0], drives[0])  # type: ignore[arg-type]
            preparing = Preparing(machines[1], drives[1])  # type: ignore[arg-type]
            made |= {(weak, each.name): preparing if each.name == "init" else shared for each in TRIED}  # type: ignore[misc]
        yield made


def test_stopped_anywhere_it_lies_about_nothing_loses_nothing_and_can_be_given_again(scenes: Scenes) -> None:
    points = {(weak, tried.name): each_time(scene, tried) for (weak, _), scene, tried in each_of(scenes)}
    (Path(RESULTS) / f"{NAME}.machine").write_text(this_machine(), "utf-8")
    plan(points)
    done = already()
    wrong = []
    for kind, tried, block in blocks(points):
        if (todo := [point for point in block if (tried.name, kind, point) not in done]) and is_ours(kind, tried, todo):
            of_it = kind in ON_A_WEAK_DRIVE, tried.name
            scene = scenes[of_it]
            scene.allowed = ()
            before = len(wrong)
            wrong += [said for each in todo if (said := tried_once(scene, tried, kind, each, points[of_it]))]
            done |= {(tried.name, kind, each) for each in todo}
            takes_long = len(todo) < FEW and tried != TRIED[-1]
            if not takes_long and (looked := look(scene)):
                wrong.append(looked)
                record(tried.name, kind, f"{block[0]} and after", points[of_it], 0, wrong=looked)
            if isinstance(scene, Scene) and (kind in JUMPS or len(wrong) > before):
                renew(scene)
    assert not wrong, f"{len(wrong)} trials went wrong"


def each_time(scene: Scene, tried: Tried) -> list[str]:
    """The points that the command has each time: a few things are written only now and then."""
    first = points_of(scene, tried)
    return [point for point in points_of(scene, tried) if point in first]


def renew(scene: Scene) -> None:
    """A date that was not true stays in the ledger and on the drive, and so does what went wrong: what is tried next
    begins with new ones.
    """
    scene.machine.command("close", "red")
    clear(scene.machine.state)
    clear(scene.machine.master)
    scene.__init__(scene.machine, scene.stick)  # type: ignore[misc]


def each_of(scenes: Scenes) -> Iterator[tuple[tuple[bool, str], Scene, Tried]]:
    for tried in TRIED:
        yield from ((key, scene, tried) for key, scene in scenes.items() if key[1] == tried.name)


def plan(points: Points) -> None:
    """Note how many trials there are; a guest that tries some of the kinds leaves the others' numbers as they are."""
    file = Path(RESULTS) / "planned.json"
    noted = json.loads(file.read_text("utf-8")) if file.exists() else {}
    for tried in TRIED:
        counts = {kind: len(where(kind, points[kind in ON_A_WEAK_DRIVE, tried.name])) for kind in OURS}
        noted[tried.name] = {**noted.get(tried.name, {}), **counts}
    file.write_text(json.dumps(noted), "utf-8")


def this_machine() -> str:
    """The kernel and the tools, with their versions."""
    asked = (["cryptsetup", "--version"], ["btrfs", "--version"], ["rsync", "--version"], ["mount", "--version"])
    first = [run(*each).splitlines()[0].split("  protocol")[0] for each in asked]
    return ", ".join([f"Linux {os.uname().release}", f"Python {platform.python_version()}", *first])


def blocks(points: Points) -> Iterator[tuple[Kind, Tried, list[str]]]:
    """First each step, then one point of everything, then the others: what is ended early has been everywhere."""
    wanted = [each for each in TRIED if COMMANDS == [""] or each.name in COMMANDS]
    places = {(kind, each): where(kind, points[kind in ON_A_WEAK_DRIVE, each.name]) for kind in OURS for each in wanted}
    for tried in wanted if Kind.KILL in OURS else ():
        yield Kind.KILL, tried, [each for each in points[False, tried.name] if each.startswith("told StepBegun")]
    for (kind, tried), chosen in places.items():
        yield kind, tried, middle(chosen)
    for first, every in PASSES:
        for (kind, tried), chosen in places.items():
            these = selected(chosen, 2)[first::every]
            for begin in range(0, len(these), BLOCK):
                yield kind, tried, these[begin : begin + BLOCK]


def middle(chosen: list[str]) -> list[str]:
    return chosen[len(chosen) // 2 :][:1]


PASSES = ((0, 8), (4, 8), (2, 4), (1, 2))


def is_ours(kind: Kind, tried: Tried, block: list[str]) -> bool:
    """Whether this guest is the first to come to it."""
    try:
        os.mkdir(f"{RESULTS}/claims/{tried.name}, {kind}, {len(block)} from {block[0]}".replace(" ", "-"))
    except FileExistsError:
        return False
    return True


def already() -> set[tuple[str, str, str]]:
    """The trials that have left a line in an earlier go."""
    lines = [line for file in Path(RESULTS).glob("*.jsonl") for line in file.read_text("utf-8").splitlines()]
    tried = map(json.loads, lines)
    return {(each["command"], each["kind"], each["point"]) for each in tried if not each["wrong"]}
