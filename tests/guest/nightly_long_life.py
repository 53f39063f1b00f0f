"""Many runs over three drives: what each leaves behind, and what grows.

FLASHBACK_RUNS=500 makes it long; what was measured goes to standard output (pytest -s), a line for each tenth.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Held, run
from tests.guest.faults import FaultyMachine, _main, nothing_held
from tests.guest.matrix import ONE_STAYS

RUNS = int(os.environ.get("FLASHBACK_RUNS", "6"))
NAMES = ("red", "green", "blue")
pytestmark = pytest.mark.timeout(60 + 60 * RUNS)


@dataclass(frozen=True)
class Measured:
    """One run: seconds, the most memory in KiB that it took beyond what it began with, descriptors that it left open."""

    seconds: float
    memory: int
    descriptors: int
    ledger: int
    catalogue: int


@pytest.fixture
def machine() -> Iterator[FaultyMachine]:
    home = Path(tempfile.mkdtemp(dir="/srv"))  # pytest's own folders let no owner but root reach the master
    home.chmod(0o755)
    yield FaultyMachine(home)
    shutil.rmtree(home)


def measured(machine: FaultyMachine, *argv: str) -> Measured:
    """A command in a process of its own, and what it took."""
    note = machine.home / "taken"

    def work() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        opened = len(os.listdir("/proc/self/fd"))
        begun = time.monotonic()
        try:
            return _main(argv)
        finally:
            taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            left = len(os.listdir("/proc/self/fd")) - opened
            note.write_text(f"{time.monotonic() - begun} {taken} {left}")

    ended = machine.forked(work)
    assert ended.code == 0, ended
    seconds, memory, left = note.read_text().split()
    catalogues = sum(
        path.stat().st_size for path in machine.state.rglob("*") if path.is_file() and "catalogue" in str(path)
    )
    ledger = (machine.state / "ledger.sqlite").stat().st_size
    return Measured(float(seconds), int(memory), int(left), ledger, catalogues)


def middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def test_one_run_after_the_other_takes_the_same_and_leaves_nothing(
    machine: FaultyMachine, image_drive: Callable[[int], Path]
) -> None:
    devices = [image_drive(300 << 20) for _each in NAMES]
    (machine.master / "version").write_text("0")
    for device, name in zip(devices, NAMES, strict=True):
        done = machine.prepare(device, "--no-first-run", name=name)
        assert done.code == 0, done
    machine.back_up_only(machine.master)
    machine.configure(machine.config.read_text() + ONE_STAYS)
    held, processes = Held(), len(list(Path("/proc").glob("[0-9]*")))
    found: list[Measured] = []
    for number in range(RUNS):
        (machine.master / "version").write_text(str(number))
        (machine.master / f"file-{number}").write_bytes(os.urandom(20_000))
        (machine.master / f"file-{number - 20}").unlink(missing_ok=True)
        for path in [machine.master, *machine.master.iterdir()]:
            os.chown(path, 1000, 1000)
        name = NAMES[number % 3]
        given = ("--json", "--passphrase-file", str(machine.secret))
        found.append(measured(machine, "run", name, *given))
        if number % 30 >= 27:
            measured(machine, "prune", name, *given)
    nothing_held()
    assert Held().more_than(held) == []
    assert len(list(Path("/proc").glob("[0-9]*"))) <= processes + 8  # threads of the kernel come and go
    assert {each.descriptors for each in found} <= {found[0].descriptors}
    tenth = max(1, RUNS // 10)
    first, last = found[:tenth], found[-tenth:]
    for begin in range(0, RUNS, tenth):
        part = found[begin : begin + tenth]
        print(
            f"{begin + len(part):4} runs: {middle([each.seconds for each in part]):.2f} s, "
            f"{middle([each.memory for each in part]) / 1024:.1f} MiB, ledger {part[-1].ledger / 1024:.0f} KiB, "
            f"catalogue {part[-1].catalogue / 1024:.0f} KiB"
        )
    assert middle([each.memory for each in last]) < middle([each.memory for each in first]) + 16 * 1024
    run("udevadm", "settle")
