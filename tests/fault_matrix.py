"""Try every fault at every point of every command, and write docs/explanation/fault-matrix.md (make faults).

    fault_matrix.py                  all of it, in two guests side by side, for hours
    fault_matrix.py run prune        only these commands; what the page says of the others stays
    fault_matrix.py --into FOLDER    keep the lines that trials leave there; what has a good line there is not tried again
    fault_matrix.py --from FOLDER    no trials: the page is written from such lines
    FLASHBACK_FAULTS=steps           in the environment: one point of each step; `some`: two of each command
    FLASHBACK_FAULT_KINDS=a,b        in the environment: only these kinds of faults, into a FOLDER of their own or with --join

Each trial leaves a line (tests/guest/matrix.py). What went wrong is printed, and makes it fail.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from flashback.core.events import Step

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs/explanation/fault-matrix.md"
COMMANDS = ("run", "init", "prune", "restore", "scrub", "verify", "drive adopt", "close", "key change")
BESIDE = ("test_faults_run.py", "test_faults_write_errors.py", "test_power_cuts.py", "test_hostile_drive.py")
"""Trials of other kinds, which have no rows; they are tried with all of it."""
GUEST = ("tests/vm/uml-run", "--mem", "1800M", "--scsi", "2:400", "--timeout", "21600")
FAULTS = {
    "SIGKILL": ("the process is killed", "every point"),
    "write errors": ("the stick refuses every write from now on", "every second point"),
    "host full": ("not a byte more fits on the file system of the ledger", "each step, each change of the ledger"),
    "drive full": ("every free byte of the drive is taken", "every second point while it is mounted"),
    "read errors": (
        "no sector of the stick can be read from now on (what the kernel has in memory can)",
        "every third point",
    ),
    "second run": ("another `flashback run` is started and awaited", "every sixth point"),
    "clock back": (
        "the clock of the machine jumps two days back, and forth again for the next run",
        "every sixth point",
    ),
    "clock forward": ("it jumps two days ahead", "every sixth point"),
    "stopped a while": ("the process and its programs are stopped, and go on (SIGSTOP, SIGCONT)", "every sixth point"),
    "crash": ("a program ends by SIGSEGV", "while each program works"),
    "not installed": ("a program is not there", "once for each program"),
    "exit 1": ("a program fails: instead of its work, or after it", "before and after each program"),
    "unplug": ("the stick is pulled", "every point"),
    "SIGTERM": ("the signal comes from outside", "every point"),
    "SIGINT": ("Ctrl-C", "every fourth point"),
    "SIGHUP": ("the terminal is closed", "every fourth point"),
    "flush errors": (
        "the drive takes every write and refuses every flush from now on",
        "each step, before each flush, line of the journal and change of the ledger",
    ),
    "metadata full": (
        "Btrfs has no room for metadata any more, and much for data",
        "every fourth point while it is mounted",
    ),
    "ledger read-only": (
        "the file system of the ledger turns read-only, as after an error",
        "each step, each change of the ledger",
    ),
    "master renamed": ("the master has another name from now on", "each step, before and during rsync"),
    "master unmounted": (
        "its file system is unmounted, an empty folder in its place",
        "each step, before and during rsync",
    ),
    "master unreadable": (
        "the disk of the master refuses every read (what the kernel has in memory is dropped)",
        "each step, before and during rsync",
    ),
}
"""What each is, and at which points it is tried."""
KINDS = tuple(FAULTS)
INTRODUCTION = """# The fault matrix

This page is written by `make faults`, which tries each fault at the points of each command on real LUKS2 drives in a kernel
of its own. A *point* is a place in a command: before, during and after each program that it starts, around each line of the
drive's journal, each flush, each change of the ledger, and after each step that it tells. The points are not listed by
hand: the command without a fault yields them. A step or a command of the program that is missing here fails a test.

After each trial it is looked that

- no drive is mounted in any process's view, no mapping is open and no process is left; the exception is `umount` not
  installed, where the exit code is 12, which is true until the process ends;
- what the command said of the drive is true of the kernel at that moment, its exit code is the one that it told and one that
  the fault can lead to: never 1 (unexpected), 2 or 12;
- the same command, given again, comes to its end by itself; for `run` that is a run after another change of the master, for
  `init` also a first run; after a jump of the clock it may be held by the guard of the clock, and is then allowed;
- what it left is whole: a restored tree equals the master or it was named what is missing, one of the two passphrases opens the drive (the new one, if that
  was said), an adopted drive has all its snapshots;
- after a flush that failed nothing is called complete or safe to remove, but what was flushed before;

and after at most twenty runs, and each time that all commands have met a fault, the drive is opened by `cryptsetup` and `mount` alone: the copy equals the master as it was when a
run last said "complete", each snapshot equals the master of its time, and none of those that were complete is missing. (Where a
guest was ended early, nobody looked after its last trials; a new guest began with new drives.)
"""
EXPLAINED = """
## What is not in the matrix

- Power cuts with lost and torn writes, I/O errors of dm-error and dm-flakey, a single file or block of the master that
  cannot be read, a pulled drive that is put back at once, and a scrub that is stopped in the kernel have [tests of their
  own](failures.md), with selected points.
- A machine that really sleeps and wakes: stopping and continuing the processes is what was tried. A drive that the
  machine takes for newly plugged after it woke is a drive that was pulled and put back.
- A flush that fails on a stick: for these trials the drive is a loop device on a mapping, of which a part that nobody
  is given refuses the flush.
- Sticks with a USB bridge: the disks are scsi_debug's. Real ones of QEMU are pulled in tests/machine, at a few points.
- Faults of two kinds at once, and a second fault while the first is being dealt with.

`FLASHBACK_FAULTS=all` tries all points; the ordinary tests try about fifty of these trials, and fail on a step that
this page does not have.
"""
ORDER = ("before", *map(str, Step))
"""Of the columns."""
Cell = tuple[int, frozenset[str]]
Rows = dict[tuple[str, str], dict[str, Cell]]
"""By command and step, then by fault."""


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="keep the lines there; those that are there count")
    parser.add_argument("--join", action="store_true", help="beside others that work into the same folder")
    parser.add_argument("--guests", type=int, default=2, metavar="N")
    parser.add_argument("--from", dest="source", type=Path, metavar="FOLDER", help="no trials: write the page")
    given = parser.parse_args(words)
    if unknown := set(given.commands) - set(COMMANDS):
        parser.error(f"no command of the matrix: {', '.join(unknown)}")
    if given.source:
        return publish(given.source)
    with contextlib.ExitStack() as stack:
        folder = given.into or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flashback-faults-")))
        if not given.join:
            shutil.rmtree(folder / "claims", ignore_errors=True)
        (folder / "claims").mkdir(parents=True, exist_ok=True)
        files = ["nightly_matrix.py"] * given.guests + ([] if given.commands or given.join else list(BESIDE))
        with ThreadPoolExecutor(given.guests) as guests:
            codes = list(guests.map(lambda file: in_guest(file, folder, given.commands), files))
        return max(codes) if given.join else publish(folder) or max(codes)


def in_guest(file: str, folder: Path, commands: Sequence[str]) -> int:
    """The tests of one file, at all points; what they say comes at once."""
    settings = {
        "FLASHBACK_FAULTS": os.environ.get("FLASHBACK_FAULTS", "all"),
        "FLASHBACK_FAULT_RESULTS": str(folder),
        "FLASHBACK_FAULT_COMMANDS": ",".join(commands),
        "FLASHBACK_FAULT_GUEST": secrets.token_hex(4),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    argv = [*GUEST, "--rw", str(folder), "--", sys.executable, "-m", "pytest", "-q", "-p", "no:randomly"]
    argv += ["-p", "no:cacheprovider", f"tests/guest/{file}"]
    return subprocess.run(argv, cwd=TOP, env=os.environ | settings, stdin=subprocess.DEVNULL, check=False).returncode


def trials(folder: Path) -> Iterator[dict[str, Any]]:
    """The last line of each trial. A guest that was ended may have left half a line."""
    last: dict[tuple[str, str, str], dict[str, Any]] = {}
    for file in sorted(folder.glob("*.jsonl"), key=lambda file: file.stat().st_mtime):
        for line in file.read_text("utf-8").splitlines():
            if line.endswith("}"):
                each = json.loads(line)
                last[each["command"], each["kind"], each["point"]] = each
    yield from last.values()


def publish(folder: Path) -> int:
    """Write the page; the commands that were not tried keep their rows."""
    found = list(trials(folder))
    wrong = [each for each in found if each["wrong"]]
    for each in wrong:
        print(each["wrong"])
        each.setdefault("note", f"exit code {each['code']}")
    fresh = rows_of(found)
    tried = {command for command, _step in fresh}
    old = read(PAGE.read_text("utf-8")) if PAGE.exists() else {}
    kept = {key: row for key, row in old.items() if key[0] not in tried}
    where = sorted({file.read_text("utf-8") for file in folder.glob("*.machine")})
    planned = json.loads(plan.read_text("utf-8")) if (plan := folder / "planned.json").exists() else {}
    of = sum(sum(planned[command].values()) for command in tried if command in planned)
    PAGE.write_text(page({**kept, **fresh}, said_of(found, where, of)), "utf-8")
    print(f"{len(found)} trials, {len(wrong)} of them went wrong. {PAGE}")
    return 1 if wrong or not found else 0


def said_of(found: Sequence[dict[str, Any]], where: Sequence[str], of: int) -> str:
    """When it was, on what, and what came of it. `of`: how many trials there are in all."""
    wrong = [each for each in found if each["wrong"]]
    days = sorted({each["date"] for each in found if each.get("date")})
    hours = sum(each.get("seconds", 0) for each in found) / 3600
    good = len(found) - len(wrong)
    made = f"{len(found):,} of the {max(of, len(found)):,} trials that there are were made on {' and '.join(days)}"
    came = f"{good:,} went well, {len(wrong)} did not."
    rest = "The rest was not made: a small number or a dash in the tables says where." if of > len(found) else ""
    lines = [f"**{made}**, in {hours:.1f} hours of one guest: {came} {rest}", "", f"It was {' and '.join(where)}."]
    if wrong:
        lines += ["", f"{len(wrong)} trials went wrong, and are not in the tables:", ""]
        lines += [f"- {each['command']}, {each['kind']}, {each['point']}: {each['note']}" for each in wrong]
    return "\n".join(lines)


def rows_of(found: Iterable[dict[str, Any]]) -> Rows:
    seen: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for each in found:
        if not each["wrong"]:
            seen[each["command"], each["step"], each["kind"]].append(code_said(each["code"]))
    rows: Rows = {}
    for (command, step, kind), codes in seen.items():
        rows.setdefault((command, step), {})[kind] = (len(codes), frozenset(codes))
    return rows


def code_said(code: int) -> str:
    return "killed" if code == -9 else str(code)


def page(rows: Rows, said: str) -> str:
    parts = [INTRODUCTION, f"\n{said}\n\n", *overview(rows)]
    for command in COMMANDS:
        of_it = sorted((step for name, step in rows if name == command), key=ORDER.index)
        parts += of_command(command, {step: rows[command, step] for step in of_it})
    return "".join(parts) + EXPLAINED


def overview(rows: Rows) -> Iterator[str]:
    total: dict[tuple[str, str], int] = defaultdict(int)
    for (command, _step), row in rows.items():
        for kind, (count, _codes) in row.items():
            total[kind, command] += count
    yield f"## {sum(total.values()):,} trials\n\n"
    yield f"| fault | what it is | tried at | {' | '.join(COMMANDS)} |\n|---|---|---|{'---:|' * len(COMMANDS)}\n"
    for kind, (what, at) in FAULTS.items():
        counts = [str(total[kind, command] or "–") for command in COMMANDS]
        yield f"| {kind} | {what} | {at} | {' | '.join(counts)} |\n"
    sums = [str(sum(total[kind, command] for kind in KINDS)) for command in COMMANDS]
    yield f"| together | | | {' | '.join(sums)} |\n"
    yield "\nA dash: not tried. In the tables below a cell says how many points of a step were tried, and the exit codes.\n"
    yield "`before` is what comes before the first step. 0: the command did its work, the fault was none to it or too late.\n"


def of_command(command: str, steps: dict[str, dict[str, Cell]]) -> Iterator[str]:
    if not steps:
        return
    named = " (with `--scrub`)" if command == "run" else ""
    yield f"\n## `{command}`{named}\n\n| fault | {' | '.join(steps)} |\n|---|{'---|' * len(steps)}\n"
    for kind in KINDS:
        if any(kind in row for row in steps.values()):
            yield f"| {kind} | {' | '.join(told(row.get(kind)) for row in steps.values())} |\n"


def told(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    count, codes = cell
    return f"{count}: {', '.join(sorted(codes, key=lambda code: (not code.isdigit(), code.zfill(4))))}"


def read(text: str) -> Rows:
    """The rows of a page."""
    rows: Rows = {}
    command, steps = "", [""]
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("## "):
            command, steps = line.split("`")[1] if "`" in line else "", []
        elif command and cells[0] == "fault":
            steps = cells[1:]
        elif command and cells[0] in KINDS:
            for step, cell in zip(steps, cells[1:], strict=True):
                if cell != "–":
                    count, _colon, codes = cell.partition(": ")
                    rows.setdefault((command, step), {})[cells[0]] = (int(count), frozenset(codes.split(", ")))
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
