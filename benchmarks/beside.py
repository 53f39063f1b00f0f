"""Flashback's copying part beside plain rsync, rsnapshot, borg, restic and btrbk, each on a drive image of its own.

    python benchmarks/beside.py                          the table of docs/explanation/cost.md (root)
    python benchmarks/beside.py --files 1000000          the same with a million files (100 GB below --folder)
    python benchmarks/beside.py --tree tiny --files 3000 files of 400 bytes; quick

Everybody takes a turn in each round, in an order that changes; what is not installed is named and left out. All get the
same work: a first copy; nothing changed (warm, the drive just plugged in, all cold); a day of work; a directory that
was renamed; 1 MiB changed in one big file. The master lies on Btrfs, since btrbk copies nothing else. Links are kept,
nothing is excluded, root reads. The clock stops when everything is on the medium (syncfs). Opening and closing the
drive is not measured, nor the run in eleven in which Flashback compares in full (benchmarks/copying.py has it). Memory
is the peak of the largest process; no figure is below that of this program before it starts another.

The last columns are no measurement: they add to the seconds what a slow stick would take for the requests that were
counted, one after the other, as `STICK` says.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import trees
from benchmarks.copying import RUN, Figures, Stick, apart, back_up, cold, errand, open_drive
from flashback.config.values import Master, Symlinks
from flashback.core.text import size
from flashback.tools import btrfs
from flashback.tools.mount import private_namespace

STICK: Final = {"reads": 0.003, "writes": 0.003, "bytes read": 1 / 60e6, "bytes written": 1 / 20e6}
"""The modelled stick: 3 ms for each request, and 60 MB/s to read, 20 MB/s to write."""
RSYNC: Final = ("rsync", "-aHAX", "--numeric-ids", "--delete", "--inplace", "--no-whole-file", "--modify-window=-1")
SAMPLES: Final = {"documents": 20_000, "tiny": 400}
"""Mean bytes of a file, by the name of the tree."""
ENVIRONMENT: Final = {
    **trees.ENVIRONMENT,
    "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
    "RESTIC_PASSWORD": "benchmark",
}


@dataclass(slots=True)
class Given:
    """What each contender works with: `above` is the subvolume in which `master` lies, `state` its own place here."""

    above: Path
    master: Path
    state: Path
    stick: Stick

    @property
    def drive(self) -> Path:
        return self.stick.mount_point

    def quietly(self, *argv: str | Path, ok: tuple[int, ...] = (0,)) -> None:
        """Run it; programs that keep a cache of their own keep it in `state`."""
        homes = {"HOME": str(self.state), "BORG_BASE_DIR": str(self.state), "XDG_CACHE_HOME": str(self.state)}
        words = [str(word) for word in argv]
        done = subprocess.run(words, env={**ENVIRONMENT, **homes}, capture_output=True, check=False)
        if done.returncode not in ok:
            raise RuntimeError(f"{words}: {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")


def flashback(given: Given, number: int, *, full: bool = False) -> None:  # noqa: ARG001 - as all of them
    with open_drive(given.drive) as drive:
        back_up(drive, Master("docs", given.master, "root", Symlinks.KEEP), given.state, full=full)


def rsync(given: Given, number: int) -> None:
    """With a snapshot before, as Flashback has one."""
    current = given.drive / "current"
    if current.exists():
        btrfs.snapshot(RUN, current, given.drive / f"before-{number}")
    else:
        btrfs.create_subvolume(RUN, current)
    # 23: 3.5.0 looks for an ACL in the wrong place where a directory became something else
    given.quietly(*RSYNC, f"{given.master}/", f"{current}/", ok=(0, 23, 24))


def rsnapshot(given: Given, number: int) -> None:  # noqa: ARG001
    settings = {
        "config_version": "1.2",
        "snapshot_root": f"{given.drive}/snapshots/",
        "cmd_cp": "/bin/cp",
        "cmd_rsync": shutil.which("rsync"),
        "retain": "alpha\t99",
        "rsync_long_args": "--delete --numeric-ids -HAX",
        "lockfile": f"{given.state}/lock",
        "backup": f"{given.master}/\there/",
    }
    file = given.state / "rsnapshot.conf"
    file.write_text("".join(f"{name}\t{value}\n" for name, value in settings.items()))
    given.quietly("rsnapshot", "-c", file, "alpha", ok=(0, 2))


def borg(given: Given, number: int) -> None:
    store = given.drive / "store"
    if not store.exists():
        given.quietly("borg", "init", "--encryption=none", store)
    create = ("borg", "create", "--compression=zstd,3", "--numeric-ids", f"{store}::{number}")
    given.quietly(*create, given.master, ok=(0, 1))


def restic(given: Given, number: int) -> None:  # noqa: ARG001
    store = given.drive / "store"
    if not store.exists():
        given.quietly("restic", "--repo", store, "init")
    given.quietly("restic", "--repo", store, "backup", "--quiet", given.master, ok=(0, 3))


def btrbk(given: Given, number: int) -> None:  # noqa: ARG001
    (given.drive / "received").mkdir(exist_ok=True)
    (given.above.parent / "sent").mkdir(exist_ok=True)
    file = given.state / "btrbk.conf"
    lines = (
        "timestamp_format long-iso",
        f"lockfile {given.state}/lock",
        "snapshot_preserve_min latest",
        "target_preserve_min all",
        f"volume {given.above.parent}",
        "  snapshot_dir sent",
        f"  subvolume {given.above.name}",
        f"    target {given.drive}/received",
    )
    file.write_text("\n".join(lines) + "\n")
    given.quietly("btrbk", "--config", file, "--quiet", "run")


CONTENDERS: Final[dict[str, Callable[[Given, int], None]]] = {
    "rsync": rsync,
    "Flashback": flashback,
    "rsnapshot": rsnapshot,
    "borg": borg,
    "restic": restic,
    "btrbk": btrbk,
}


@dataclass(slots=True)
class Race:
    """Who takes part, and what was measured: by row, then by name."""

    above: Path
    master: Path
    folder: Path
    sticks: dict[str, Stick]
    rows: dict[str, dict[str, list[Figures]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    number: int = 0

    def begin(self) -> None:
        """Empty drives, and nobody remembers anything."""
        for who, stick in self.sticks.items():
            stick.format()
            shutil.rmtree(self.folder / f"state of {who}", ignore_errors=True)
            (self.folder / f"state of {who}").mkdir()

    def rest(self) -> None:
        """Between two rows Flashback compares in full, so that it is not due to within one."""
        apart(lambda: flashback(self.given("Flashback"), 0, full=True))

    def given(self, who: str) -> Given:
        return Given(self.above, self.master, self.folder / f"state of {who}", self.sticks[who])

    def round(self, row: str, prepare: Callable[[], None]) -> None:
        """Everybody once."""
        self.number += 1
        names = list(self.sticks)
        first = self.number % len(names)
        for who in names[first:] + names[:first]:
            prepare()
            figures = self.measured(who)
            self.rows[row][who].append(figures)
            told = f"{row:36} {who:10} {figures['seconds']:7.2f} s {figures['reads']:6.0f} reads"
            print(told, file=sys.stderr, flush=True)

    def measured(self, who: str) -> Figures:
        stick = self.sticks[who]
        given = self.given(who)

        def work() -> None:
            CONTENDERS[who](given, self.number)
            root = os.open(stick.mount_point, os.O_RDONLY)
            btrfs.sync(root)
            os.close(root)

        before, used = stick.counters(), _used(stick)
        figures = apart(work)
        after = stick.counters()
        return figures | {key: after[key] - before[key] for key in after} | {"space": _used(stick) - used}


def _used(stick: Stick) -> int:
    """Bytes of the drive that are in use."""
    status = os.statvfs(stick.mount_point)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def race(race: Race, tree: trees.Tree, rounds: int) -> None:
    """All rows; the last drives of the first row are those of the others."""
    chance = random.Random(7)
    big = race.master / "one big file"
    with big.open("wb") as file:
        file.writelines(chance.randbytes(1 << 20) for _ in range(300))
    plugged = partial(cold, race.sticks, everything=False, master=race.master)
    everything = partial(cold, race.sticks, everything=True, master=race.master)
    for row, prepare in (("first copy, all cold", everything), ("first copy, master in memory", _nothing)):
        for _ in range(rounds):
            race.begin()
            race.round(row, prepare=prepare)
    race.round("warming up", prepare=lambda: None)
    del race.rows["warming up"]
    preparations = {"warm": _nothing, "just plugged in": plugged, "all cold": everything}
    for how, prepare in preparations.items():
        race.rest()
        for _ in range(rounds):
            race.round(f"nothing changed, {how}", prepare=prepare)
    race.rest()
    for _ in range(rounds):
        trees.work(tree)
        race.round("a day of work, just plugged in", prepare=plugged)
    race.rest()
    folder = max((each for each in race.master.iterdir() if each.is_dir() and not each.is_symlink()), key=_weight)
    for turn in range(rounds):
        folder = folder.rename(race.master / f"renamed {turn}")
        race.round(f"a directory of {size(_weight(folder))} renamed", prepare=plugged)
    race.rest()
    for _ in range(rounds):
        with big.open("r+b") as file:
            file.seek(chance.randrange(298 << 20))
            file.write(chance.randbytes(1 << 20))
        race.round("1 MiB changed in 300 MiB", prepare=plugged)


def _nothing() -> None:
    pass


def _weight(folder: Path) -> int:
    return sum(os.lstat(os.path.join(top, name)).st_size for top, _, files in os.walk(folder) for name in files)


def table(rows: dict[str, dict[str, list[Figures]]]) -> Iterator[str]:
    """Medians of the rounds; a ratio is the median of the ratios to rsync in the same round."""
    yield (
        "| work | who | time | ratio | requests to read | to write | read | written | space | peak memory "
        "| modelled slow stick | ratio |"
    )
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for row, by in rows.items():
        for place, (who, figures) in enumerate(sorted(by.items(), key=lambda item: list(CONTENDERS).index(item[0]))):

            def middle(key: str, figures: list[Figures] = figures) -> float:
                return statistics.median(each[key] for each in figures)

            pairs = list(zip(figures, by["rsync"], strict=False))
            ratio = statistics.median(mine["seconds"] / theirs["seconds"] for mine, theirs in pairs)
            slow = statistics.median(_on_a_slow_stick(mine) / _on_a_slow_stick(theirs) for mine, theirs in pairs)
            memory = statistics.median(max(each["memory"], each["memory of children"]) for each in figures)
            yield (
                f"| {'' if place else row} | {who} | {middle('seconds'):.2f} s | {ratio:.2f} | {middle('reads'):,.0f} "
                f"| {middle('writes'):,.0f} | {size(int(middle('bytes read')))} | {size(int(middle('bytes written')))} "
                f"| {size(max(0, int(middle('space'))))} | {size(int(memory))} "
                f"| {statistics.median(map(_on_a_slow_stick, figures)):.1f} s | {slow:.2f} |"
            )


def _on_a_slow_stick(figures: Figures) -> float:
    """Seconds, as modelled."""
    return figures["seconds"] + sum(figures[key] * seconds for key, seconds in STICK.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--tree", choices=SAMPLES, default="documents")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="who takes part")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where the drives are made")
    asked = parser.parse_args()
    there = [who for who in CONTENDERS if who == "rsync" or who in asked.only]
    absent = [who for who in there if who != "Flashback" and shutil.which(who) is None]
    private_namespace()
    gigabytes = 12 + asked.files // 10_000
    with tempfile.TemporaryDirectory(dir=asked.folder, prefix="flashback-beside-") as name, ExitStack() as opened:
        folder = Path(name)
        folder.chmod(0o755)
        home = opened.enter_context(Stick.made(folder, "home", gigabytes))
        above = home.mount_point / "above"
        btrfs.create_subvolume(RUN, above)
        tree = trees.plant(
            os.fsencode(above / "master"),
            os.fsencode(above / "outside"),
            files=asked.files,
            seed=asked.seed,
            bytes_in_all=asked.files * SAMPLES[asked.tree],
        )
        sticks = {who: opened.enter_context(Stick.made(folder, who, gigabytes)) for who in there if who not in absent}
        taking_part = Race(above, above / "master", folder, sticks)
        try:
            race(taking_part, tree, asked.rounds)
        except BaseException:
            print("broken off:\n", *table(taking_part.rows), sep="\n")
            raise
        said = errand(*RSYNC, "-nic", f"{taking_part.master}/", f"{sticks['Flashback'].mount_point}/docs/current/")
        print(
            f"{len(tree.files):,} files ({asked.tree}, seed {asked.seed}), {asked.rounds} rounds; {_versions(sticks)}"
        )
        print(f"left out, since not installed: {', '.join(absent) or 'nobody'}; Flashback's copy at the end: ", end="")
        print("equal to the master, content and all\n" if not said else f"DIFFERS:\n{said}")
        print(*table(taking_part.rows), sep="\n")


def _versions(sticks: dict[str, Stick]) -> str:
    asks = {
        "rsync": "--version",
        "borg": "--version",
        "restic": "version",
        "btrbk": "--version",
        "rsnapshot": "version",
    }
    told = []
    for who in sticks:
        if who in asks:
            first = subprocess.run([who, asks[who]], capture_output=True, text=True, check=False).stdout.split("\n")[0]
            told.append(f"{who} {' '.join(re.findall(r'[0-9]+[.][0-9.]+', first)[:1])}")
    return ", ".join(told)


if __name__ == "__main__":
    main()
