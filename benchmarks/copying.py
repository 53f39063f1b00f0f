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
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import trees, walk
from flashback.app import Unattended
from flashback.backup.plan import MasterPlan
from flashback.backup.run import Report, Run, RunRequest
from flashback.compare.changes import ChangeSet
from flashback.compare.comparison import compare
from flashback.compare.guard import HoldName
from flashback.compare.known import Draft
from flashback.config.values import Config, Master, Rule, Symlinks
from flashback.core.command import Programs
from flashback.core.context import Context, Paths
from flashback.core.signals import StopSignals
from flashback.core.text import number, rfc3339, size
from flashback.drive import identity, layout
from flashback.drive.commit import commit
from flashback.drive.recognise import Candidate
from flashback.drive.session import OpenDrive, Session
from flashback.rotation.ledger import Ledger
from flashback.rotation.values import KnownDrive
from flashback.tools import block, btrfs
from flashback.tools.mount import private_namespace
from flashback.walk.listing import Entry, Kind

LINKS = {Symlinks.FOLLOW: "--copy-links", Symlinks.EXTERNAL: "--copy-unsafe-links", Symlinks.KEEP: "--links"}
RUN = Programs()
ENROLLED = datetime(2026, 1, 1, tzinfo=UTC)
MOMENT = 1_700_000_000_123_456_789
Figures = dict[str, float]
STARTED = time.monotonic()
MOUNTED = "nosuid,nodev,noexec,noatime,compress=zstd:3"
PLAIN_RSYNC = (
    *("rsync", "-rtpgoHAX", "--numeric-ids", "--no-devices", "--no-specials", "--delete-delay"),
    *("--modify-window=-1", "--inplace", "--no-whole-file", "--no-inc-recursive"),
    *("--info=progress2,stats2,nonreg0", "--no-h", "--outbuf=L", "--out-format=@%i|%l|%n", "-0", "--exclude-from=-"),
)
"""As somebody who knows rsync well would call it for such a drive."""


# --- runs over a drive without LUKS


@contextmanager
def open_drive(mount_point: Path) -> Iterator[OpenDrive]:
    """What a session hands to a run, for a Btrfs that is mounted already; its marker is written where it is missing."""
    source = _source_of(mount_point)
    root = os.open(mount_point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        uuid = btrfs.filesystem_uuid(root)
        known = KnownDrive(uuid, f"practice-{uuid[:8]}", "", 0, ENROLLED, filesystem_uuid=uuid)
        with layout.made_directory(root, layout.OURS) as ours:
            identity.write(root, ours, known, created=rfc3339(ENROLLED), machine="bench")
        volume = block.LuksVolume(source, source, uuid, "", 2, 0, "", "", "", read_only=False, diskseq=0)
        errors = btrfs.error_counts(uuid)
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
class Opened:
    """Stands for a session: the drive is open already, and stays so."""

    drive: OpenDrive

    @property
    def candidate(self) -> Candidate:
        return Candidate(self.drive.known, self.drive.volume)

    @contextmanager
    def held(self, *, purpose: str, read_only: bool = False) -> Iterator[OpenDrive]:  # noqa: ARG002 - a session's
        yield self.drive

    def written_so_far(self) -> int:
        return 0


def back_up(drive: OpenDrive, master: Master, state: Path, *, full: bool = False) -> Report:
    """A whole run but for opening and closing. `state` takes the ledger, the catalogue and the work lists."""
    state.mkdir(exist_ok=True)
    context = Context(
        run=RUN,
        signals=StopSignals(),
        clock=_fast_clock,
        tell=lambda _event: None,
        person=Unattended(None),
        paths=Paths(config=state / "no.yaml", state=state, runtime=state),
        machine="bench",
    )
    with Ledger.open(context.paths.ledger) as ledger:
        if drive.known.uuid not in {known.uuid for known in ledger.drives()}:
            ledger.enrol(drive.known)
        config = Config(file=context.paths.config, masters=(master,), scrub_every=None)
        request = RunRequest(full=full, allowed=tuple(HoldName))  # a day of `trees.work` may look like an accident
        run = Run(context, config, ledger, cast("Session", Opened(drive)), request)
        with patch("flashback.backup.run.prove_destination"):  # it wants to see a LUKS mapping
            run.execute()
    return run.report


def _fast_clock() -> datetime:
    """No two runs end within one second of it."""
    return datetime.now(UTC) + timedelta(seconds=99 * (time.monotonic() - STARTED))


# --- correctness


def check_phases(
    tree: trees.Tree, drive: OpenDrive, state: Path, *, symlinks: Symlinks, owner: str, days: int = 1, share: float
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
        report = back_up(drive, master, state, full=day == 2)
        told = [f"remark: {remark}" for remark in report.remarks]
        snapshots = [] if bool(report.snapshots) == bool(day) else [f"snapshots: {report.snapshots}"]
        phase = f"day {day}" if day else "first copy"
        yield phase, told + snapshots + _against_fresh_copy(tree, current, drive, symlinks)
        for how, full in (("nothing changed", False), ("nothing, in full", True)):
            before = trees.touched(current)
            again = back_up(drive, master, state, full=full)
            assert again.plan is not None
            [made] = again.plan.masters
            found = [f"not empty: {_changed(made)}"] if again.copies else []
            found += [f"{how} was {'' if made.full else 'not '}in full"] if made.full != full else []
            yield how, found + [f"touched: {line!r}" for line in set(before) ^ set(trees.touched(current))]


def _changed(made: MasterPlan) -> dict[str, Any]:
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


def check(files: int, gigabytes: float, folder: Path) -> bool:
    """Every way of treating links, as root and as a user; prints each phase and what was wrong."""
    fine = True
    with Stick.made(folder, "drive") as stick:
        for symlinks, owner in product(Symlinks, ("root", "nobody")):
            with ExitStack() as opened:
                stick.format()
                home = opened.enter_context(tempfile.TemporaryDirectory(dir=folder)).encode()
                os.chmod(home, 0o755)
                tree = trees.plant(
                    home + b"/master",
                    home + b"/outside",
                    files=files,
                    seed=len(owner),
                    bytes_in_all=int(gigabytes * 1e9),
                )
                drive = opened.enter_context(open_drive(stick.mount_point))
                state = Path(opened.enter_context(tempfile.TemporaryDirectory(dir=folder)))
                for phase, wrong in check_phases(
                    tree, drive, state, symlinks=symlinks, owner=owner, days=2, share=0.02
                ):
                    verdict = f"{len(wrong)} WRONG" if wrong else "equal"
                    print(f"{symlinks:9} {owner:7} {phase:16} {verdict}", *wrong[:20], sep="\n", flush=True)
                    fine = fine and not wrong
    return fine


# --- what grows with what


def mebibyte_changed(home: Path, mount_point: Path, state: Path, *, mebibytes: int) -> dict[str, float]:
    """Change 1 MiB in a file of so many that cannot be compressed, with a snapshot before: bytes allocated, memory."""
    root = home / "large"
    root.mkdir()
    chance = random.Random(5)
    with open(root / "file", "wb") as file:
        file.writelines(chance.randbytes(1 << 20) for _ in range(mebibytes))
    master = Master("large", root)
    with open_drive(mount_point) as drive:
        apart(lambda: back_up(drive, master, state))
        before = _allocated(drive)
        with open(root / "file", "r+b") as file:
            file.seek((mebibytes // 2 << 20) + 12_345)
            file.write(chance.randbytes(1 << 20))
        figures = apart(lambda: back_up(drive, master, state))
        return figures | {"allocated": _allocated(drive) - before}


def _allocated(drive: OpenDrive) -> int:
    """Bytes that are in use on the drive: content, and metadata as often as they are kept."""
    btrfs.sync(drive.root)
    said = errand("btrfs", "filesystem", "df", "--raw", drive.mount_point)
    counted = {line.split(",")[0]: line for line in said.splitlines() if not line.startswith("GlobalReserve")}
    return sum(int(line.rpartition("used=")[2]) * (2 if "DUP" in line else 1) for line in counted.values())


def listed(entries: int) -> Iterator[Entry]:
    """A listing without a file system: twenty files in each directory, every hundredth file has a second name."""
    for folder in range(entries // 21):
        path = b"home/user/Documents/year %02d/topic %05d" % (folder % 97, folder)
        yield Entry(path, Kind.DIRECTORY, 0o755, 1000, 1000, 0, MOMENT, MOMENT, 64, folder, 1)
        for place in range(20):
            inode = (folder // 2 if place == 7 else folder * 20 + place) + 10**7
            name = b"%s/letter to somebody %07d.txt" % (path, place)
            nlink = 2 if place == 7 else 1
            yield Entry(name, Kind.FILE, 0o644, 1000, 1000, 9000, MOMENT, MOMENT, 64, inode, nlink, blocks=24)


def memory_for(entries: int, spool: Path) -> dict[str, int]:
    """Peak memory, in bytes beyond an idle process, of holding so many entries against a drive's."""

    def work(before: Callable[[], Iterator[Entry]]) -> Callable[[], None]:
        draft = Draft.begun(spool)
        return lambda: ChangeSet.collect(compare(listed(entries), before(), record=draft.add), directory=spool) and None

    idle = apart(lambda: None)["memory"]
    return {
        "first copy": int(apart(work(lambda: iter(())))["memory"] - idle),
        "nothing changed": int(apart(work(lambda: listed(entries)))["memory"] - idle),
    }


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
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise RuntimeError(f"{argv}: {done.stderr}")
    return done.stdout


@dataclass(slots=True)
class Bench:
    """A master, and the two who copy it, each to a drive of their own."""

    root: Path
    state: Path
    owner: str
    sticks: dict[str, Stick]
    rows: dict[str, dict[str, list[Figures]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    days: int = 0

    def flashback(self, *, full: bool = False) -> dict[str, float]:
        """A run, in full if it must be."""
        master = Master("docs", self.root, self.owner, Symlinks.FOLLOW, rules=tuple(map(Rule, walk.RULES)))
        with open_drive(self.sticks["Flashback"].mount_point) as drive:
            report = back_up(drive, master, self.state, full=full)
        assert report.plan is not None
        return {"full": float(report.plan.masters[0].full), "sync": report.sync_seconds}

    def rsync(self, *, snapshot: bool) -> dict[str, float]:
        """The same by hand."""
        mount_point = self.sticks["rsync"].mount_point
        place = mount_point / "docs"
        if not place.exists():
            place.mkdir()
            btrfs.create_subvolume(RUN, place / "current")
        if snapshot:
            btrfs.snapshot(RUN, place / "current", place / f"before-{self.days}")
        argv = [*PLAIN_RSYNC, "--copy-links", "--", f"{self.root}/", f"{place / 'current'}/"]
        # It may end with 23 where a directory became something else (3.5.0 looks for an ACL in the wrong place).
        rules = b"\0".join(walk.RULES)
        subprocess.run(argv, input=rules, stdout=subprocess.DEVNULL, env=trees.ENVIRONMENT, check=False)
        with open_drive(mount_point) as drive:
            commit(drive)
        return {}

    def round(self, row: str, turn: int, *, prepare: Callable[[], None], snapshot: bool = False, full: bool) -> None:
        """One after the other, in an order that changes."""
        works: dict[str, Callable[[], dict[str, float]]] = {
            "rsync": lambda: self.rsync(snapshot=snapshot),
            "Flashback": self.flashback,
        }
        if full:
            works["in full"] = lambda: self.flashback(full=True)
        for who in sorted(works, key=list(works).index, reverse=bool(turn % 2)):
            prepare()
            figures = self.measure(who, works[who])
            if who == "Flashback" and full and figures["full"]:  # its turn to look at everything: not this row's
                prepare()
                figures = self.measure(who, works[who])
            self.rows[row][who].append(figures)
            print(f"{row:32} {who:10} {figures['seconds']:7.2f} s {figures['reads']:6.0f} reads", file=sys.stderr)
        self.days += 1

    def measure(self, who: str, work: Callable[[], dict[str, float]]) -> Figures:
        """Let one of them do its work in a process of its own."""
        stick = self.sticks["rsync" if who == "rsync" else "Flashback"]
        before = stick.counters()
        figures = apart(work)
        after = stick.counters()
        return figures | {key: after[key] - before[key] for key in after}


def apart(work: Callable[[], Any]) -> Figures:
    """Do it in a child: seconds, processor seconds, and the peak of memory in bytes of the child and its children."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            begun = time.monotonic()
            said = work()
            seconds = time.monotonic() - begun
            mine, theirs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
            processor = mine.ru_utime + mine.ru_stime + theirs.ru_utime + theirs.ru_stime
            peaks = {"memory": mine.ru_maxrss * 1024, "memory of children": theirs.ru_maxrss * 1024}
            more = said if isinstance(said, dict) else {}
            os.write(writing, json.dumps({"seconds": seconds, "processor": processor, **peaks, **more}).encode())
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
    figures: Figures = json.loads(said)
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
    with ExitStack() as opened:
        home = opened.enter_context(tempfile.TemporaryDirectory(dir=folder)).encode()
        os.chmod(home, 0o755)
        tree = trees.plant(home + b"/master", home + b"/outside", files=files, bytes_in_all=int(gigabytes * 1e9))
        root = Path(os.fsdecode(tree.root))
        sticks = {who: opened.enter_context(Stick.made(folder, who)) for who in ("rsync", "Flashback")}
        bench = Bench(root, folder / "state", pwd.getpwuid(65534).pw_name, sticks)
        # Each after `cold`: whoever came second would write into memory that was never used before, which takes longer.
        for row, everything in (("first copy, all cold", True), ("first copy", False)):
            for turn in range(rounds):
                for stick in sticks.values():
                    stick.format()
                prepare = partial(cold, sticks, everything=everything, master=root)
                bench.round(row, turn, prepare=prepare, full=False)
        for turn in range(rounds):
            bench.round("nothing changed, warm", turn, prepare=lambda: None, full=True)
        for row, everything in (("just plugged in", False), ("all cold", True)):
            for turn in range(rounds):
                prepare = partial(cold, sticks, everything=everything, master=root)
                bench.round(f"nothing changed, {row}", turn, prepare=prepare, full=True)
        for turn in range(rounds):
            trees.work(tree)
            prepare = partial(cold, sticks, everything=False, master=root)
            bench.round("a day of work, just plugged in", turn, prepare=prepare, snapshot=True, full=False)
        return {"files": len(tree.files), "rows": bench.rows}


def table(rows: dict[str, dict[str, list[Figures]]]) -> Iterator[str]:
    """Medians; ratios are those of the same round."""
    yield "| work | who | time | ratio | processor time | ratio | reads | written | peak memory, with children |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|"
    for row, by in rows.items():
        for who, figures in by.items():

            def middle(key: str, figures: list[Figures] = figures) -> float:
                return statistics.median(each[key] for each in figures)

            def ratio(key: str, pairs: list[tuple[Figures, Figures]]) -> float:
                return statistics.median(mine[key] / theirs[key] for mine, theirs in pairs)

            pairs = list(zip(figures, by["rsync"], strict=True))
            yield (
                f"| {row} | {who} | {middle('seconds'):.2f} s | {ratio('seconds', pairs):.2f} "
                f"| {middle('processor'):.2f} s | {ratio('processor', pairs):.2f} | {middle('reads'):,.0f} "
                f"| {size(int(middle('bytes written')))} "
                f"| {size(int(middle('memory')))}, {size(int(middle('memory of children')))} |"
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
            sys.exit(not check(asked.files, asked.gigabytes, folder))
        if asked.large:
            print("memory for 1,000,000 entries:", memory_for(1_000_000, folder))
            with Stick.made(folder, "drive") as drive, Stick.made(folder, "home") as home:
                figures = mebibyte_changed(home.mount_point, drive.mount_point, folder / "state", mebibytes=500)
            print("1 MiB changed in 500 MiB:", figures)
            return
        found = measured(asked.files, asked.gigabytes, folder, asked.rounds)
        print(f"{number(found['files'], 'file')}, {asked.rounds} rounds\n")
        print(*table(found["rows"]), sep="\n")


if __name__ == "__main__":
    main()
