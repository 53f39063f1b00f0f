"""A long life: one run after the other over three drives, and what is measured of each."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import Held, run
from tests.guest.faults import FaultyMachine, nothing_held
from tests.guest.forked import main
from tests.guest.tried import ONE_STAYS

NAMES = ("red", "green", "blue")
LEAST_ROUND = 3
"""Runs before a drive is in its ordinary state: the first of each is a first copy."""


@dataclass(frozen=True)
class Measured:
    """What a run took. Memory in KiB: the most of its own beyond what it began with, the most of a program it started.

    `points` counts what it did: programs, lines, flushes, transactions, events (`faults.Points`); `left` are
    descriptors that it left open; the rest are bytes of files after it.
    """

    seconds: float
    processor: float
    memory: int
    programs: int
    points: int
    left: int
    ledger: int
    catalogue: int
    slab: int


@dataclass
class Life:
    """Three drives, prepared, and all that is measured of them."""

    machine: FaultyMachine
    devices: list[Path]
    runs: list[Measured] = field(default_factory=list)
    prunes: list[Measured] = field(default_factory=list)
    rows_first: Counter[str] = field(default_factory=Counter)
    held: Held = field(default_factory=Held)
    processes: int = 0
    files: frozenset[str] = frozenset()

    def prepare(self) -> None:
        machine = self.machine
        (machine.master / "version").write_text("0")
        for device, name in zip(self.devices, NAMES, strict=True):
            done = machine.prepare(device, "--no-first-run", name=name)
            assert done.code == 0, done
        machine.back_up_only(machine.master)
        machine.configure(machine.config.read_text() + ONE_STAYS)
        self.held, self.processes = Held(), _processes()

    def measured(self, *argv: str) -> Measured:
        """A command in a process of its own, and what it took."""
        machine = self.machine
        note = machine.home / "taken"

        def work() -> int:
            before = resource.getrusage(resource.RUSAGE_SELF)
            opened = len(os.listdir("/proc/self/fd"))
            begun = time.monotonic()
            try:
                return main(argv)
            finally:
                mine, theirs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
                processor = _processor(mine) + _processor(theirs) - _processor(before)
                left = len(os.listdir("/proc/self/fd")) - opened
                memory = mine.ru_maxrss - before.ru_maxrss
                note.write_text(f"{time.monotonic() - begun} {processor} {memory} {theirs.ru_maxrss} {left}")

        ended = machine.forked(work)
        assert ended.code == 0, ended
        seconds, processor, memory, programs, left = note.read_text().split()
        return Measured(
            *(float(seconds), float(processor), int(memory), int(programs), len(ended.points), int(left)),
            ledger=self.ledger.stat().st_size,
            catalogue=sum(path.stat().st_size for path in self.catalogue.rglob("*") if path.is_file()),
            slab=_slab(),
        )

    @property
    def ledger(self) -> Path:
        return self.machine.state / "ledger.sqlite"

    @property
    def catalogue(self) -> Path:
        return self.machine.state / "catalogue"

    def rows(self) -> Counter[str]:
        """How many rows each table of the ledger has."""
        with closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)) as db:
            names = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
            return Counter({name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names})

    def left_lying(self) -> frozenset[str]:
        """What is there only while somebody is at work: temporary files, and files with a hidden name."""
        machine = self.machine
        ours = (path for folder in (machine.runtime, machine.state) for path in folder.rglob(".*"))
        return frozenset(map(str, [*ours, *Path(tempfile.gettempdir()).iterdir()]))

    def on_the_drive(self, device: Path) -> str:
        """What grew on one of them."""
        with self.machine.opened(device) as drive:
            ours = drive / ".flashback"
            journal = (ours / "runs.jsonl").read_bytes()
            files = [path for path in (ours / "catalogue").rglob("*") if path.is_file()]
            snapshots = len(list((drive / "documents/snapshots").iterdir()))
            return (
                f"journal {len(journal)} B in {journal.count(10)} lines, "
                f"catalogue {sum(path.stat().st_size for path in files) / 1024:.1f} KiB in {len(files)} files, "
                f"{snapshots} snapshots"
            )

    def told(self, tenth: int) -> Iterator[str]:
        """What was measured, in lines."""
        for begin in range(0, len(self.runs), tenth):
            part = self.runs[begin : begin + tenth]
            yield (
                f"{begin + len(part):4} runs: {middle([each.seconds for each in part]):.2f} s, "
                f"processor {middle([each.processor for each in part]):.2f} s, "
                f"{middle([each.memory for each in part]) / 1024:.1f} MiB, "
                f"programs {middle([each.programs for each in part]) / 1024:.1f} MiB, "
                f"{middle([each.points for each in part]):.0f} points, "
                f"ledger {part[-1].ledger / 1024:.0f} KiB, catalogue {part[-1].catalogue / 1024:.0f} KiB, "
                f"slab {part[-1].slab / 1024:.1f} MiB"
            )
        now = self.rows()
        yield "rows of the ledger after the first round and at the end: " + ", ".join(
            f"{name} {self.rows_first[name]} to {count}" for name, count in sorted(now.items()) if count
        )
        for name, device in zip(NAMES, self.devices, strict=True):
            yield f"{name}: {self.on_the_drive(device)}"
        if self.prunes:
            yield f"prune: {middle([each.seconds for each in self.prunes]):.2f} s"

    def judge(self, part: int) -> None:
        """What must hold of any number of runs. The first run of each drive, a first copy, is left out."""
        nothing_held()
        assert Held().more_than(self.held) == []
        assert self.left_lying() == self.files, "files that are there for a moment only"
        assert _processes() <= self.processes + 8  # threads of the kernel come and go
        ordinary = self.runs[LEAST_ROUND:]
        first, last = ordinary[:part], ordinary[-part:]
        assert {each.left for each in self.runs} <= {self.runs[0].left}, "descriptors"
        assert _middle(last, "memory") <= _middle(first, "memory") + 2048, "KiB of its own memory"
        assert _middle(last, "programs") <= _middle(first, "programs") + 2048, "KiB of memory of what it started"
        assert _middle(last, "points") <= _middle(first, "points") + 2, "steps"
        run("udevadm", "settle")


def live(life: Life, count: int) -> None:
    """So many runs, each with something new, something changed and something gone; now and then a prune."""
    life.prepare()
    machine, given = life.machine, ("--json", "--passphrase-file", str(life.machine.secret))
    for number in range(count):
        (machine.master / "version").write_text(str(number))
        (machine.master / f"file-{number}").write_bytes(os.urandom(20_000))
        (machine.master / f"file-{number - 20}").unlink(missing_ok=True)
        for path in [machine.master, *machine.master.iterdir()]:
            os.chown(path, 1000, 1000)
        life.runs.append(life.measured("run", NAMES[number % 3], *given))
        if number % 30 >= 27:
            life.prunes.append(life.measured("prune", NAMES[number % 3], *given))
        if number == LEAST_ROUND - 1:
            life.rows_first, life.files = life.rows(), life.left_lying()


def a_machine() -> Iterator[FaultyMachine]:
    """In a place that the master's owner can reach; pytest's own folders let nobody but root in."""
    home = Path(tempfile.mkdtemp(dir="/srv"))
    home.chmod(0o755)
    before, tempfile.tempdir = tempfile.tempdir, str(home / "tmp")
    (home / "tmp").mkdir()
    yield FaultyMachine(home)
    tempfile.tempdir = before
    shutil.rmtree(home)


def middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _middle(runs: list[Measured], what: str) -> float:
    return middle([getattr(each, what) for each in runs])


def _processor(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def _processes() -> int:
    return len(list(Path("/proc").glob("[0-9]*")))


def _slab() -> int:
    """KiB that the kernel holds for objects of its own and cannot give up (proc_meminfo(5))."""
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("SUnreclaim"))
