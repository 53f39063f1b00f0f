"""Every command that holds a drive is stopped at a selection of its points, in every way (see `matrix`).

Each fault meets the drive as the one before left it. After each the master changes, so that the next run would keep a
half copy as a snapshot if it took it for a complete one; at the end of each test the drive is opened by hand and holds
exactly the states that were complete; at the end of all, what Btrfs said was unchanged is read again. `make faults` tries
every point.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.guest.faults import Kind, Scene, a_scene
from tests.guest.machine import blank_sticks
from tests.guest.matrix import points_of, try_everywhere
from tests.guest.tried import RUN, TRIED, Tried

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with a_scene(blank_sticks()[0]) as made:
        yield made


@pytest.fixture(scope="module")
def points(scene: Scene) -> list[str]:
    return points_of(scene, RUN)


def test_killed_at_any_point_the_next_run_carries_on_by_itself(scene: Scene, points: list[str]) -> None:
    try_everywhere(scene, RUN, points, {Kind.KILL: 6})


def test_a_signal_at_any_point_ends_with_everything_released(scene: Scene, points: list[str]) -> None:
    try_everywhere(scene, RUN, points, {Kind.TERM: 3, Kind.INT: 1, Kind.HUP: 1})


def test_pulled_at_any_point_it_is_never_called_complete_unless_it_was(scene: Scene, points: list[str]) -> None:
    try_everywhere(scene, RUN, points, {Kind.UNPLUG: 4})


def test_a_program_that_fails_crashes_or_is_missing_fails_the_run_and_no_more(scene: Scene, points: list[str]) -> None:
    try_everywhere(scene, RUN, points, {Kind.FAIL: 2, Kind.MISSING: 2, Kind.CRASH: 1})


def test_trouble_around_a_run_is_told_as_it_is_and_the_next_run_carries_on(scene: Scene, points: list[str]) -> None:
    """The drive fails, the ledger's disk or the master's, another run is started, the process is stopped for a while."""
    around = (Kind.NO_WRITE, Kind.NO_READ, Kind.SECOND, Kind.STOP)
    around += (Kind.METADATA_FULL, Kind.LEDGER_READ_ONLY, Kind.MASTER_UNREADABLE)
    try_everywhere(scene, RUN, points, dict.fromkeys(around, 1))


@pytest.mark.parametrize("tried", [each for each in TRIED if each.name not in {"run", "init"}], ids=lambda t: t.name)
def test_any_other_command_can_be_stopped_and_be_given_again(scene: Scene, tried: Tried) -> None:
    try_everywhere(scene, tried, points_of(scene, tried), {Kind.KILL: 1, Kind.UNPLUG: 1})
