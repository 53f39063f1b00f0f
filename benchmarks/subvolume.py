"""A run over a master that is a Btrfs subvolume, beside plain rsync and btrbk, each with a drive of its own.

    python benchmarks/subvolume.py                            the table of docs/explanation/cost.md (root)
    python benchmarks/subvolume.py --files 3000 --rounds 1    the same with fewer files
    python benchmarks/subvolume.py --btrbk DIR/usr/bin/btrbk  where btrbk is not installed (0.32 was measured)

As in `copying.py`, the clock stops when everything is on the medium. `walked` is Flashback with `btrfs: never`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import copying, trees, walk
from benchmarks.copying import Bench, Figures, Stick, back_up, open_drive
from flashback.backup.report import RunRequest
from flashback.compare.guard import HoldName
from flashback.config.values import Btrfs, Master, Rule, Symlinks
from flashback.core.text import number
from flashback.drive.commit import commit
from flashback.tools.mount import private_namespace

WHO = ("rsync", "Flashback", "walked", "btrbk")
CONFIGURATION = """\
timestamp_format long-iso
snapshot_preserve_min 2d
target_preserve_min all
volume {home}
  snapshot_dir .btrbk
  target {drive}
  subvolume master
"""


@dataclass(slots=True)
class OnSubvolume(Bench):
    """`root` is a subvolume of the Btrfs that `home` has mounted; `sticks` has a drive for each of `WHO`."""

    home: Path = Path()
    btrbk_program: str = "btrbk"

    def backed_up(self, who: str) -> dict[str, float]:
        """A run of Flashback with a state of its own."""
        rules, way = tuple(map(Rule, walk.RULES)), Btrfs.NEVER if who == "walked" else Btrfs.AUTO
        master = Master("docs", self.root, self.owner, Symlinks.FOLLOW, rules=rules, btrfs=way)
        allowed = partial(RunRequest, allowed=tuple(HoldName))  # random bytes look like encryption
        with open_drive(self.sticks[who].mount_point) as drive, patch("benchmarks.copying.RunRequest", allowed):
            report = back_up(drive, master, self.state / who)
        assert report.plan is not None
        (plan,) = report.plan.masters
        return {"narrow": float(bool(plan.reading["changes_only"])), "full": float(plan.full)}

    def btrbk(self) -> dict[str, float]:
        """A snapshot, and what differs from the last one sent to the drive."""
        drive = self.sticks["btrbk"].mount_point
        file = self.state / "btrbk.conf"
        file.write_text(CONFIGURATION.format(home=self.home, drive=drive))
        subprocess.run([self.btrbk_program, "-q", "-c", str(file), "run"], check=True)
        with open_drive(drive) as opened:
            commit(opened)
        return {}

    def turn(self, row: str, turn: int, *, prepare: Callable[[], None], snapshot: bool = False) -> None:
        """One after the other, in an order that changes."""
        works: dict[str, Callable[[], dict[str, float]]] = {
            "rsync": partial(self.rsync, snapshot=snapshot),
            "Flashback": partial(self.backed_up, "Flashback"),
            "walked": partial(self.backed_up, "walked"),
            "btrbk": self.btrbk,
        }
        for who in sorted(works, key=WHO.index, reverse=bool(turn % 2)):
            prepare()
            figures = self.measured(who, works[who])
            if figures.get("full") and "first" not in row:  # its turn to look at everything: not this row's
                prepare()
                figures = self.measured(who, works[who])
            self.rows[row][who].append(figures)
            print(f"{row:32} {who:10} {figures['seconds']:7.2f} s", figures, file=sys.stderr, flush=True)
        self.days += 1

    def measured(self, who: str, work: Callable[[], dict[str, float]]) -> Figures:
        """As `measure`, on the drive that is named as who works."""
        stick = self.sticks[who]
        before = stick.counters()
        figures = copying.apart(work)
        after = stick.counters()
        return figures | {key: after[key] - before[key] for key in after}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--btrbk", default="btrbk")
    parser.add_argument("--only-work", action="store_true", help="no rounds in which nothing changed")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where masters and drives are made")
    asked = parser.parse_args()
    private_namespace()
    with (
        tempfile.TemporaryDirectory(dir=asked.folder, prefix="flashback-bench-") as name,
        ExitStack() as opened,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        home = opened.enter_context(Stick.made(folder, "home"))
        home.mount_point.chmod(0o755)
        (home.mount_point / ".btrbk").mkdir()
        root = home.mount_point / "master"
        copying.errand("btrfs", "subvolume", "create", root)
        tree = trees.plant(
            os.fsencode(root),
            os.fsencode(folder / "outside"),
            files=asked.files,
            bytes_in_all=int(asked.gigabytes * 1e9),
        )
        sticks = {who: opened.enter_context(Stick.made(folder, who)) for who in WHO}
        (folder / "state").mkdir()
        bench = OnSubvolume(root, folder / "state", "nobody", sticks, home=home.mount_point, btrbk_program=asked.btrbk)
        copying.errand("sync")
        bench.turn("first copy", 0, prepare=partial(copying.warm, root))
        quiet = 0 if asked.only_work else asked.rounds
        for turn in range(quiet):
            bench.turn("nothing changed, warm", turn, prepare=lambda: None)
        for row, everything in (("just plugged in", False), ("all cold", True)):
            for turn in range(quiet):
                prepare = partial(copying.cold, sticks, everything=everything, master=root)
                bench.turn(f"nothing changed, {row}", turn, prepare=prepare)
        for turn in range(asked.rounds):
            trees.work(tree)
            prepare = partial(copying.cold, sticks, everything=False, master=root)
            bench.turn("a day of work, just plugged in", turn, prepare=prepare, snapshot=True)
        print(f"{number(len(tree.files), 'file')}, {asked.rounds} rounds\n")
        print(*copying.table(bench.rows), sep="\n")


if __name__ == "__main__":
    main()
