"""Many runs over three drives: what each takes and leaves behind, and what grows.

FLASHBACK_RUNS=500 makes it long; what was measured goes to standard output (pytest -s), a line for each tenth, and at
the end what is in the ledger and on the drives. `test_long_life.py` is the short version.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.guest.faults import FaultyMachine
from tests.guest.life import Life, a_machine, live

RUNS = int(os.environ.get("FLASHBACK_RUNS", "30"))
pytestmark = pytest.mark.timeout(120 + 60 * RUNS)


@pytest.fixture
def machine() -> Iterator[FaultyMachine]:
    yield from a_machine()


def test_one_run_after_the_other_takes_the_same_and_leaves_nothing(
    machine: FaultyMachine, image_drive: Callable[[int], Path]
) -> None:
    life = Life(machine, [image_drive(300 << 20) for _each in range(3)])
    live(life, RUNS)
    for line in life.told(max(1, RUNS // 10)):
        print(line)
    life.judge(max(3, RUNS // 10))
