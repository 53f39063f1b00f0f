"""Files come back from a real stick, by the command as it is typed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run
from tests.guest.conftest import PASSPHRASE, Stick
from tests.guest.machine import Machine, PreparedDrive, blank_sticks, equal, invalid, is_held, luks_on

ALICE = 1000


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreparedDrive]:
    """The drive red, without a backup yet."""
    drive = PreparedDrive(tmp_path_factory.mktemp("prepared"))
    drive.make(Machine(tmp_path_factory.mktemp("maker")), blank_sticks()[0])
    yield drive
    drive.image.unlink()  # all this lies in memory


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Alice's documents, with a file and a directory."""
    home = Path(tempfile.mkdtemp(dir="/srv"))  # pytest's own folders let no owner but root reach the master
    home.chmod(0o755)
    machine = Machine(home)
    (machine.master / "shopping.txt").write_bytes(b"bread\n")
    (machine.master / "photos").mkdir()
    for count in range(3):
        (machine.master / f"photos/{count}.jpg").write_bytes(os.urandom(300_000))
    for path in (machine.master, *machine.master.rglob("*")):
        os.chown(path, ALICE, ALICE)
    yield machine
    shutil.rmtree(home)


@pytest.fixture
def red(prepared: PreparedDrive, machine: Machine, stick: Stick) -> Path:
    """The drive, with a backup of them and a snapshot in which the shopping list is shorter."""
    device = prepared.onto(machine, stick)
    machine.run()
    (machine.master / "shopping.txt").write_bytes(b"bread\nmilk\n")
    machine.run()
    return device


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
    restored(machine, "documents:shopping.txt", "--snapshot", snapshot)
    assert (machine.master / f"shopping.txt.restored-{snapshot}").read_bytes() == b"bread\n"
    assert is_held() == []


def test_everything_comes_back_on_a_machine_without_a_configuration(machine: Machine, red: Path) -> None:
    machine.config.unlink()
    kept = machine.home / "kept"
    shutil.copytree(machine.master, kept, copy_function=shutil.copy2)
    for path in (kept, *kept.rglob("*")):
        os.chown(path, ALICE, ALICE)
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
    rotten = (machine.master / "photos/1.jpg").read_bytes()[4096:8192]
    run("cryptsetup", "open", "--key-file=-", luks_on(red), "luks-rot", given=PASSPHRASE)
    try:
        with open("/dev/mapper/luks-rot", "r+b") as device:
            content = device.read()
            device.seek(content.index(rotten))
            device.write(b"rot")
    finally:
        run("cryptsetup", "close", "luks-rot")
    last = restored(machine, "documents:photos", "--to", str(machine.home / "back"), code=14)
    assert [each["path"] for each in last["unread"]] == ["photos/1.jpg"]
    assert sorted(os.listdir(machine.home / "back/photos")) == ["0.jpg", "2.jpg"]
    assert last["safe_to_remove"] is True


def test_a_path_that_is_nowhere_is_said_with_where_to_look(machine: Machine, red: Path) -> None:
    done = machine.flashback("restore", "documents:gone", "--passphrase-file", str(machine.secret))
    assert done.returncode == 2
    assert "documents:gone is on none of the drives that are here (red)" in done.stderr
    assert is_held() == []
