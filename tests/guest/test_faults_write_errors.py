"""A drive that is there and does not take what is written: dm-error and dm-flakey below the LUKS volume."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import run
from tests.guest.faults import ALL, Ended, Fault, FaultyMachine, Scene, nothing_held, said_the_truth
from tests.guest.machine import blank_sticks

pytestmark = pytest.mark.timeout(600)
NAME = "weak-disk"


class WeakDrive:
    """A loop device on a mapping of a stick, which can be made to fail; it stands in for a `Stick`."""

    is_plugged = True

    def __init__(self) -> None:
        self.below = blank_sticks()[0].device
        self.sectors = int(run("blockdev", "--getsz", self.below))
        run("modprobe", "dm-flakey")
        run("dmsetup", "create", NAME, "--table", self.table("linear"))
        run("udevadm", "settle")
        self.device = Path(run("losetup", "--find", "--show", "--partscan", f"/dev/mapper/{NAME}").strip())

    def table(self, how: str) -> str:
        return {
            "linear": f"0 {self.sectors} linear {self.below} 0",
            "error": f"0 {self.sectors} error",
            "write errors": f"0 {self.sectors} flakey {self.below} 0 0 3600 1 error_writes",
        }[how]

    def become(self, how: str) -> None:
        run("dmsetup", "suspend", "--noflush", "--nolockfs", NAME)
        run("dmsetup", "load", NAME, "--table", self.table(how))
        run("dmsetup", "resume", NAME)

    def remove(self) -> None:
        run("losetup", "--detach", self.device)
        run("dmsetup", "remove", "--retry", NAME)


@pytest.fixture(scope="module")
def shared() -> Iterator[Scene]:
    home = Path(tempfile.mkdtemp(dir="/srv"))  # pytest's own folders let no owner but root reach the master
    home.chmod(0o755)
    weak = WeakDrive()
    yield Scene(FaultyMachine(home), weak)  # type: ignore[arg-type]
    weak.remove()
    shutil.rmtree(home)


@pytest.fixture
def scene(shared: Scene) -> Iterator[Scene]:
    shared.change()
    yield shared
    shared.stick.become("linear")  # type: ignore[attr-defined]
    shared.change()
    shared.complete()
    shared.look()


def failing(scene: Scene, at: str, how: str) -> Ended:
    ended = scene.machine.backup(fault=Fault(at, action=lambda: scene.stick.become(how)))  # type: ignore[attr-defined]
    assert at in ended.points, ended
    nothing_held()
    said_the_truth(ended, scene.stick.device)
    if "after line complete" in ended.points:
        scene.finished.append(scene.number)
    return ended


PLACES = ["told StepDone plan", "during rsync", "after rsync", "told StepBegun sync"]
CASES = [(how, at) for how in ("error", "write errors") for at in PLACES]


@pytest.mark.parametrize(("how", "at"), CASES if ALL else [("write errors", PLACES[1]), ("error", PLACES[3])])
def test_writes_that_fail_end_with_10_and_are_never_complete(scene: Scene, how: str, at: str) -> None:
    ended = failing(scene, at, how)
    assert ended.code == 10, ended
    assert ended.last["result"] == "incomplete", ended
    assert "before line complete" not in ended.points
    assert "unplugged" not in ended.last["error"]["what"], ended


def test_what_was_called_complete_is_there_although_the_drive_failed_while_it_was_closed(scene: Scene) -> None:
    """By then everything was proven to be on the medium; the drive is looked at afterwards."""
    ended = failing(scene, "told StepBegun close", "error")
    assert ended.last["result"] == "complete", ended
    assert ended.code in {0, 10}, ended
