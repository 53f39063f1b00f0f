"""Files come back from a real stick, by the command as it is typed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run
from tests.guest.conftest import PASSPHRASE, Stick
from tests.guest.machine import (
    COMMAND,
    PATIENCE,
    Machine,
    PreparedDrive,
    blank_sticks,
    equal,
    invalid,
    is_held,
    luks_on,
    until,
)

ALICE = 1000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PreparedDrive, Path]]:
    """The drive red, with two backups of Alice's documents and a snapshot in which the shopping list is shorter."""
    home, drive = a_home(), PreparedDrive(tmp_path_factory.mktemp("prepared"))
    machine, stick = Machine(home), blank_sticks()[0]
    (machine.master / "shopping.txt").write_bytes(b"bread\n")
    (machine.master / "photos").mkdir()
    for count in range(3):
        (machine.master / f"photos/{count}.jpg").write_bytes(os.urandom(300_000))
    give_to_alice(machine.master)
    machine.init(stick.device)
    machine.run()
    (machine.master / "shopping.txt").write_bytes(b"bread\nmilk\n")
    machine.run()
    run("dd", f"if={stick.device}", f"of={drive.image}", "bs=1M", "conv=sparse", "status=none")
    shutil.copytree(machine.state, drive.state)
    yield drive, machine.master
    drive.image.unlink()  # all this lies in memory
    shutil.rmtree(home)


def a_home() -> Path:
    """A folder through which any user gets; pytest's own let no owner but root reach the master."""
    home = Path(tempfile.mkdtemp(dir="/srv"))
    home.chmod(0o755)
    return home


def give_to_alice(top: Path) -> None:
    for path in (top, *top.rglob("*")):
        os.chown(path, ALICE, ALICE)


@pytest.fixture
def machine(made: tuple[PreparedDrive, Path]) -> Iterator[Machine]:
    """A machine that knows red, with the documents that were backed up."""
    home = a_home()
    machine = Machine(home)
    shutil.copytree(made[1], machine.master, dirs_exist_ok=True)
    give_to_alice(machine.master)
    yield machine
    shutil.rmtree(home)


@pytest.fixture
def red(made: tuple[PreparedDrive, Path], machine: Machine, stick: Stick) -> Path:
    """The drive, plugged in."""
    return made[0].onto(machine, stick)


def restored(machine: Machine, *argv: str, code: int = 0) -> dict[str, Any]:
    """`flashback restore --json`: the last event, after all of them were held against the schema."""
    done = machine.flashback("restore", "--json", "--passphrase-file", str(machine.secret), *argv)
    assert done.returncode == code, done.stdout + done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert invalid(events, "run-events.schema.json") == []
    last: dict[str, Any] = events[-1]
    return last


def test_a_lost_file_comes_back_in_its_newest_version_or_in_that_of_a_snapshot(machine: Machine, red: Path) -> None:
    file = machine.master / "shopping.txt"
    before = file.stat()
    file.unlink()
    last = restored(machine, str(file))
    assert (last["result"], last["safe_to_remove"], last["restored"][0]["to"]) == ("complete", True, str(file))
    after = file.stat()
    assert (file.read_bytes(), after.st_uid, after.st_mtime_ns) == (b"bread\nmilk\n", ALICE, before.st_mtime_ns)
    (snapshot,) = {each["name"] for each in json.loads(machine.flashback("snapshots", "--json").stdout)["snapshots"]}
    restored(machine, "documents:shopping.txt", "--snapshot", f"red:{snapshot[:-1]}")
    assert (machine.master / f"shopping.txt.restored-{snapshot}").read_bytes() == b"bread\n"
    assert is_held() == []


def test_everything_comes_back_on_a_machine_without_a_configuration(machine: Machine, red: Path) -> None:
    machine.config.unlink()
    kept = machine.home / "kept"
    shutil.copytree(machine.master, kept)
    give_to_alice(kept)
    to = machine.home / "back"
    last = restored(machine, "--all", "--to", str(to))
    assert (last["result"], len(last["restored"])) == ("complete", 1)
    assert equal(kept, to / "documents") == ""


def test_a_person_reads_what_came_from_where_to_where(machine: Machine, red: Path) -> None:
    done = machine.flashback(
        "restore", "documents:photos", "documents:shopping.txt", "--to", str(machine.home / "back"),
        "--passphrase-file", str(machine.secret),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "red: restored. 4 files (879 KiB), each equal to the drive" in done.stdout
    assert f"documents:shopping.txt, from the latest copy: {machine.home}/back/shopping.txt" in done.stdout
    assert "red is closed; safe to remove." in done.stdout


def test_a_drive_that_the_desktop_has_open_is_read_and_left_open(machine: Machine, red: Path) -> None:
    run("cryptsetup", "open", "--key-file=-", luks_on(red), "luks-desktop", given=PASSPHRASE)
    media = machine.home / "media"
    media.mkdir()
    run("mount", "/dev/mapper/luks-desktop", media)
    try:
        last = restored(machine, "documents:shopping.txt", "--to", str(machine.home / "back"))
        assert (last["drive_state"], last["safe_to_remove"]) == ("open", False)
        assert os.path.ismount(media)
    finally:
        run("umount", media)
        run("cryptsetup", "close", "luks-desktop")
    assert (machine.home / "back/shopping.txt").read_bytes() == b"bread\nmilk\n"


def test_damaged_files_are_listed_the_rest_is_restored_and_the_exit_code_is_14(machine: Machine, red: Path) -> None:
    rot(red, (machine.master / "photos/1.jpg").read_bytes())
    last = restored(machine, "documents:photos", "--to", str(machine.home / "back"), code=14)
    assert [each["path"] for each in last["unread"]] == ["photos/1.jpg"]
    assert sorted(os.listdir(machine.home / "back/photos")) == ["0.jpg", "2.jpg"]
    assert last["safe_to_remove"] is True


def test_a_path_that_is_nowhere_is_said_with_where_to_look(machine: Machine, red: Path) -> None:
    done = machine.flashback("restore", "documents:gone", "--at", "1y", "--passphrase-file", str(machine.secret))
    assert done.returncode == 2
    assert "documents:gone is on none of the drives that are here (red), in no state of that time" in done.stderr
    assert "red has of documents: 20" in done.stderr
    assert is_held() == []


# --- over what is there


def test_what_would_change_is_shown_and_asked_about_and_a_script_says_yes(machine: Machine, red: Path) -> None:
    kept = machine.home / "kept"
    shutil.copytree(machine.master, kept)
    give_to_alice(kept)
    (machine.master / "photos/1.jpg").write_bytes(b"spoilt")
    argv = ("restore", "documents:photos", "--in-place", "--passphrase-file", str(machine.secret))
    done = machine.flashback(*argv)
    assert (done.returncode, "replaced: photos/1.jpg" in done.stdout) == (2, True), done.stdout + done.stderr
    with machine.at_terminal(*argv) as terminal:
        terminal.expect("replaced: photos/1.jpg")
        terminal.expect("Is it to be changed like this")
        terminal.send("\r")
        terminal.expect("nothing was changed")
        terminal.wait()
    assert (machine.master / "photos/1.jpg").read_bytes() == b"spoilt"
    with machine.at_terminal(*argv) as terminal:
        terminal.expect("Is it to be changed like this")
        terminal.send("\x1b[B\r")
        terminal.expect("red is closed; safe to remove")
        terminal.wait()
    assert terminal.exitstatus == 0
    assert equal(kept / "photos", machine.master / "photos", "--omit-dir-times") == ""
    (machine.master / "photos/0.jpg").unlink()
    assert restored(machine, *argv[1:3], "--yes")["result"] == "complete"
    assert equal(kept / "photos", machine.master / "photos", "--omit-dir-times") == ""


# --- looking around


def test_the_states_are_dated_folders_for_who_asked_until_the_drive_is_closed(machine: Machine, red: Path) -> None:
    done = as_alice(machine, "mount", "red", "--passphrase-file", str(machine.secret))
    assert done.returncode == 0, done.stdout + done.stderr
    place = machine.runtime / "mnt/red-browse/documents"
    (old,) = [path for path in place.iterdir() if path.name != "current"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d\.\d\d\.\d\d", old.name)
    seen = run("setpriv", f"--reuid={ALICE}", f"--regid={ALICE}", "--clear-groups", "cat", old / "shopping.txt")
    assert seen == "bread\n"
    with pytest.raises(AssertionError, match="Permission denied"):
        run("setpriv", "--reuid=4321", "--regid=4321", "--clear-groups", "ls", place)
    with pytest.raises(AssertionError, match="Read-only file system"):
        run("btrfs", "property", "set", "-ts", old, "ro", "false")
    with pytest.raises(AssertionError, match="Read-only file system"):
        run("touch", place / "x")
    assert f"STILL OPEN: red, to look around in {machine.runtime}/mnt/red-browse" in machine.flashback("status").stdout
    held = machine.flashback("run", "--passphrase-file", str(machine.secret))
    assert (held.returncode, "flashback close red" in held.stdout) == (12, True)
    last = restored(machine, "documents:shopping.txt", "--to", str(machine.home / "back"))
    assert last["drive_state"] == "open"
    closed = machine.flashback("close", "red", "--json")
    assert json.loads(closed.stdout.splitlines()[-1])["safe_to_remove"] is True
    assert not place.parent.exists()
    assert is_held() == []


def as_alice(machine: Machine, *argv: str) -> subprocess.CompletedProcess[str]:
    """The command as sudo starts it for her."""
    return subprocess.run(
        [*COMMAND, *argv],
        env=machine.environment | {"SUDO_UID": str(ALICE), "SUDO_USER": "alice"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def test_an_ordinary_user_restores_what_they_may_from_a_drive_that_was_mounted_for_them(
    machine: Machine, red: Path
) -> None:
    with machine.opened(red, read_only=False) as drive:
        (drive / "documents/current/photos/roots.jpg").write_bytes(b"not alice's")
        (drive / "documents/current/photos/roots.jpg").chmod(0o600)
    closed = unprivileged(machine, "restore", "documents:photos", "--to", str(machine.home / "back"))
    assert (closed.returncode, "sudo flashback mount" in closed.stderr) == (6, True), closed.stderr
    assert as_alice(machine, "mount", "red", "--passphrase-file", str(machine.secret)).returncode == 0
    back = machine.home / "of-alice/back"
    back.parent.mkdir()
    os.chown(back.parent, ALICE, ALICE)
    done = unprivileged(machine, "restore", "documents:photos", "--to", str(back), "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, invalid(events, "run-events.schema.json")) == (11, []), done.stdout + done.stderr
    assert [each["path"] for each in events[-1]["unread"]] == ["photos/roots.jpg"]
    assert (events[-1]["drive"], events[-1]["drive_state"]) == ("red", "open")
    assert equal(machine.master / "photos", back / "photos", "--omit-dir-times") == ""
    (machine.master / "shopping.txt").unlink()
    done = unprivileged(machine, "restore", str(machine.master / "shopping.txt"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert ((machine.master / "shopping.txt").read_bytes(), (machine.master / "shopping.txt").stat().st_uid) == (
        b"bread\nmilk\n",
        ALICE,
    )
    (snapshot,) = {each["name"] for each in json.loads(machine.flashback("snapshots", "--json").stdout)["snapshots"]}
    done = unprivileged(machine, "restore", "documents:shopping.txt", "--snapshot", snapshot, "--to", str(back))
    assert (done.returncode, (back / "shopping.txt").read_bytes()) == (0, b"bread\n"), done.stdout + done.stderr
    assert machine.flashback("close", "red").returncode == 0


def unprivileged(machine: Machine, *argv: str) -> subprocess.CompletedProcess[str]:
    """The command as she types it herself."""
    words = ("setpriv", f"--reuid={ALICE}", f"--regid={ALICE}", "--clear-groups", *COMMAND, *argv)
    environment = {**machine.environment, "HOME": "/"}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE)


# --- is it good?


def test_a_verified_drive_is_told_with_what_was_proven_and_status_remembers_it(machine: Machine, red: Path) -> None:
    done = machine.flashback("verify", "--full", "--passphrase-file", str(machine.secret))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "red: verified. 4 files (879 KiB) equal to the master, 1 file (6 B) read out of the snapshots" in done.stdout
    assert "all of it compared with the masters in the last 90 days" in machine.flashback("status").stdout
    status = json.loads(machine.flashback("status", "--json").stdout)
    assert (invalid([status], "status.schema.json"), status["drives"][0]["proven"]) == ([], 1)


@pytest.mark.parametrize("side", ["master", "drive"])
def test_a_flipped_bit_with_an_unchanged_time_is_found_on_either_side(machine: Machine, red: Path, side: str) -> None:
    with contextlib.ExitStack() as stack:
        top = machine.master if side == "master" else stack.enter_context(machine.opened(red, read_only=False))
        file = top / ("photos/1.jpg" if side == "master" else "documents/current/photos/1.jpg")
        before = file.stat()
        with file.open("r+b") as opened:
            opened.seek(1000)
            flipped = opened.read(1)[0] ^ 1
            opened.seek(1000)
            opened.write(bytes([flipped]))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = machine.flashback("verify", "--sample", "50", "--json", "--passphrase-file", str(machine.secret))
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, invalid(events, "run-events.schema.json")) == (14, [])
    assert [each["path"] for each in events[-1]["unread"]] == ["photos/1.jpg"]
    assert events[-1]["compared"]["documents"]["differing"] == ["photos/1.jpg"]


def test_what_is_damaged_is_found_by_scrub_and_by_verify(machine: Machine, red: Path) -> None:
    rot(red, (machine.master / "photos/1.jpg").read_bytes())
    for command in (("scrub",), ("verify", "--full")):
        done = machine.flashback(*command, "--json", "--passphrase-file", str(machine.secret))
        events = [json.loads(line) for line in done.stdout.splitlines()]
        assert (done.returncode, invalid(events, "run-events.schema.json")) == (14, []), done.stderr
        assert "1.jpg" in json.dumps([events[-1]["unread"] if command[0] == "verify" else events[-1]["scrub"]])
        assert events[-1]["safe_to_remove"] is True


def rot(device: Path, content: bytes) -> None:
    """Write over a file's extent below the file system, so that its checksum does not fit any more."""
    run("cryptsetup", "open", "--key-file=-", luks_on(device), "luks-rot", given=PASSPHRASE)
    try:
        with open("/dev/mapper/luks-rot", "r+b") as opened:
            opened.seek(opened.read().index(content[4096:8192]))
            opened.write(b"rot")
    finally:
        run("cryptsetup", "close", "luks-rot")


# --- pulled, protected, retired


def test_a_drive_that_is_pulled_leaves_no_half_file_and_the_same_command_goes_on(
    machine: Machine, red: Path, stick: Stick
) -> None:
    for count in range(30):
        (machine.master / f"photos/more-{count}.jpg").write_bytes(os.urandom(1_000_000))
    give_to_alice(machine.master)
    machine.run()
    back = machine.home / "back"
    argv = ("restore", "documents:photos", "--to", str(back), "--json", "--passphrase-file", str(machine.secret))
    child = machine.start(*argv)
    until(child, '"step":"restore"')
    stick.unplug()
    out, err = child.communicate(timeout=PATIENCE)
    last = json.loads(out.splitlines()[-1])
    assert (child.returncode, last["drive_state"]) == (10, "gone"), out + err
    assert "give the same command again" in last["next"]
    assert not (back / "photos").exists()
    assert is_held() == []
    stick.replug()
    assert restored(machine, *argv[1:4])["result"] == "complete"
    assert equal(machine.master / "photos", back / "photos") == ""
    assert os.listdir(back) == ["photos"]


def test_a_drive_that_was_pulled_in_a_run_gives_its_last_complete_state(
    machine: Machine, red: Path, stick: Stick
) -> None:
    before = machine.home / "before"
    shutil.copytree(machine.master, before)
    give_to_alice(before)
    (machine.master / "shopping.txt").write_bytes(b"bread, milk and what is not saved\n")
    (machine.master / "big").write_bytes(os.urandom(60_000_000))
    give_to_alice(machine.master)
    child = machine.start("run", "--json", "--passphrase-file", str(machine.secret))
    until(child, '"step":"copy"')
    stick.unplug()
    child.communicate(timeout=PATIENCE)
    stick.replug()
    last = restored(machine, "--all", "--to", str(machine.home / "back"))
    assert (last["result"], last["safe_to_remove"]) == ("complete", True)
    assert equal(before, machine.home / "back/documents", "--omit-dir-times") == ""
    assert is_held() == []


def test_a_write_protected_drive_that_was_retired_can_still_be_read(machine: Machine, red: Path) -> None:
    machine.flashback("drive", "retire", "red")
    run("blockdev", "--setro", red)
    run("blockdev", "--setro", luks_on(red))
    try:
        last = restored(machine, "documents:shopping.txt", "--to", str(machine.home / "back"))
        shutil.rmtree(machine.state / "catalogue")
        made = machine.flashback("catalogue", "rebuild", "red", "--passphrase-file", str(machine.secret))
    finally:
        run("blockdev", "--setrw", luks_on(red))
        run("blockdev", "--setrw", red)
    assert (last["result"], last["safe_to_remove"]) == ("complete", True)
    assert (made.returncode, "red is closed; safe to remove" in made.stdout) == (0, True), made.stdout + made.stderr
    assert "red was only read" in made.stdout
    assert "documents/shopping.txt" in machine.flashback("find", "shopping").stdout.lower()


def test_a_drive_with_a_log_to_replay_is_read_though_it_is_write_protected(
    machine: Machine, red: Path, stick: Stick
) -> None:
    pull_with_a_log(machine, red, stick)
    device = luks_on(red)
    run("blockdev", "--setro", red)
    run("blockdev", "--setro", device)
    try:
        last = restored(machine, "--all", "--to", str(machine.home / "back"))
    finally:
        run("blockdev", "--setrw", device)
        run("blockdev", "--setrw", red)
    assert (last["result"], last["safe_to_remove"]) == ("complete", True)
    assert equal(machine.master, machine.home / "back/documents") == ""
    assert is_held() == []


def pull_with_a_log(machine: Machine, red: Path, stick: Stick) -> None:
    """Pull it right after an fsync, of which Btrfs keeps a log until the next commit."""
    mounted = machine.home / "mounted"
    mounted.mkdir()
    run("cryptsetup", "open", "--key-file=-", luks_on(red), "luks-log", given=PASSPHRASE)
    run("mount", "-o", "commit=300", "/dev/mapper/luks-log", mounted)
    with (mounted / "written at the last moment").open("wb") as file:
        file.write(b"x" * 100_000)
        file.flush()
        os.fsync(file.fileno())
    stick.unplug()
    run("umount", mounted)
    run("cryptsetup", "close", "luks-log")
    stick.replug()
    run("cryptsetup", "open", "--readonly", "--key-file=-", luks_on(red), "luks-log", given=PASSPHRASE)
    try:
        run("blockdev", "--setro", "/dev/mapper/luks-log")
        refused = subprocess.run(
            ["mount", "-o", "ro", "/dev/mapper/luks-log", mounted], capture_output=True, check=False
        )
        assert refused.returncode == 32, "there is no log to replay"
    finally:
        run("cryptsetup", "close", "luks-log")


def test_a_drive_in_the_safe_that_holds_the_file_is_named(machine: Machine, red: Path, stick: Stick) -> None:
    machine.run("--full")
    machine.flashback("drive", "set", "red", "place=at my parents'")
    stick.unplug()
    try:
        done = machine.flashback("restore", "documents:photos/1.jpg", "--passphrase-file", str(machine.secret))
    finally:
        stick.replug()
    assert done.returncode == 4
    assert "plug in red (at my parents'): it holds it, in a state of " in done.stderr
