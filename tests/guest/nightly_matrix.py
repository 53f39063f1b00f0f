"""All commands under every fault, in blocks that guests side by side take from one list (tests/fault_matrix.py)."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import run
from tests.guest.faults import FaultyMachine, Kind, Scene, selected
from tests.guest.machine import blank_sticks
from tests.guest.matrix import KINDS, NAME, RESULTS, look, points_of, record, tried_once, where
from tests.guest.tried import TRIED, Preparing, Tried, clear
from tests.guest.trouble import JUMPS, own_state

pytestmark = pytest.mark.timeout(6 * 3600)
COMMANDS = os.environ.get("FLASHBACK_FAULT_COMMANDS", "").split(",")
BLOCK = 20
FEW = 8
"""Points after which somebody looks by hand at what is on the drive, at the latest; and after which it is too early."""


@pytest.fixture
def scenes() -> Iterator[dict[str, Scene]]:
    """The scene of each command: a drive that they share, and another stick for `init`."""
    sticks = blank_sticks()
    homes = [Path(tempfile.mkdtemp(dir="/srv")) for _each in range(2)]
    with ExitStack() as stack:
        for home in homes:
            home.chmod(0o755)
            stack.callback(shutil.rmtree, home, ignore_errors=True)
            own_state(home / "state")
            stack.callback(run, "umount", "--lazy", home / "state")
        shared = Scene(FaultyMachine(homes[0]), sticks[0])
        preparing = Preparing(FaultyMachine(homes[1]), sticks[1])
        yield {each.name: preparing if each.name == "init" else shared for each in TRIED}  # type: ignore[misc]


def test_stopped_anywhere_it_lies_about_nothing_loses_nothing_and_can_be_given_again(scenes: dict[str, Scene]) -> None:
    points = {tried.name: each_time(scenes[tried.name], tried) for tried in TRIED}
    (Path(RESULTS) / f"{NAME}.machine").write_text(this_machine(), "utf-8")
    all_of_it = {each.name: {kind: len(where(kind, points[each.name])) for kind in KINDS} for each in TRIED}
    (Path(RESULTS) / "planned.json").write_text(json.dumps(all_of_it), "utf-8")
    done = already()
    wrong = []
    for kind, tried, block in blocks(points):
        if (todo := [point for point in block if (tried.name, kind, point) not in done]) and is_ours(kind, tried, todo):
            scene = scenes[tried.name]
            scene.allowed = ()
            before = len(wrong)
            wrong += [said for each in todo if (said := tried_once(scene, tried, kind, each, points[tried.name]))]
            done |= {(tried.name, kind, each) for each in todo}
            takes_long = len(todo) < FEW and tried != TRIED[-1]
            if not takes_long and (looked := look(scene)):
                wrong.append(looked)
                record(tried.name, kind, f"{block[0]} and after", points[tried.name], 0, wrong=looked)
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


def this_machine() -> str:
    """The kernel and the tools, with their versions."""
    asked = (["cryptsetup", "--version"], ["btrfs", "--version"], ["rsync", "--version"], ["mount", "--version"])
    first = [run(*each).splitlines()[0].split("  protocol")[0] for each in asked]
    return ", ".join([f"Linux {os.uname().release}", f"Python {platform.python_version()}", *first])


def blocks(points: dict[str, list[str]]) -> Iterator[tuple[Kind, Tried, list[str]]]:
    """First each step, then one point of everything, then the others: what is ended early has been everywhere."""
    wanted = [each for each in TRIED if COMMANDS == [""] or each.name in COMMANDS]
    for tried in wanted:
        yield Kind.KILL, tried, [each for each in points[tried.name] if each.startswith("told StepBegun")]
    for kind in KINDS:
        for tried in wanted:
            yield kind, tried, middle(where(kind, points[tried.name]))
    for first, every in PASSES:
        for kind in KINDS:
            for tried in wanted:
                chosen = selected(where(kind, points[tried.name]), 2)[first::every]
                for begin in range(0, len(chosen), BLOCK):
                    yield kind, tried, chosen[begin : begin + BLOCK]


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
