"""The session's side of the talk about one drive: notices, the question, the passphrase dialog."""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from flashback.core.errors import Missing
from flashback.core.secret import Secret
from flashback.core.text import shown
from flashback.tools.dbus import RENEWED
from flashback.trigger.words import Gone, Wire

ACTIONS: Final = {"now": "Back up now", "later": "Later", "no": "Not this drive"}
TICK: Final = 0.2
_URGENT: Final = frozenset({"danger", "damage", "insisted"})
_PASSING: Final = frozenset({"progress"})
_LONGEST: Final = 600
AGAIN: Final = 5.0
"""Seconds after which a screen that was not there is looked for anew: one is connected before one sees it."""


class Desktop(Protocol):
    """Where notices are shown (`tools.dbus.Notices`)."""

    @property
    def capabilities(self) -> list[str]:
        """As the desktop names them."""
        ...

    def show(
        self,
        summary: str,
        body: str,
        *,
        actions: Mapping[str, str],
        replaces: int = 0,
        urgent: bool = False,
        stays: bool,
    ) -> int:
        """Show a notice; its number."""
        ...

    def close_notice(self, number: int) -> None:
        """Take it back."""
        ...

    def wait(self, seconds: float) -> tuple[int, str] | None:
        """What happened to a notice."""
        ...


class Dialog(Protocol):
    """How a passphrase is asked for (`trigger.dialog.ask`)."""

    def __call__(self, *, drive: str, question: str, error: str, watch: Callable[[], None]) -> Secret | None:
        """The answer; `None`: closed. Raises `Missing`."""
        ...


class Keyring(Protocol):
    """Where a person's desktop keeps passwords (`tools.secret_service`). Both may wait for the person."""

    def find(self, uuid: str) -> Secret | None:
        """What is kept for a drive. Raises `Missing`."""
        ...

    def keep(self, uuid: str, drive: str, passphrase: Secret) -> None:
        """Keep it. Raises `Missing`."""
        ...


class _Withdrawn(Exception):
    """The question does not stand any more."""


def _nowhere() -> Desktop | None:
    """What was not there does not come."""
    return None


@dataclass(frozen=True, slots=True)
class _Unasked:
    """A passphrase that no dialog could be shown for. It is tried again `at` this moment."""

    number: int
    question: str
    attempt: int
    stored: bool
    at: float


@dataclass(slots=True)
class Talk:
    """One connection of the unit's. `later` is told the drive's UUID when the question was put off, `find` looks for a
    desktop where none was, or where it has gone.
    """

    wire: Wire
    desktop: Desktop | None
    dialog: Dialog
    later: Callable[[str], None]
    keyring: Keyring | None = None
    find: Callable[[], Desktop | None] = _nowhere
    drive: str = ""
    uuid: str = ""
    _unasked: _Unasked | None = None
    _looked: float = float("-inf")
    _notice: int = 0
    _kind: str = ""
    _summary: str = ""
    _body: str = ""
    _actions: Mapping[str, str] | None = None
    _closed: bool = False
    _question: int | None = None
    _said: str = ""
    _typed: Secret | None = None
    _put_away: bool = False
    """The person has closed how far it is: they want to know how it ends, and not every second that it goes on."""

    def hold(self) -> None:
        """Until the unit hangs up; then what is still asked is taken back."""
        try:
            while True:
                self._notices(0.0)
                self._ask_again()
                if select.select([self.wire], [], [], TICK if self._question is None else TICK / 2)[0]:
                    for words in self.wire.heard():
                        self._hear(words)
        except Gone:
            pass
        finally:
            self.wire.hang_up()
            self._over()

    def _over(self) -> None:
        if self._question is not None:
            self._take_back()
        elif self._kind in _PASSING:
            self._show("trouble", f"{self.drive}: the backup stopped", "The journal says why: journalctl -t flashback")

    def _hear(self, words: dict[str, Any]) -> None:
        match words:
            case {"do": "hello", "drive": str(drive), "uuid": str(uuid)}:
                self.drive, self.uuid = shown(drive), uuid
            case {"do": "ask", "id": int(number), "said": str(said)}:
                self._ask(number, said)
            case {"do": "passphrase", "id": int(number), "question": str(question), "attempt": int(attempt)}:
                self._passphrase(number, question, attempt, stored=words.get("keyring") is True)
            case {"do": "keep"}:
                self._keep()
            case {"do": "withdraw", "id": int(number)}:
                if number == self._question:
                    self._question = None
                    self._take_back()
                if self._unasked is not None and number == self._unasked.number:
                    self._unasked = None
            case {"do": "notice", "kind": str(kind), "summary": str(summary), "body": str(body)}:
                there = self._show(kind, summary, body)
                if "id" in words:  # somebody wants to know
                    self.wire.say(id=words["id"], shown=there)
            case {"do": "progress", "percent": int(percent)}:
                self._show("progress", self._summary, f"{percent} %. Do not unplug it yet.")
            case {"do": "forget"}:
                self._kind = ""
                self._take_back()

    def _ask(self, number: int, said: str) -> None:
        """Where nothing can be clicked, the passphrase dialog is the question: it can be closed."""
        self._question = number
        self._said = said
        self._show("question", f"{self.drive}: back up now?", said, ACTIONS)
        if self.desktop is None or "actions" not in self.desktop.capabilities:
            self._answer("now")

    def _notices(self, seconds: float) -> None:
        """What the person did with the notice."""
        if self.desktop is None:
            return
        try:
            happened = self.desktop.wait(seconds)
        except Missing:
            self.desktop = None
            return
        if happened == (0, RENEWED):
            self._show_again()
        if happened is None or not happened[0] or happened[0] != self._notice:
            return
        self._closed = happened[1] in {"dismissed", "expired"}
        if self._question is not None and happened[1] in ACTIONS:
            self._answer(happened[1])
        elif self._question is not None and happened[1] == "dismissed":
            self._answer("no")
        elif self._question is not None and happened[1] == "expired":
            self._expired()
        elif self._kind in _PASSING and happened[1] == "dismissed":
            self._put_away = True

    def _show_again(self) -> None:
        """Whoever shows the notices was started anew and knows of none: what still stands is shown once more."""
        stands = self._question is not None or self._kind in _PASSING | _URGENT
        if self._notice and stands and not self._closed:
            self._notice = 0
            self._show(self._kind, self._summary, self._body, self._actions)

    def _expired(self) -> None:
        """Nobody can click on it any more. It comes back once, as one that the specification wants to stay."""
        if self._kind == "question":
            self._notice = 0
            self._show("insisted", self._summary, self._said, ACTIONS)
        else:
            self._answer("expired")

    def _answer(self, answer: str) -> None:
        self.wire.say(id=self._question, answer=answer)
        self._question = None
        if answer == "later":
            self.later(self.uuid)

    def _passphrase(self, number: int, question: str, attempt: int, *, stored: bool) -> None:
        """What the keyring has is tried once; whatever else is typed may be kept there."""
        self._question = number
        self._typed = None
        error = f"Not accepted, try again ({attempt} of 3)." if attempt > 1 else ""
        try:
            given = self._stored() if stored and attempt == 1 else None
            if given is None:
                given = self.dialog(drive=self.drive, question=question, error=error, watch=self._watch)
                self._typed = given if stored else None
        except _Withdrawn:
            return
        except Missing:
            self.wire.say(id=number, answer="unable")
            self._unasked = _Unasked(number, question, attempt, stored, time.monotonic() + AGAIN)
        else:
            text = None if given is None else given.reveal().decode("utf-8", "surrogateescape")
            self.wire.say(id=number, passphrase=text)
        self._question = None

    def _ask_again(self) -> None:
        """Their screen may be there by now. Meanwhile the console is asked; whoever answers first counts."""
        unasked = self._unasked
        if unasked is not None and time.monotonic() >= unasked.at:
            self._unasked = None
            self._passphrase(unasked.number, unasked.question, unasked.attempt, stored=unasked.stored)

    def _stored(self) -> Secret | None:
        """What the keyring has. It may ask the person to unlock it, and the question may be withdrawn meanwhile."""
        found: list[Secret | None] = []
        keyring = self.keyring
        if keyring is None:
            return None

        def look() -> None:
            with contextlib.suppress(Missing):
                found.append(keyring.find(self.uuid))

        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        while looking.is_alive():
            looking.join(TICK)
            self._watch()
        return found[0] if found else None

    def _keep(self) -> None:
        """The keyring gets what was typed, in its own time: the backup goes on."""
        typed, self._typed = self._typed, None
        keyring, uuid, drive = self.keyring, self.uuid, self.drive
        if typed is None or keyring is None:
            return

        def keep() -> None:
            with contextlib.suppress(Missing):  # then it is asked for again the next time
                keyring.keep(uuid, drive, typed)

        threading.Thread(target=keep, daemon=True).start()

    def _watch(self) -> None:
        """While a dialog is open: is it still wanted?"""
        for words in self.wire.heard():
            self._hear(words)
        if self._question is None:
            raise _Withdrawn

    def _show(self, kind: str, summary: str, body: str, actions: Mapping[str, str] | None = None) -> bool:
        """Whether it is shown. A notice that cannot be is forgotten: the journal has it."""
        self._kind, self._summary, self._body, self._actions, self._closed = kind, shown(summary), body, actions, False
        if self._put_away and kind in _PASSING:
            return False
        if self.desktop is None and (kind not in _PASSING or time.monotonic() >= self._looked + AGAIN):
            self._looked, self._notice = time.monotonic(), 0
            self.desktop = self.find()
        if self.desktop is None:
            return False
        try:
            self._notice = self.desktop.show(
                self._summary[:_LONGEST],
                shown(body)[:_LONGEST],
                actions=actions or {},
                replaces=self._notice,
                urgent=kind in _URGENT,
                stays=kind != "offer",
            )
        except Missing:
            self.desktop = None
        return self.desktop is not None

    def _take_back(self) -> None:
        number, self._notice = self._notice, 0
        if self.desktop is None or not number:
            return
        try:
            self.desktop.close_notice(number)
        except Missing:
            self.desktop = None
