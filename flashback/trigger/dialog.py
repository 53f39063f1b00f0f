"""Asking for a passphrase in a graphical session, with whatever is there."""

from __future__ import annotations

from collections.abc import Callable

from flashback.core.command import Runner
from flashback.core.errors import FlashbackError, Missing
from flashback.core.secret import Secret
from flashback.tools import kdialog, pinentry, zenity


def ask(run: Runner, *, drive: str, question: str, error: str, watch: Callable[[], None]) -> Secret | None:
    """The passphrase, or `None`: the person closed the dialog. Raises `Missing` where nothing can show one."""
    title = f"Flashback: {drive}"
    text = f"Back up to {drive}. {question.rstrip(': ')}"
    told = f"{error} {text}".strip()

    def by_pinentry() -> Secret | None:
        return pinentry.ask(run, title=title, text=text, prompt="Passphrase:", error=error, watch=watch)

    def by_zenity() -> Secret | None:
        return zenity.ask(run, title=told, watch=watch)

    def by_kdialog() -> Secret | None:
        return kdialog.ask(run, title=title, text=told, watch=watch)

    problem: FlashbackError = Missing("no dialog is installed")
    for dialog in (by_pinentry, by_zenity, by_kdialog):
        try:
            return dialog()
        except Missing as found:
            problem = found
    raise problem
