"""Commands that read a drive (restore, scrub, verify), under every fault."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.guest.faults import ALL, Kind, Scene, a_scene
from tests.guest.machine import blank_sticks
from tests.guest.matrix import RESTORE, SCRUB, VERIFY, Tried, points_of, try_everywhere

pytestmark = pytest.mark.timeout(7200 if ALL else 900)
FEW = {Kind.KILL: 2, Kind.TERM: 1, Kind.INT: 1, Kind.HUP: 1, Kind.UNPLUG: 2}
"""How many points of each in an ordinary run of the tests."""


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with a_scene(blank_sticks()[0]) as made:
        yield made


@pytest.mark.parametrize("tried", [RESTORE, SCRUB, VERIFY], ids=lambda each: each.name.replace(" ", "-"))
def test_stopped_anywhere_it_lies_about_nothing_loses_nothing_and_can_be_given_again(
    scene: Scene, tried: Tried
) -> None:
    try_everywhere(scene, tried, points_of(scene, tried), FEW)
