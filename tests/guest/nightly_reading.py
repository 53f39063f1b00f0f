"""Commands that read a drive (restore, scrub, verify), under every fault."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest.faults import ALL, FaultyMachine, Kind, Scene
from tests.guest.machine import blank_sticks
from tests.guest.matrix import RESTORE, SCRUB, VERIFY, Tried, points_of, try_everywhere

pytestmark = pytest.mark.timeout(7200 if ALL else 900)
FEW = {Kind.KILL: 2, Kind.TERM: 1, Kind.INT: 1, Kind.HUP: 1, Kind.UNPLUG: 2}
"""How many points of each in an ordinary run of the tests."""


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    home = Path(tempfile.mkdtemp(dir="/srv"))  # pytest's own folders let no owner but root reach the master
    home.chmod(0o755)
    yield Scene(FaultyMachine(home), blank_sticks()[0])
    shutil.rmtree(home)


@pytest.mark.parametrize("tried", [RESTORE, SCRUB, VERIFY], ids=lambda each: each.name.replace(" ", "-"))
def test_stopped_anywhere_it_lies_about_nothing_loses_nothing_and_can_be_given_again(
    scene: Scene, tried: Tried
) -> None:
    try_everywhere(scene, tried, points_of(scene, tried), FEW)
