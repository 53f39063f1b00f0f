"""Run upon run over a Btrfs, resting on the catalogue: the copy is what a run that looked at both sides would have made.

Each sequence backs the same master up twice onto one drive: as `docs`, believing the catalogue as runs do, and as
`oracle`, always comparing in full. Both must come to the same, and where everything can be read, to the master itself;
after that a full comparison must find nothing to do.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest

from benchmarks import copying, trees
from flashback.app import Unattended
from flashback.backup import copy as copying_part
from flashback.backup import run as running
from flashback.compare.guard import HoldName
from flashback.config.values import Btrfs, Config, Master, Rule, Symlinks
from flashback.core.command import Programs
from flashback.core.context import Context, Paths
from flashback.core.errors import NotFinished
from flashback.core.signals import StopSignals
from flashback.drive.session import OpenDrive
from flashback.rotation.ledger import Ledger
from flashback.tools import rsync
from tests.conftest import mounted_btrfs, run
from tests.tools.test_copy_random import Gardener

MOUNTS = Path("/proc/mounts")
FULL_EVERY = 10
"""As configured where nothing is said."""


class Rig:
    """An open drive, a machine's state, a master; `back_up` is a whole run but for opening and closing."""

    def __init__(self, folder: Path, home: Path, mount_point: Path) -> None:
        self.state, self.master = folder / "state", home / "master"
        self.mount_point, self.held = mount_point, contextlib.ExitStack()
        self.drive: OpenDrive = self.held.enter_context(copying.open_drive(mount_point))
        self.master.mkdir()
        self.state.mkdir()
        # Read as it is, so that a test can write to it in the middle of a run.
        self.settings = Master("docs", self.master, "root", Symlinks.KEEP, btrfs=Btrfs.NEVER)
        self.full_every = FULL_EVERY
        self.now = datetime(2027, 1, 1, tzinfo=UTC)

    def plug_in_again(self) -> None:
        """The kernel remembers nothing of the drive any more."""
        (source,) = {line.split()[0] for line in MOUNTS.read_text().splitlines() if f" {self.mount_point} " in line}
        image = run("losetup", "--noheadings", "--output", "BACK-FILE", source).strip()
        self.held.close()
        run("umount", self.mount_point)
        run("mount", "-o", "loop,nosuid,nodev,noexec,noatime", image, self.mount_point)
        self.drive = self.held.enter_context(copying.open_drive(self.mount_point))

    def reads(self) -> int:
        """Requests to read that the drive was given (Documentation/block/stat.rst, field 1)."""
        return int(Path(f"/sys/block/{Path(self.drive.volume.path).name}/stat").read_text("ascii").split()[0])

    def clock(self) -> datetime:
        self.now += timedelta(seconds=5)
        return self.now

    def context(self) -> Context:
        return Context(
            run=Programs(),
            signals=StopSignals(),
            clock=self.clock,
            tell=lambda _event: None,
            person=Unattended(None),
            paths=Paths(config=self.state / "no.yaml", state=self.state, runtime=self.state),
            machine="test",
        )

    def back_up(self, name: str = "docs", *, full: bool = False, dry: bool = False) -> running.Report:
        context = self.context()
        os.sync()  # what a test did by hand is on the drive by the next run: it is mounted anew
        with Ledger.open(context.paths.ledger) as ledger:
            if not list(ledger.drives()):
                ledger.enrol(self.drive.known)
            master = replace(self.settings, name=name)
            config = Config(file=context.paths.config, masters=(master,), scrub_every=None, full_every=self.full_every)
            request = running.RunRequest(full=full, dry_run=dry, allowed=tuple(HoldName))
            work = running.Run(context, config, ledger, copying.Opened(self.drive), request)
            with patch("flashback.backup.run.prove_destination"):  # it wants to see a LUKS mapping
                work.execute()
        return work.report

    def current(self, name: str = "docs") -> Path:
        return self.drive.mount_point / name / "current"

    @property
    def catalogue(self) -> Path:
        return self.state / "catalogue" / self.drive.known.uuid / "docs.listing"

    def wrong(self, *options: str) -> str:
        return run("rsync", "-aHAXni", "--delete", "--checksum", *options, f"{self.master}/", f"{self.current()}/")

    def still_to_do(self) -> dict[str, list[bytes]]:
        """What a full comparison would have a run do."""
        (plan,) = self.back_up(full=True, dry=True).plan.masters
        assert plan.full
        names = ("remove_first", "apart", "whole", "in_place", "remove_after")
        return {name: list(getattr(plan.changes, name)) for name in names if len(getattr(plan.changes, name))}


def was_full(report: running.Report) -> bool:
    (plan,) = report.plan.masters
    return plan.full


@pytest.fixture
def rig() -> Iterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="flashback-catalogue-") as name, contextlib.ExitStack() as opened:
        folder = Path(name)
        folder.chmod(0o755)
        mounts = [mounted_btrfs(folder / each, "600M") for each in ("home", "drive")]
        for each in mounts:
            opened.callback(next, each, None)
        home, mount_point = map(next, mounts)
        rig = Rig(folder, home, mount_point)
        opened.callback(rig.held.close)
        yield rig


@contextlib.contextmanager
def before_copying(what: Callable[[], object]) -> Iterator[None]:
    """Do something between the plan and the copy."""
    real = running.bring_up_to_date

    def bring_up_to_date(*args, **more):
        what()
        return real(*args, **more)

    with patch.object(running, "bring_up_to_date", bring_up_to_date):
        yield


@contextlib.contextmanager
def rsync_that_leaves_out(*names: bytes, says: Callable[[bytes], rsync.CopyOutcome] | None = None) -> Iterator[None]:
    """rsync is not given these names; `says` makes what it is heard to say of the first one, nothing by default."""
    real = rsync.copy

    def without_names(request):
        given = request.names.read().split(b"\0")[:-1]
        left = opened.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - it is entered
        left.write(b"".join(each + b"\0" for each in given if each.removeprefix(b"./") not in names))
        left.seek(0)
        return replace(request, names=left)

    def copy(runner, requests, *, on_outcome, **more):
        def heard(outcome):
            said = says(names[0]) if says else rsync.CopyOutcome()
            on_outcome(
                replace(
                    outcome,
                    vanished=(*outcome.vanished, *said.vanished),
                    unread=(*outcome.unread, *said.unread),
                    unwritable=(*outcome.unwritable, *said.unwritable),
                )
            )

        real(runner, map(without_names, requests), on_outcome=heard, **more)

    with contextlib.ExitStack() as opened, patch.object(copying_part.rsync, "copy", copy):
        yield


# --- sequences


class Meddler(Gardener):
    """A gardener who also swaps kinds, swaps directories, moves hard links about, and hides files from their owner."""

    def __init__(self, top: Path, seed: int, *, hides: bool = False) -> None:
        super().__init__(top, seed)
        self.ways += [self.swap_kind, self.swap_two, self.break_link, self.join, self.same_second, self.save_anew]
        if hides:
            self.ways += [self.hide, self.show, self.show, self.dangle]

    def swap_kind(self) -> None:
        path = self.one("fdl")
        is_directory = os.path.isdir(path) and not os.path.islink(path)
        shutil.rmtree(path) if is_directory else os.unlink(path)
        kind = self.random.choice("fdl")
        if kind == "f":
            Path(os.fsdecode(path)).write_bytes(b"a file now")
        elif kind == "d":
            os.mkdir(path)
            Path(os.fsdecode(path), "inside").write_bytes(b"within")
        else:
            os.symlink(b"a", path)

    def swap_two(self) -> None:
        """What was at one path is at the other: nothing about either has changed but where it is."""
        one, other = self.one("fd"), self.one("fd")
        if not (one + b"/").startswith(other + b"/") and not (other + b"/").startswith(one + b"/"):
            os.rename(one, self.top + b"/between")
            os.rename(other, one)
            os.rename(self.top + b"/between", other)

    def break_link(self) -> None:
        """A file of its own with the same content and times, with the first name of a group."""
        path = self.one("f")
        shutil.copy2(path, path[:-1] + b"%")
        os.rename(path[:-1] + b"%", path)

    def join(self) -> None:
        path, other = self.one("f"), self.one("f")
        if not os.path.samefile(path, other):
            os.unlink(path)
            os.link(other, path)

    def same_second(self) -> None:
        path = self.one("f")
        at = os.stat(path)
        with open(path, "r+b") as file:
            file.write(self.random.randbytes(at.st_size))
        os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns // 10**9 * 10**9 + (at.st_mtime_ns + 1) % 10**9))

    def save_anew(self) -> None:
        path = self.one("f")
        with open(path[:-1] + b"%", "wb") as file:
            file.write(self.random.randbytes(300))
        os.rename(path[:-1] + b"%", path)

    def hide(self) -> None:
        os.chmod(self.one("fd"), 0)

    def show(self) -> None:
        os.chmod(self.one("fd"), 0o755)

    def dangle(self) -> None:
        os.symlink(b"nowhere", self.place())


def settings_of(rig: Rig, chance: random.Random, *, symlinks: bool, rules: bool) -> None:
    if symlinks:
        rig.settings = replace(rig.settings, symlinks=chance.choice(list(Symlinks)))
    if rules:
        some = [Rule(b"a b"), Rule(b"/B"), Rule(b"a-/"), Rule(b"\xff")]
        rig.settings = replace(rig.settings, rules=tuple(chance.sample(some, chance.randrange(3))))


def tree_of(rig: Rig) -> list[str]:
    """In what the two copies differ, by other people's tools."""
    return trees.differences(os.fsencode(rig.current("oracle")), os.fsencode(rig.current()))


@pytest.mark.parametrize("seed", range(6))
def test_after_every_run_the_copy_equals_the_master(rig: Rig, seed: int) -> None:
    meddler = Meddler(rig.master, seed)
    meddler.work(60)
    believed = 0
    for turn in range(10):
        report = rig.back_up()
        believed += not was_full(report)
        assert report.remarks == []
        assert rig.wrong() == "", turn
        assert rig.still_to_do() == {}, turn
        meddler.work(meddler.random.choice([0, 1, 3, 15]))
    assert believed >= 8  # the first is full, and so may be one of which nothing but a change time differs


@pytest.mark.parametrize(
    ("seed", "owner", "symlinks", "rules"),
    [
        *((seed, "root", True, True) for seed in range(20, 23)),
        *((seed, "nobody", False, False) for seed in range(30, 34)),
        *((seed, "nobody", True, True) for seed in range(40, 44)),
    ],
)
def test_what_is_believed_comes_to_what_a_full_comparison_would_do(rig: Rig, seed, owner, symlinks, rules) -> None:
    rig.settings = replace(rig.settings, owner=owner)
    meddler = Meddler(rig.master, seed, hides=True)
    meddler.work(80)
    for turn in range(10):
        rig.back_up()
        rig.back_up("oracle", full=True)
        assert tree_of(rig) == [], turn
        assert rig.still_to_do() == {}, turn
        meddler.work(meddler.random.choice([0, 1, 3, 15]))
        settings_of(rig, meddler.random, symlinks=symlinks, rules=rules)


def test_runs_rest_on_the_catalogue_and_every_now_and_then_one_does_not(rig: Rig) -> None:
    (rig.master / "file").write_bytes(b"x")
    assert [was_full(rig.back_up()) for _ in range(2 * FULL_EVERY + 3)] == [
        True,
        *[False] * FULL_EVERY,
        True,
        *[False] * FULL_EVERY,
        True,
    ]


@pytest.mark.parametrize(("full_every", "full"), [(0, [True] * 4), (2, [True, False, False, True])])
def test_how_many_runs_rest_on_the_catalogue_is_configured(rig: Rig, full_every, full) -> None:
    rig.full_every = full_every
    (rig.master / "file").write_bytes(b"x")
    assert [was_full(rig.back_up()) for _ in range(4)] == full


# --- what the catalogue claims and the drive does not have


def some_files(rig: Rig) -> None:
    (rig.master / "d/e").mkdir(parents=True)
    for name in ("a", "d/b", "d/e/c"):
        (rig.master / name).write_bytes(name.encode())


UNREAD = lambda name: rsync.CopyOutcome(unread=(rsync.Trouble(name, "input/output error", 5),))  # noqa: E731
VANISHED = lambda name: rsync.CopyOutcome(vanished=(name,))  # noqa: E731
UNWRITABLE = lambda name: rsync.CopyOutcome(unwritable=(rsync.Trouble(name, "no such device", 6),))  # noqa: E731
NAMELESS = lambda _name: rsync.CopyOutcome(unwritable=(rsync.Trouble(b"", "something"),))  # noqa: E731
STRANGE = lambda _name: rsync.CopyOutcome(unread=(rsync.Trouble(b"no/such/path", "what?", 5),))  # noqa: E731


@pytest.mark.parametrize("says", [UNREAD, VANISHED, UNWRITABLE, NAMELESS, STRANGE])
@pytest.mark.parametrize("kind", ["new", "changed", "attributes"])
def test_a_file_that_was_not_copied_is_copied_by_the_next_run(rig: Rig, says, kind) -> None:
    some_files(rig)
    if kind != "new":
        rig.back_up()
        (rig.master / "d/b").write_bytes(b"changed") if kind == "changed" else (rig.master / "d/b").chmod(0o751)
    with rsync_that_leaves_out(b"d/b", says=says):
        rig.back_up()
    rig.back_up()
    assert rig.wrong() == ""
    assert rig.still_to_do() == {}


@pytest.mark.parametrize("says", [UNREAD, VANISHED, UNWRITABLE])
def test_a_directory_that_was_not_made_is_made_by_the_next_run_with_all_that_it_holds(rig: Rig, says) -> None:
    """rsync names the directory alone: what is in it is skipped without a word."""
    some_files(rig)
    with rsync_that_leaves_out(b"d", b"d/b", b"d/e", b"d/e/c", says=says):
        rig.back_up()
    assert not (rig.current() / "d").exists()
    rig.back_up()
    assert rig.wrong() == ""


def test_a_file_that_nobody_missed_is_found_by_the_next_full_comparison(rig: Rig) -> None:
    """rsync ends with 0 and has not copied it: what it is not known to do. This is what full comparisons are for."""
    some_files(rig)
    with rsync_that_leaves_out(b"d/b"):
        rig.back_up()
    runs = 0
    while not (rig.current() / "d/b").exists():
        rig.back_up()
        runs += 1
    assert runs == FULL_EVERY + 1
    assert rig.wrong() == ""


def test_a_directory_that_vanished_before_it_was_copied_and_came_back_is_copied_then(rig: Rig) -> None:
    some_files(rig)
    away = rig.master.parent / "away"
    with before_copying(lambda: (rig.master / "d").rename(away)):
        report = rig.back_up()
    assert report.remarks
    away.rename(rig.master / "d")
    rig.back_up()
    assert rig.wrong() == ""


def test_a_directory_that_was_a_file_for_the_time_of_the_copy_is_copied_then(rig: Rig) -> None:
    some_files(rig)
    away = rig.master.parent / "away"

    def swap() -> None:
        (rig.master / "d").rename(away)
        (rig.master / "d").write_bytes(b"a file")

    with before_copying(swap):
        rig.back_up()
    (rig.master / "d").unlink()
    away.rename(rig.master / "d")
    rig.back_up()
    assert rig.wrong() == ""
    assert rig.still_to_do() == {}


def test_a_file_that_changed_after_it_was_looked_at_is_copied_by_the_next_run(rig: Rig) -> None:
    some_files(rig)
    rig.back_up()
    (rig.master / "a").write_bytes(b"changed")
    with before_copying(lambda: (rig.master / "d/b").write_bytes(b"changed, too")):
        rig.back_up()
    assert not was_full(rig.back_up())
    assert rig.wrong() == ""


def test_what_could_not_be_removed_is_told_by_every_run(rig: Rig) -> None:
    """A subvolume made by hand inside the copy: not ours to delete, and not to be forgotten either."""
    some_files(rig)
    rig.back_up()
    run("btrfs", "subvolume", "create", rig.current() / "nested")
    assert [b"nested" in {remark.path for remark in rig.back_up().remarks} for _ in range(3)] == [True] * 3


def test_something_else_that_stands_in_the_way_of_a_file_is_told_by_every_run(rig: Rig) -> None:
    some_files(rig)
    rig.back_up()
    (rig.current() / "a").unlink()
    run("btrfs", "subvolume", "create", rig.current() / "a")
    (rig.current() / "a/full").touch()
    assert [b"a" in {remark.path for remark in rig.back_up().remarks} for _ in range(3)] == [True] * 3
    run("btrfs", "subvolume", "delete", rig.current() / "a")
    rig.back_up()
    assert rig.wrong() == ""


def test_what_could_not_be_cleared_out_of_the_way_is_cleared_by_the_next_run(rig: Rig) -> None:
    some_files(rig)
    rig.back_up()
    shutil.rmtree(rig.master / "d")
    (rig.master / "d").write_bytes(b"a file now")
    real, failed = copying_part.Below.remove, []

    def remove(below, path):
        if not failed:
            failed.append(path)
            raise OSError(errno.EBUSY, "busy for a moment")
        return real(below, path)

    with patch.object(copying_part.Below, "remove", remove):
        rig.back_up()
    assert failed == [b"d"]
    rig.back_up()
    assert rig.wrong() == ""


def test_a_name_that_could_not_be_parted_from_another_file_is_parted_by_the_next_run(rig: Rig) -> None:
    some_files(rig)
    os.link(rig.master / "a", rig.master / "b")
    rig.back_up()
    (rig.master / "b").unlink()
    shutil.copy2(rig.master / "a", rig.master / "b")
    (rig.master / "b").chmod(0o600)
    with patch.object(copying_part._Work, "_part_one", side_effect=OSError(errno.EBUSY, "busy for a moment")):
        rig.back_up()
    rig.back_up()
    assert rig.wrong() == ""
    assert rig.still_to_do() == {}


# --- hard links and what is kept


def test_a_hard_link_that_was_broken_while_its_other_name_could_not_be_read(rig: Rig) -> None:
    """The kept name is listed by the drive's inode in a full run, its sibling by the master's: none may be mixed up."""
    rig.settings = replace(rig.settings, owner="nobody")
    hidden = rig.master / "hidden"
    hidden.mkdir()
    (hidden / "x").write_bytes(b"one")
    os.link(hidden / "x", rig.master / "y")
    rig.back_up()
    hidden.chmod(0)
    rig.back_up(full=True)
    shutil.copy2(rig.master / "y", rig.master / "z")
    (rig.master / "z").rename(rig.master / "y")
    (rig.master / "y").chmod(0o604)
    rig.back_up()
    hidden.chmod(0o755)
    rig.back_up()
    assert rig.wrong() == ""
    assert rig.still_to_do() == {}


@pytest.mark.parametrize("full", [False, True])
def test_a_hard_link_whose_other_name_could_not_be_read_for_a_time_is_one_again(rig: Rig, full) -> None:
    """While one name is kept its sibling is parted from it; nothing about either has changed in the master."""
    rig.settings = replace(rig.settings, owner="nobody")
    hidden = rig.master / "hidden"
    hidden.mkdir()
    (hidden / "x").write_bytes(b"one")
    os.link(hidden / "x", rig.master / "y")
    rig.back_up()
    hidden.chmod(0)
    rig.back_up(full=full)
    assert rig.back_up().plan.is_empty
    hidden.chmod(0o755)
    rig.back_up()
    assert rig.wrong() == ""
    assert rig.still_to_do() == {}


# --- what makes a catalogue unfit


def believes(rig: Rig) -> bool:
    """What the next run would do."""
    return not was_full(rig.back_up(dry=True))


@pytest.fixture
def trusted(rig: Rig) -> Rig:
    some_files(rig)
    rig.back_up()
    assert believes(rig)
    return rig


def test_a_catalogue_that_is_missing_is_not_believed(trusted: Rig) -> None:
    trusted.catalogue.unlink()
    assert not believes(trusted)


def test_a_catalogue_that_is_garbled_is_not_believed_and_does_no_harm(trusted: Rig) -> None:
    content = bytearray(trusted.catalogue.read_bytes())
    content[-40] ^= 4
    trusted.catalogue.write_bytes(content)
    assert not believes(trusted)


@pytest.mark.parametrize("what", ["directory", "unreadable"])
def test_a_catalogue_that_cannot_be_read_does_no_harm(trusted: Rig, what) -> None:
    trusted.catalogue.unlink()
    trusted.catalogue.mkdir() if what == "directory" else trusted.catalogue.symlink_to(trusted.catalogue.name)
    assert not believes(trusted)


def test_a_catalogue_that_cannot_be_written_stops_no_run(rig: Rig) -> None:
    some_files(rig)
    (rig.state / "catalogue").write_bytes(b"in the way")
    rig.back_up()
    assert rig.wrong() == ""
    assert not believes(rig)


def test_the_copy_of_another_run_is_not_believed_even_with_the_same_generation(trusted: Rig) -> None:
    """A clone of the drive, or a drive set back to an older state, may come to the same number again."""
    journal = trusted.drive.mount_point / ".flashback/runs.jsonl"
    lines = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    for line in lines:
        line["run"] = "another"
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    assert not believes(trusted)


@pytest.mark.parametrize(
    "tamper",
    [
        pytest.param(lambda copy: (copy / "a").write_bytes(b"b"), id="content"),
        pytest.param(lambda copy: (copy / "a").chmod(0o777), id="mode"),
        pytest.param(lambda copy: os.setxattr(copy / "a", "user.x", b"x"), id="attribute"),
        pytest.param(lambda copy: (copy / "d/e/c").unlink(), id="deleted"),
        pytest.param(lambda copy: (copy / "d/new").touch(), id="added"),
        pytest.param(lambda copy: (copy / "d").rename(copy / "D"), id="renamed"),
        pytest.param(lambda copy: os.link(copy / "a", copy / "A"), id="linked"),
        pytest.param(lambda copy: os.utime(copy / "a", ns=(5, (copy / "a").stat().st_mtime_ns)), id="atime"),
    ],
)
def test_a_copy_that_was_changed_by_hand_is_compared_in_full_and_mended(trusted: Rig, tamper) -> None:
    tamper(trusted.current())
    assert was_full(trusted.back_up())
    assert trusted.wrong() == ""
    assert believes(trusted)


def test_a_snapshot_of_the_copy_in_its_place_is_compared_in_full(trusted: Rig) -> None:
    run("btrfs", "subvolume", "snapshot", trusted.current(), trusted.current().parent / "other")
    run("btrfs", "subvolume", "delete", trusted.current())
    (trusted.current().parent / "other").rename(trusted.current())
    assert was_full(trusted.back_up())
    assert believes(trusted)


def test_after_a_copy_that_was_broken_off_both_sides_are_compared(trusted: Rig) -> None:
    (trusted.master / "a").write_bytes(b"changed")

    def stop() -> None:
        raise NotFinished("on purpose")

    with pytest.raises(NotFinished), before_copying(stop):
        trusted.back_up()
    assert was_full(trusted.back_up())
    assert believes(trusted)


def test_deleting_old_snapshots_and_reading_leave_trust_as_it_is(trusted: Rig) -> None:
    (trusted.master / "a").write_bytes(b"once more")
    trusted.back_up()
    (snapshot,) = (trusted.current().parent / "snapshots").iterdir()
    run("btrfs", "subvolume", "delete", "-c", snapshot)
    run("btrfs", "subvolume", "sync", trusted.drive.mount_point)
    run("rsync", "-a", "--checksum", f"{trusted.current()}/", trusted.state / "read")
    assert believes(trusted)


# --- what it costs


def test_a_run_that_believes_reads_next_to_nothing_of_the_drive(rig: Rig) -> None:
    """The whole of a run over 5,000 files in 50 directories of which nothing changed, just plugged in."""
    for number in range(5000):
        folder = rig.master / f"{number % 50}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}").write_bytes(b"%d" % number)
    rig.back_up()
    counted = {}
    for full in (False, True):
        rig.plug_in_again()
        before = rig.reads()
        assert was_full(rig.back_up(full=full)) is full
        counted[full] = rig.reads() - before
    print("requests to read from the drive, believed and full:", counted)
    assert counted[False] < 60
    assert counted[True] > 5 * counted[False]


# --- a master whose inodes and times of change do not last


def test_where_nearly_everything_only_seems_changed_both_sides_are_compared(rig: Rig) -> None:
    """FAT and some network file systems number their files anew with each mount; `chmod -R` renews times of change."""
    for number in range(3000):
        (rig.master / f"{number}").touch()
    rig.back_up()
    for number in range(3000):
        (rig.master / f"{number}").chmod(0o644)
    (rig.master / "0").write_bytes(b"but this one has changed")
    report = rig.back_up()
    assert was_full(report)
    (plan,) = report.plan.masters
    assert list(plan.changes.whole) == [b"0"]
    assert believes(rig)


@pytest.mark.parametrize("count", [1, 3000])
def test_where_something_only_seems_changed_nothing_is_written_and_no_snapshot_kept(rig: Rig, count) -> None:
    for number in range(3000):
        (rig.master / f"{number}").touch()
    rig.back_up()
    for number in range(count):
        (rig.master / f"{number}").chmod(0o644)
    report = rig.back_up()
    assert (report.plan.is_empty, report.snapshots) == (True, {})
    assert believes(rig)


def test_the_list_of_names_is_read_in_pieces(rig: Rig) -> None:
    """rsync reads a list for a copy on one machine byte by byte: two calls of the kernel for each."""

    def calls() -> int:
        """Calls of read(2) by this process and its children (proc_pid_io(5), `syscr`)."""
        lines = Path("/proc/self/io").read_text("ascii").splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("syscr")))

    names = [f"{number} {'x' * 200}" for number in range(300)]
    for name in names:
        (rig.master / name).touch()
    before = calls()
    rig.back_up()
    assert calls() - before < sum(map(len, names)) // 4
