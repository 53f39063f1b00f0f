"""systemd, as far as it is asked and told something: reading units anew, their state."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from flashback.core.command import Command, Runner
from flashback.core.errors import Missing

TIMEOUT: Final = 60.0
_ANY: Final = frozenset(range(256))


def is_running(home: Path = Path("/run/systemd/system")) -> bool:
    """Whether systemd is process 1 here (sd_booted(3))."""
    return home.is_dir()


def reload(run: Runner) -> None:
    """Have the system's manager read its units anew. Raises `Missing` where there is no systemd."""
    if not is_running():
        raise Missing("systemd is not running here")
    run(Command(("systemctl", "daemon-reload"), timeout=TIMEOUT))


def property_of(run: Runner, unit: str, name: str) -> str:
    """One property of a unit, as `systemctl show` says it; empty where nothing is known."""
    return run(
        Command(("systemctl", "show", "--property", name, "--value", "--", unit), ok=_ANY, timeout=10)
    ).text.strip()


def start(run: Runner, unit: str) -> None:
    """Have the system's manager start a unit, without waiting for it and without asking for a password.

    Raises `CommandFailed` where that is not allowed, or the unit's device is gone.
    """
    run(Command(("systemctl", "--no-block", "--no-ask-password", "start", "--", unit), timeout=TIMEOUT))


def in_session(run: Runner, user: str, *words: str) -> None:
    """Tell a person's own manager something. Raises `CommandFailed` where it does not do it."""
    run(Command(("systemctl", "--user", f"--machine={user}@", *words), timeout=TIMEOUT))


def tell(run: Runner, verb: str, unit: str) -> None:
    """`start`, `stop` or `reset-failed` a unit of the system. Raises `Missing` without systemd, `CommandFailed`."""
    if not is_running():
        raise Missing("systemd is not running here")
    run(Command(("systemctl", verb, "--", unit), timeout=TIMEOUT))
