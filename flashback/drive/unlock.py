"""The mapping of a drive is opened: with what is known, with what a person answers, or by a token."""

from __future__ import annotations

from collections.abc import Callable

from flashback.core.context import Context
from flashback.core.errors import PassphraseRefused
from flashback.core.events import Note
from flashback.core.heir import Heir
from flashback.core.secret import TRIES, Secret
from flashback.core.text import shown
from flashback.drive.turn import Turn
from flashback.tools import block, cryptsetup


def unlock(
    context: Context,
    volume: block.LuksVolume,
    mapping: str,
    turn: Turn,
    presence: block.Presence,
    *,
    read_only: bool,
    heir: Heir,
) -> None:
    """Open the mapping with what is known, else by asking, once it is our turn; `heir` is begun then.

    Raises as `cryptsetup.open_with`.
    """
    known = context.person.known_passphrase
    leaves = known is None and turn.can_be_left()

    def our_turn(given: Secret | None = None) -> None:
        turn.wait(presence, given)
        heir.begin()

    if not leaves:
        our_turn()
    if known is not None:
        cryptsetup.open_with(heir.run, volume.path, mapping, secret=known, read_only=read_only)
        return

    def asked(question: str, attempt: int) -> Secret | None:
        if leaves:
            turn.leave()
        given = context.person.passphrase(question, attempt)
        if given is not None:
            our_turn(given)
        return given

    _by_asking(context, volume, mapping, asked, read_only=read_only, inherits=heir.descriptor)


def _by_asking(
    context: Context,
    volume: block.LuksVolume,
    mapping: str,
    ask: Callable[[str, int], Secret | None],
    *,
    read_only: bool,
    inherits: int,
) -> None:
    for attempt in range(1, TRIES + 1):
        gave_up = False

        def answer(question: str, attempt: int = attempt) -> Secret | None:
            nonlocal gave_up
            given = ask(question, attempt)
            gave_up = given is None
            return given

        try:
            cryptsetup.open_by_asking(
                context.run.environment,
                volume.path,
                mapping,
                answer=answer,
                hear=lambda line: context.tell(Note(shown(line))),
                read_only=read_only,
                inherits=inherits,
            )
        except PassphraseRefused:
            if gave_up or attempt == TRIES:
                raise
            context.tell(Note("That passphrase opens no key slot; try again."))
        else:
            return
