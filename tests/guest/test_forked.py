"""A command that is forked off the tests says what one says that is started, and ends as it does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.guest.machine import COMMAND, Machine, blank_sticks


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


@pytest.mark.parametrize(
    "argv",
    [
        ("--version",),
        ("run", "--help"),
        ("run", "--nonsense"),
        ("status", "--json"),
        ("status",),
        ("init", "/dev/nonsense", "--name", "rôt"),
        ("snapshots", os.fsdecode(b"\xff"), "--verbose"),
    ],
)
def test_both_say_the_same_and_end_with_the_same_exit_code(machine: Machine, argv: tuple[str, ...]) -> None:
    blank_sticks()
    started, forked = machine.flashback(*argv, command=("env", *COMMAND)), machine.flashback(*argv)
    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)


def test_both_read_what_they_are_given(machine: Machine) -> None:
    device = blank_sticks()[0].device
    argv = ("init", str(device), "--name", "red", "--master", str(machine.master), "--erase", "--passphrase-file", "-")
    said = [machine.flashback(*argv, command=each, given="\n").stderr for each in (COMMAND, ("env", *COMMAND))]
    assert said[0] == said[1]
    assert "passphrase" in said[0]
