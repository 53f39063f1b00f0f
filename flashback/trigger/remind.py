"""What the timer does: say which drives are due to whoever sits at this machine, and to the journal."""

from __future__ import annotations

from flashback.config.values import Config, Notify, Rotation
from flashback.core.context import Context
from flashback.core.errors import Exit
from flashback.drive.status import take_stock
from flashback.rotation.ledger import Ledger
from flashback.rotation.reminders import reminders
from flashback.tools.journald import Journal
from flashback.trigger.links import Links
from flashback.trigger.logged import NOTICE

SUMMARY = "Flashback: a backup is due"
_NUMBER = 1
"""The notice's in this talk."""


def remind(context: Context, config: Config | None, ledger: Ledger, links: Links, journal: Journal) -> int:
    """Say what is to be said; what nobody could read, or no desktop has shown, is said again the next time.

    Returns the exit code.
    """
    rotation = config.rotation if config is not None else Rotation()
    desktop = (config.notify if config is not None else Notify()).desktop
    stock = take_stock(context, ledger, config)
    found = reminders(stock.outlook, stock.holds, ledger.reminded(), every=rotation.due_after, now=stock.now)
    if not found:
        return Exit.DONE
    if desktop:
        links.look()
        if not links.able:
            return Exit.DONE
    lines = [f"{each.what}. Next: {each.next_step}." for each in found]
    links.say(do="notice", id=_NUMBER, kind="reminder", summary=SUMMARY, body="\n".join(lines))
    if desktop and not links.shown(_NUMBER):
        links.hang_up()
        return Exit.DONE
    for each, line in zip(found, lines, strict=True):
        journal.send(line, priority=NOTICE, fields={"FLASHBACK_EVENT": "reminder"})
        ledger.remind(each.about, each.state, at=stock.now)
    links.hang_up()
    return Exit.DONE
