"""What the catalogue costs: files on drives and machine, the index, and the time of a question as it is typed.

`--files 1000000 --states 50 --drives 3` takes some minutes and a gigabyte below `--folder`. Names and their lengths are
like those of a home directory; each state changes, adds and deletes a share of the files. Questions are timed from
the start of the program to its end, on a machine that has the index in memory (its second answer, as a rule).
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flashback.catalogue.file import Header
from flashback.catalogue.seen import Kind, Seen, order
from flashback.catalogue.shelf import Note
from flashback.catalogue.shelves import Shelves
from flashback.core.text import stamp
from flashback.rotation.ledger import Ledger
from flashback.rotation.values import KnownDrive

DRIVES = [f"{number}{number}111111-2222-3333-4444-555555555555" for number in range(1, 10)]
WORDS = [
    "report",
    "draft",
    "holiday",
    "letter",
    "invoice",
    "photo",
    "scan",
    "thesis",
    "chapter",
    "notes",
    "budget",
    "backup",
    "music",
    "cover",
    "final",
    "old",
    "new",
]
ENDINGS = ["odt", "pdf", "jpg", "jpg", "jpg", "txt", "md", "py", "html", "mp3", "tex", "csv"]


def names(files: int, seed: int) -> list[bytes]:
    """Paths as in a home directory: 200 names in a folder, folders three deep."""
    chance = random.Random(seed)
    found = []
    for number in range(files):
        folder = number // 200
        top, middle = WORDS[folder % len(WORDS)], f"{WORDS[(folder // 16) % len(WORDS)]} {folder // 256:03d}"
        word = chance.choice(WORDS)
        found.append(f"{top}/{middle}/{folder:05d}/{word}-{number:07d}.{chance.choice(ENDINGS)}".encode())
    return sorted(found, key=order)


def listed(paths: list[bytes], chance: random.Random) -> Iterator[Seen]:
    """A first listing, with the folders."""
    before: set[bytes] = set()
    yield Seen(b"", int(Kind.DIRECTORY), 0o755, 1000, 1000, 0, 10**18)
    for path in paths:
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            folder = b"/".join(parts[:depth])
            if folder not in before:
                before.add(folder)
                yield Seen(folder, int(Kind.DIRECTORY), 0o755, 1000, 1000, 0, 10**18 + chance.randrange(10**17))
        yield changed(path, chance)


def changed(path: bytes, chance: random.Random) -> Seen:
    """A file with a content of its own."""
    size = int(chance.lognormvariate(9, 2))
    return Seen(path, int(Kind.FILE), 0o644, 1000, 1000, size, 10**18 + chance.randrange(10**17))


def delta(paths: list[bytes], share: float, state: int, chance: random.Random) -> Iterator[Seen]:
    """Half of what differs is changed, a quarter new, a quarter gone."""
    count = max(4, int(len(paths) * share))
    for path in sorted(chance.sample(paths, count), key=order):
        way = chance.random()
        if way < 0.5:
            yield changed(path, chance)
        elif way < 0.75:
            yield Seen(path, int(Kind.GONE))
        else:
            yield changed(path + f".{state}".encode(), chance)


def size_of(folder: Path, pattern: str) -> int:
    """Bytes."""
    return sum(each.stat().st_size for each in folder.rglob(pattern))


def make(root: Path, options: argparse.Namespace) -> None:
    """Fill the shelves as runs do, one state after another, and say what each costs."""
    shelves = Shelves(root / "catalogue")
    paths = names(options.files, 1)
    chance = random.Random(2)
    now = datetime(2025, 1, 1, tzinfo=UTC)
    states: dict[str, list[str]] = {drive: [] for drive in DRIVES[: options.drives]}
    later: list[float] = []
    with Ledger.open(root / "ledger.sqlite") as ledger:
        for number, drive in enumerate(states):
            ledger.enrol(KnownDrive(drive, f"drive{number + 1}", "digest", 1, now, place="home"))
    for turn in range(options.states):
        for drive, done in states.items():
            now += timedelta(hours=8)
            name = stamp(now)
            begun = time.monotonic()
            with shelves.shelf(drive, "home") as shelf:
                base = shelf.chain()[-1].header.stem if done else ""
                entries = listed(paths, random.Random(3)) if not done else delta(paths, options.share, turn, chance)
                link = shelf.write(Header(master="home", state=name, mark=f"{turn + 1:016x}", base=base), entries)
                done.append(name)
                shelf.keep_note(Note(tuple(done), name, "/home/alice"))
            written = time.monotonic()
            with shelves.index():
                pass
            took = time.monotonic() - written
            if turn == 0:
                print(
                    f"{drive[:8]} first state: written in {written - begun:.1f} s, {link.size:,} bytes, "
                    f"{link.size / options.files:.1f} for each file; indexed in {took:.1f} s",
                    flush=True,
                )
            else:
                later.append(took)
    if later:
        print(
            f"a later state, {int(options.files * options.share):,} changes: "
            f"indexed in {statistics.median(later):.2f} s"
        )


def ask(root: Path, *words: str) -> None:
    """Time a question as it is typed."""
    argv = [sys.executable, "-m", "flashback", *words, "--state", str(root), "--config", str(root / "none.yaml")]
    took, answer = [], ""
    for _round in range(7):
        begun = time.monotonic()
        answer = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
        took.append(time.monotonic() - begun)
    lines = answer.count("\n")
    print(
        f"flashback {' '.join(words):45} {statistics.median(took) * 1000:6.0f} ms "
        f"(first {took[0] * 1000:.0f}), {lines:,} lines"
    )


def main() -> None:
    """Make it, unless it is there, and ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--states", type=int, default=50)
    parser.add_argument("--drives", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.002, help="of the files, that differ from state to state")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/flashback-catalogue"))
    parser.add_argument("--keep", action="store_true", help="leave it there, and use what is there")
    options = parser.parse_args()
    if not options.folder.exists():
        options.folder.mkdir(parents=True)
        make(options.folder, options)
    root = options.folder / "catalogue"
    index, files = (root / "index.sqlite").stat().st_size, options.files * options.drives
    first = sum(sorted(each.stat().st_size for each in root.rglob("*.delta"))[-options.drives :])
    deltas = size_of(root, "*.delta")
    rows = files * options.share * (options.states - 1)
    print(
        f"deltas {deltas:,} bytes: {first / files:.1f} for each file and drive at first, "
        f"{(deltas - first) / max(rows, 1):.1f} for each change; index {index:,} bytes, "
        f"{index / (files + rows):.1f} for each file and change"
    )
    some = names(1000, 1)[500].rpartition(b"/")[2].decode()
    ask(options.folder, "--version")
    ask(options.folder, "status")
    for words in (
        ["find", some],
        ["find", "*-00123?5.odt"],
        ["find", "-i", "THESIS-012345"],
        ["find", "nothing-like-it"],
        ["find", "thesis/**/*-0012345*"],
        ["find", "--regex", "thesis-00012.*odt$"],
        ["ls", "latest", "thesis"],
        ["diff", "drive1:2025-01-10", "drive1:latest"],
    ):
        ask(options.folder, *words)
    if not options.keep:
        shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
