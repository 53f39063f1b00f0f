"""The short version of `nightly_long_life.py`: a dozen runs over three drives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.guest.faults import FaultyMachine
from tests.guest.life import Life, a_machine, live


@pytest.fixture
def machine() -> Iterator[FaultyMachine]:
    yield from a_machine()


def test_a_dozen_runs_over_three_drives_take_the_same_and_leave_nothing(
    machine: FaultyMachine, image_drive: Callable[[int], Path]
) -> None:
    life = Life(machine, [image_drive(300 << 20) for _each in range(3)])
    live(life, 12)
    life.judge(3)
