"""The real world, wired together once: clock, environment, programs, signals, who is told and who is asked."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flashback.core.command import Programs
from flashback.core.context import Context, Doubt, NobodyDecides, Paths, Person
from flashback.core.errors import Missing, UsageError
from flashback.core.events import Event, Note, Tell
from flashback.core.secret import LONGEST, Secret, without_final_newline
from flashback.core.signals import StopSignals
from flashback.tell import Teller, Verbosity

if TYPE_CHECKING:
    from flashback.config.values import Config
    from flashback.rotation.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Settings:
    """What every command takes. `None` means: not said, so the environment or the default decides."""

    config: Path | None = None
    state: Path | None = None
    verbosity: Verbosity = Verbosity.NORMAL
    json: bool = False
    passphrase_file: str | None = None


def now() -> datetime:
    """The clock that is handed down: aware, UTC, whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def paths(settings: Settings) -> Paths:
    """Options before the environment before the defaults (DESIGN part 5)."""
    default = Paths()
    environment = os.environ
    return Paths(
        config=settings.config or Path(environment.get("FLASHBACK_CONFIG") or default.config),
        state=settings.state or Path(environment.get("FLASHBACK_STATE") or default.state),
        runtime=Path(environment.get("FLASHBACK_RUNTIME") or default.runtime),
    )


def at_terminal() -> bool:
    """Whether a person can be asked: both ends are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def wants_colour() -> bool:
    """Colours only on a terminal, and not where NO_COLOR says otherwise (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def needs_root(what: str) -> None:
    """Raise `Missing`, with the same command by way of sudo, unless we are root."""
    if os.geteuid() == 0:
        return
    raise Missing(f"{what} needs root", hint=f"the same with sudo: {with_sudo()}")


def with_sudo() -> str:
    """The command that is running, by way of sudo."""
    import shlex

    return shlex.join(["sudo", os.path.realpath(sys.argv[0]), *sys.argv[1:]])


def is_root() -> bool:
    """Whether drives can be opened here."""
    return os.geteuid() == 0


def caller() -> int:
    """The number of the person at the keyboard: who came by way of sudo is still who they were."""
    given = os.environ.get("SUDO_UID", "")
    return int(given) if os.geteuid() == 0 and given.isdecimal() else os.getuid()


def own_command() -> str:
    """The absolute path of the command that is running, as a unit can start it. Raises `Missing`."""
    called = Path(os.path.realpath(sys.argv[0]))
    beside = Path(sys.executable).parent / "flashback"
    for found in (called, beside):
        if found.name == "flashback" and found.is_file() and os.access(found, os.X_OK):
            return str(found)
    raise Missing("this Flashback has no path that a unit could start", hint="install Flashback, with pipx or pip")


def likely_master() -> Path | None:
    """The Documents of the person at the keyboard (who came by way of sudo), else their home, if it is there."""
    user = os.environ.get("SUDO_USER") or os.environ.get("USER") or ""
    home = Path(os.path.expanduser(f"~{user}"))
    return next((place for place in (home / "Documents", home) if place.is_absolute() and place.is_dir()), None)


class Unattended(NobodyDecides):
    """Nobody can be asked: a passphrase comes from a file or not at all."""

    def __init__(self, passphrase: Secret | None) -> None:
        self._passphrase = passphrase

    def passphrase(self, question: str, attempt: int) -> Secret | None:  # noqa: ARG002 - the protocol's
        """See `Person`."""
        return None

    @property
    def known_passphrase(self) -> Secret | None:
        """See `Person`."""
        return self._passphrase


class AtTerminal(Unattended):
    """Somebody sits at the terminal; `teller` is silent while they are asked."""

    def __init__(self, passphrase: Secret | None, teller: Teller, *, decides: bool = False) -> None:
        super().__init__(passphrase)
        self._teller = teller
        self._decides = decides

    @property
    def decides(self) -> bool:
        """See `Person`."""
        return self._decides

    def decide(self, doubt: Doubt) -> bool:
        """See `Person`."""
        import shutil

        from flashback.prepare.ask import Terminal
        from flashback.prepare.decide import decide

        with self._teller.asking():
            terminal = Terminal(print)
            return decide(doubt, terminal, terminal.show, height=shutil.get_terminal_size().lines)

    def passphrase(self, question: str, attempt: int) -> Secret | None:  # noqa: ARG002
        """See `Person`. What cryptsetup asks is shown as it is, cleaned of control characters."""
        from flashback.core.text import shown
        from flashback.prepare.ask import unseen

        try:
            with self._teller.asking():
                return unseen(f"{shown(question)} ")
        except EOFError:
            return None


_FROM_FILE = "name a file that holds the passphrase, or leave --passphrase-file out at a terminal: it is asked for then"


def read_passphrase(source: str) -> Secret:
    """The passphrase in a file, or `-` for standard input; one trailing newline is dropped. Raises `UsageError`."""
    place = "standard input" if source == "-" else source
    content = sys.stdin.buffer.read(LONGEST + 1) if source == "-" else _guarded(Path(source))
    if len(content) > LONGEST:
        raise UsageError(f"{place} is too long for a passphrase")
    secret = without_final_newline(content)
    if not secret:
        raise UsageError(f"the passphrase in {place} is empty", hint=_FROM_FILE)
    return Secret(secret)


def _guarded(file: Path) -> bytes:
    """What is in the file. Looked at before it is opened, too: a pipe of somebody else's would be waited for."""
    try:
        _refuse_others(file, os.stat(file))
        with file.open("rb") as opened:
            _refuse_others(file, os.fstat(opened.fileno()))
            return opened.read(LONGEST + 1)
    except OSError as problem:
        what = f"the passphrase file {file} cannot be read: {problem.strerror}"
        raise UsageError(what, hint=_FROM_FILE) from problem


def _refuse_others(file: Path, status: os.stat_result) -> None:
    """Nobody but us (and root, and who came by way of sudo) may have made a file or a pipe, or read the file.

    Whoever could choose the passphrase of a drive that is being made could open it.
    """
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
        return
    if status.st_uid not in {0, os.geteuid(), caller()}:
        raise UsageError(f"{file} belongs to another user (uid {status.st_uid})", hint=f"chown root {file}")
    if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
        raise UsageError(f"others can read {file}", hint=f"chmod 600 {file}")


class App:
    """One command's world. `signals` must be entered around everything that opens a drive."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.paths = paths(settings)
        self.signals = StopSignals()
        self.interactive = at_terminal() and not settings.json

    @property
    def clock(self) -> Callable[[], datetime]:
        """The one that is handed down."""
        return now

    def passphrase(self) -> Secret | None:
        """The passphrase that the command line points to, if it does."""
        source = self.settings.passphrase_file
        return read_passphrase(source) if source is not None else None

    def person(self, teller: Teller, *, unattended: bool = False) -> Person:
        """Who is asked: for a passphrase at any terminal, about a hold only where the answer is not for a script."""
        known = self.passphrase()
        if unattended or not at_terminal():
            return Unattended(known)
        return AtTerminal(known, teller, decides=self.interactive)

    def unattended(self, run: Programs, source: str) -> Person:
        """Nobody, with the passphrase that a drive's own source gives."""
        from flashback.drive.source import parse, passphrase_from

        given = passphrase_from(parse(source), run, credentials=os.environ.get("CREDENTIALS_DIRECTORY", ""))
        return Unattended(given)

    def context(self, tell: Tell, person: Person | None = None) -> Context:
        """What the work below is given."""
        return Context(
            run=Programs(held=self.signals.held),
            signals=self.signals,
            clock=now,
            tell=tell,
            person=person or Unattended(None),
            paths=self.paths,
            machine=socket.gethostname(),
        )

    def config(self) -> Config:
        """The configuration. Raises `ConfigError` with every finding."""
        from flashback.config.reader import read

        return read(self.paths.config, runtime=self.paths.runtime, trusted=os.geteuid() == 0)

    def readable_config(self) -> Config | None:
        """The configuration, or `None` where there is none or this user may not read it. Raises `ConfigError`."""
        return self.config() if os.access(self.paths.config, os.R_OK) else None

    def ledger(self) -> Ledger:
        """The memory of this machine."""
        from flashback.rotation.ledger import Ledger, LedgerUnwritable

        try:
            ledger = Ledger.open(self.paths.ledger)
        except LedgerUnwritable as problem:
            if isinstance(problem.__cause__, PermissionError):
                needs_root("looking into the ledger")
            raise
        if ledger.header_changes():
            from flashback.drive.kept import mend

            mend(self.context(self._murmur), ledger)
        return ledger

    def _murmur(self, event: Event) -> None:
        """What is said before a command has begun, beside its answer."""
        if isinstance(event, Note) and not self.settings.json:
            sys.stderr.write(f"{event.text}\n")
