"""Both ends of the talk about one drive, with nothing behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashback.core.secret import Secret
from flashback.core.text import shown
from flashback.trigger.asking import Everywhere, _Answered
from flashback.trigger.session import Talk, _Withdrawn


class _Link:
    able = True


class _Links:
    """One session, which has said `words`."""

    def __init__(self, words: dict[str, Any]) -> None:
        self.link, self.words = _Link(), [words]

    @property
    def able(self) -> list[_Link]:
        return [self.link] if self.link.able and self.words else []

    def look(self) -> list[_Link]:
        return []

    def heard(self) -> list[tuple[_Link, dict[str, Any]]]:
        return [(self.link, self.words.pop())] if self.words else []

    def say(self, **words: Any) -> None:
        """Nobody hears it."""

    def say_to(self, _link: _Link, **words: Any) -> None:
        """Nobody hears it."""


class _Console:
    def ask(self, _question: str, _attempt: int, _watch: object) -> None:
        return None


def answered(words: dict[str, Any]) -> None:
    """Root's unit is told this."""
    Everywhere(_Links(words), _Console(), "red", seconds=0.0).consent("Last backup: never.")  # type: ignore[arg-type]
    asker = Everywhere(_Links(words), _Console(), "red", seconds=0.0)  # type: ignore[arg-type]
    try:
        asker._watch({"id": words.get("id")})
    except _Answered:
        assert asker._answer is None or isinstance(asker._answer, Secret)


class _Desktop:
    capabilities = ("actions",)

    def show(self, summary: str, body: str, *, actions: Mapping[str, str], replaces: int = 0, urgent: bool = False,
             stays: bool) -> int:  # fmt: skip
        assert shown(summary) == summary, ascii(summary)
        assert shown(body) == body, ascii(body)
        summary.encode("utf-8")
        body.encode("utf-8")
        return 1

    def close_notice(self, number: int) -> None:
        """It is gone."""

    def wait(self, _seconds: float) -> None:
        return None


class _Wire:
    def say(self, **words: Any) -> None:
        """Nobody hears it."""

    def heard(self) -> list[dict[str, Any]]:
        return []


def _closed(**_more: object) -> None:
    """A dialog that is closed."""


def talked(words: dict[str, Any]) -> None:
    """The session is told this."""
    talk = Talk(_Wire(), _Desktop(), _closed, list)  # type: ignore[arg-type]
    try:
        talk._hear(words)
        talk._hear(words)
        talk._over()
    except _Withdrawn:
        pass
