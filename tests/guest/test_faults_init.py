"""An init is stopped at points where it can be: it leaves nothing open, and can simply be given again (see `matrix`)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest.faults import Ended, Fault, FaultyMachine, Kind, Scene
from tests.guest.machine import blank_sticks
from tests.guest.matrix import points_of, try_everywhere
from tests.guest.tried import INIT, Preparing, init, nobody_knows_it

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    home = Path(tempfile.mkdtemp(dir="/srv"))  # pytest's own folders let no owner but root reach the master
    home.chmod(0o755)
    yield Preparing(FaultyMachine(home), blank_sticks()[0])  # type: ignore[misc]
    shutil.rmtree(home)


def test_stopped_at_any_point_it_leaves_nothing_open_and_can_be_given_again(scene: Scene) -> None:
    try_everywhere(scene, INIT, points_of(scene, INIT), {Kind.KILL: 2, Kind.TERM: 1, Kind.UNPLUG: 2, Kind.FAIL: 2})


def initialised(scene: Scene, fault: Fault | None = None) -> Ended:
    (scene.machine.home / "recovery").unlink(missing_ok=True)
    return scene.machine.command(*init(scene), fault=fault)


def test_a_drive_that_is_made_anew_and_stopped_half_way_can_be_made_anew_again(scene: Scene) -> None:
    nobody_knows_it(scene)
    assert initialised(scene).code == 0
    ended = initialised(scene, Fault("after cryptsetup luksFormat", Kind.KILL))
    assert ended.code == -9, ended
    again = initialised(scene)
    assert again.code == 0, again
    assert scene.machine.backup().code == 0


def test_a_drive_that_was_to_be_made_anew_but_was_not_touched_is_what_it_was(scene: Scene) -> None:
    nobody_knows_it(scene)
    assert initialised(scene).code == 0
    ended = initialised(scene, Fault("before sfdisk always", Kind.FAIL))
    assert ended.code == 4, ended
    assert scene.machine.backup("red").code == 0
