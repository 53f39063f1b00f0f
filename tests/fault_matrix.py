"""Try every fault at every point of every command, and write docs/explanation/fault-matrix.md.

    fault_matrix.py                 all of it, in two guests side by side; an hour or two (make faults)
    fault_matrix.py run prune       only these commands; the rows of the others stay as they are
    FLASHBACK_FAULTS=steps          in the environment: one point of each step, about a fifth of them
    FLASHBACK_FAULTS=some           likewise: those of the ordinary tests
    fault_matrix.py --from FOLDER   no trials: the page is written from the lines that trials have left there

Each trial leaves a line (tests/guest/matrix.py). What went wrong is printed, and makes it fail.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs/explanation/fault-matrix.md"
KINDS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "unplug", "exit 1", "not installed")
COMMANDS = {
    "run": "test_faults_everywhere.py",
    "init": "test_faults_init.py",
    **dict.fromkeys(("prune", "key change", "drive adopt", "close"), "nightly_changing.py"),
    **dict.fromkeys(("restore", "scrub", "verify"), "nightly_reading.py"),
}
BESIDE = ("test_power_cuts.py", "test_hostile_drive.py", "nightly_long_life.py")
"""Trials of other kinds, which have no rows; they are tried with all of it."""
GUEST = ("tests/vm/uml-run", "--mem", "1500M", "--scsi", "2:400", "--timeout", "10800")
INTRODUCTION = """# The fault matrix

This page is written by `make faults`, which tries each fault at each point of each command on real LUKS2 drives in a kernel
of its own. A *point* is a place in a command: before, during and after each program that it starts, around each line of the
drive's journal, each flush, each transaction of the ledger, and after each step that it tells. The points are not listed by
hand: a run of the command without a fault yields them. A step of the program that is missing here fails a test.

After each trial it is looked that

- no drive is mounted in any process's view and no mapping is open, except after SIGKILL in the moment between `cryptsetup
  open` and `cryptsetup close --deferred`, where the next command puts the mapping away;
- what the command said of the drive is true of the kernel at that moment, and its exit code is the one that it told;
- no process is left;
- the same command, given again, comes to its end by itself;
- what it left is whole: a restored tree equals the master, one of the two passphrases opens the drive (the new one, if that
  was said), an adopted drive has all its snapshots;

and after the last trial of each kind that a run completes, and that each state on the drive equals the master of its time,
with none missing of those that were complete. A cell says how many points were tried, and the exit codes.

"""
EXPLAINED = """
`run` is `run --scrub`. `before` is what comes before the first step. 0 in a cell: the command had done its work when the
fault came. "exit 1" and "not installed" are answers of a program that the command started, so only its start is a point.

What is beside this matrix: [power cuts](failures.md#when-the-power-fails), [errors of the drive
itself](failures.md), a full drive, a master that goes away, a full or read-only disk for the ledger.
"""

HOW = {
    "all": "every fault at every point",
    "steps": "every fault at one point of each step",
    "some": "every fault at a selection of points",
}
Cell = tuple[int, frozenset[str]]
Rows = dict[tuple[str, str], dict[str, Cell]]


def main(words: Sequence[str]) -> int:
    if words[:1] == ["--from"]:
        return publish(list(trials(Path(words[1]))))
    wanted = list(words) or list(COMMANDS)
    files = [*dict.fromkeys(COMMANDS[each] for each in wanted), *(() if words else BESIDE)]
    with tempfile.TemporaryDirectory(prefix="flashback-faults-") as folder:
        with ThreadPoolExecutor(2) as guests:
            codes = list(guests.map(lambda file: in_guest(file, folder), files))
        return publish(list(trials(Path(folder)))) or max(codes)


def in_guest(file: str, folder: str) -> int:
    """The tests of one file, at all points; what they say comes at once."""
    settings = {
        "FLASHBACK_FAULTS": os.environ.get("FLASHBACK_FAULTS", "all"),
        "FLASHBACK_FAULT_RESULTS": folder,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    argv = [*GUEST, "--rw", folder, "--", sys.executable, "-m", "pytest", "-q", "-p", "no:randomly"]
    argv += ["-p", "no:cacheprovider", f"tests/guest/{file}"]
    return subprocess.run(argv, cwd=TOP, env=os.environ | settings, stdin=subprocess.DEVNULL, check=False).returncode


def trials(folder: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob("*.jsonl")):
        yield from map(json.loads, file.read_text("utf-8").splitlines())


def publish(found: Sequence[dict[str, Any]]) -> int:
    """Write the page; the commands that were not tried keep their rows."""
    for each in found:
        if each["wrong"]:
            print(each["wrong"])
    fresh = rows_of(found)
    tried = {command for command, _step in fresh}
    old = read(PAGE.read_text("utf-8")) if PAGE.exists() else {}
    kept = {key: row for key, row in old.items() if key[0] not in tried}
    PAGE.write_text(page({**kept, **fresh}, HOW[os.environ.get("FLASHBACK_FAULTS", "all")]), "utf-8")
    each_with_all = {each["command"]: each["of"] * 5 for each in found}
    print(f"Points of each command times five faults: {each_with_all}, {sum(each_with_all.values())} together")
    print(f"{len(found)} trials, {sum(bool(each['wrong']) for each in found)} of them went wrong. {PAGE}")
    return 1 if any(each["wrong"] for each in found) or not found else 0


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


def page(rows: Rows, how: str) -> str:
    total = sum(count for row in rows.values() for count, _codes in row.values())
    lines = [
        f"{total:,} trials, {how}:\n",
        f"| command | step | {' | '.join(KINDS)} |",
        f"|---|---|{'---|' * len(KINDS)}",
    ]
    commands = list(COMMANDS)
    order = sorted(rows, key=lambda key: commands.index(key[0]))
    for command, step in order:
        cells = [said(rows[command, step].get(kind)) for kind in KINDS]
        lines.append(f"| `{command}` | {step} | {' | '.join(cells)} |")
    return INTRODUCTION + "\n".join(lines) + "\n" + EXPLAINED


def said(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    count, codes = cell
    return f"{count}: {', '.join(sorted(codes, key=lambda code: (not code.isdigit(), code.zfill(4))))}"


def read(text: str) -> Rows:
    """The rows of a page."""
    rows: Rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| `") or len(cells) != len(KINDS) + 2:
            continue
        row: dict[str, Cell] = {}
        for kind, cell in zip(KINDS, cells[2:], strict=True):
            if cell != "–":
                count, _colon, codes = cell.partition(": ")
                row[kind] = (int(count), frozenset(codes.split(", ")))
        rows[cells[0].strip("`"), cells[1]] = row
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
