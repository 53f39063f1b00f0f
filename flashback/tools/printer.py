"""lp: a page goes to the printer, for what is to be kept on paper."""

from __future__ import annotations

from flashback.core.command import Command, Runner
from flashback.core.secret import Secret


def print_page(run: Runner, page: Secret) -> None:
    """Send a page of text to the default printer. Raises `CommandFailed`, `ProgramMissing`."""
    run(Command(("lp", "-t", "Flashback recovery key"), secret=page, timeout=60))
