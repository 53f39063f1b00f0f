"""No passphrase and no recovery key in any argv or environment while the command works, nor in what it leaves behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest

from tests.conftest import run
from tests.guest.conftest import PASSPHRASE
from tests.guest.machine import CHEAP_COMMAND, COMMAND, Machine, blank_sticks


class Watch:
    """What every program was started with, arguments and environment: each execve, as strace saw it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def over(self, command: tuple[str, ...]) -> tuple[str, ...]:
        """The same command, watched."""
        trace = self.folder / f"execve-{len(list(self.folder.glob('execve-*')))}"
        trace.touch()
        return (
            "strace",
            "-f",
            "--seccomp-bpf",
            "-qq",
            "-v",
            "-s",
            "65536",
            "-e",
            "trace=execve",
            "-o",
            str(trace),
            *command,
        )

    @cached_property
    def seen(self) -> list[bytes]:
        """A line for each call."""
        return [line for trace in self.folder.glob("execve-*") for line in trace.read_bytes().splitlines()]

    def caught(self, *secrets: bytes) -> list[bytes]:
        return [line for line in self.seen for secret in secrets if secret in line]


@dataclass
class Watched:
    machine: Machine
    watch: Watch
    recovery_key: bytes
    drive: Path
    said: list[bytes] = field(default_factory=list)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """An init with a recovery key and a first run, a run with a scrub, and one with a typed passphrase."""
    machine, device = Machine(tmp_path_factory.mktemp("watched")), blank_sticks()[0].device
    watch = Watch(tmp_path_factory.mktemp("traces"))
    (machine.master / "file").write_bytes(b"file")
    argv = ("--name", "red", "--master", str(machine.master), "--passphrase-file", str(machine.secret))
    key = ("--recovery-key-file", str(machine.home / "paper.txt"))
    done = machine.flashback("init", str(device), *argv, *key, "--verbose", command=watch.over(CHEAP_COMMAND))
    assert done.returncode == 0, done.stderr
    piped = ("run", "--scrub", "--verbose", "--passphrase-file", "-")
    again = machine.flashback(*piped, given=PASSPHRASE.decode(), command=watch.over(COMMAND))
    assert again.returncode == 0, again.stderr
    with machine.at_terminal("run", "--verbose", command=watch.over(COMMAND)) as child:
        child.expect("passphrase for")
        child.waitnoecho()
        child.sendline(PASSPHRASE.decode())
        typed = child.read()
        child.wait()
        assert child.exitstatus == 0
    page = (machine.home / "paper.txt").read_text("utf-8")
    recovery_key = "".join(re.findall(r"^ {4}([a-z-]{35,36})$", page, re.MULTILINE)).encode()
    assert len(recovery_key) == 71
    said = [text.encode() for text in (done.stdout, done.stderr, again.stdout, again.stderr, typed)]
    with machine.opened(device) as drive:
        yield Watched(machine, watch, recovery_key, drive, said)


def parts(secret: bytes) -> tuple[bytes, ...]:
    """The secret, and enough of it to be no accident."""
    return secret, secret[:20], secret[-20:]


def test_the_watch_saw_the_programs_that_are_given_a_secret(watched: Watched) -> None:
    words = b" ".join(watched.watch.seen)
    for started in (b'"luksFormat"', b'"luksAddKey"', b"/mkfs.btrfs", b'"open"'):
        assert started in words, started


def test_no_argv_and_no_environment_held_a_secret(watched: Watched) -> None:
    assert watched.watch.caught(*parts(PASSPHRASE), *parts(watched.recovery_key)) == []


def test_nothing_that_was_said_holds_a_secret(watched: Watched) -> None:
    assert [text for text in watched.said for part in parts(PASSPHRASE) if part in text] == []
    assert [text for text in watched.said for part in parts(watched.recovery_key) if part in text] == []


@pytest.mark.parametrize("place", ["state", "etc", "run"])
def test_what_is_left_on_the_machine_holds_no_secret(watched: Watched, place: str) -> None:
    files = [path for path in (watched.machine.home / place).rglob("*") if path.is_file()]
    assert place == "run" or files
    for part in (*parts(PASSPHRASE), *parts(watched.recovery_key)):
        assert [path for path in files if part in path.read_bytes()] == []


def test_what_is_written_on_the_drive_holds_no_secret(watched: Watched) -> None:
    for part in (PASSPHRASE.decode(), watched.recovery_key.decode()[:35]):
        found = run("sh", "-c", f"grep -rlF -e '{part}' {watched.drive} || true")
        assert found == ""


def test_the_kernel_log_holds_no_secret(watched: Watched) -> None:
    log = run("dmesg").encode()
    assert [part for part in (*parts(PASSPHRASE), *parts(watched.recovery_key)) if part in log] == []
