"""Trust, and what breaks it: the real command on a real stick, and everything that a hand can do to the copy between."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run
from tests.guest.conftest import Stick, wait_for
from tests.guest.machine import Machine, PreparedDrive, blank_sticks, equal, until

FULL_EVERY = 10
"""As configured where nothing is said."""
OLD = 1_600_000_000_000_000_000


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory: pytest.TempPathFactory) -> PreparedDrive:
    """The drive red with a backup, as a machine left it that believes what it noted."""
    maker = Machine(tmp_path_factory.mktemp("maker"))
    stick = blank_sticks()[0]
    maker.init(stick.device)
    fill(maker.master)
    maker.back_up_only(maker.master)
    maker.run()
    drive = PreparedDrive(tmp_path_factory.mktemp("backed-up"))
    run("dd", f"if={stick.device}", f"of={drive.image}", "bs=1M", "conv=sparse", "status=none")
    shutil.copytree(maker.state, drive.state)
    drive.maker, drive.ctime = maker, maker.master.stat().st_ctime_ns
    return drive


def fill(master: Path) -> None:
    (master / "folder/deep").mkdir(parents=True)
    (master / "other").mkdir()
    (master / "file").write_bytes(b"file")
    (master / "twin").write_bytes(b"twin")
    (master / "folder/deep/file").write_bytes(os.urandom(70_000))
    for path in master.rglob("*"):
        os.utime(path, ns=(OLD, OLD))
    os.utime(master, ns=(OLD, OLD))


class Trusted:
    """A machine, the stick, and the master that were backed up."""

    def __init__(self, machine: Machine, device: Path) -> None:
        self.machine, self.device = machine, device

    @property
    def master(self) -> Path:
        return self.machine.master

    @property
    def catalogue(self) -> Path:
        (file,) = self.machine.state.glob("catalogue/*/documents.listing")
        return file

    def by_hand(self, what: Callable[[Path], object]) -> None:
        """Do something to the drive as somebody would who opened it without Flashback."""
        with self.machine.opened(self.device, read_only=False) as drive:
            what(drive)

    def lines(self) -> list[dict[str, Any]]:
        with self.machine.opened(self.device) as drive:
            return [json.loads(line) for line in (drive / ".flashback/runs.jsonl").read_text("utf-8").splitlines()]

    def was_full(self) -> bool:
        """Whether the last run compared both sides, by the drive's journal."""
        done = [line for line in self.lines() if line["mark"] in {"complete", "unchanged"}]
        full: bool = done[-1]["facts"]["full"]
        return full

    def equals(self) -> bool:
        with self.machine.opened(self.device) as drive:
            return equal(self.master, drive / "documents/current") == ""


@pytest.fixture
def trusted(backed_up: PreparedDrive, stick: Stick) -> Trusted:
    """The backed-up drive on a stick, and the machine as it was after that run; master and inodes are the same."""
    machine = backed_up.maker
    shutil.rmtree(machine.state)
    shutil.rmtree(machine.runtime, ignore_errors=True)
    made = Trusted(machine, backed_up.onto(machine, stick))
    if machine.master.stat().st_ctime_ns != backed_up.ctime:
        machine.run()  # another test was at work in the master: times of change cannot be put back
        assert made.was_full()
    return made


# --- believed


def test_a_run_after_a_complete_one_rests_on_the_catalogue(trusted: Trusted) -> None:
    last = trusted.machine.run()
    assert last["result"] == "nothing-to-do"
    assert last["masters"]["documents"]["files_unchanged"] == 3
    assert not trusted.was_full()


def test_a_change_in_the_master_is_found_and_the_next_run_believes_again(trusted: Trusted) -> None:
    added = trusted.master / "new"
    added.write_bytes(b"new")
    try:
        for expected in ({"files_added": 1}, {"files_added": 0}):
            counts = trusted.machine.run()["masters"]["documents"]
            assert {key: counts[key] for key in expected} == expected
            assert not trusted.was_full()
        assert trusted.equals()
    finally:
        added.unlink()
        os.utime(trusted.master, ns=(OLD, OLD))


def test_looking_at_the_drive_by_hand_leaves_trust_as_it_is(trusted: Trusted) -> None:
    with trusted.machine.opened(trusted.device) as drive:
        run("cp", "-a", drive / "documents/current", trusted.machine.home / "looked-at")
    shutil.rmtree(trusted.machine.home / "looked-at")
    trusted.machine.run()
    assert not trusted.was_full()


def test_every_so_often_both_sides_are_compared(trusted: Trusted) -> None:
    for _ in range(FULL_EVERY + 2):
        trusted.machine.run()
    full = [line["facts"]["full"] for line in trusted.lines() if line["mark"] in {"complete", "unchanged"}]
    assert full[-FULL_EVERY - 3 :] == [True, *[False] * FULL_EVERY, True, False]


def test_full_compares_both_sides_when_asked(trusted: Trusted) -> None:
    trusted.machine.run("--full")
    assert trusted.was_full()


# --- touched by hand


def current(drive: Path) -> Path:
    return drive / "documents/current"


def same_time(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """A change to `file` that leaves its size and times as they were."""

    def do(drive: Path) -> None:
        path = current(drive) / "file"
        at = path.stat()
        change(path)
        os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))

    return do


def replaced_by_snapshot(drive: Path) -> None:
    run("btrfs", "subvolume", "snapshot", current(drive), drive / "documents/copy")
    run("btrfs", "subvolume", "delete", "-c", current(drive))
    (drive / "documents/copy").rename(current(drive))


def replaced_by_copy(drive: Path) -> None:
    run("btrfs", "subvolume", "create", drive / "documents/copy")
    run("cp", "-a", "--reflink=always", f"{current(drive)}/.", drive / "documents/copy")
    run("btrfs", "subvolume", "delete", "-c", current(drive))
    (drive / "documents/copy").rename(current(drive))


def replaced_by_directory(drive: Path) -> None:
    run("cp", "-a", current(drive), drive / "documents/copy")
    run("btrfs", "subvolume", "delete", "-c", current(drive))
    (drive / "documents/copy").rename(current(drive))


def sent_and_received(drive: Path) -> None:
    run("btrfs", "subvolume", "snapshot", "-r", current(drive), drive / "documents/sent")
    run("sh", "-c", 'mkdir "$1"/in && btrfs send -q "$1"/sent | btrfs receive -q "$1"/in', "sh", drive / "documents")
    run("btrfs", "subvolume", "delete", "-c", current(drive))
    run("btrfs", "subvolume", "snapshot", drive / "documents/in/sent", current(drive))
    run("btrfs", "subvolume", "delete", "-c", drive / "documents/in/sent", drive / "documents/sent")
    (drive / "documents/in").rmdir()


def reflinked(drive: Path) -> None:
    run("cp", "--reflink=always", "--preserve=all", current(drive) / "twin", current(drive) / "file")


def atime(drive: Path) -> None:
    run("touch", "-a", current(drive) / "file")


def read_with_atime(drive: Path) -> None:
    run("mount", "-o", "remount,strictatime", drive)
    (current(drive) / "file").read_bytes()


def nested(drive: Path) -> None:
    (current(drive) / "folder/new").mkdir()
    (current(drive) / "folder/new/file").write_bytes(b"new")


TAMPERED = {
    "content, and the times put back": same_time(lambda path: path.write_bytes(b"FILE")),
    "longer content": lambda drive: (current(drive) / "file").write_bytes(b"longer than it was"),
    "truncated": lambda drive: os.truncate(current(drive) / "folder/deep/file", 5),
    "mode": lambda drive: (current(drive) / "file").chmod(0o777),
    "owner": lambda drive: os.chown(current(drive) / "file", 1234, 1234),
    "mode of a folder": lambda drive: (current(drive) / "folder").chmod(0o700),
    "mode of the top": lambda drive: current(drive).chmod(0o700),
    "attribute": lambda drive: os.setxattr(current(drive) / "file", "user.x", b"x"),
    "back-dated": lambda drive: os.utime(current(drive) / "file", ns=(1, 1)),
    "deleted": lambda drive: (current(drive) / "file").unlink(),
    "folder deleted": lambda drive: shutil.rmtree(current(drive) / "folder"),
    "emptied": lambda drive: run("find", current(drive), "-mindepth", "1", "-delete"),
    "added": nested,
    "renamed": lambda drive: (current(drive) / "file").rename(current(drive) / "life"),
    "folder renamed": lambda drive: (current(drive) / "folder").rename(current(drive) / "other/folder"),
    "linked": lambda drive: os.link(current(drive) / "file", current(drive) / "another"),
    "two files made one": lambda drive: run("ln", "-f", current(drive) / "file", current(drive) / "folder/deep/file"),
    "a link in the place of a file": lambda drive: run("ln", "-sf", "twin", current(drive) / "file"),
    "reflink": reflinked,
    "atime": atime,
    "read where reading leaves a mark": read_with_atime,
    "a snapshot of it in its place": replaced_by_snapshot,
    "a copy of it in its place": replaced_by_copy,
    "sent, received and put back": sent_and_received,
}
NOT_SEEN_BY_SIZE_AND_TIME = {"content, and the times put back", "reflink"}
"""What no comparison by size and time can find (rsync neither): `verify` does."""


@pytest.mark.parametrize("how", TAMPERED)
def test_a_copy_that_was_touched_by_hand_is_compared_in_full_and_mended(trusted: Trusted, how: str) -> None:
    trusted.by_hand(TAMPERED[how])
    assert trusted.machine.run()["safe_to_remove"] is True
    assert trusted.was_full()
    assert trusted.equals() is (how not in NOT_SEEN_BY_SIZE_AND_TIME)
    trusted.machine.run()
    assert not trusted.was_full()


def test_a_copy_that_was_read_only_for_a_time_is_as_it_was(trusted: Trusted) -> None:
    """The property does not move the generation (Linux 6.1), and nothing of what the copy holds can have changed by it."""
    trusted.by_hand(lambda drive: run("btrfs", "property", "set", "-ts", current(drive), "ro", "true"))
    trusted.by_hand(lambda drive: run("btrfs", "property", "set", "-f", "-ts", current(drive), "ro", "false"))
    assert trusted.machine.run()["result"] == "nothing-to-do"
    assert not trusted.was_full()
    assert trusted.equals()


# --- the rest of the world


def test_a_catalogue_that_is_gone_is_made_anew(trusted: Trusted) -> None:
    trusted.catalogue.unlink()
    trusted.machine.run()
    assert trusted.was_full()
    trusted.machine.run()
    assert not trusted.was_full()


@pytest.mark.parametrize("place", [10, 100, -1], ids=["stamp", "entries", "end"])
def test_a_garbled_catalogue_is_not_believed(trusted: Trusted, place: int) -> None:
    content = bytearray(trusted.catalogue.read_bytes())
    content[place] ^= 1
    trusted.catalogue.write_bytes(content)
    trusted.machine.run()
    assert trusted.was_full()


def test_after_a_run_was_killed_while_it_copied_both_sides_are_compared(trusted: Trusted) -> None:
    (trusted.master / "big").write_bytes(os.urandom(60 << 20))
    try:
        child = trusted.machine.start("run", "--json", "--passphrase-file", str(trusted.machine.secret))
        until(child, '"step":"copy"')
        child.send_signal(signal.SIGKILL)
        child.communicate()
        wait_for(lambda: not Path("/dev/mapper/flashback-red").exists(), "the mapping to go")
        trusted.machine.run()
        assert trusted.was_full()
        assert trusted.equals()
    finally:
        (trusted.master / "big").unlink()
        os.utime(trusted.master, ns=(OLD, OLD))


def test_a_drive_that_another_machine_wrote_to_is_compared_in_full(trusted: Trusted, tmp_path: Path) -> None:
    other = Machine(tmp_path / "other")
    other.back_up_only(other.master)
    fill(other.master)
    (other.master / "file").write_bytes(b"FILE")
    os.utime(other.master / "file", ns=(OLD, OLD + 1))
    shutil.copytree(trusted.machine.state, other.state, ignore=shutil.ignore_patterns("catalogue"))
    other.run()
    assert trusted.was_full()
    trusted.machine.run()
    assert trusted.was_full()
    assert trusted.equals()


# --- what it costs


def reads(device: Path) -> int:
    """Requests to read that the disk was given (Documentation/block/stat.rst, field 1)."""
    return int(Path(f"/sys/block/{device.name}/stat").read_text("ascii").split()[0])


def reads_of(device: Path, work: Callable[[], object]) -> int:
    before = reads(device)
    work()
    return reads(device) - before


def open_and_close(trusted: Trusted) -> None:
    trusted.by_hand(lambda _drive: None)


def test_where_nothing_changed_the_drive_is_hardly_read(trusted: Trusted) -> None:
    """From plugging in to putting away, with 5,000 files; opening alone (LUKS, udev, mount) takes over a hundred."""
    many = trusted.master / "many"
    for folder in range(50):
        (many / f"{folder}").mkdir(parents=True)
        for number in range(100):
            (many / f"{folder}/{number}").write_bytes(b"%d" % number)
    try:
        trusted.machine.run()
        believed = reads_of(trusted.device, trusted.machine.run)
        assert not trusted.was_full()
        full = reads_of(trusted.device, lambda: trusted.machine.run("--full"))
        assert trusted.was_full()
        opening = reads_of(trusted.device, lambda: open_and_close(trusted))
        print(f"requests to read: believed {believed}, full {full}, opening and closing by hand {opening}")
        assert believed < opening + 60
        assert full > believed + 60
    finally:
        shutil.rmtree(many)
        os.utime(trusted.master, ns=(OLD, OLD))
