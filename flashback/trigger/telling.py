"""Everything that a run says goes to the journal; the few words that matter go to the sessions."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from flashback.core.events import Event, Finished, Progress
from flashback.tell import Teller
from flashback.trigger.notices import notice_of, percent

EVERY: Final = 1.0
"""Seconds between two words on progress."""


class Listener(Protocol):
    """Who is told."""

    def notice(self, kind: str, summary: str, body: str) -> None:
        """A notice."""
        ...

    def progress(self, percent: int) -> None:
        """How far it is."""
        ...


class PlugTeller(Teller):
    """`drive` is the name that every notice begins with. `ended`: how it ended was told; nothing contradicts that."""

    def __init__(
        self, log: Teller, sessions: Listener, drive: str, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._sessions = sessions
        self._drive = drive
        self._monotonic = monotonic
        self._told = float("-inf")
        self.ended = False

    def __call__(self, event: Event) -> None:
        """Tell one event."""
        self._log(event)
        self.ended = self.ended or isinstance(event, Finished)
        if isinstance(event, Progress):
            now = self._monotonic()
            done = percent(event)
            if done is not None and now - self._told >= EVERY:
                self._told = now
                self._sessions.progress(done)
        elif (notice := notice_of(event, self._drive)) is not None:
            self._sessions.notice(notice.kind, notice.summary, notice.body)
