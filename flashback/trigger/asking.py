"""Finding a person to ask: whoever answers first counts, and the question is withdrawn from the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from flashback.core.command import ProgramMissing, Runner
from flashback.core.secret import Secret
from flashback.core.text import shown
from flashback.tools import ask_password

WITHIN: Final = 15 * 60
"""Seconds for which a question stands."""
_TICK: Final = 0.5


class Consent(StrEnum):
    """What is said to "back up now?"."""

    NOW = "now"
    LATER = "later"
    NO = "no"
    NOBODY = "nobody"


TRIES: Final = 3
"""As `drive.session.TRIES`."""


@dataclass(slots=True)
class Console:
    """Whoever sits at a console, an ssh terminal or the boot screen, by way of systemd-ask-password.

    There the passphrase is the consent: one question, not two. `seconds` is how long it stands.
    """

    run: Runner
    uuid: str
    name: str
    seconds: int = WITHIN
    unanswered: bool = False
    declined: bool = False

    @property
    def agents(self) -> bool:
        """Nobody's session is asked."""
        return False

    def consent(self, _said: str) -> Consent:
        """See `Asker`."""
        return Consent.NOW

    def passphrase(self, question: str, attempt: int) -> Secret | None:
        """See `Person`. An empty answer is a no."""
        given = self.ask(question, attempt, _nothing)
        self.unanswered = given is None
        self.declined = given is not None and not given
        return given or None

    def ask(self, question: str, attempt: int, watch: Callable[[], None]) -> Secret | None:
        """The answer, which may be empty; `None` if there was none in time. `watch` may raise to withdraw it."""
        again = f"Not accepted, try again ({attempt} of {TRIES}). " if attempt > 1 else ""
        asked = f"{again}Back up to {shown(self.name)}? {shown(question).rstrip(': ')} (empty: not now):"
        try:
            return ask_password.ask(self.run, asked, identity=self.uuid, seconds=self.seconds, watch=watch)
        except ProgramMissing:
            _wait(self.seconds, watch)
            return None

    def notice(self, kind: str, summary: str, body: str) -> None:
        """The journal has it."""


def _nothing() -> None:
    pass


def _wait(seconds: float, watch: Callable[[], None]) -> None:
    """Where there is nothing to ask with: somebody's session may still appear."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        watch()
        time.sleep(_TICK)
