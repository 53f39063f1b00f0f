"""Finding a person to ask: whoever answers first counts, and the question is withdrawn from the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from flashback.core.command import ProgramMissing, Runner
from flashback.core.secret import TRIES, Secret
from flashback.core.text import shown
from flashback.tools import ask_password
from flashback.trigger.links import Link, Links

WITHIN: Final = 15 * 60
"""Seconds for which a question stands, unless `answer_within` in the configuration says otherwise."""
_TICK: Final = 0.5
_LOOK: Final = 1.0
"""Seconds between two looks whether somebody else has taken the drive in hand."""


def _nobody() -> bool:
    """Whether somebody else has the drive in hand, where nobody can."""
    return False


class Consent(StrEnum):
    """What is said to "back up now?"."""

    NOW = "now"
    LATER = "later"
    NO = "no"
    NOBODY = "nobody"
    TAKEN = "taken"
    """Nobody needs to say anything any more: a command has the drive in hand."""


_TOO_SOON: Final = 10.0
"""Seconds. The first question after a start of the machine is cancelled by the boot console's agent, which that of the
terminals stops (systemd-ask-password-wall.service): what is cancelled that early is asked once more."""


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

    def consent(self, _said: str, _taken: Callable[[], bool] = _nobody) -> Consent:
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
        begun = time.monotonic()
        try:
            given = self._put(asked, watch)
            cancelled = given is None and time.monotonic() - begun < min(_TOO_SOON, self.seconds)
            return self._put(asked, watch) if cancelled else given
        except ProgramMissing:
            _wait(self.seconds, watch)
            return None

    def _put(self, asked: str, watch: Callable[[], None]) -> Secret | None:
        return ask_password.ask(self.run, asked, identity=self.uuid, seconds=self.seconds, watch=watch)

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


class _Answered(Exception):
    """A session answered while the console was asked."""


@dataclass(slots=True)
class Everywhere:
    """The sessions of those who sit here; where there is none, the console. `seconds` is how long a question stands."""

    links: Links
    console: Console
    name: str
    seconds: float = WITHIN
    unanswered: bool = False
    declined: bool = False
    keyring: bool = False
    _number: int = 0
    _answer: Secret | None = None
    _unseen: list[Link] = field(default_factory=list)
    """Where the desktop has taken the question off the screen by itself."""

    @property
    def agents(self) -> bool:
        """See `Asker`."""
        self.links.look()
        return bool(self.links.able)

    def stands_for(self, seconds: int) -> None:
        """How long each question stands from now on."""
        self.seconds = self.console.seconds = seconds

    def consent(self, said: str, taken: Callable[[], bool] = _nobody) -> Consent:
        """See `Asker`. On the console the passphrase is the consent."""
        words = {"do": "ask", "id": self._next(), "said": said}
        self._unseen.clear()
        self._put(words)
        deadline, look_at = time.monotonic() + self.seconds, 0.0
        while self.links.able:
            for answer in self._answers(words):
                given = answer.get("answer")
                if isinstance(given, str) and given in _CONSENTS:
                    self.links.say(do="withdraw", id=words["id"])
                    return Consent(given)
            now = time.monotonic()
            by_others, look_at = (taken(), now + _LOOK) if now >= look_at else (False, look_at)
            if by_others:
                self.links.say(do="withdraw", id=words["id"])
                return Consent.TAKEN
            expired = bool(self.links.able) and all(link in self._unseen for link in self.links.able)
            if expired or now > deadline:
                self.links.say(do="withdraw", id=words["id"])
                return Consent.NOBODY
            time.sleep(_POLL)
        return Consent.NOW

    def passphrase(self, question: str, attempt: int) -> Secret | None:
        """See `Person`."""
        self.unanswered = self.declined = False
        words = {"do": "passphrase", "id": self._next(), "question": shown(question), "attempt": attempt}
        words |= {"keyring": True} if self.keyring else {}
        self._put(words)
        deadline = time.monotonic() + self.seconds
        try:
            while self.links.able or not self._console_asked(question, attempt, words):
                if time.monotonic() > deadline:
                    self.unanswered = True
                    break
                self._watch(words)
                time.sleep(_POLL)
        except _Answered:
            self.declined = not self._answer
        finally:
            self.links.say(do="withdraw", id=words["id"])
        given, self._answer = self._answer, None
        return given or None

    def _console_asked(self, question: str, attempt: int, words: dict[str, Any]) -> bool:
        """Ask there; `False` if that ended without an answer while a session that has appeared meanwhile still asks."""
        self._answer = self.console.ask(question, attempt, lambda: self._watch(words))
        if self._answer is not None:
            raise _Answered
        self.unanswered = not self.links.able
        return self.unanswered

    def _watch(self, words: dict[str, Any]) -> None:
        """Raise `_Answered` as soon as a session has answered; one that appears meanwhile is asked, too."""
        for answer in self._answers(words):
            given = answer.get("passphrase", _MISSING)
            if given is None or isinstance(given, str):
                try:
                    self._answer = None if given is None else Secret(given.encode("utf-8", "surrogateescape"))
                except UnicodeEncodeError:  # no bytes are written so: nothing that a dialog gave
                    continue
                raise _Answered

    def _put(self, words: dict[str, Any]) -> None:
        self.links.look()
        for link in self.links.able:
            self.links.say_to(link, **words)

    def _answers(self, words: dict[str, Any]) -> list[dict[str, Any]]:
        for link in self.links.look():
            self.links.say_to(link, **words)
        answers = []
        for link, said in self.links.heard():
            if said.get("id") != words["id"]:
                continue
            if said.get("answer") == "unable":
                link.able = False
            elif said.get("answer") == "expired":
                self._unseen.append(link)
            else:
                link.able = link.able or "passphrase" in said  # its screen has come up meanwhile
                answers.append(said)
        return answers

    def _next(self) -> int:
        self._number += 1
        return self._number

    def keep(self) -> None:
        """See `Asker`. Only who typed it has something to keep."""
        if self.keyring:
            self.links.say(do="keep")

    def notice(self, kind: str, summary: str, body: str) -> None:
        """See `Asker`. Whoever just said no is not told that nothing was done."""
        if kind == "trouble" and self.declined:
            self.links.say(do="forget")
            return
        if kind == "trouble" and self.unanswered:
            body = "Nobody typed the passphrase. It was not opened and can be unplugged."
        self.links.look()
        self.links.say(do="notice", kind=kind, summary=summary, body=body)

    def progress(self, percent: int) -> None:
        """How far the run is."""
        self.links.say(do="progress", percent=percent)


_MISSING: Final = object()
_POLL: Final = 0.1
_CONSENTS: Final = frozenset({Consent.NOW.value, Consent.LATER.value, Consent.NO.value})
