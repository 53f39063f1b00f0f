"""A drive is put away on every way out, and `flashback close` puts away what was left open."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import run
from tests.guest.conftest import PASSPHRASE, Stick, wait_for
from tests.guest.machine import (
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


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreparedDrive]:
    """The drive red, without a backup yet."""
    drive = PreparedDrive(tmp_path_factory.mktemp("prepared"))
    drive.make(Machine(tmp_path_factory.mktemp("maker")), blank_sticks()[0])
    yield drive
    drive.image.unlink()  # all this lies in memory


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    (machine.master / "file").write_bytes(b"file")
    return machine


@pytest.fixture
def red(prepared: PreparedDrive, machine: Machine, stick: Stick) -> Path:
    return prepared.onto(machine, stick)


def open_by_hand(device: Path, where: Path) -> str:
    """Open and mount as a desktop would; return the mapping's name."""
    run("cryptsetup", "open", "--key-file=-", luks_on(device), "luks-desktop", given=PASSPHRASE)
    where.mkdir()
    run("mount", "/dev/mapper/luks-desktop", where)
    return "luks-desktop"


# --- the command close


def test_close_puts_away_what_a_desktop_opened(machine: Machine, red: Path) -> None:
    open_by_hand(red, machine.home / "media")
    done = machine.flashback("close", "red", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert (events[-1]["result"], events[-1]["safe_to_remove"]) == ("complete", True)
    assert invalid(events, "run-events.schema.json") == []
    assert not os.path.ismount(machine.home / "media")
    assert not Path("/dev/mapper/luks-desktop").exists()


def test_close_of_a_drive_that_is_not_open_says_so(machine: Machine, red: Path) -> None:
    done = machine.flashback("close")
    assert done.returncode == 0, done.stderr
    assert "it was not open here" in done.stdout
    assert "red is closed; safe to remove." in done.stdout


def test_close_names_the_process_in_the_way_and_does_not_call_the_drive_safe(machine: Machine, red: Path) -> None:
    media = machine.home / "media"
    open_by_hand(red, media)
    with subprocess.Popen(["tail", "-f", "README.txt"], cwd=media, stdout=subprocess.DEVNULL) as reader:
        try:
            wait_for(lambda: os.readlink(f"/proc/{reader.pid}/cwd") == str(media), "the reader")
            done = machine.flashback("close")
            said = done.stdout + done.stderr
            assert done.returncode == 12, said
            assert "STILL HELD: do not unplug" in said.splitlines()[0]
            assert f"tail (process {reader.pid}) is using it" in said.splitlines()[0]
            assert "safe to remove" not in said
            assert os.path.ismount(media)
        finally:
            reader.kill()
    assert machine.flashback("close").returncode == 0
    assert not os.path.ismount(media)


def test_close_after_the_drive_was_pulled_gives_back_the_mapping(machine: Machine, red: Path, stick: Stick) -> None:
    open_by_hand(red, machine.home / "media")
    stick.unplug()
    done = machine.flashback("close", "red", "--json")
    last = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert (last["drive_state"], last["safe_to_remove"]) == ("gone", False)


def test_close_of_a_drive_that_nobody_knows(machine: Machine, red: Path) -> None:
    done = machine.flashback("close", "blue")
    assert done.returncode == 4
    assert "no drive called blue is known" in done.stderr


# --- stopped in the middle of a run


@pytest.fixture
def big(machine: Machine) -> Iterator[Path]:
    """Enough to be in the middle of; removed afterwards, since all this lies in memory."""
    path = machine.master / "big"
    with path.open("wb") as file:
        for _ in range(30):
            file.write(os.urandom(1 << 20))
    yield path
    path.unlink()


def copying(machine: Machine) -> tuple[subprocess.Popen[str], list[str]]:
    """A run whose copy is under way."""
    child = machine.start("run", "--json", "--passphrase-file", str(machine.secret))
    return child, until(child, '"progress"')


def test_terminated_in_the_copy_it_closes_and_the_next_run_carries_on(machine: Machine, red: Path, big: Path) -> None:
    child, said = copying(machine)
    with child:
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=PATIENCE)
    last = json.loads([*said, *out.splitlines()][-1])
    assert child.returncode == 143, err
    assert (last["exit_code"], last["result"], last["safe_to_remove"]) == (143, "incomplete", True)
    assert is_held() == []
    assert machine.run()["result"] == "complete"
    with machine.opened(red) as drive:
        assert equal(machine.master, drive / "documents/current") == ""
        assert list((drive / "documents/snapshots").iterdir()) == []


def test_ctrl_c_twice_is_one_ctrl_c(machine: Machine, red: Path, big: Path) -> None:
    child, said = copying(machine)
    with child:
        child.send_signal(signal.SIGINT)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=PATIENCE)
    assert child.returncode == 130, err
    assert json.loads([*said, *out.splitlines()][-1])["safe_to_remove"] is True
    assert is_held() == []


def test_killed_in_the_copy_it_leaves_neither_mount_nor_mapping(machine: Machine, red: Path, big: Path) -> None:
    child, _said = copying(machine)
    with child:
        child.kill()
    wait_for(lambda: is_held() == [], "the mapping to go")
    assert machine.run()["result"] == "complete"


def test_a_second_run_meanwhile_is_told_who_is_at_work(machine: Machine, red: Path, big: Path) -> None:
    child, _said = copying(machine)
    with child:
        child.send_signal(signal.SIGSTOP)  # so that it cannot be over before the other one begins
        done = machine.flashback("run", "--passphrase-file", str(machine.secret))
        child.send_signal(signal.SIGCONT)
        out, err = child.communicate(timeout=PATIENCE)
    assert done.returncode == 3, done.stdout + done.stderr
    assert f"process {child.pid}" in done.stdout
    assert "safe to remove" not in done.stdout
    assert child.returncode == 0, out + err


def test_pulled_in_the_copy_it_says_so_and_the_next_run_carries_on(
    machine: Machine, red: Path, stick: Stick, big: Path
) -> None:
    child, said = copying(machine)
    with child:
        stick.unplug()
        out, err = child.communicate(timeout=PATIENCE)
    last = json.loads([*said, *out.splitlines()][-1])
    assert child.returncode == 10, err
    assert (last["drive_state"], last["safe_to_remove"], last["result"]) == ("gone", False, "incomplete")
    assert is_held() == []
    device = stick.replug()
    assert machine.run()["result"] == "complete"
    with machine.opened(device) as drive:
        assert equal(machine.master, drive / "documents/current") == ""


def test_the_output_may_be_closed_while_the_run_goes_on(machine: Machine, red: Path, big: Path) -> None:
    child, _said = copying(machine)
    with child:
        assert child.stdout is not None
        child.stdout.close()
        code = child.wait(timeout=PATIENCE)
    assert code == 0
    assert is_held() == []
