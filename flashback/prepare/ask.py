"""The questions themselves (questionary's one owner): plain functions, so that the wizard can be tested without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from flashback.core.errors import UsageError
from flashback.core.secret import Secret


class Ask(Protocol):
    """Somebody who answers. Every function raises `UsageError` when the person breaks off."""

    def text(self, question: str, *, default: str = "", check: Callable[[str], str | None] | None = None) -> str:
        """A line of text; `check` returns what is wrong with it, or `None`."""
        ...

    def secret(self, question: str) -> Secret:
        """A line that is not shown while it is typed."""
        ...

    def choose(self, question: str, choices: Sequence[str]) -> str:
        """One of several."""
        ...

    def confirm(self, question: str, *, default: bool) -> bool:
        """Yes or no."""
        ...

    def show(self, text: str) -> None:
        """Say something between the questions."""
        ...


class Terminal:
    """`Ask` on a terminal."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show

    def text(self, question: str, *, default: str = "", check: Callable[[str], str | None] | None = None) -> str:
        """See `Ask`."""
        import questionary

        validate = None if check is None else lambda answer: check(answer) or True
        return str(_answered(questionary.text(question, default=default, validate=validate)))

    def secret(self, question: str) -> Secret:
        """See `Ask`. Nothing is echoed, not even stars: they would tell the length."""
        try:
            return unseen(f"? {question} ")
        except EOFError:
            raise UsageError("the question was not answered") from None

    def choose(self, question: str, choices: Sequence[str]) -> str:
        """See `Ask`."""
        import questionary

        return str(_answered(questionary.select(question, choices=list(choices))))

    def confirm(self, question: str, *, default: bool) -> bool:
        """See `Ask`."""
        import questionary

        return bool(_answered(questionary.confirm(question, default=default)))

    def key(self, question: str, keys: str) -> str:
        """One key out of `keys`, without Enter; empty for any other, Ctrl-C included."""
        from prompt_toolkit import PromptSession
        from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

        bindings = KeyBindings()

        @bindings.add("<any>", eager=True)
        @bindings.add("enter", eager=True)
        @bindings.add("c-c", eager=True)
        @bindings.add("c-d", eager=True)
        def _pressed(event: KeyPressEvent) -> None:
            pressed = event.key_sequence[0].data
            event.app.exit(result=pressed if pressed in keys else "")

        session: PromptSession[str] = PromptSession(question, key_bindings=bindings)
        return session.prompt()

    def show(self, text: str) -> None:
        """See `Ask`. Long lines are broken between words."""
        import shutil
        import textwrap

        columns = shutil.get_terminal_size().columns
        lines = (textwrap.wrap(line, columns, break_on_hyphens=False) or [""] for line in text.splitlines())
        self._show("\n".join(part for whole in lines for part in whole))


def unseen(prompt: str) -> Secret:
    """What is typed without being shown. Raises `EOFError`, and what a signal raises, with the cursor on a new line."""
    import getpass
    import sys

    try:
        return Secret(getpass.getpass(prompt).encode("utf-8", "surrogateescape"))
    except BaseException:
        sys.stderr.write("\n")  # nobody's Enter has ended the line with the question
        raise


def _answered(question: Any) -> Any:  # noqa: ANN401 - questionary's own type
    answer = question.unsafe_ask()
    if answer is None:
        raise UsageError("the question was not answered")
    return answer
