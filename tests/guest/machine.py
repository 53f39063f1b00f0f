"""A machine of its own for each test: configuration, state, runtime and a master in one folder, and the real command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pexpect
from jsonschema import Draft202012Validator

from tests.conftest import Held, run
from tests.guest.conftest import PASSPHRASE, Stick, is_scsi_debug, wait_for
from tests.guest.forked import main, run_forked, with_cheap_keys

HERE = Path(__file__).parents[2]
SCHEMAS = HERE / "docs/reference/schemas"
PATIENCE = 240
"""Seconds until a command counts as hanging."""

COMMAND = (sys.executable, "-m", "flashback")
CHEAP = """
import sys
import flashback.tools.cryptsetup as cryptsetup
cryptsetup.STANDARD = cryptsetup.PRACTICE
from flashback.cli import main
sys.argv[0] = "flashback"
main()
"""
CHEAP_COMMAND = (sys.executable, "-c", CHEAP)
"""`flashback` with a key derivation that costs nothing; everything else is the real command."""


class Machine:
    """`flashback(...)` runs the command as a user would, with this machine's folders."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.master = home / "Documents"
        self.config = home / "etc/flashback.yaml"
        self.state = home / "state"
        self.runtime = home / "run"
        self.secret = home / "secret"
        self.master.mkdir(parents=True)
        self.secret.write_bytes(PASSPHRASE)
        self.secret.chmod(0o600)

    @property
    def environment(self) -> dict[str, str]:
        """What the command finds in its environment."""
        return {
            "PATH": os.environ["PATH"],
            "FLASHBACK_CONFIG": str(self.config),
            "FLASHBACK_STATE": str(self.state),
            "FLASHBACK_RUNTIME": str(self.runtime),
            "PYTHONPATH": str(HERE),
            "LC_ALL": "C.UTF-8",
            "TERM": "xterm",
        }

    def configure(self, text: str) -> None:
        """Write the configuration, in the place of what is there."""
        self.config.parent.mkdir(exist_ok=True)
        self.config.write_text(text, "utf-8")

    def back_up_only(self, master: Path, *more: str) -> None:
        """A configuration with one master, called documents, and lines that are added to it."""
        lines = "".join(f"    {line}\n" for line in more)
        self.configure(f"masters:\n  documents:\n    path: {json.dumps(str(master))}\n{lines}")

    def init(self, device: Path, name: str = "red", *more: str, first_run: bool = False) -> None:
        """Prepare a drive, with a cheap key derivation."""
        first = () if first_run else ("--no-first-run",)
        argv = ("init", str(device), "--name", name, "--master", str(self.master), "--erase", "--no-recovery-key")
        done = self.flashback(*argv, "--passphrase-file", str(self.secret), *first, *more, command=CHEAP_COMMAND)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, *argv: str, command: tuple[str, ...] = COMMAND, **more: Any) -> subprocess.Popen[str]:
        """Begin a command and return at once."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([*command, *argv], env=self.environment, **(pipes | more))

    def flashback(
        self, *argv: str, given: str | None = None, command: tuple[str, ...] = COMMAND
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; the usual ones are forked, others started."""
        if command in (COMMAND, CHEAP_COMMAND):
            work = partial(_main, argv, cheap=command == CHEAP_COMMAND)
            return run_forked(work, self.environment, given or "", PATIENCE)
        return subprocess.run(
            [*command, *argv],
            env=self.environment,
            input=given or "",
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def events(self, *argv: str, code: int = 0, secret: Path | None = None) -> list[dict[str, Any]]:
        """`flashback run --json` with the passphrase file: all its events, after its exit code was looked at."""
        done = self.flashback("run", "--json", "--passphrase-file", str(secret or self.secret), *argv)
        assert done.returncode == code, done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def run(self, *argv: str, code: int = 0) -> dict[str, Any]:
        """The same; the last event."""
        return self.events(*argv, code=code)[-1]

    @contextmanager
    def at_terminal(self, *argv: str, command: tuple[str, ...] = COMMAND) -> Iterator[pexpect.spawn]:
        """A command on a terminal, for somebody who types."""
        words = [*command[1:], *argv]
        child = pexpect.spawn(
            command[0], words, env=self.environment, timeout=60, encoding="utf-8", dimensions=(40, 200)
        )
        try:
            yield child
        finally:
            child.close(force=True)

    @contextmanager
    def opened(self, device: Path, *, read_only: bool = True, secret: bytes = PASSPHRASE) -> Iterator[Path]:
        """The drive, opened as README.txt on it says: with cryptsetup and mount alone."""
        volume = luks_on(device)
        folder = self.home / "by-hand"
        folder.mkdir(exist_ok=True)
        options = ("--readonly",) if read_only else ()
        run("cryptsetup", "open", *options, "--key-file=-", volume, "by-hand", given=secret)
        try:
            run("mount", "-o", "ro" if read_only else "rw", "/dev/mapper/by-hand", folder)
            try:
                yield folder
            finally:
                run("umount", folder)
        finally:
            run("cryptsetup", "close", "by-hand")


def _main(argv: tuple[str, ...], *, cheap: bool) -> int:
    if cheap:
        with_cheap_keys()
    return main(argv)


class PreparedDrive:
    """A drive that was initialised once and is copied onto a stick, with this machine's memory of it, when wanted."""

    def __init__(self, folder: Path) -> None:
        self.image = folder / "drive.img"
        self.state = folder / "state"

    def make(self, machine: Machine, stick: Stick, *, name: str = "red") -> None:
        """Prepare it on `stick` and keep a copy."""
        machine.init(stick.device, name)
        run("dd", f"if={stick.device}", f"of={self.image}", "bs=1M", "conv=sparse", "status=none")
        shutil.copytree(machine.state, self.state)

    def onto(self, machine: Machine, *sticks: Stick) -> Path:
        """Write it onto blank sticks and into the machine's state; return the first stick's device."""
        if not machine.state.exists():
            shutil.copytree(self.state, machine.state, copy_function=copy_or_link)
        if not machine.config.exists():
            machine.back_up_only(machine.master)
        for stick in sticks:
            run("dd", f"if={self.image}", f"of={stick.device}", "bs=1M", "conv=sparse,fsync", "status=none")
            run("udevadm", "settle")  # it looks at every disk that was written to, and is in the way then
            wait_for(lambda stick=stick: rereads_partitions(stick.device), f"{stick.device} to be let go of")
        run("udevadm", "settle")
        wait_for(lambda: all(luks_on(stick.device) != stick.device for stick in sticks), "the partitions")
        return sticks[0].device


def copy_or_link(source: str, target: str) -> None:
    """Copy, but share header backups (16 MiB each, never written to again): all this lies in memory."""
    if source.endswith(".luks"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def blank_sticks() -> list[Stick]:
    """All sticks, blank: for fixtures that live longer than one test."""
    hosts = sorted(Path("/sys/class/scsi_host").iterdir(), key=lambda path: int(path.name[4:]))
    made = [Stick(path.name) for path in hosts if is_scsi_debug(path.name)]
    for stick in made:
        stick.wipe()
    return made


def rereads_partitions(device: Path) -> bool:
    return subprocess.run(["blockdev", "--rereadpt", device], check=False, capture_output=True).returncode == 0


def luks_on(device: Path) -> Path:
    """The partition of a prepared disk, or the disk itself."""
    for path in (Path(f"{device}1"), Path(f"{device}p1")):
        if path.exists():
            return path
    return device


def equal(master: Path, copy: Path, *options: str) -> str:
    """What rsync finds to differ, by content and all metadata; empty when nothing does."""
    return run("rsync", "-aHAXni", "--delete", "--checksum", *options, f"{master}/", f"{copy}/")


def sectors_written(device: Path) -> int:
    """The kernel's count of what was written to a disk (Documentation/block/stat.rst, field 7), in 512 bytes."""
    return int(Path(f"/sys/block/{device.name}/stat").read_text("ascii").split()[6])


def invalid(events: list[dict[str, Any]], schema: str) -> list[str]:
    """What is not as the published schema says, in words."""
    validator = Draft202012Validator(json.loads((SCHEMAS / schema).read_text("utf-8")))
    return [f"{event}: {problem.message}" for event in events for problem in validator.iter_errors(event)]


def is_held() -> list[str]:
    """Mappings and mounts of theirs, at this moment, that a test of the command could have left."""
    held = Held()
    return [*sorted(held.mappings), *(each for each in held.mounts if "/run/mnt/" in each or each.endswith("/by-hand"))]


def until(child: subprocess.Popen[str], word: str) -> list[str]:
    """Read the command's lines up to the first that holds `word`. Fails when it ends without."""
    lines: list[str] = []
    assert child.stdout is not None
    for line in child.stdout:
        lines.append(line)
        if word in line:
            return lines
    raise AssertionError(f"{word!r} was not said: {lines}")
