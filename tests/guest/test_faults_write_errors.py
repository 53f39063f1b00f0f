"""A drive that is there and does not take what is written: dm-error and dm-flakey below the LUKS volume."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.guest.faults import ALL, Ended, Fault, FaultyMachine, Kind, Scene, a_home, nothing_held, said_the_truth
from tests.guest.grounds import weak_drive
from tests.guest.matrix import points_of, try_everywhere
from tests.guest.tried import RUN

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def shared() -> Iterator[Scene]:
    with a_home() as home, weak_drive(home) as weak:
        yield Scene(FaultyMachine(home), weak)  # type: ignore[arg-type]


@pytest.fixture
def scene(shared: Scene) -> Iterator[Scene]:
    shared.change()
    yield shared
    shared.stick.become("linear")  # type: ignore[attr-defined]
    shared.change()
    shared.complete()
    shared.look_at_everything()


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


def test_a_drive_that_takes_every_write_and_no_flush_is_never_called_complete_nor_safe_to_remove(scene: Scene) -> None:
    """But where the last flush had come before."""
    try_everywhere(scene, RUN, points_of(scene, RUN), {Kind.NO_FLUSH: 2})
