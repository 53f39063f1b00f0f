"""The main job with the real command on real sticks: back up, prove, put away."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.conftest import run
from tests.guest.conftest import PASSPHRASE, Stick
from tests.guest.machine import (
    PATIENCE,
    Machine,
    PreparedDrive,
    blank_sticks,
    equal,
    invalid,
    is_held,
    luks_on,
    sectors_written,
    until,
)

ODD_NAMES = (
    b"new\nline",
    b"star*",
    b"[bracket]",
    b"question?",
    b"back\\slash",
    b"-leading-dash",
    b"--delete",
    b"#leading-hash",
    b"; semicolon",
    b"+ plus",
    b"- minus",
    b" leading space",
    b"trailing space ",
    b"not-utf8-\xff\xfe",
    "ünïcödé".encode(),
    b"n" * 255,
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreparedDrive]:
    """The drive red, without a backup yet."""
    drive = PreparedDrive(tmp_path_factory.mktemp("prepared"))
    drive.make(Machine(tmp_path_factory.mktemp("maker")), blank_sticks()[0])
    yield drive
    drive.image.unlink()  # all this lies in memory


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def red(prepared: PreparedDrive, machine: Machine, stick: Stick) -> Path:
    """The device of the prepared drive, which this machine knows; there is something to back up."""
    (machine.master / "file").write_bytes(b"file")
    return prepared.onto(machine, stick)


def snapshots(drive: Path) -> list[Path]:
    return sorted((drive / "documents/snapshots").iterdir())


# --- the life of a drive


def make_files(master: Path) -> None:
    """A master with every kind of metadata, on a file system that can hold them."""
    (master / "plain").write_bytes(b"plain\n")
    (master / "empty").touch()
    (master / "folder/deep").mkdir(parents=True)
    (master / "folder/deep/file").write_bytes(os.urandom(70000))
    (master / "empty-folder").mkdir()
    (master / "program").write_bytes(b"#!/bin/sh\n")
    (master / "program").chmod(0o6755)
    (master / "private").write_bytes(b"private")
    (master / "private").chmod(0o400)
    os.chown(master / "private", 12345, 23456)
    os.link(master / "plain", master / "folder/hard-link")
    (master / "attributes").write_bytes(b"x")
    os.setxattr(master / "attributes", "user.colour", b"red\x00\xff")
    run("setfacl", "-m", "u:12345:r", master / "attributes")
    run("setfacl", "-d", "-m", "g:23456:rx", master / "folder")
    with (master / "sparse").open("wb") as sparse:
        sparse.truncate(50 << 20)
        sparse.seek(20 << 20)
        sparse.write(b"in the middle")
    os.utime(master / "plain", ns=(1_600_000_000_123_456_789, 1_600_000_000_123_456_789))
    odd = os.fsencode(master / "odd")
    os.mkdir(odd)
    for name in ODD_NAMES:
        with open(odd + b"/" + name, "wb") as file:
            file.write(name)
    os.symlink("../plain", odd + b"/link")
    os.utime(odd, ns=(10**18, 10**18 + 1))


def make_long_path(top: Path, length: int = 4085) -> bytes:
    """A file whose path below `top` is `length` bytes long; made step by step, since no call takes it whole."""
    at = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    made = b""
    while length - len(made) > 255:
        name = b"d" * min(250, length - len(made) - 3)
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
        os.close(at)
        at, made = below, made + name + b"/"
    name = b"f" * (length - len(made))
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=at)
    os.write(descriptor, b"far down")
    os.close(descriptor)
    os.close(at)
    return made + name


@dataclass
class History:
    """What was seen in the life of one drive; the tests below only look at it."""

    machine: Machine
    device: Path
    earlier: Path
    drive: Path = Path()
    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    held: dict[str, list[str]] = field(default_factory=dict)
    sectors: dict[str, int] = field(default_factory=dict)

    def run(self, name: str, *options: str) -> None:
        before = sectors_written(self.device)
        self.events[name] = self.machine.events(*options)
        self.sectors[name] = sectors_written(self.device) - before
        self.held[name] = is_held()

    def last(self, name: str) -> dict[str, Any]:
        return self.events[name][-1]

    def counts(self, name: str) -> dict[str, Any]:
        counts: dict[str, Any] = self.last(name)["masters"]["documents"]
        return counts


def change_files(master: Path) -> None:
    (master / "plain").write_bytes(b"changed\n")
    (master / "new").write_bytes(b"new\n")
    (master / "private").unlink()
    shutil.rmtree(master / "folder/deep")
    (master / "dangling").symlink_to("nowhere")
    (master / "odd/loop").symlink_to("loop")
    (master / "odd/up").symlink_to("..")


@pytest.fixture(scope="class")
def history(prepared: PreparedDrive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    sticks = blank_sticks()
    machine = Machine(tmp_path_factory.mktemp("history"))
    run("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", sticks[1].device)
    run("mount", sticks[1].device, machine.master)
    try:
        (machine.master / "lost+found").rmdir()
        machine.master /= "files"
        machine.master.mkdir()
        make_files(machine.master)
        device = prepared.onto(machine, sticks[0])
        history = History(machine, device, machine.master.parent / "earlier")
        history.run("first")
        history.run("unchanged")
        run("cp", "-a", machine.master, history.earlier)
        change_files(machine.master)
        history.run("dry", "--dry-run")
        history.run("changed")
        history.run("scrub", "--scrub")
        with machine.opened(device) as history.drive:
            yield history
    finally:
        run("umount", machine.home / "Documents")


class TestHistory:
    """First run, second run of the same, a dry run after changes, the run itself, a scrub."""

    def test_every_event_is_as_its_schema_says(self, history: History) -> None:
        events = [event for name in history.events for event in history.events[name]]
        assert {event["event"] for event in events} >= {"step-begun", "step-done", "remark", "planned", "finished"}
        assert invalid(events, "run-events.schema.json") == []

    def test_finished_comes_once_and_last(self, history: History) -> None:
        for events in history.events.values():
            assert [event["event"] for event in events].index("finished") == len(events) - 1

    def test_the_steps_of_a_run_come_in_their_order(self, history: History) -> None:
        steps = [event["step"] for event in history.events["changed"] if event["event"] == "step-begun"]
        assert steps == ["open", "plan", "snapshot", "copy", "delete", "sync", "close"]

    def test_each_run_ends_safe_to_remove_and_holds_nothing(self, history: History) -> None:
        for name in history.events:
            assert (history.last(name)["safe_to_remove"], history.last(name)["drive_state"]) == (True, "closed")
            assert history.held[name] == []

    def test_the_results_are_those_that_scripts_know(self, history: History) -> None:
        results = {name: history.last(name)["result"] for name in history.events}
        assert results == {
            "first": "complete",
            "unchanged": "nothing-to-do",
            "dry": "nothing-to-do",
            "changed": "complete",
            "scrub": "nothing-to-do",
        }

    def test_a_second_run_of_an_unchanged_master_copies_nothing_and_makes_no_snapshot(self, history: History) -> None:
        last, counts = history.last("unchanged"), history.counts("unchanged")
        assert (last["bytes_copied"], counts["snapshot"]) == (0, None)
        assert counts["files_added"] == counts["files_changed"] == counts["files_deleted"] == 0
        assert counts["files_attributes"] == counts["directories_changed"] == 0
        assert counts["files_unchanged"] == history.counts("first")["files_added"]

    def test_a_second_run_of_an_unchanged_master_writes_next_to_nothing(self, history: History) -> None:
        assert history.last("unchanged")["bytes_written"] < 1 << 20
        assert history.sectors["unchanged"] * 512 < 1 << 20

    def test_the_bytes_written_are_those_that_the_kernel_counted(self, history: History) -> None:
        for name in ("first", "unchanged", "changed"):
            assert history.last(name)["bytes_written"] == history.sectors[name] * 512

    def test_a_dry_run_does_not_move_the_write_counter(self, history: History) -> None:
        assert history.sectors["dry"] == 0

    def test_a_dry_run_says_what_the_run_then_does(self, history: History) -> None:
        planned = next(event for event in history.events["dry"] if event["event"] == "planned")["plan"]
        announced, done = planned["masters"]["documents"], history.counts("changed")
        kinds = [f"{what}_{kind}" for what in ("files", "bytes") for kind in ("added", "changed", "deleted")]
        assert {kind: announced[kind] for kind in kinds} == {kind: done[kind] for kind in kinds}
        assert announced["snapshot"] == done["snapshot"] is not None
        assert (announced["files_deleted"], announced["bytes_deleted"]) == (2, 70007)

    def test_the_copy_equals_the_master_although_links_dangle(self, history: History) -> None:
        options = ("--copy-links", "--exclude=/dangling", "--exclude=/odd/loop", "--exclude=/odd/up")
        assert equal(history.machine.master, history.drive / "documents/current", *options) == ""

    def test_cp_reads_the_copy_back_byte_for_byte(self, history: History) -> None:
        back = history.machine.home / "back"
        run("cp", "-a", history.drive / "documents/current", back)
        difference = subprocess.run(
            ["diff", "-r", history.machine.master, back], capture_output=True, check=False, text=True
        )
        words = {line.split(": ")[-1].split("/")[-1] for line in difference.stdout.splitlines()}
        assert words <= {"dangling", "loop", "up"}, difference.stdout

    def test_what_was_deleted_is_gone_although_links_dangle(self, history: History) -> None:
        current = history.drive / "documents/current"
        assert not (current / "private").exists()
        assert not (current / "folder/deep").exists()
        assert (current / "folder/hard-link").exists()

    def test_dangling_and_looping_links_are_remarks_and_no_failure(self, history: History) -> None:
        remarks = {(e["kind"], e["path"]) for e in history.events["changed"] if e["event"] == "remark"}
        assert remarks == {("dangling-link", "dangling"), ("looping-link", "odd/loop"), ("looping-link", "odd/up")}
        assert history.last("changed")["exit_code"] == 0

    def test_the_snapshot_equals_the_earlier_state(self, history: History) -> None:
        (snapshot,) = snapshots(history.drive)
        assert equal(history.earlier, snapshot, "--copy-links") == ""

    def test_the_snapshot_bears_the_moment_at_which_its_state_was_complete(self, history: History) -> None:
        (snapshot,) = snapshots(history.drive)
        lines = [json.loads(line) for line in (history.drive / ".flashback/runs.jsonl").read_text().splitlines()]
        states = [line["at"] for line in lines if line["mark"] in {"complete", "unchanged"}]
        assert snapshot.name == states[0].replace("-", "").replace(":", "")

    def test_the_snapshot_is_read_only(self, history: History) -> None:
        (snapshot,) = snapshots(history.drive)
        assert run("btrfs", "property", "get", "-ts", snapshot, "ro").strip() == "ro=true"

    def test_only_root_can_reach_the_snapshots_and_the_journal(self, history: History) -> None:
        for folder in ("documents/snapshots", ".flashback"):
            at = (history.drive / folder).stat()
            assert (at.st_mode & 0o7777, at.st_uid) == (0o700, 0)

    def test_times_are_kept_to_the_nanosecond(self, history: History) -> None:
        (snapshot,) = snapshots(history.drive)
        assert (snapshot / "plain").stat().st_mtime_ns == 1_600_000_000_123_456_789

    def test_hard_links_stay_one_file(self, history: History) -> None:
        (snapshot,) = snapshots(history.drive)
        assert (snapshot / "plain").stat().st_ino == (snapshot / "folder/hard-link").stat().st_ino

    def test_a_sparse_file_stays_sparse(self, history: History) -> None:
        at = (history.drive / "documents/current/sparse").stat()
        assert at.st_size == 50 << 20
        assert at.st_blocks * 512 < 1 << 20

    def test_attributes_acls_and_owners_by_number_are_kept(self, history: History) -> None:
        (snapshot,) = snapshots(history.drive)
        assert os.getxattr(snapshot / "attributes", "user.colour") == b"red\x00\xff"
        assert "user:12345:r--" in run("getfacl", "--absolute-names", "--numeric", snapshot / "attributes")
        at = (snapshot / "private").stat()
        assert (at.st_uid, at.st_gid) == (12345, 23456)
        assert stat.S_IMODE((snapshot / "program").stat().st_mode) == 0o6755

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_an_odd_name_is_kept(self, history: History, name: bytes) -> None:
        assert (
            Path(os.fsdecode(os.fsencode(history.drive / "documents/current/odd") + b"/" + name)).read_bytes() == name
        )

    def test_a_scrub_without_damage_says_what_it_read(self, history: History) -> None:
        report = history.last("scrub")["scrub"]
        assert (report["csum_errors"], report["uncorrectable"], report["damaged"]) == (0, 0, [])
        assert report["bytes"] > 70000

    def test_the_drive_carries_the_configuration_and_how_to_read_it(self, history: History) -> None:
        kept = history.drive / ".flashback/config/flashback.yaml"
        assert kept.read_bytes() == history.machine.config.read_bytes()
        assert "cryptsetup open" in (history.drive / "README.txt").read_text("utf-8")


# --- links, and long paths


@dataclass
class Links:
    """One tree, backed up by each of the three policies, and a deep one; `drive` is opened by hand."""

    machine: Machine
    drive: Path


@pytest.fixture(scope="class")
def links(prepared: PreparedDrive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Links]:
    machine = Machine(tmp_path_factory.mktemp("links"))
    outside, master, deep = machine.home / "outside", machine.master, machine.home / "deep"
    for folder in (outside, deep, master / "folder"):
        folder.mkdir()
    (outside / "far").write_bytes(b"far")
    (master / "near").write_bytes(b"near")
    (master / "folder/file").write_bytes(b"file")
    (master / "to-near").symlink_to("near")
    (master / "to-folder").symlink_to("folder")
    (master / "to-far").symlink_to("../outside/far")
    (master / "to-outside").symlink_to(outside)
    (master / "to-nothing").symlink_to("nothing")
    make_long_path(deep)
    for name in ("external", "keep"):
        (machine.home / name).mkdir()
        run("cp", "-a", f"{master}/.", machine.home / name)
    lines = [f"  {name}: {{path: {machine.home / name}, symlinks: {name}}}" for name in ("external", "keep")]
    machine.configure(f"masters:\n  follow: {{path: {master}}}\n  deep: {{path: {deep}}}\n" + "\n".join(lines) + "\n")
    device = prepared.onto(machine, blank_sticks()[0])
    machine.run()
    with machine.opened(device) as drive:
        yield Links(machine, drive)


class TestLinks:
    """`symlinks: follow | external | keep`, and what is near the longest path."""

    def test_followed_links_become_what_they_point_to(self, links: Links) -> None:
        copy = links.drive / "follow/current"
        assert [path.name for path in copy.rglob("*") if path.is_symlink()] == []
        assert ((copy / "to-near").read_bytes(), (copy / "to-far").read_bytes()) == (b"near", b"far")
        assert (copy / "to-folder/file").read_bytes() == b"file"
        assert (copy / "to-outside/far").read_bytes() == b"far"
        assert not os.path.lexists(copy / "to-nothing")

    def test_of_external_links_only_those_that_leave_the_master_are_followed(self, links: Links) -> None:
        copy = links.drive / "external/current"
        kept = {path.name: str(path.readlink()) for path in copy.iterdir() if path.is_symlink()}
        assert kept == {"to-near": "near", "to-folder": "folder", "to-nothing": "nothing"}
        assert ((copy / "to-far").read_bytes(), (copy / "to-outside/far").read_bytes()) == (b"far", b"far")

    def test_kept_links_stay_links_wherever_they_point(self, links: Links) -> None:
        assert equal(links.machine.home / "keep", links.drive / "keep/current") == ""
        assert len([path for path in (links.drive / "keep/current").iterdir() if path.is_symlink()]) == 5

    def test_a_path_near_the_longest_is_kept(self, links: Links) -> None:
        at, length = os.open(links.drive / "deep/current", os.O_RDONLY), -1
        while os.path.isdir(f"/proc/self/fd/{at}"):
            (name,) = os.listdir(at)
            below = os.open(name, os.O_RDONLY, dir_fd=at)
            os.close(at)
            at, length = below, length + 1 + len(name)
        content = os.read(at, 100)
        os.close(at)
        assert (length, content) == (4085, b"far down")


# --- what a change costs


def used_by(drive: Path) -> int:
    """Bytes that `btrfs filesystem usage` counts as used on the device."""
    lines = run("btrfs", "filesystem", "usage", "--raw", drive).splitlines()
    return next(int(line.split()[-1]) for line in lines if line.strip().startswith("Used:"))


def test_one_mebibyte_changed_in_a_big_file_costs_less_than_two_on_the_drive(machine: Machine, red: Path) -> None:
    big = machine.master / "big"
    with big.open("wb") as file:
        for _ in range(100):
            file.write(os.urandom(1 << 20))
    machine.run()
    with machine.opened(red) as drive:
        before = used_by(drive)
    with big.open("r+b") as file:
        file.seek(50 << 20)
        file.write(os.urandom(1 << 20))
    last = machine.run()
    assert last["bytes_written"] < 4 << 20
    with machine.opened(red) as drive:
        assert used_by(drive) - before < 2 << 20
        (snapshot,) = snapshots(drive)
        assert run("cmp", drive / "documents/current/big", big) == ""
        assert subprocess.run(["cmp", "-s", snapshot / "big", big], check=False).returncode == 1
    big.unlink()  # all this lies in memory


# --- scrub


def bytes_on(device: Path, needle: bytes) -> int:
    """Where `needle` lies on a device."""
    with device.open("rb", buffering=0) as source:
        position, before = 0, b""
        while block := source.read(4 << 20):
            if (found := (before + block).find(needle)) >= 0:
                return position - len(before) + found
            position, before = position + len(block), block[-len(needle) :]
    raise AssertionError(f"{needle[:16]!r}... is nowhere on {device}")


def damage(machine: Machine, device: Path, content: bytes) -> None:
    """Spoil 16 bytes of the encrypted sector that holds `content`, on the raw device, while the drive is closed."""
    with machine.opened(device):
        inside = bytes_on(Path("/dev/mapper/by-hand"), content)
        start = int(run("dmsetup", "table", "by-hand").split()[7]) * 512
    volume = luks_on(device)
    with volume.open("r+b", buffering=0) as raw:
        raw.seek(start + inside // 4096 * 4096)
        block = bytearray(raw.read(4096))
        block[:16] = bytes(each ^ 0xFF for each in block[:16])
        raw.seek(-4096, os.SEEK_CUR)
        raw.write(block)
        os.fsync(raw.fileno())
    run("blockdev", "--flushbufs", volume)


class TestDamage:
    """One byte of a backed-up file has rotted away in the safe."""

    @pytest.fixture
    def damaged(self, machine: Machine, red: Path) -> Machine:
        content = os.urandom(256 << 10)
        (machine.master / "holiday photo.jpg").write_bytes(content)
        (machine.master / "sound").write_bytes(os.urandom(256 << 10))
        machine.run()
        damage(machine, red, content[100 << 10 : 104 << 10])
        return machine

    def test_a_scrub_finds_the_damage_and_names_the_file(self, damaged: Machine) -> None:
        events = damaged.events("--scrub", code=14)
        last = events[-1]
        assert invalid(events, "run-events.schema.json") == []
        assert last["scrub"]["csum_errors"] > 0
        assert last["scrub"]["damaged"] == ["documents/current/holiday photo.jpg"]
        assert (last["safe_to_remove"], last["drive_state"]) == (True, "closed")
        told = damaged.flashback("run", "--scrub", "--passphrase-file", str(damaged.secret))
        assert told.returncode == 14
        assert "documents/current/holiday photo.jpg" in told.stdout
        assert "damage" in told.stdout.lower()
        assert is_held() == []


# --- a person at the terminal


def test_a_passphrase_may_be_wrong_twice_and_an_empty_one_counts(machine: Machine, red: Path) -> None:
    with machine.at_terminal("run") as child:
        for given in ("wrong", "", PASSPHRASE.decode()):
            child.expect("passphrase for")
            child.waitnoecho()
            child.sendline(given)
        child.expect("safe to remove")
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 0
    assert is_held() == []


def test_three_wrong_passphrases_end_with_5_and_nothing_open(machine: Machine, red: Path) -> None:
    with machine.at_terminal("run", "red") as child:
        for given in ("wrong", "", "correct horse battery staple "):
            child.expect("passphrase for")
            child.waitnoecho()
            child.sendline(given)
        child.expect(pexpect.EOF)
        said = str(child.before)
        child.wait()
        assert child.exitstatus == 5
    assert "red is closed; safe to remove." in said
    assert "correct horse" not in said
    assert is_held() == []


def test_ctrl_c_at_the_prompt_opens_nothing(machine: Machine, red: Path) -> None:
    with machine.at_terminal("run") as child:
        child.expect("passphrase for")
        child.waitnoecho()
        child.sendintr()
        child.expect(pexpect.EOF)
        said = str(child.before)
        child.wait()
        assert child.exitstatus == 130
    assert "red is closed; safe to remove." in said
    assert is_held() == []


def test_the_last_words_of_a_run_are_safe_to_remove(machine: Machine, red: Path) -> None:
    done = machine.flashback("run", "--passphrase-file", str(machine.secret))
    assert done.stdout.splitlines()[-1] == "red is closed; safe to remove."
    assert done.stdout.count("safe to remove") == 1
    assert done.stderr == ""


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_passphrase_file_may_end_with_a_newline(machine: Machine, red: Path, end: bytes) -> None:
    machine.secret.write_bytes(PASSPHRASE + end)
    assert machine.run("--dry-run")["exit_code"] == 0


def test_the_passphrase_may_come_from_standard_input(machine: Machine, red: Path) -> None:
    done = machine.flashback("run", "--dry-run", "--passphrase-file", "-", given=PASSPHRASE.decode() + "\n")
    assert done.returncode == 0, done.stderr


# --- which drive


def test_without_a_drive_it_waits_and_takes_the_one_that_is_plugged_in(
    machine: Machine, red: Path, stick: Stick
) -> None:
    stick.unplug()
    with machine.start("run", "--json", "--passphrase-file", str(machine.secret)) as child:
        said = until(child, "Waiting for a drive: plug in red")
        stick.replug()
        out, err = child.communicate(timeout=PATIENCE)
    assert child.returncode == 0, err
    events = [json.loads(line) for line in [*said, *out.splitlines()]]
    assert (events[-1]["drive"], events[-1]["safe_to_remove"]) == ("red", True)
    assert invalid(events, "run-events.schema.json") == []


def test_ctrl_c_ends_the_waiting(machine: Machine, red: Path, stick: Stick) -> None:
    stick.unplug()
    with machine.start("run") as child:
        until(child, "Waiting for a drive")
        child.send_signal(signal.SIGINT)
        _out, err = child.communicate(timeout=PATIENCE)
    assert child.returncode == 130
    assert "Traceback" not in err


def test_among_several_drives_a_script_must_say_which_and_a_person_is_asked(
    machine: Machine, red: Path, sticks: list[Stick]
) -> None:
    machine.init(sticks[1].device, "green")
    assert machine.run(code=2)["error"]["what"] == "several drives are plugged in (green, red)"
    with machine.at_terminal("run", "--dry-run") as child:
        child.expect("Which drive")
        child.send("\x1b[B\r")
        child.expect("passphrase for")
        child.waitnoecho()
        child.sendline(PASSPHRASE.decode())
        child.expect("red is closed")
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 0
    assert machine.run("GREEN", "--dry-run")["drive"] == "green"
    assert machine.run(str(red), "--dry-run")["drive"] == "red"
