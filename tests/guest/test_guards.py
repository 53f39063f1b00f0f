"""Guards as a person and a script meet them: on a real drive, at a real terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.conftest import run
from tests.guest.conftest import PASSPHRASE, Stick
from tests.guest.machine import Machine, PreparedDrive, blank_sticks, invalid, is_held


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory) -> PreparedDrive:
    """A drive with one backup of 60 letters."""
    folder = tmp_path_factory.mktemp("prepared")
    machine, drive = Machine(folder / "machine"), PreparedDrive(folder)
    letters(machine)
    drive.make(machine, blank_sticks()[0])
    return drive


def letters(machine: Machine, count: int = 60) -> None:
    for n in range(count):
        (machine.master / f"letter {n}.txt").write_bytes(b"the boat came back to the harbour before the rain " * 60)


@pytest.fixture
def machine(tmp_path, sticks: list[Stick], backed_up: PreparedDrive) -> Iterator[Machine]:
    machine = Machine(tmp_path / "machine")
    letters(machine)
    backed_up.onto(machine, sticks[0])
    machine.run("red")
    yield machine
    assert is_held() == []


def lose(machine: Machine, count: int = 40) -> None:
    for n in range(count):
        (machine.master / f"letter {n}.txt").unlink()


def copied(machine: Machine, device: Path) -> int:
    with machine.opened(device) as folder:
        return len(os.listdir(folder / "documents/current"))


def answer(terminal: pexpect.spawn) -> None:
    terminal.expect("[Pp]assphrase")
    terminal.sendline(PASSPHRASE.decode())


def test_a_script_is_held_until_somebody_decides(machine, sticks) -> None:
    lose(machine)
    events = machine.events("red", code=13)
    last = events[-1]
    assert (last["result"], last["safe_to_remove"], [hold["name"] for hold in last["holds"]]) == (
        "held",
        True,
        ["mass-deletion"],
    )
    assert invalid(events, "run-events.schema.json") == []
    said = machine.flashback("status").stdout
    assert said.startswith("HELD: red was held")
    assert "mass-deletion" in machine.flashback("remind").stdout
    assert machine.flashback("remind").stdout == "Nothing to say.\n"
    assert machine.run("red", "--allow", "mass-deletion")["result"] == "complete"
    assert "HELD" not in machine.flashback("status").stdout
    assert machine.events("red", "--unattended", code=13)[-1]["holds"][0]["name"] == "too-soon"


def test_at_a_terminal_one_key_lists_and_one_lets_it_pass(machine, sticks) -> None:
    lose(machine)
    with machine.at_terminal("run", "red") as terminal:
        answer(terminal)
        terminal.expect("held by the guard mass-deletion")
        terminal.expect("any other key to stop")
        terminal.send("l")
        terminal.expect(r"delete  documents/letter \d+\.txt")
        terminal.expect("space for more")
        terminal.send("q")
        terminal.expect("any other key to stop")
        terminal.send("y")
        terminal.expect("backup complete")
        terminal.expect(pexpect.EOF)
        terminal.wait()
    assert terminal.exitstatus == 0
    assert copied(machine, sticks[0].device) == 20


@pytest.mark.parametrize("key", ["n", "\x03"])
def test_at_a_terminal_any_other_key_stops_it(machine, sticks, key) -> None:
    lose(machine)
    with machine.at_terminal("run", "red") as terminal:
        answer(terminal)
        terminal.expect("any other key to stop")
        terminal.send(key)
        terminal.expect("nothing was written")
        terminal.expect(pexpect.EOF)
        terminal.wait()
    assert terminal.exitstatus == 13
    assert copied(machine, sticks[0].device) == 60


def test_a_copy_of_the_drive_is_told_apart_by_its_journal(machine, sticks) -> None:
    device, copy = sticks[0].device, sticks[1].device
    run("dd", f"if={device}", f"of={copy}", "bs=1M", "conv=fsync", "status=none")
    sticks[1].unplug()
    (machine.master / "new.txt").write_text("new")
    machine.run("red")
    sticks[0].unplug()
    sticks[1].replug()
    assert machine.events("red", code=13)[-1]["holds"][0]["name"] == "clone"
