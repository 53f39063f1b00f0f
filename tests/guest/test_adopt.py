"""A drive of another machine, a lost ledger, a header changed by hand: `flashback drive adopt` with real drives."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from flashback.rotation.ledger import Ledger
from tests.conftest import run
from tests.guest.conftest import PASSPHRASE, Stick
from tests.guest.machine import Machine, PreparedDrive, blank_sticks, invalid, is_held, luks_on, sectors_written

OTHER = b"another passphrase"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedDrive:
    """The drive red as another machine left it: two runs, one snapshot, its configuration."""
    drive = PreparedDrive(tmp_path_factory.mktemp("prepared"))
    machine = Machine(tmp_path_factory.mktemp("maker"))
    stick = blank_sticks()[0]
    machine.back_up_only(machine.master)
    machine.init(stick.device)
    for content in ("first", "second"):
        (machine.master / "file").write_text(content)
        machine.run("red")
    machine.flashback("drive", "set", "red", "place=home: drawer", "masters=documents")
    machine.run("red")
    run("dd", f"if={stick.device}", f"of={drive.image}", "bs=1M", "conv=sparse", "status=none")
    shutil.copytree(machine.state, drive.state)
    return drive


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    (machine.master / "file").write_text("third")
    return machine


@pytest.fixture
def device(prepared: PreparedDrive, machine: Machine, stick: Stick) -> Path:
    """The drive, at a machine with nothing: no ledger, no configuration."""
    device = prepared.onto(machine, stick)
    shutil.rmtree(machine.state)
    machine.config.unlink()
    return device


@pytest.fixture
def known_device(prepared: PreparedDrive, machine: Machine, stick: Stick) -> Path:
    """The drive, at the machine that knows it."""
    return prepared.onto(machine, stick)


def adopt(machine: Machine, *words: str, code: int = 0, secret: bytes = PASSPHRASE) -> dict[str, Any]:
    """The last event, after the others were held against their schema."""
    machine.secret.write_bytes(secret)
    done = machine.flashback("drive", "adopt", "--json", "--passphrase-file", str(machine.secret), *words)
    assert done.returncode == code, done.stdout + done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert invalid(events, "run-events.schema.json") == []
    assert is_held() == []
    return events[-1]


def rows(state: Path) -> dict[str, Any]:
    with Ledger.open(state / "ledger.sqlite") as ledger:
        drives = ledger.drives()
        return {
            "drives": drives,
            "backups": ledger.backups(),
            "runs": [(each.run_id, each.begun, each.machine, each.sequence) for each in ledger.runs()],
            "snapshots": [ledger.snapshots(each.uuid) for each in drives],
            "scrubs": [ledger.scrubs(each.uuid) for each in drives],
        }


def test_a_lost_ledger_comes_back_from_the_drive_alone(machine: Machine, device: Path, prepared: PreparedDrive) -> None:
    last = adopt(machine, str(device))
    assert last["safe_to_remove"] is True
    assert rows(machine.state) == rows(prepared.state)


def test_nothing_is_written_to_the_drive(machine: Machine, device: Path) -> None:
    before = sectors_written(device)
    adopt(machine, str(device))
    assert sectors_written(device) == before


def test_the_next_run_carries_on_where_the_other_machine_stopped(machine: Machine, device: Path) -> None:
    adopt(machine, str(device))
    machine.back_up_only(machine.master)
    counts = machine.run("red")["masters"]["documents"]
    assert (counts["files_added"], counts["files_changed"]) == (0, 1)


def test_the_configuration_is_put_beside_and_not_into_force(machine: Machine, device: Path) -> None:
    adopt(machine, str(device))
    beside = machine.config.with_name("flashback.yaml.from-red")
    assert "documents" in beside.read_text()
    assert not machine.config.exists()


def test_the_header_backup_is_kept(machine: Machine, device: Path) -> None:
    uuid = adopt(machine, str(device))["uuid"]
    backup = machine.state / "headers" / f"{uuid}.luks"
    assert run("cryptsetup", "luksUUID", backup).strip() == uuid


def test_a_wrong_passphrase_makes_nothing_known(machine: Machine, device: Path) -> None:
    assert adopt(machine, str(device), code=5, secret=b"wrong")["safe_to_remove"] is True
    assert rows(machine.state)["drives"] == ()


def test_somebody_elses_luks_volume_is_left_alone(machine: Machine, stick: Stick, cheap_luks) -> None:
    cheap_luks(stick.device)
    adopt(machine, str(stick.device), code=4)


def test_a_drive_that_only_looks_like_one_is_not_made_known(machine: Machine, stick: Stick, cheap_luks, opened) -> None:
    cheap_luks(stick.device, PASSPHRASE, "--label", "flashback-red", "--subsystem", "flashback")
    mapping = opened(stick.device)
    run("mkfs.btrfs", "-q", mapping)
    run("cryptsetup", "close", mapping.name)
    adopt(machine, str(stick.device), code=4)
    assert rows(machine.state)["drives"] == ()


def test_a_drive_that_was_pulled_while_it_was_written_to_can_be_adopted(
    machine: Machine, device: Path, stick: Stick
) -> None:
    with machine.opened(device, read_only=False) as drive:
        run("sync", "-f", drive)
        with (drive / "documents/current/half").open("wb") as file:
            file.write(b"half")
            os.fsync(file.fileno())  # what is fsynced lies in the log tree until the next commit
        stick.unplug()
    assert adopt(machine, str(stick.replug()))["safe_to_remove"] is True


# --- a header that was changed by hand


def add_key(device: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(PASSPHRASE)
    new.write_bytes(OTHER)
    cheap = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
    run("cryptsetup", "luksAddKey", "--batch-mode", *cheap, "--key-file", old, luks_on(device), new)


def test_a_changed_header_is_refused_and_the_way_out_named(
    machine: Machine, known_device: Path, tmp_path: Path
) -> None:
    add_key(known_device, tmp_path)
    last = machine.run("red", code=4)
    assert f"flashback drive adopt {luks_on(known_device)}" in last["next"]


def test_after_adoption_the_changed_header_is_the_known_one(
    machine: Machine, known_device: Path, tmp_path: Path
) -> None:
    add_key(known_device, tmp_path)
    assert adopt(machine, str(known_device), secret=OTHER)["case"] == "changed"
    machine.secret.write_bytes(PASSPHRASE)
    assert machine.run("red")["exit_code"] == 0


def test_a_changed_header_stays_unknown_where_the_passphrase_does_not_open_it(
    machine: Machine, known_device: Path, tmp_path: Path
) -> None:
    add_key(known_device, tmp_path)
    adopt(machine, "red", code=5, secret=b"wrong")
    machine.secret.write_bytes(PASSPHRASE)
    machine.run("red", code=4)


# --- renamed


def test_after_a_rename_the_drive_says_its_new_name_from_the_next_run_on(machine: Machine, known_device: Path) -> None:
    assert machine.flashback("drive", "rename", "red", "ruby").returncode == 0
    machine.run("ruby")
    with machine.opened(known_device) as drive:
        assert 'name: "ruby"' in (drive / ".flashback/drive.yaml").read_text()
        assert 'This is "ruby"' in (drive / "README.txt").read_text()


# --- a person at the terminal


def test_a_person_is_warned_and_asked_and_may_say_no(machine: Machine, device: Path) -> None:
    with machine.at_terminal("drive", "adopt", str(device)) as terminal:
        terminal.expect("does not know the drive")
        terminal.expect("make it known here")
        terminal.send("n")
        terminal.expect("nothing was changed")
        terminal.wait()
    assert terminal.exitstatus == 2


def test_a_person_says_yes_and_types_the_passphrase(machine: Machine, device: Path) -> None:
    with machine.at_terminal("drive", "adopt", str(device), "--name", "ruby") as terminal:
        terminal.expect("make it known here")
        terminal.send("y")
        terminal.expect("passphrase")
        terminal.sendline(PASSPHRASE.decode())
        terminal.expect("path: .*Documents")
        terminal.expect("Make this the configuration of this machine")
        terminal.send("y")
        terminal.expect("ruby is closed; safe to remove")
        terminal.wait()
    assert [each.name for each in rows(machine.state)["drives"]] == ["ruby"]
    assert machine.run("ruby")["safe_to_remove"] is True


def test_after_a_fire_a_drive_and_its_passphrase_bring_everything_back_and_the_backups_go_on(
    machine: Machine, device: Path
) -> None:
    with machine.at_terminal("drive", "adopt", str(device)) as terminal:
        terminal.expect("make it known here")
        terminal.send("y")
        terminal.expect("passphrase")
        terminal.sendline(PASSPHRASE.decode())
        terminal.expect("Make this the configuration of this machine")
        terminal.send("y")
        terminal.expect("red is closed; safe to remove")
        terminal.wait()
    found = re.search(r"path: \"?([^\"\n]+)", machine.config.read_text())
    assert found is not None
    master = Path(found[1])
    shutil.rmtree(master)
    secret = ("--passphrase-file", str(machine.secret))
    done = machine.flashback("restore", "--all", *secret)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (master / "file").read_text() == "second"
    assert machine.run("red")["result"] == "nothing-to-do"
    assert "red (home: drawer)" in machine.flashback("find", "file").stdout
    assert is_held() == []
