"""Keys and headers of real drives: what a wipe, a kill, a new machine and a stranger with README.txt make of them."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import run
from tests.guest.conftest import PASSPHRASE, Stick
from tests.guest.machine import (
    CHEAP,
    CHEAP_COMMAND,
    Machine,
    PreparedDrive,
    blank_sticks,
    copy_or_link,
    is_held,
    luks_on,
)

HEADER = 16 << 20
NEW = b"quite another passphrase"
KILLED_AFTER_ADDING = """
import os, signal
real = cryptsetup.add_key
def killed(*asked, **more):
    real(*asked, **more)
    os.kill(os.getpid(), signal.SIGKILL)
cryptsetup.add_key = killed
from flashback.cli import main
"""
KILLED = (sys.executable, "-c", CHEAP.replace("from flashback.cli import main", KILLED_AFTER_ADDING))


@dataclass
class Rotation:
    """Red and green of one machine, both backed up to; green was last, so it carries red's header."""

    red: PreparedDrive
    green: PreparedDrive


@pytest.fixture(scope="module")
def rotation(tmp_path_factory: pytest.TempPathFactory) -> Rotation:
    machine = Machine(tmp_path_factory.mktemp("maker"))
    (machine.master / "letter.txt").write_text("Dear stranger,")
    machine.back_up_only(machine.master)
    sticks = blank_sticks()[:2]
    made = [PreparedDrive(tmp_path_factory.mktemp(name)) for name in ("red", "green")]
    for stick, name in zip(sticks, ("red", "green"), strict=True):
        machine.init(stick.device, name)
        machine.run(name)
    for stick, drive in zip(sticks, made, strict=True):
        run("dd", f"if={stick.device}", f"of={drive.image}", "bs=1M", "conv=sparse", "status=none")
        shutil.copytree(machine.state, drive.state, copy_function=copy_or_link)
    return Rotation(*made)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    (machine.master / "letter.txt").write_text("Dear stranger,")
    return machine


@pytest.fixture
def red(rotation: Rotation, machine: Machine, stick: Stick) -> Path:
    """The drive red at the machine that knows it."""
    return rotation.red.onto(machine, stick)


def wipe_header(device: Path) -> None:
    with luks_on(device).open("r+b") as volume:
        volume.write(bytes(HEADER))
    run("udevadm", "settle")


def uuid_on(device: Path) -> str:
    return run("cryptsetup", "luksUUID", luks_on(device)).strip()


def restore(machine: Machine, *words: str, code: int = 0) -> str:
    given = ("--passphrase-file", str(machine.secret), "--yes-overwrite-header")
    done = machine.flashback("key", "header", "restore", *words, *given)
    assert done.returncode == code, done.stdout + done.stderr
    assert is_held() == []
    return done.stdout + done.stderr


def test_a_drive_without_its_header_is_recognised_and_gets_it_back(machine: Machine, red: Path) -> None:
    wipe_header(red)
    assert "its LUKS header is gone" in machine.flashback("status").stdout
    assert machine.run("red", code=4)["next"].endswith("flashback key header restore red")
    restore(machine, "red")
    assert machine.run("red")["safe_to_remove"] is True


def test_a_header_comes_back_from_another_drive(rotation: Rotation, machine: Machine, sticks: list[Stick]) -> None:
    red, green = rotation.red.onto(machine, sticks[0]), rotation.green.onto(machine, sticks[1])
    (machine.state / "headers" / f"{uuid_on(red)}.luks").unlink()
    wipe_header(red)
    assert "--from-drive" in restore(machine, "red", code=4)
    restore(machine, "red", "--from-drive", "green")
    assert machine.run("red")["result"] in {"complete", "nothing-to-do"}
    assert uuid_on(green) != uuid_on(red)


def test_data_of_another_drive_behind_the_header_are_seen_before_anything_is_written(
    rotation: Rotation, machine: Machine, sticks: list[Stick]
) -> None:
    red, green = rotation.red.onto(machine, sticks[0]), rotation.green.onto(machine, sticks[1])
    kept = machine.state / "headers" / f"{uuid_on(red)}.luks"
    wipe_header(green)
    assert "no file system of red" in restore(machine, str(green), "--drive", "red", "--from", str(kept), code=4)
    with luks_on(green).open("rb") as volume:
        assert not any(volume.read(4096))


def test_killed_while_a_passphrase_is_changed_the_drive_can_be_used_at_once(machine: Machine, red: Path) -> None:
    new = machine.home / "new"
    new.touch(0o600)
    new.write_bytes(NEW)
    words = ("key", "change", "red", "--passphrase-file", str(machine.secret), "--new-passphrase-file", str(new))
    assert machine.flashback(*words, command=KILLED).returncode == -9
    assert machine.run("red")["safe_to_remove"] is True
    assert machine.flashback(*words, command=CHEAP_COMMAND).returncode == 0
    machine.secret.write_bytes(NEW)
    assert machine.run("red")["safe_to_remove"] is True


# --- a stranger


COMMAND = re.compile(r"^ {4}((?:cryptsetup|mkdir|mount|cp|umount) .*)$", re.MULTILINE)


def test_a_stranger_with_readme_and_passphrase_gets_a_file(machine: Machine, red: Path) -> None:
    with machine.opened(red) as drive:  # as it is printed, or read on another machine
        text = (drive / "README.txt").read_text("utf-8")
    commands = COMMAND.findall(text)
    assert [each.split()[0] for each in commands] == [
        *("cryptsetup", "mkdir", "mount"),
        *("mount", "cp", "cp"),  # the second mount is for a drive that was unplugged in use
        *("umount", "cryptsetup"),
    ]
    home = machine.home / "you"
    home.mkdir()
    opening, folder, mounting, _after_unplugging, *rest = commands
    run("sh", "-c", opening, given=PASSPHRASE + b"\n")
    for command in (folder, mounting, *rest):
        run("sh", "-c", command.replace("NAME", "documents").replace("/home/you", str(home)))
    assert (home / "letter.txt").read_text() == (home / "restored/letter.txt").read_text() == "Dear stranger,"
    assert is_held() == []
