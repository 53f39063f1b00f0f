"""A master on Btrfs: read from a snapshot, and only where Btrfs says that something was written.

Each sequence backs the same master up twice onto one drive: as `docs`, resting on what is known, and as `oracle`, which
walks and compares everything. Both must come to the same, and, where everything can be read, to the master itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from flashback.backup import taking
from flashback.backup.report import Report
from flashback.backup.source import memory
from flashback.config.values import Btrfs, Master, Rule, Symlinks
from flashback.core.errors import NoSpace
from flashback.tools import btrfs, btrfs_changes, mount
from tests.conftest import mounted_btrfs, run
from tests.tools.test_catalogue_runs import (
    UNREAD,
    Meddler,
    Rig,
    before_copying,
    rsync_that_leaves_out,
    settings_of,
    tree_of,
)
from tests.tools.test_copy_random import Gardener

NEW_MOUNTS = 0x20000


@contextlib.contextmanager
def own_namespace() -> Iterator[None]:
    here, before = os.getcwd(), os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    mount.private_namespace()
    try:
        yield
    finally:
        assert ctypes.CDLL(None).setns(before, NEW_MOUNTS) == 0
        os.close(before)
        os.chdir(here)


@pytest.fixture
def rig() -> Iterator[Rig]:
    with (
        tempfile.TemporaryDirectory(prefix="flashback-btrfs-") as name,
        own_namespace(),
        contextlib.ExitStack() as opened,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        mounts = [mounted_btrfs(folder / each, "600M") for each in ("home", "drive")]
        for each in mounts:
            opened.callback(next, each, None)
        home, mount_point = map(next, mounts)
        rig = Rig(folder, home, mount_point)
        rig.settings = replace(rig.settings, btrfs=Btrfs.AUTO)
        opened.callback(rig.held.close)
        yield rig


def reading(rig: Rig, **how) -> dict[str, object]:
    """How a run read the master."""
    (plan,) = rig.back_up(**how).plan.masters
    return plan.reading


NARROW = {"snapshot": True, "changes_only": True, "why": None}


@pytest.mark.parametrize("seed", range(3))
def test_after_every_run_the_copy_equals_the_master(rig: Rig, seed: int) -> None:
    gardener = Gardener(rig.master, seed)
    gardener.work(60)
    rig.back_up()
    narrow = 0
    for _turn in range(12):
        gardener.work(gardener.random.choice([0, 1, 3, 15]))
        report = rig.back_up()
        assert not report.remarks
        narrow += report.plan.masters[0].reading == NARROW
        assert rig.wrong() == ""
    assert narrow >= 8
    assert rig.still_to_do() == {}


def across(rig: Rig, meddler: Meddler, outside: Meddler) -> None:
    """Something moves into the master or out of it, within its subvolume, or is linked to from there."""
    one, other = (meddler, outside) if meddler.random.random() < 0.5 else (outside, meddler)
    what, place = one.one("fdl"), other.place()
    if os.path.lexists(place):
        return
    way = meddler.random.choice(["move", "move", "hard", "absolute", "relative"])
    if way == "move":
        os.rename(what, place)
    elif way == "hard" and not os.path.isdir(what):
        os.link(what, place, follow_symlinks=False)
    elif way == "absolute":
        os.symlink(outside.one("fd"), meddler.place() + b"~")
    elif way == "relative":
        link = meddler.place() + b"~"
        os.symlink(os.path.relpath(outside.one("fd"), os.path.dirname(link)), link)


def totals(report: Report) -> tuple[int, ...]:
    """What the guards judge by."""
    changes = report.plan.masters[0].changes
    return changes.files_in_master, changes.bytes_in_master, changes.files_on_drive, changes.on_drive.directories


@pytest.mark.parametrize(
    ("seed", "owner", "symlinks", "rules"),
    [
        *((seed, "root", True, False) for seed in range(20, 21)),
        *((seed, "nobody", False, False) for seed in range(30, 32)),
        *((seed, "nobody", True, True) for seed in range(40, 42)),
    ],
)
def test_what_is_left_out_of_a_walk_is_as_the_copy_has_it(rig: Rig, seed, owner, symlinks, rules) -> None:
    rig.settings = replace(rig.settings, owner=owner, symlinks=random.Random(seed).choice(list(Symlinks)))
    (rig.master.parent / "elsewhere").mkdir()
    meddler, outside = Meddler(rig.master, seed, hides=True), Meddler(rig.master.parent / "elsewhere", seed + 1)
    meddler.work(80)
    outside.work(20)
    for turn in range(10):
        report, oracle = rig.back_up(), rig.back_up("oracle", full=True)
        assert tree_of(rig) == [], turn
        assert totals(report) == totals(oracle)
        assert rig.still_to_do() == {}, turn
        meddler.work(meddler.random.choice([0, 1, 3, 15]))
        outside.work(2)
        with contextlib.suppress(FileExistsError):
            across(rig, meddler, outside)
        if meddler.random.random() < 0.3:
            settings_of(rig, meddler.random, symlinks=symlinks, rules=rules)


# --- what a snapshot is for, and what is left of it


def some_files(rig: Rig) -> None:
    (rig.master / "d/e").mkdir(parents=True)
    for name in ("a", "d/b", "d/e/c"):
        (rig.master / name).write_bytes(name.encode())


@pytest.fixture
def known(rig: Rig) -> Rig:
    """Backed up twice; the next run would look only where something was written."""
    some_files(rig)
    rig.back_up()
    assert reading(rig) == NARROW
    return rig


def folder_of(rig: Rig) -> Path:
    return rig.master.parent / ".flashback-snapshots"


def test_the_copy_is_of_one_moment(known: Rig) -> None:
    (known.master / "a").write_bytes(b"before")

    def meanwhile() -> None:
        """Through another mount: at its own path the run sees the snapshot."""
        with tempfile.TemporaryDirectory() as name:
            (source,) = {each.source for each in mount.mounts() if each.target == str(known.master.parent)}
            run("mount", source, name)
            (Path(name) / "master/a").write_bytes(b"later")
            (Path(name) / "master/d/b").unlink()
            run("umount", name)

    with before_copying(meanwhile):
        assert not known.back_up().remarks
    assert (known.current() / "a").read_bytes() == b"before"
    assert (known.current() / "d/b").exists()
    known.back_up()
    assert (known.current() / "a").read_bytes() == b"later"
    assert known.wrong() == ""


def test_nothing_but_a_mark_is_left_on_the_master(known: Rig) -> None:
    folder = folder_of(known)
    assert [each.name for each in folder.iterdir()] == [f"{known.drive.known.uuid}.docs"]
    assert folder.stat().st_mode & 0o7777 == 0o700
    assert os.stat(known.master).st_dev == os.stat(known.master.parent).st_dev
    assert [each.target for each in mount.mounts()].count(str(known.master)) == 0


def test_a_dry_run_makes_no_folder(rig: Rig) -> None:
    some_files(rig)
    assert "dry run" in str(reading(rig, dry=True)["why"])
    assert not folder_of(rig).exists()


def test_a_dry_run_gives_its_snapshot_back_and_leaves_what_is_remembered(known: Rig) -> None:
    (known.master / "d/b").write_bytes(b"changed")
    before = sorted(os.listdir(folder_of(known)))
    report = known.back_up(dry=True)
    assert report.plan.masters[0].reading == NARROW
    assert report.plan.masters[0].changes.files_to_copy == 1
    assert sorted(os.listdir(folder_of(known))) == before
    assert reading(known) == NARROW
    assert known.wrong() == ""


def test_a_master_that_is_a_whole_subvolume_never_has_the_folder_of_snapshots_on_the_drive(rig: Rig) -> None:
    rig.master.rmdir()
    run("btrfs", "subvolume", "create", rig.master)
    some_files(rig)
    rig.back_up()
    assert (rig.master / ".flashback-snapshots").is_dir()
    assert reading(rig) == NARROW
    (rig.master / "d/b").write_bytes(b"changed")
    rig.back_up()
    assert rig.wrong("--exclude=.flashback-snapshots") == ""
    assert not (rig.current() / ".flashback-snapshots").exists()
    assert not rig.back_up().copies


def test_what_a_killed_run_and_a_drive_that_is_gone_have_left_is_removed(known: Rig) -> None:
    folder = folder_of(known)
    run("btrfs", "subvolume", "snapshot", "-r", known.master.parent, folder / "run-0123456789abcdef")
    (folder / f"{'0' * 8}-1111-2222-3333-{'4' * 12}.docs").write_bytes(b"x")
    (folder / "somebody's").write_bytes(b"x")
    assert reading(known) == NARROW
    assert sorted(os.listdir(folder)) == sorted([f"{known.drive.known.uuid}.docs", "somebody's"])


def test_two_masters_in_one_subvolume_each_have_a_snapshot(rig: Rig) -> None:
    some_files(rig)
    photos = rig.master.with_name("photos")
    photos.mkdir()
    (photos / "one").write_bytes(b"1")
    one, two = rig.settings, Master("photos", photos, "root", Symlinks.KEEP)
    context = rig.context()
    for _turn in range(2):
        with taking.sources(context, (one, two), drive="d" * 36, drives=(), dry=False) as found:
            assert all(each.taken for each in found.values())
            assert len(list(folder_of(rig).glob("run-*"))) == 2
            assert os.stat(photos).st_dev != os.stat(rig.master).st_dev
            assert (photos / "one").read_bytes() == b"1"
    assert list(folder_of(rig).iterdir()) == []


def test_masters_that_lie_in_each_other_are_read_as_they_are(rig: Rig) -> None:
    some_files(rig)
    inner = replace(rig.settings, name="inner", path=rig.master / "d")
    with taking.sources(rig.context(), (rig.settings, inner), drive="d" * 36, drives=(), dry=False) as found:
        assert [each.why for each in found.values()] == [
            "it and another master lie in each other: inner",
            "it and another master lie in each other: docs",
        ]
    assert not folder_of(rig).exists()


# --- when a master is read as it is


def no_snapshot(rig: Rig) -> str:
    """Why; the copy is right nevertheless."""
    (rig.master / "a").write_bytes(random.randbytes(20))
    how = reading(rig)
    assert not how["snapshot"]
    assert not how["changes_only"]
    assert (rig.current() / "a").read_bytes() == (rig.master / "a").read_bytes()
    return str(how["why"])


def test_the_configuration_can_forbid_snapshots(rig: Rig) -> None:
    some_files(rig)
    rig.settings = replace(rig.settings, btrfs=Btrfs.NEVER)
    assert "never" in no_snapshot(rig)
    assert not folder_of(rig).exists()


def test_a_mount_in_the_master_is_backed_up_as_ever(known: Rig) -> None:
    (known.master / "mnt").mkdir()
    run("mount", "-t", "tmpfs", "none", known.master / "mnt")
    (known.master / "mnt/inside").write_bytes(b"x")
    assert "mounted in it" in no_snapshot(known)
    assert (known.current() / "mnt/inside").exists()
    run("umount", known.master / "mnt")


def test_a_subvolume_in_the_master_is_backed_up_as_ever(known: Rig) -> None:
    run("btrfs", "subvolume", "create", known.master / "d/sub")
    (known.master / "d/sub/inside").write_bytes(b"x")
    assert no_snapshot(known) == "another subvolume lies in it: d/sub"
    assert (known.current() / "d/sub/inside").exists()


def test_a_subvolume_that_the_rules_leave_out_is_in_nobodys_way(rig: Rig) -> None:
    some_files(rig)
    run("btrfs", "subvolume", "create", rig.master / "d/sub")
    rig.settings = replace(rig.settings, rules=(Rule(b"sub/"),))
    rig.back_up()
    assert reading(rig) == NARROW


def test_a_folder_that_somebody_else_made_is_not_used(rig: Rig) -> None:
    some_files(rig)
    folder_of(rig).mkdir(mode=0o755)
    os.chown(folder_of(rig), 1000, 1000)
    report = rig.back_up()
    assert [each.detail for each in report.remarks] == [
        f"no snapshot could be taken: {folder_of(rig)} is not a folder of root's alone; it was read as it is"
    ]
    assert rig.wrong() == ""
    assert os.listdir(folder_of(rig)) == []


def test_a_master_without_room_for_a_snapshot_is_read_as_it_is(known: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise NoSpace("No space left on device")

    monkeypatch.setattr(taking.btrfs_changes, "snapshot", full)
    assert "No space left" in no_snapshot(known)
    assert known.wrong() == ""


def test_a_read_only_master_is_read_as_it_is(known: Rig) -> None:
    run("mount", "-o", "remount,ro", known.master.parent)
    assert "cannot be written to" in str(reading(known)["why"])
    run("mount", "-o", "remount,rw", known.master.parent)


# --- when the whole of it is walked


def set_back(rig: Rig) -> None:
    """The file system as it was before the last run, changed since: the same subvolume with another history."""
    home = rig.master.parent
    (source,) = {each.source for each in mount.mounts() if each.target == str(home)}
    image = Path(run("losetup", "--noheadings", "--output", "BACK-FILE", source).strip())
    run("umount", home)
    run("cp", "--sparse=always", image, image.with_suffix(".then"))
    run("mount", "-o", "loop", image, home)
    (rig.master / "d/b").write_bytes(b"of a future that never was")
    (rig.master / "d/e/gone").write_bytes(b"likewise")
    rig.back_up()
    run("umount", home)
    image.with_suffix(".then").rename(image)
    run("mount", "-o", "loop", image, home)
    for number in range(30):  # the counter of transactions goes on beyond where it was
        (rig.master / "other").write_bytes(b"%d" % number)
        run("btrfs", "filesystem", "sync", home)


def other_rules(rig: Rig) -> None:
    rig.settings = replace(rig.settings, rules=(Rule(b"c"),))


def other_owner(rig: Rig) -> None:
    rig.settings = replace(rig.settings, owner="nobody")


def exchanged(rig: Rig) -> None:
    shutil.copytree(rig.master, rig.master.with_name("copy"))
    rig.master.rename(rig.master.with_name("old"))
    rig.master.with_name("copy").rename(rig.master)
    (rig.master / "d/b").write_bytes(b"another")


def mark_removed(rig: Rig) -> None:
    (folder_of(rig) / f"{rig.drive.known.uuid}.docs").unlink()


def memory_removed(rig: Rig) -> None:
    memory(rig.catalogue).unlink()


def memory_garbled(rig: Rig) -> None:
    memory(rig.catalogue).write_bytes(b"\x85nonsense")


def catalogue_exchanged(rig: Rig) -> None:
    shutil.copy2(rig.catalogue, rig.catalogue.with_suffix(".new"))
    rig.catalogue.with_suffix(".new").rename(rig.catalogue)


@pytest.mark.parametrize(
    "doubt",
    [set_back, other_rules, other_owner, exchanged, mark_removed, memory_removed, memory_garbled, catalogue_exchanged],
)
def test_at_every_doubt_the_whole_master_is_walked(known: Rig, doubt: Callable[[Rig], None]) -> None:
    doubt(known)
    how = reading(known)
    assert how["snapshot"]
    assert not how["changes_only"]
    known.back_up("oracle", full=True)
    assert tree_of(known) == []
    assert reading(known) == NARROW
    assert known.still_to_do() == {}


def test_after_a_file_that_could_not_be_copied_the_whole_master_is_walked(known: Rig) -> None:
    (known.master / "d/b").write_bytes(b"changed")
    with rsync_that_leaves_out(b"d/b", says=UNREAD):
        known.back_up()
    assert not reading(known)["changes_only"]
    assert known.wrong() == ""


def test_what_was_written_where_nobody_could_look_is_found_when_it_can_be_read_again(rig: Rig) -> None:
    some_files(rig)
    rig.settings = replace(rig.settings, owner="nobody")
    rig.back_up()
    (rig.master / "d").chmod(0)
    (rig.master / "d/e/c").write_bytes(b"in hiding")
    assert len(rig.back_up().unread) == 1
    assert len(rig.back_up().unread) == 1
    (rig.master / "d").chmod(0o755)
    assert reading(rig) == NARROW
    assert rig.wrong() == ""


def test_what_a_link_leads_to_is_looked_at_each_time(rig: Rig) -> None:
    rig.settings = replace(rig.settings, symlinks=Symlinks.FOLLOW)
    some_files(rig)
    outside = rig.master.parent / "outside"
    (outside / "deep/down").mkdir(parents=True)
    (outside / "deep/down/file").write_bytes(b"one")
    (rig.master / "d/e/link").symlink_to("../../../outside")
    (rig.master / "d/absolute").symlink_to(outside / "deep/down/file")
    rig.back_up()
    (outside / "deep/down/file").write_bytes(b"another")
    assert reading(rig) == NARROW
    assert (rig.current() / "d/e/link/deep/down/file").read_bytes() == b"another"
    assert (rig.current() / "d/absolute").read_bytes() == b"another"
    assert rig.still_to_do() == {}


def states(top: Path) -> dict[bytes, tuple[int, ...]]:
    """Everything below, without our own folder: inode, size and times."""
    found = {}
    for where, directories, files in os.walk(os.fsencode(top)):
        if b".flashback-snapshots" in directories:
            directories.remove(b".flashback-snapshots")
        for name in [*directories, *files]:
            at = os.lstat(os.path.join(where, name))
            path = os.path.relpath(os.path.join(where, name), os.fsencode(top))
            found[path] = (at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns, at.st_nlink)
    return found


def test_what_is_written_while_snapshots_are_taken_is_in_one_or_told_of_the_next(rig: Rig) -> None:
    gardener, over, steps = Gardener(rig.master, 7), threading.Event(), threading.Semaphore(0)
    gardener.work(60)
    gardener.ways = [gardener.new_file, gardener.append, gardener.rewrite, gardener.touch, gardener.remove]

    def write() -> None:
        while not over.is_set():
            gardener.work(1)
            steps.release()

    with contextlib.ExitStack() as opened:

        def directory(path: Path) -> int:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            opened.callback(os.close, descriptor)
            return descriptor

        folder_of(rig).mkdir(mode=0o700)
        folder, top = directory(folder_of(rig)), directory(rig.master.parent)
        names = [folder_of(rig) / f"s{number}" for number in range(25)]
        writing = threading.Thread(target=write)
        writing.start()
        try:
            for name in names:
                while steps.acquire(blocking=False):
                    pass
                steps.acquire()  # something was done since the last one
                btrfs_changes.snapshot(top, folder, name.name)
        finally:
            over.set()
            writing.join()
        differences = 0
        for before, after in pairwise(names):
            since, now = btrfs.subvolume(directory(before)).otransid, directory(after)
            inodes = btrfs_changes.changed_inodes(now, since, most=10**6)
            written = {path for inode in inodes for path in btrfs_changes.paths_of(now, inode)}
            old, new = states(before), states(after)
            assert {path for path in new if old.get(path) != new[path]} <= written
            assert {path.rpartition(b"/")[0] for path in old.keys() - new.keys()} & new.keys() <= written
            differences += old != new
        assert differences > 5
