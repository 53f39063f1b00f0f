"""What is to be said now by somebody who only says something when there is something new: pure.

Of each drive once when it is due, once when it is overdue, then at most once per period; so of a hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flashback.core.text import age, shown
from flashback.rotation.outlook import DriveOutlook, Outlook, State, reminder_due
from flashback.rotation.values import HoldRecord, Standing

Told = Mapping[str, tuple[str, datetime]]
"""By `Reminder.about`: the state that was spoken of last, and when."""
HELD = "held"


@dataclass(frozen=True, slots=True)
class Reminder:
    """`about` is what to remember it by; `drive` a drive's name; `state` a drive's state or `held`."""

    about: str
    drive: str
    state: str
    what: str
    next_step: str

    def as_json(self) -> dict[str, Any]:
        """For scripts (docs/reference/json.md)."""
        return {"drive": self.drive, "state": self.state, "what": self.what, "next": self.next_step}


def reminders(
    outlook: Outlook, holds: Sequence[HoldRecord], told: Told, *, every: timedelta, now: datetime
) -> tuple[Reminder, ...]:
    """What is to be said, holds first. `every` is the period."""
    names = {each.drive.uuid: each.drive.name for each in outlook.drives}
    usable = {each.drive.uuid for each in outlook.drives if each.drive.standing is Standing.ACTIVE}
    found = [
        _of_hold(hold, names.get(hold.drive_uuid, hold.drive_uuid), now, usable=hold.drive_uuid in usable)
        for hold in holds
    ]
    due = [each for each in found if each.about not in told or now - told[each.about][1] >= every]
    return (*due, *(_of_drive(each, now) for each in outlook.drives if _is_due(each, told, every, now)))


def _is_due(line: DriveOutlook, told: Told, every: timedelta, now: datetime) -> bool:
    before = told.get(line.drive.uuid)
    known = None if before is None or before[0] not in set(State) else (State(before[0]), before[1])
    return reminder_due(line, told=known, every=every, now=now)


def _of_drive(line: DriveOutlook, now: datetime) -> Reminder:
    name = shown(line.drive.name)
    placed = f"{name} ({shown(line.drive.place)})" if line.drive.place else name
    if line.last is None:
        what = f"{placed} holds no complete backup yet"
    else:
        what = f"{placed} is {line.state}: its last complete backup was {age(line.last, now)}"
    plug = "" if line.plugged else "plug it in, then: "
    return Reminder(line.drive.uuid, line.drive.name, str(line.state), what, f"{plug}flashback run {name}")


def _of_hold(hold: HoldRecord, drive: str, now: datetime, *, usable: bool) -> Reminder:
    return Reminder(
        about=f"{hold.drive_uuid} {hold.hold} {hold.stood.isoformat()}",
        drive=drive,
        state=HELD,
        what=standing(hold, drive, now),
        next_step=decision(hold, drive if usable else ""),
    )


def standing(hold: HoldRecord, drive: str, now: datetime) -> str:
    """A hold that stands, as one sentence."""
    return f"{shown(drive)} was held {age(hold.stood, now)} by the guard {shown(hold.hold)}: {shown(hold.why)}"


def decision(hold: HoldRecord, drive: str) -> str:
    """What to do about it; `drive` is empty for one that cannot be run any more, and any other will do."""
    name = shown(drive) or "DRIVE"
    return (
        f"see what would happen: flashback run {name} --dry-run; if that is as it should be: "
        f"flashback run {name} --allow {shown(hold.hold)}; if not, put the files right and run again"
    )
