"""The copying part of a run (walk, compare, work lists, copy, sync) beside plain rsync, on the same kind of drive.

    python benchmarks/copying.py                   the table of docs/explanation/cost.md (root; about half an hour)
    python benchmarks/copying.py --check           every run compared as a whole tree, for each way of treating links
    python benchmarks/copying.py --large           a million entries, and 1 MiB changed in 500 MiB
    python benchmarks/copying.py --files 3000      the same with fewer files

Each drive is a Btrfs (blake2, metadata twice, zstd:3) in a file on a loop device that passes the page cache by. rsync
and Flashback take turns, each on a drive of its own with the same history; shown are the medians of the rounds.
The clock stops when everything is on the medium (syncfs). Opening the drive is not measured: rsync does not do it.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import trees
from flashback.backup import plan
from flashback.backup.copy import CopyResult, bring_up_to_date
from flashback.config.values import Master, Rule, Symlinks
from flashback.core.command import Programs
from flashback.core.text import number, size
from flashback.drive import layout
from flashback.drive.commit import commit
from flashback.drive.session import OpenDrive
from flashback.rotation.values import KnownDrive
from flashback.tools import block, btrfs
from flashback.tools.mount import private_namespace

LINKS = {Symlinks.FOLLOW: "--copy-links", Symlinks.EXTERNAL: "--copy-unsafe-links", Symlinks.KEEP: "--links"}
RUN = Programs()
MOUNTED = "nosuid,nodev,noexec,noatime,compress=zstd:3"
PLAIN_RSYNC = (
    *("rsync", "-rtpgoHAX", "--numeric-ids", "--no-devices", "--no-specials", "--delete-delay"),
    *("--modify-window=-1", "--inplace", "--no-whole-file", "--no-inc-recursive"),
    *("--info=progress2,stats2,nonreg0", "--no-h", "--outbuf=L", "--out-format=@%i|%l|%n", "-0", "--exclude-from=-"),
)
"""As somebody who knows rsync well would call it for such a drive."""


# --- a drive without LUKS


@contextmanager
def open_drive(mount_point: Path) -> Iterator[OpenDrive]:
    """What a session hands to a run, for a Btrfs that is mounted already."""
    source = _source_of(mount_point)
    root = os.open(mount_point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    uuid = btrfs.filesystem_uuid(root)
    known = KnownDrive(uuid, "practice", "", 0, datetime(2026, 1, 1, tzinfo=UTC), filesystem_uuid=uuid)
    volume = block.LuksVolume(source, source, uuid, "", 2, 0, "", "", "", read_only=False, diskseq=0)
    errors = btrfs.error_counts(uuid)
    try:
        yield OpenDrive(known, volume, "", mount_point, root, uuid, block.presence(source), errors, read_only=False)
    finally:
        os.close(root)


def _source_of(mount_point: Path) -> str:
    for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines():
        before, _dash, after = line.partition(" - ")
        if before.split(" ")[4] == str(mount_point):
            return after.split(" ")[1]
    raise ValueError(f"nothing is mounted at {mount_point}")


@dataclass(slots=True)
class Done:
    """What one run of the copying part did."""

    plan: plan.MasterPlan
    result: CopyResult | None

    @property
    def remarks(self) -> list[Any]:
        return [*self.plan.remarks, *(self.result.remarks if self.result else ())]


def back_up(drive: OpenDrive, master: Master, spool: Path, *, snapshot: str | None = None) -> Done:
    """The steps of a run between opening and closing, without journal and ledger. `snapshot`: take it before."""
    with ExitStack() as opened:
        made = plan.plan_master(drive, master, (), spool=spool, avoid=drive.mount_point, watch=drive.watch)
        if made.changes.is_empty:
            commit(drive)
            return Done(made, None)
        folder = opened.enter_context(layout.made_directory(drive.root, master.name, 0o755))
        place = drive.mount_point / master.name
        with layout.made_directory(folder, layout.SNAPSHOTS) as snapshots:
            if snapshot is not None:
                btrfs.snapshot(RUN, place / layout.CURRENT, place / layout.SNAPSHOTS / snapshot)
            names = layout.snapshot_names(snapshots)
        if not (place / layout.CURRENT).exists():
            btrfs.create_subvolume(RUN, place / layout.CURRENT)
        result = bring_up_to_date(
            RUN,
            master=master.path,
            owner=made.owner,
            incumbent=opened.enter_context(layout.directory(folder, layout.CURRENT)),
            incumbent_path=place / layout.CURRENT,
            changes=made.changes,
            symlinks=master.symlinks,
            newest_snapshot=place / layout.SNAPSHOTS / names[-1] if names else None,
            tell=lambda _event: None,
            watch=drive.watch,
        )
        commit(drive)
        return Done(made, result)


# --- correctness


def check_phases(
    tree: trees.Tree, drive: OpenDrive, spool: Path, *, symlinks: Symlinks, owner: str, days: int = 1, share: float
) -> Iterator[tuple[str, list[str]]]:
    """Back up, let days of work pass, back up again; after each: what happened, and what is not as it should be.

    What should be is a fresh copy of the master, made by rsync on the same drive.
    """
    name = f"docs-{symlinks}"
    master = Master(name, Path(os.fsdecode(tree.root)), owner, symlinks, rules=tuple(map(Rule, trees.RULES)))
    current = os.fsencode(drive.mount_point / name / layout.CURRENT)
    for day in range(days + 1):
        if day:
            trees.work(tree, share=share)
        done = back_up(drive, master, spool, snapshot=f"20260101T00000{day}Z" if day else None)
        told = [f"remark: {remark}" for remark in done.remarks]
        yield "a day of work" if day else "first copy", told + _against_fresh_copy(tree, current, drive, symlinks)
        before = trees.touched(current)
        again = back_up(drive, master, spool)
        found = [] if again.result is None else [f"not empty: {_changed(again.plan)}"]
        touched = [f"touched: {line!r}" for line in set(before) ^ set(trees.touched(current))]
        yield "nothing changed", found + touched


def _changed(made: plan.MasterPlan) -> dict[str, Any]:
    lists = made.changes
    named = {"first": lists.remove_first, "apart": lists.apart, "whole": lists.whole, "in place": lists.in_place}
    return {key: list(spool)[:20] for key, spool in {**named, "after": lists.remove_after}.items() if len(spool)}


def _against_fresh_copy(tree: trees.Tree, current: bytes, drive: OpenDrive, symlinks: Symlinks) -> list[str]:
    fresh = os.fsencode(drive.mount_point / "fresh")
    try:
        said = trees.plain_rsync(tree.root, fresh, LINKS[symlinks], trees.RULES)
        return [f"rsync: {line!r}" for line in said] + trees.differences(fresh, current)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def check(files: int, folder: Path) -> bool:
    """Every way of treating links, as root and as a user; prints each phase and what was wrong."""
    fine = True
    with Stick.made(folder, "drive") as stick:
        for symlinks, owner in product(Symlinks, ("root", "nobody")):
            with ExitStack() as opened:
                stick.format()
                home = opened.enter_context(tempfile.TemporaryDirectory(dir=folder)).encode()
                os.chmod(home, 0o755)
                tree = trees.plant(home + b"/master", home + b"/outside", files=files, seed=len(owner))
                drive = opened.enter_context(open_drive(stick.mount_point))
                for phase, wrong in check_phases(
                    tree, drive, folder, symlinks=symlinks, owner=owner, days=2, share=0.02
                ):
                    verdict = f"{len(wrong)} WRONG" if wrong else "equal"
                    print(f"{symlinks:9} {owner:7} {phase:16} {verdict}", *wrong[:20], sep="\n", flush=True)
                    fine = fine and not wrong
    return fine


# --- what grows with what


def mebibyte_changed(home: Path, mount_point: Path, spool: Path, *, mebibytes: int) -> dict[str, float]:
    """Change 1 MiB in a file of so many that cannot be compressed, with a snapshot before: bytes allocated, memory."""
    root = home / "large"
    root.mkdir()
    chance = random.Random(5)
    with open(root / "file", "wb") as file:
        file.writelines(chance.randbytes(1 << 20) for _ in range(mebibytes))
    master = Master("large", root)
    with open_drive(mount_point) as drive:
        apart(lambda: back_up(drive, master, spool))
        before = _allocated(drive)
        with open(root / "file", "r+b") as file:
            file.seek((mebibytes // 2 << 20) + 12_345)
            file.write(chance.randbytes(1 << 20))
        figures = apart(lambda: back_up(drive, master, spool, snapshot="20260101T000000Z"))
        return figures | {"allocated": _allocated(drive) - before}


def _allocated(drive: OpenDrive) -> int:
    """Bytes that are in use on the drive: content, and metadata as often as they are kept."""
    btrfs.sync(drive.root)
    said = errand("btrfs", "filesystem", "df", "--raw", drive.mount_point)
    counted = {line.split(",")[0]: line for line in said.splitlines() if not line.startswith("GlobalReserve")}
    return sum(int(line.rpartition("used=")[2]) * (2 if "DUP" in line else 1) for line in counted.values())


# --- cost


@dataclass(slots=True)
class Stick:
    """A Btrfs in a file, on a loop device with direct I/O."""

    image: Path
    device: str
    mount_point: Path

    @classmethod
    @contextmanager
    def made(cls, folder: Path, name: str, gigabytes: int = 12) -> Iterator[Stick]:
        """A fresh one, mounted; gone after the block."""
        image, mount_point = folder / f"{name}.img", folder / name
        mount_point.mkdir()
        with open(image, "wb") as file:
            file.truncate(gigabytes << 30)
        stick = cls(image, errand("losetup", "--find", "--show", "--direct-io=on", image).strip(), mount_point)
        held = os.open(stick.device, os.O_RDONLY | os.O_CLOEXEC)  # else whoever detaches it takes it away at an unmount
        try:
            stick.format()
            yield stick
        finally:
            stick.unmount()
            subprocess.run(["losetup", "--detach", stick.device], check=False, capture_output=True)
            os.close(held)
            image.unlink()

    def format(self) -> None:
        """Empty it."""
        self.unmount()
        errand("blkdiscard", self.device)
        btrfs.make_filesystem(RUN, self.device)
        self.mount()

    def mount(self) -> None:
        errand("mount", "-o", MOUNTED, self.device, self.mount_point)

    def unmount(self) -> None:
        if os.path.ismount(self.mount_point):
            errand("umount", self.mount_point)

    def counters(self) -> dict[str, int]:
        """Requests and bytes since the loop device was made (Documentation/block/stat.rst)."""
        counts = list(map(int, Path(f"/sys/block/{Path(self.device).name}/stat").read_text("ascii").split()))
        return {
            "reads": counts[0],
            "bytes read": counts[2] * 512,
            "writes": counts[4],
            "bytes written": counts[6] * 512,
        }


def errand(*argv: str | Path) -> str:
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{argv}: {done.stderr}")
    return done.stdout


@dataclass(slots=True)
class Bench:
    """A master, and the two who copy it."""

    root: Path
    spool: Path
    owner: str
    rows: dict[str, dict[str, list[dict[str, float]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    days: int = 0

    def flashback(self, stick: Stick, *, changed: bool) -> None:
        """One run of the copying part."""
        rules = tuple(map(Rule, trees.RULES))
        master = Master("docs", self.root, self.owner, Symlinks.FOLLOW, rules=rules)
        with open_drive(stick.mount_point) as drive:
            self.days += 1
            back_up(drive, master, self.spool, snapshot=f"20260101T{self.days:06d}Z" if changed else None)

    def rsync(self, stick: Stick, *, changed: bool) -> None:
        """The same by hand."""
        place = stick.mount_point / "docs"
        if not place.exists():
            place.mkdir()
            btrfs.create_subvolume(RUN, place / "current")
        if changed:
            self.days += 1
            btrfs.snapshot(RUN, place / "current", place / f"before-{self.days}")
        argv = [*PLAIN_RSYNC, "--copy-links", "--", f"{self.root}/", f"{place / 'current'}/"]
        rules = b"\0".join(trees.RULES)
        subprocess.run(argv, input=rules, stdout=subprocess.DEVNULL, env=trees.ENVIRONMENT, check=True)
        with open(place) as folder:
            btrfs.sync(folder.fileno())

    def measure(self, row: str, who: str, stick: Stick, *, changed: bool) -> None:
        """Let one of them do its work in a process of its own."""
        before = stick.counters()
        work: Callable[..., None] = self.flashback if who == "flashback" else self.rsync
        figures = apart(lambda: work(stick, changed=changed))
        self.days += 1
        after = stick.counters()
        figures |= {key: after[key] - before[key] for key in after}
        self.rows[row][who].append(figures)
        print(f"{row:28} {who:10} {figures['seconds']:7.2f} s  {figures['reads']:6.0f} reads", file=sys.stderr)


def apart(work: Callable[[], None]) -> dict[str, float]:
    """Do it in a child: seconds, processor seconds, and the peak of memory in bytes of the child and its children."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            begun = time.monotonic()
            work()
            seconds = time.monotonic() - begun
            mine, theirs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
            processor = mine.ru_utime + mine.ru_stime + theirs.ru_utime + theirs.ru_stime
            peaks = {"memory": mine.ru_maxrss * 1024, "memory of children": theirs.ru_maxrss * 1024}
            os.write(writing, json.dumps({"seconds": seconds, "processor": processor, **peaks}).encode())
        except BaseException:  # noqa: BLE001 - the child must not go on as its parent
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    if not said:
        raise RuntimeError("the child failed")
    figures: dict[str, float] = json.loads(said)
    return figures


def warm(master: Path) -> None:
    errand("find", master, "-size", "-1", "-newermm", master)


def cold(sticks: dict[str, Stick], *, everything: bool, master: Path) -> None:
    """The drives just plugged in; `everything`: the master was not looked at either."""
    for stick in sticks.values():
        stick.unmount()
    if everything:
        errand("sync")
        Path("/proc/sys/vm/drop_caches").write_text("3", "ascii")
    for stick in sticks.values():
        stick.mount()
    if not everything:
        warm(master)


def measured(files: int, gigabytes: float, folder: Path, rounds: int) -> dict[str, Any]:
    """The whole table."""
    everybody = ["rsync", "flashback"]
    with ExitStack() as opened:
        home = opened.enter_context(tempfile.TemporaryDirectory(dir=folder)).encode()
        os.chmod(home, 0o755)
        tree = trees.plant(home + b"/master", home + b"/outside", files=files, bytes_in_all=int(gigabytes * 1e9))
        root = Path(os.fsdecode(tree.root))
        bench = Bench(root, folder, pwd.getpwuid(65534).pw_name)
        sticks = {who: opened.enter_context(Stick.made(folder, who)) for who in everybody}
        for turn in range(rounds):
            for who in in_turn(everybody, turn):
                sticks[who].format()
                bench.measure("first copy", who, sticks[who], changed=False)
        for turn in range(rounds):
            for who in in_turn(everybody, turn):
                bench.measure("nothing changed, warm", who, sticks[who], changed=False)
        for row, everything in (("just plugged in", False), ("all cold", True)):
            for turn in range(rounds):
                for who in in_turn(everybody, turn):
                    cold(sticks, everything=everything, master=root)
                    bench.measure(f"nothing changed, {row}", who, sticks[who], changed=False)
        for turn in range(rounds):
            trees.work(tree)
            for who in in_turn(everybody, turn):
                cold(sticks, everything=False, master=root)
                bench.measure("a day of work, just plugged in", who, sticks[who], changed=True)
        return {"files": len(tree.files), "rows": bench.rows}


def in_turn(everybody: list[str], turn: int) -> list[str]:
    return everybody if turn % 2 == 0 else everybody[::-1]


def table(rows: dict[str, dict[str, list[dict[str, float]]]]) -> Iterator[str]:
    """Medians; times as ratios of the same round."""
    yield "| work | rsync | Flashback | ratio | processor time, ratio | reads | written | peak memory |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for row, by in rows.items():
        rsync, flashback = by["rsync"], by["flashback"]

        def middle(who: list[dict[str, float]], key: str) -> float:
            return statistics.median(each[key] for each in who)

        def ratio(key: str, by: dict[str, list[dict[str, float]]] = by) -> float:
            pairs = zip(by["flashback"], by["rsync"], strict=True)
            return statistics.median(mine[key] / theirs[key] for mine, theirs in pairs)

        memory = size(int(middle(flashback, "memory")))
        children = size(int(middle(flashback, "memory of children")))
        yield (
            f"| {row} | {middle(rsync, 'seconds'):.2f} s | {middle(flashback, 'seconds'):.2f} s "
            f"| {ratio('seconds'):.2f} "
            f"| {ratio('processor'):.2f} | {middle(rsync, 'reads'):,.0f} / {middle(flashback, 'reads'):,.0f} "
            f"| {size(int(middle(rsync, 'bytes written')))} / {size(int(middle(flashback, 'bytes written')))} "
            f"| {memory} + {children}; rsync {size(int(middle(rsync, 'memory of children')))} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where masters and drives are made")
    asked = parser.parse_args()
    private_namespace()
    with tempfile.TemporaryDirectory(dir=asked.folder, prefix="flashback-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        if asked.check:
            sys.exit(not check(asked.files, folder))
        if asked.large:
            return
        found = measured(asked.files, asked.gigabytes, folder, asked.rounds)
        print(f"{number(found['files'], 'file')}, {asked.rounds} rounds\n")
        print(*table(found["rows"]), sep="\n")


if __name__ == "__main__":
    main()
