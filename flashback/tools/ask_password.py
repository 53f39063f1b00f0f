"""systemd-ask-password: a question that finds whoever sits at a console, an ssh terminal or the boot screen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flashback.core.command import Command, Runner
from flashback.core.secret import Secret

LONGEST_WAIT: Final = 24 * 3600
_ANY: Final = frozenset(range(-64, 256))


def ask(run: Runner, question: str, *, identity: str, seconds: int, watch: Callable[[], None]) -> Secret | None:
    """The answer (it may be empty), or `None`: nobody answered within `seconds`, or the question was cancelled.

    `watch` is called at least twice a second and may raise; the question is then withdrawn. Raises `ProgramMissing`.
    No agent needs to be there: systemd's own (`systemd-tty-ask-password-agent`) are started when a question appears.
    """
    command = Command(
        (
            *("systemd-ask-password", "--no-tty", "--icon=drive-harddisk", f"--id=flashback:{identity}"),
            *(f"--timeout={min(seconds, LONGEST_WAIT)}", "--", question),
        ),
        ok=_ANY,
        dies_with_us=True,
    )
    said: list[bytes] = []
    result = run.stream(command, on_out=said.append, on_err=lambda _line: None, watch=watch)
    if result.code != 0:
        return None
    return Secret(said[0] if said else b"")
