"""Run the floors of the tests one after the other and say at the end, loudly, which ran and which could not.

    floors.py [FLOOR...]      unit, contract, tools, guest, machine; if none is named, all of them

Unit and contract need nothing; tools needs root; guest needs a kernel with dm-crypt, which it starts by itself
(tests/vm/uml-run), or, with FLASHBACK_TEST_NATIVE=1, uses this one; machine needs root and QEMU, and runs beside the
others. Where CI is set, a floor that did not run, or not wholly, is a failure. Started by `make test`.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

USUAL = ("unit", "contract", "tools", "guest", "machine")
TOP = Path(__file__).resolve().parent.parent
PROCESSORS = len(os.sched_getaffinity(0))
IN_CI = os.environ.get("CI", "").lower() not in {"", "0", "false"}
NATIVE = os.environ.get("FLASHBACK_TEST_NATIVE") == "1"
GUEST = ("--mem", "2G", "--scsi", "2:400", "--timeout", "2700")
STICKS = ("add_host=2", "per_host_store=1", "removable=1", "lbpu=1", "delay=0", "dev_size_mb=400")
"""The same two sticks for a native kernel."""
SIDE_BY_SIDE = 2
"""Processes that share the tests of a floor; a guest stays on a processor of its own and takes 2 GiB of memory."""
MACHINE_SECONDS = 2400
"""After these no further test of the machine floor begins: where everything hangs, the rest is not waited for."""
NO_KERNEL = 125
"""What uml-run exits with when its kernel did not get as far as the command, or ended in the midst of it."""
COUNTING = threading.Lock()
ENDED = (0, 1)
"""What pytest exits with when it has run all tests."""
KEPT = ("CI", "FLASHBACK_TEST_NATIVE", "FLASHBACK_CACHE", "XDG_CACHE_HOME", "PATH", "LANG")
"""What sudo is asked to leave in the environment."""
COUNTED = ("passed", "failed", "error", "skipped")


@dataclass
class Floor:
    """What is known of a floor: how many tests came out how, and why it did not run, or not wholly."""

    name: str
    counts: dict[str, int] = field(default_factory=dict)
    why: list[str] = field(default_factory=list)

    @property
    def ran(self) -> bool:
        return any(self.counts.get(outcome) for outcome in ("passed", "failed", "error"))

    @property
    def ran_wholly(self) -> bool:
        return self.ran and not self.counts.get("skipped")

    def __str__(self) -> str:
        state = "ran" if self.ran else "DID NOT RUN"
        return f"  {self.name:9} {state:12} {counted(self.counts)}" + "".join(f"\n{'':12}{line}" for line in self.why)


def main(names: list[str]) -> int:
    begun = time.monotonic()
    floors = {name: Floor(name) for name in names or USUAL}
    sudo = as_root()
    machine = floors.get("machine")
    if machine and len(floors) > 1 and PROCESSORS >= SIDE_BY_SIDE:
        with beside("machine", lambda out: run_as_root(machine, sudo, out)) as codes:
            codes += run_others(floors, sudo)
    else:
        codes = run_others(floors, sudo) + ([run_as_root(machine, sudo)] if machine else [])
    missing = [floor for floor in floors.values() if not floor.ran_wholly]
    print(summary(list(floors.values()), time.monotonic() - begun, bool(missing)), flush=True)
    return 1 if any(codes) or (IN_CI and missing) else 0


def run_others(floors: dict[str, Floor], sudo: list[str] | None) -> list[int]:
    """All floors but the machines', one after the other."""
    together = ["unit", "contract", "tools"] if sudo == [] else ["unit", "contract"]
    codes = run_shared([floors[name] for name in together if name in floors])
    if "tools" in floors and "tools" not in together:
        codes.append(run_as_root(floors["tools"], sudo))
    if "guest" in floors:
        codes += run_guest(floors["guest"], sudo)
    return codes


@contextlib.contextmanager
def beside(title: str, work: Callable[[IO[str]], int]) -> Iterator[list[int]]:
    """Do `work` while the body runs; what it said is shown when both have ended, its code is added to the list."""
    codes: list[int] = []
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said, ThreadPoolExecutor(1) as pool:
        other = pool.submit(work, said)
        yield codes
        codes.append(other.result())
        said.seek(0)
        print(f"\n== {title}\n{said.read()}", flush=True)


def run_here(floors: list[Floor], sudo: list[str], out: IO[str] | None = None, shared: str = "") -> int:
    """One pytest run for all of these floors; its exit code."""
    with report_for(floors) as report:
        return pytest(floors, report, sudo=sudo, shared=shared, out=out)


def run_shared(floors: list[Floor]) -> list[int]:
    """The same, side by side."""
    if not floors:
        return []
    title = ", ".join(floor.name for floor in floors)
    return side_by_side(title, lambda out, shared: run_here(floors, [], out, shared))


def side_by_side(title: str, work: Callable[[IO[str] | None, str], int]) -> list[int]:
    """Do `work` twice at a time, where there are two processors; each is given the same folder.

    In it each takes the next test file that no other has taken (tests/conftest.py). What the first says is
    shown at once, what the second says when both have ended.
    """
    with tempfile.TemporaryDirectory(prefix="flashback-shared-") as shared:
        if PROCESSORS < SIDE_BY_SIDE:
            return [work(None, shared)]
        with beside(f"{title}, the second", lambda out: work(out, shared)) as codes:
            codes.append(work(None, shared))
        return codes


def run_as_root(floor: Floor, sudo: list[str] | None, out: IO[str] | None = None) -> int:
    if sudo is None:
        floor.why.append("needs root: run as root, or let sudo know your password first (sudo -v)")
        return 0
    return run_here([floor], sudo, out)


def run_guest(floor: Floor, sudo: list[str] | None) -> list[int]:
    """The floor that needs dm-crypt: in a kernel of its own, or in this one with FLASHBACK_TEST_NATIVE=1."""
    if sudo is None:
        return [run_as_root(floor, sudo)]
    if NATIVE:
        for module in (["-a", "dm-crypt", "loop"], ["scsi_debug", *STICKS]):
            subprocess.run([*sudo, "modprobe", *module], check=False)
        return [run_as_root(floor, sudo)]
    # files come slowly into the guest: what Python would compile there is compiled here
    compiling = [sys.executable, "-m", "compileall", "-q", "-j", "0", "flashback", "tests", f"{sys.prefix}/lib"]
    subprocess.run(compiling, cwd=TOP, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    codes = side_by_side("guest", lambda out, shared: run_in_guest(floor, sudo, out, shared))
    if codes.count(NO_KERNEL) == len(codes) and not floor.ran:
        floor.why.append(
            "its kernel did not start, see above. If yours has dm-crypt: FLASHBACK_TEST_NATIVE=1 make test"
        )
        return []
    return codes


def run_in_guest(floor: Floor, sudo: list[str], out: IO[str] | None, shared: str) -> int:
    with report_for([floor]) as report:
        kernel = [str(TOP / "tests/vm/uml-run"), *GUEST, "--rw", str(report.parent), "--rw", shared, "--"]
        code = pytest([floor], report, sudo=sudo, kernel=kernel, shared=shared, out=out)
    if code not in ENDED and (code != NO_KERNEL or floor.ran):
        floor.why.append(f"a guest ended before its tests did, with {code}")
    return code


def pytest(
    floors: list[Floor],
    report: Path,
    *,
    sudo: list[str],
    kernel: list[str] | None = None,
    shared: str = "",
    out: IO[str] | None = None,
) -> int:
    """Run the folders of these floors; the outcome is written to `report` (see tests/conftest.py)."""
    colour = "yes" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else "no"
    folders = [f"tests/{floor.name}" for floor in floors]
    settings = {"FLASHBACK_TEST_REPORT": str(report), "FLASHBACK_TEST_SHARED": shared, "PYTHONDONTWRITEBYTECODE": "1"}
    if sudo:
        settings["XDG_CACHE_HOME"] = str(Path("~/.cache").expanduser())
        settings |= {name: os.environ[name] for name in KEPT if name in os.environ}
        sudo = [*sudo, "env", *(f"{name}={value}" for name, value in settings.items())]
    options = [f"--color={colour}", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    options += [f"--session-timeout={MACHINE_SECONDS}"] if folders == ["tests/machine"] else []
    program = [sys.executable, "-m", "pytest", *options, *folders]
    if out is None:
        print(f"\n== {', '.join(floor.name for floor in floors)}", flush=True)
    argv = [*sudo, *(kernel or []), *program]
    environment = os.environ | settings
    done = subprocess.run(
        argv,
        cwd=TOP,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=out and subprocess.STDOUT,
        check=False,
    )
    return done.returncode


@contextlib.contextmanager
def report_for(floors: list[Floor]) -> Iterator[Path]:
    """A file in a folder of its own that a run writes its counts to; they are read into `floors` at the end."""
    known = {floor.name: floor for floor in floors}
    with tempfile.TemporaryDirectory(prefix="flashback-report-") as folder:
        report = Path(folder) / "report.jsonl"
        yield report
        with COUNTING:
            count(report, known)


def count(report: Path, known: dict[str, Floor]) -> None:
    """Add what a report says to the floors."""
    for line in report.read_text("utf-8").splitlines() if report.exists() else []:
        facts = json.loads(line)
        floor = known[facts["floor"]]
        floor.counts[facts["outcome"]] = floor.counts.get(facts["outcome"], 0) + 1
        if facts["why"] and facts["why"] not in floor.why:
            floor.why.append(facts["why"])


def as_root() -> list[str] | None:
    """What to put before a command so that root runs it; `None` if that would need a password nobody can type."""
    if os.geteuid() == 0:
        return []
    with contextlib.suppress(FileNotFoundError):
        if subprocess.run(["sudo", "-n", "true"], check=False, capture_output=True).returncode == 0:
            return ["sudo", "-n"]
    return None


def counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in COUNTED if counts.get(outcome))


def summary(floors: list[Floor], seconds: float, missing: bool) -> str:
    total = {outcome: sum(floor.counts.get(outcome, 0) for floor in floors) for outcome in COUNTED}
    lines = ["", "== the floors", *map(str, floors)]
    if missing:
        lines.append("  NOT EVERYTHING RAN." + (" In CI that is a failure." if IN_CI else ""))
    return "\n".join([*lines, f"=== {counted(total) or 'nothing ran'} on all floors in {seconds:.0f}s ==="])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
