"""A machine of its own for each test: configuration, state, runtime and a master in one folder, and the real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import run
from tests.guest.conftest import PASSPHRASE

CHEAP_INIT = """
import sys
from flashback.app import App, Settings
from flashback.prepare.init import InitOptions, initialise
from flashback.prepare.wizard import Given
from flashback.core.secret import Secret
from flashback.tell.plain import PlainTeller
from flashback.tools.cryptsetup import PRACTICE
from pathlib import Path
device, name, master, secret, first = sys.argv[1:6]
app = App(Settings())
with app.signals, app.ledger() as ledger:
    given = Given(name=name, master=Path(master), erase=True, passphrase=Secret(secret.encode()), recovery_key=False)
    options = InitOptions(given, first_run=first == "first-run", kdf=PRACTICE)
    context = app.context(PlainTeller(sys.stdout))
    sys.exit(initialise(context, ledger, device, options, config=app.config, show=print))
"""
"""`flashback init` with a key derivation that costs nothing; the passphrase here is no secret."""


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
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "LC_ALL": "C.UTF-8",
        }

    def init(self, device: Path, name: str = "red", *, first_run: bool = False) -> None:
        """Prepare a drive, cheaply."""
        what = "first-run" if first_run else "no-first-run"
        argv = [sys.executable, "-c", CHEAP_INIT, str(device), name, str(self.master), PASSPHRASE.decode(), what]
        done = subprocess.run(argv, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, *argv: str, **more: Any) -> subprocess.Popen[str]:
        """Begin a command and return at once."""
        command = [sys.executable, "-m", "flashback", *argv]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=self.environment, **(pipes | more))

    def flashback(self, *argv: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = [sys.executable, "-m", "flashback", *argv]
        return subprocess.run(
            command, env=self.environment, input=given or "", capture_output=True, text=True, check=False, timeout=250
        )

    def run(self, *argv: str, code: int = 0) -> dict[str, Any]:
        """`flashback run --json` with the passphrase file; the last event, after its exit code was looked at."""
        done = self.flashback("run", "--json", "--passphrase-file", str(self.secret), *argv)
        assert done.returncode == code, done.stdout + done.stderr
        last: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return last

    @contextmanager
    def opened(self, device: Path, *, read_only: bool = True) -> Iterator[Path]:
        """The drive, opened as README.txt on it says: with cryptsetup and mount alone."""
        volume = luks_on(device)
        folder = self.home / "by-hand"
        folder.mkdir(exist_ok=True)
        run("cryptsetup", "open", *(["--readonly"] if read_only else []), "--key-file=-", volume, "by-hand", given=PASSPHRASE)
        try:
            run("mount", "-o", "ro" if read_only else "rw", "/dev/mapper/by-hand", folder)
            try:
                yield folder
            finally:
                run("umount", folder)
        finally:
            run("cryptsetup", "close", "by-hand")


def luks_on(device: Path) -> Path:
    """The partition of a prepared disk, or the disk itself."""
    for path in (Path(f"{device}1"), Path(f"{device}p1")):
        if path.exists():
            return path
    return device


def equal(master: Path, copy: Path, *options: str) -> str:
    """What rsync finds to differ, by content and all metadata; empty when nothing does."""
    return run("rsync", "-aHAXni", "--delete", "--checksum", *options, f"{master}/", f"{copy}/")


