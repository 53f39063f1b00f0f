"""kdialog: a passphrase dialog of KDE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flashback.core.command import Command, Runner
from flashback.core.errors import Missing
from flashback.core.secret import Secret

_ANY: Final = frozenset(range(-64, 256))
_CLOSED: Final = 1


def ask(run: Runner, *, title: str, text: str, watch: Callable[[], None]) -> Secret | None:
    """As `pinentry.ask`."""
    said: list[bytes] = []
    command = Command(("kdialog", "--title", title, "--password", text), ok=_ANY, dies_with_us=True)
    result = run.stream(command, on_out=said.append, on_err=lambda _line: None, watch=watch)
    if result.code == 0:
        return Secret(said[0] if said else b"")
    if result.code == _CLOSED and b"display" not in result.err:
        return None
    raise Missing("kdialog could show no dialog")
