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
