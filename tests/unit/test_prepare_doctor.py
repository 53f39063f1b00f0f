"""`doctor`: what is missing is named with the command that brings it."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from flashback.core.command import Command, CommandFailed, CommandTimedOut, Programs, Result
from flashback.core.context import Paths
from flashback.core.errors import ConfigError
from flashback.drive.headerless import Headerless
from flashback.prepare import doctor
from flashback.prepare.doctor import Finding, Verdict, examine_machine
from flashback.tools.block import BlockDevice
from tests.unit.drives import RED

SAID = {
    "cryptsetup": "cryptsetup 2.6.1 flags: UDEV BLKID KEYRING KERNEL_CAPI\n",
    "btrfs": "btrfs-progs v6.2\n",
    "rsync": "rsync  version 3.2.7  protocol version 31\nCopyright\n",
}


class Runner:
    """Answers `--version` from a table; modprobe finds every module unless told otherwise."""

    def __init__(self) -> None:
        self.said: dict[str, str | Exception] = dict(SAID)
        self.modules = True
        self.ran: list[tuple[str, ...]] = []

    def __call__(self, command: Command) -> Result:
        self.ran.append(command.argv)
        if command.argv[0] == "modprobe":
            if not self.modules:
                raise CommandFailed(Result(command, 1))
            return Result(command, 0)
        answer = self.said[command.argv[0]]
        if isinstance(answer, Exception):
            raise answer
        return Result(command, 0, answer.encode())


@pytest.fixture
def run() -> Runner:
    return Runner()


@pytest.fixture
def installed(monkeypatch) -> set[str]:
    """The programs that are on the path; take one away."""
    names = {*doctor.PROGRAMS, "apt-get", "sudo"}
    monkeypatch.setattr(shutil, "which", lambda name, path=None: f"/usr/bin/{name}" if name in names else None)
    return names


@pytest.fixture
def paths(tmp_path) -> Paths:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    config = tmp_path / "flashback.yaml"
    config.write_text("")
    return Paths(config=config, state=state, runtime=tmp_path / "run")


@pytest.fixture
def examine(run, paths, installed):
    def examine(problem=None, **other) -> dict[str, Finding]:
        found = examine_machine(run, replace(paths, **other), config_problem=lambda: problem)
        return {each.what: each for each in found}

    return examine


def test_a_machine_with_everything_lacks_nothing(examine) -> None:
    assert [each.what for each in examine().values() if each.verdict is Verdict.MISSING] == []


def test_every_program_is_looked_for(examine) -> None:
    assert set(doctor.PROGRAMS) <= set(examine())


# --- programs and packages


@pytest.mark.parametrize(
    ("manager", "program", "command"),
    [
        ("apt-get", "cryptsetup", "sudo apt install cryptsetup-bin"),
        ("apt-get", "mkfs.btrfs", "sudo apt install btrfs-progs"),
        ("apt-get", "sfdisk", "sudo apt install fdisk"),
        ("apt-get", "umount", "sudo apt install mount"),
        ("dnf", "cryptsetup", "sudo dnf install cryptsetup"),
        ("dnf", "sfdisk", "sudo dnf install util-linux"),
        ("zypper", "btrfs", "sudo zypper install btrfs-progs"),
        ("pacman", "rsync", "sudo pacman -S rsync"),
        ("apk", "setpriv", "sudo apk add util-linux"),
        ("", "cryptsetup", "install the package cryptsetup"),
    ],
)
def test_a_missing_program_comes_with_its_command(examine, installed, manager, program, command) -> None:
    installed -= {program, "apt-get"}
    installed |= {manager}
    assert examine()[program] == Finding(program, Verdict.MISSING, "not installed", command)


def test_a_missing_program_is_not_asked_for_its_version(examine, installed, run) -> None:
    installed -= {"rsync"}
    assert "rsync's version" not in examine()
    assert ("rsync", "--version") not in run.ran


# --- versions


@pytest.mark.parametrize(
    ("said", "numbers"),
    [
        ("cryptsetup 2.6.1 flags: UDEV", (2, 6, 1)),
        ("btrfs-progs v6.2", (6, 2)),
        ("btrfs-progs v6.16-rc1", (6, 16)),
        ("rsync  version 3.4.1pre2  protocol version 32", (3, 4, 1)),
        ("rsync  version v3.5.0  protocol version 32", (3, 5, 0)),
        ("3.10", (3, 10)),
        ("no number", ()),
        ("version 7", ()),
        ("", ()),
    ],
)
def test_versions_are_understood(said, numbers) -> None:
    assert doctor._numbers(said) == numbers


@pytest.mark.parametrize(
    ("program", "said"),
    [("cryptsetup", "cryptsetup 2.2.9"), ("btrfs", "btrfs-progs v5.3.1"), ("rsync", "rsync  version 3.2.2  protocol")],
)
def test_a_version_that_is_too_old_is_missing(examine, run, program, said) -> None:
    run.said[program] = said
    found = examine()[f"{program}'s version"]
    assert found.verdict is Verdict.MISSING
    assert "or newer is needed: sudo apt install" in found.remedy


@pytest.mark.parametrize(
    ("program", "said"),
    [("cryptsetup", "cryptsetup 2.10.0"), ("btrfs", "btrfs-progs v5.4"), ("rsync", "rsync  version 3.10.0  protocol")],
)
def test_a_version_that_is_new_enough_is_good(examine, run, program, said) -> None:
    run.said[program] = said
    assert examine()[f"{program}'s version"].verdict is Verdict.GOOD


@pytest.mark.parametrize(
    "said",
    [
        pytest.param("whatever", id="no number"),
        pytest.param(CommandFailed(Result(Command(("rsync", "--version")), 1)), id="it fails"),
        pytest.param(CommandTimedOut(Command(("rsync", "--version"), timeout=10)), id="it hangs"),
    ],
)
def test_a_program_that_does_not_tell_its_version_is_a_note(examine, run, said) -> None:
    run.said["rsync"] = said
    assert examine()["rsync's version"].verdict is Verdict.NOTE


# --- kernel, privileges, configuration, state


def test_a_kernel_without_dm_crypt_is_missing_something(examine, run, monkeypatch) -> None:
    run.modules = False
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert examine()["kernel: dm-crypt"].verdict is Verdict.MISSING


def test_a_module_is_asked_for_without_loading_it(run, monkeypatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert doctor.dm_crypt_is_there(run)
    assert run.ran == [("modprobe", "--dry-run", "--quiet", "dm-crypt")]


@pytest.mark.parametrize(("user", "verdict"), [(0, Verdict.GOOD), (1000, Verdict.NOTE)])
def test_privileges(examine, monkeypatch, user, verdict) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert examine()["privileges"].verdict is verdict


@pytest.mark.parametrize(("sudo", "remedy"), [(True, "with sudo"), (False, "log in as root")])
def test_an_ordinary_user_is_told_what_works_here(examine, installed, monkeypatch, sudo, remedy) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    if not sudo:
        installed -= {"sudo"}
    assert remedy in examine()["privileges"].remedy


def test_a_bad_configuration_is_told_in_its_own_words(examine) -> None:
    found = examine(ConfigError("masters is missing"))["configuration"]
    assert (found.verdict, found.detail) == (Verdict.MISSING, "masters is missing")


def test_a_configuration_that_is_not_there_yet_is_a_note(examine, tmp_path) -> None:
    found = examine(ConfigError("never asked"), config=tmp_path / "nowhere.yaml")["configuration"]
    assert found.verdict is Verdict.NOTE


def test_a_state_that_others_may_look_into_comes_with_the_command(examine, paths) -> None:
    paths.state.chmod(0o755)
    found = examine()["state"]
    assert (found.verdict, found.remedy) == (Verdict.MISSING, f"sudo chmod 700 {paths.state}")


def test_a_state_that_is_not_there_yet_is_a_note(examine, tmp_path) -> None:
    assert examine(state=tmp_path / "nowhere")["state"].verdict is Verdict.NOTE


def test_doctor_changes_nothing(examine, paths, tmp_path) -> None:
    before = sorted(tmp_path.rglob("*"))
    examine()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_finding_is_ready_for_json() -> None:
    finding = Finding("rsync", Verdict.MISSING, "not installed", "sudo apt install rsync")
    assert finding.as_json() == {
        "what": "rsync",
        "verdict": "missing",
        "detail": "not installed",
        "remedy": "sudo apt install rsync",
    }


def test_a_drive_whose_header_is_gone_comes_with_the_command(monkeypatch) -> None:
    gone = Headerless(RED, BlockDevice("/dev/sdx1", "sdx1", "part", 1), "by the name of its partition")
    monkeypatch.setattr(doctor, "headerless", lambda _run, _known: (gone,))
    (found,) = doctor.without_header(Programs(), [RED])
    assert (found.verdict, found.remedy) == (Verdict.NOTE, "flashback key header restore red")
    assert "/dev/sdx1 looks like red" in found.detail
