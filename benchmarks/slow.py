"""A run over a drive that takes milliseconds for each request, beside plain rsync: in a kernel of its own.

    tests/vm/uml-run --mem 3G --timeout 3000 --scsi 1:800 --drive one.img --drive two.img -- python benchmarks/slow.py

The drives are images of 4 GB (`truncate -s 4G one.img`) behind device-mapper's `delay`, which holds each request for
`--milliseconds`; several at once are held at once, where a stick would take them one after the other. The kernel is
User-Mode Linux, in which every system call takes about ten times as long as usual: processor time weighs more here
than on a machine, the waiting for the drive less. The master is on an ext4 in memory. Rows, turns and figures as in
`copying.py`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import trees
from benchmarks.copying import RUN, Bench, Stick, cold, errand, table
from flashback.core.text import number
from flashback.tools import btrfs
from flashback.tools.mount import private_namespace


class Slow(Stick):
    """A Btrfs on a device that delays; it is there already and stays."""

    __slots__ = ()

    @classmethod
    def behind(cls, below: Path, mount_point: Path, milliseconds: int) -> Slow:
        """The same device, later."""
        mount_point.mkdir()
        sectors = errand("blockdev", "--getsz", below).strip()
        name = f"slow-{mount_point.name}"
        errand("dmsetup", "create", name, "--table", f"0 {sectors} delay {below} 0 {milliseconds}")
        return cls(below, os.path.realpath(f"/dev/mapper/{name}"), mount_point)

    def format(self) -> None:
        """Empty it."""
        self.unmount()
        btrfs.make_filesystem(RUN, self.device)
        self.mount()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--megabytes", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--milliseconds", type=int, default=3)
    parser.add_argument("--drives", nargs=2, type=Path, default=[Path("/dev/ubdb"), Path("/dev/ubdc")])
    parser.add_argument("--home", type=Path, default=Path("/dev/sda"), help="a disk for the master; erased")
    asked = parser.parse_args()
    errand("modprobe", "-a", "btrfs", "dm-delay")
    private_namespace()
    with tempfile.TemporaryDirectory(prefix="flashback-bench-") as name, ExitStack() as opened:
        folder = Path(name)
        folder.chmod(0o755)
        home = folder / "home"
        home.mkdir()
        errand("mkfs.ext4", "-q", "-F", asked.home)
        errand("mount", asked.home, home)
        opened.callback(errand, "umount", home)
        home.chmod(0o755)
        tree = trees.plant(
            os.fsencode(home / "master"),
            os.fsencode(home / "outside"),
            files=asked.files,
            bytes_in_all=asked.megabytes * 1_000_000,
        )
        root = Path(os.fsdecode(tree.root))
        sticks: dict[str, Stick] = {
            who: Slow.behind(drive, folder / who, asked.milliseconds)
            for who, drive in zip(("rsync", "Flashback"), asked.drives, strict=True)
        }
        for stick in sticks.values():
            stick.format()
            opened.callback(stick.unmount)
        bench = Bench(root, folder / "state", "nobody", sticks)
        plugged = partial(cold, sticks, everything=False, master=root)
        bench.round("first copy", 0, prepare=lambda: None, full=False)
        for turn in range(asked.rounds):
            bench.round("nothing changed, just plugged in", turn, prepare=plugged, full=False)
        for turn in range(asked.rounds):
            trees.work(tree)
            bench.round("a day of work, just plugged in", turn, prepare=plugged, snapshot=True, full=False)
        print(f"{number(len(tree.files), 'file')}, {asked.rounds} rounds, {asked.milliseconds} ms for each request\n")
        print(*table(bench.rows), sep="\n")


if __name__ == "__main__":
    main()
