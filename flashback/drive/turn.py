"""Whose turn it is: one drive is worked on at a time, but nobody's work waits for an answer that another one owes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from flashback.core.context import Context
from flashback.core.errors import DriveGone, Locked, PassphraseRefused
from flashback.core.events import Note
from flashback.core.locks import Lock
from flashback.core.secret import Secret
from flashback.drive import header
from flashback.drive.recognise import Candidate
from flashback.tools import block, cryptsetup

_TICK: Final = 0.5
"""Seconds between two looks whether the others have finished."""


class Turn:
    """The lock of all work, `run.lock`, for one use of one drive. It is left while a person is asked.

    `waits`: others at work are waited for, with the question put first. `look` is called when the lock was got back,
    and raises if what was seen before the question has changed meanwhile.
    """

    def __init__(self, context: Context, candidate: Candidate, *, waits: bool, look: Callable[[], None]) -> None:
        self._context = context
        self._candidate = candidate
        self._waits = waits
        self._look = look
        self._lock: Lock | None = None

    @property
    def mine(self) -> bool:
        """Whether it is our turn; it is where `taken` was not used, since somebody else sees to it then."""
        return self._lock is None or self._lock.held

    @contextmanager
    def taken(self, purpose: str) -> Iterator[None]:
        """Have the turn from now on or, where others at work are waited for, from `wait` on. Raises `Locked`."""
        self._lock = Lock(self._context.paths.locks / "run.lock", purpose=purpose)
        try:
            try:
                self._lock.take()
            except Locked:
                if not self._waits:
                    raise
            yield
        finally:
            self._lock.leave()

    def can_be_left(self) -> bool:
        """Whether nothing opens the drive but a passphrase that a person types: a TPM2 chip does without, and a FIDO2
        key takes a PIN that cannot be tried beforehand.
        """
        metadata = cryptsetup.metadata(self._context.run, self._candidate.volume.path)
        return all(token.get("type") == header.TOKEN for _number, token in header.entries(metadata, "tokens"))

    def leave(self) -> None:
        """Let others have it while a person is asked."""
        if self._lock is not None:
            self._lock.leave()

    def wait(self, presence: block.Presence, given: Secret | None = None) -> None:
        """Until it is our turn. Raises `DriveGone` when the drive is pulled meanwhile.

        Where others are at work, what was `given` is tried first, so that nobody walks away from a passphrase that will
        be refused. If it is, this returns at once without the turn: cryptsetup will say so.
        """
        told = False
        while self._lock is not None and not self._lock.held:
            try:
                self._lock.take()
            except Locked as busy:
                if not told and given is not None and not self._opens(given):
                    return
                if not told:
                    text = f"{self._candidate.known.name} waits for its turn: {busy.what}."
                    self._context.tell(Note(text, waiting=True))
                told = True
                if not block.still_there(presence):
                    raise DriveGone(f"{self._candidate.known.name} was unplugged before it was its turn") from None
                time.sleep(_TICK)
            else:
                self._look()

    def _opens(self, given: Secret) -> bool:
        try:
            cryptsetup.opened_slot(self._context.run, self._candidate.volume.path, secret=given)
        except PassphraseRefused:
            return False
        return True
