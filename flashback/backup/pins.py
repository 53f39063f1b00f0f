"""Pins: what a person said here and what the drive's journal says become one when the drive is open.

The word that was given last at this machine counts; a pin that another machine set stays until somebody unpins it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from flashback.core.errors import NoSpace
from flashback.drive import journal
from flashback.rotation.ledger import Ledger

Name = tuple[str, str]
"""Master and name of a snapshot."""
Write = Callable[[journal.Mark, str, str], None]


def effective(on_drive: Iterable[Name], wishes: Mapping[Name, bool]) -> frozenset[Name]:
    """The pins that hold now."""
    kept = {each for each in on_drive if wishes.get(each, True)}
    return frozenset(kept | {each for each, pinned in wishes.items() if pinned})


def untold(on_drive: Iterable[Name], wishes: Mapping[Name, bool]) -> dict[Name, bool]:
    """Those wishes that the drive's journal does not say already."""
    known = frozenset(on_drive)
    return {each: pinned for each, pinned in wishes.items() if (each in known) is not pinned}


def seen(ledger: Ledger, uuid: str, lines: Iterable[journal.Line]) -> frozenset[Name]:
    """The pins that hold; nothing is written anywhere."""
    return effective(journal.pins(lines), ledger.pin_wishes(uuid))


def settle(ledger: Ledger, uuid: str, lines: Iterable[journal.Line], write: Write) -> frozenset[Name]:
    """The same; the drive's journal and the ledger learn them. `write` adds a line to the journal.

    On a drive that is full to the last byte the journal learns them the next time. Raises what else `write` raises.
    """
    on_drive, wishes = journal.pins(lines), ledger.pin_wishes(uuid)
    pins = effective(on_drive, wishes)
    told = dict(wishes)
    for (master, name), pinned in untold(on_drive, wishes).items():
        try:
            write(journal.Mark.PINNED if pinned else journal.Mark.UNPINNED, master, name)
        except NoSpace:
            told.pop((master, name))
    if wishes or pins != ledger.pins(uuid):
        ledger.settle_pins(uuid, pins, told)
    return pins
