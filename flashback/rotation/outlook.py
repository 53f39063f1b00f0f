"""How old each drive is and which one comes next: pure (docs/explanation/exposure.md)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from flashback.config.values import Rotation
from flashback.core.text import age, shown
from flashback.rotation.exposure import (
    CONDITION,
    Exposure,
    Fleet,
    MasterLoss,
    after_backup,
    believed,
    cost,
    exposures,
    span,
)
from flashback.rotation.values import KnownDrive, Standing


class State(StrEnum):
    """Where a drive stands in the rotation."""

    FRESH = "fresh"
    DUE = "due"
    OVERDUE = "overdue"
    NEVER = "never"
    RETIRED = "retired"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class DriveOutlook:
    """One line of `status`. `last` is the last complete backup: of its masters the one that was backed up longest ago.

    `missing` are masters that the drive is meant to carry and does not hold yet; `left_out` those it is not meant
    to. `due_at` and `overdue_at` are `None` where there is no backup to count from.
    """

    drive: KnownDrive
    state: State
    last: datetime | None
    age: timedelta | None
    due_at: datetime | None
    overdue_at: datetime | None
    missing: tuple[str, ...]
    left_out: tuple[str, ...]
    plugged: bool
    late: bool
    """For scripts: overdue, or enrolled so long ago that it ought to have had a backup by now."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Which drive to back up to next, `why` as one sentence, and when it is due (`None`: now)."""

    drive: KnownDrive
    why: str
    due_at: datetime | None


@dataclass(frozen=True, slots=True)
class Outlook:
    """The rotation at a glance; the drives in the order given."""

    drives: tuple[DriveOutlook, ...]
    exposures: tuple[Exposure, ...]
    advice: Advice | None

    @property
    def late(self) -> bool:
        """Whether `status --check` is to fail."""
        return any(each.late for each in self.drives)


def outlook(fleet: Fleet, rotation: Rotation, *, now: datetime) -> Outlook:
    """Everything about the rotation that `status` says."""
    return Outlook(
        drives=tuple(drive_outlook(fleet, each, rotation, now=now) for each in fleet.drives),
        exposures=exposures(fleet, now=now),
        advice=advise(fleet, rotation, now=now),
    )


def drive_outlook(fleet: Fleet, drive: KnownDrive, rotation: Rotation, *, now: datetime) -> DriveOutlook:
    """One drive's age and state."""
    wanted = [master for master in fleet.masters if drive.carries(master)]
    completed = {
        each.master: each.completed
        for each in believed(fleet.backups, now)
        if each.drive_uuid == drive.uuid and each.master in wanted
    }
    last = min(completed.values(), default=None)
    missing = tuple(master for master in wanted if master not in completed)
    state = _state(drive, last, rotation, now=now, incomplete=bool(missing))
    enrolled_long_ago = now - drive.enrolled >= rotation.overdue_after
    return DriveOutlook(
        drive=drive,
        state=state,
        last=last,
        age=None if last is None else max(now - last, timedelta()),
        due_at=None if last is None or missing else last + rotation.due_after,
        overdue_at=None if last is None else last + rotation.overdue_after,
        missing=missing,
        left_out=tuple(master for master in fleet.masters if master not in wanted),
        plugged=drive.uuid in fleet.plugged,
        late=state is State.OVERDUE or (state is State.NEVER and enrolled_long_ago),
    )


def _state(drive: KnownDrive, last: datetime | None, rotation: Rotation, *, now: datetime, incomplete: bool) -> State:
    if drive.standing is not Standing.ACTIVE:
        return State.LOST if drive.standing is Standing.LOST else State.RETIRED
    if last is None:
        return State.NEVER
    if now - last >= rotation.overdue_after:
        return State.OVERDUE
    return State.DUE if incomplete or now - last >= rotation.due_after else State.FRESH


def advise(fleet: Fleet, rotation: Rotation, *, now: datetime) -> Advice | None:
    """The drive whose backup now would lower the total exposure most; of equals the one that has waited longest.

    `None` when no drive of the rotation could be backed up to.
    """
    ranked = []
    for drive in fleet.drives:
        if drive.standing is Standing.ACTIVE and any(drive.carries(master) for master in fleet.masters):
            line = drive_outlook(fleet, drive, rotation, now=now)
            waited = (not line.missing, now if line.last is None else line.last)
            ranked.append((cost(after_backup(fleet, drive, now=now), now=now), waited, drive.name, line))
    if not ranked:
        return None
    best = min(ranked, key=lambda each: each[:3])[3]
    return Advice(best.drive, _why(fleet, best, now), best.due_at)


def _why(fleet: Fleet, line: DriveOutlook, now: datetime) -> str:
    """The one disaster and master for which the backup would change most, before and after."""
    before = exposures(replace(fleet, plugged=frozenset()), now=now)
    after = exposures(replace(after_backup(fleet, line.drive, now=now), plugged=frozenset()), now=now)
    changes = [
        (_gain(old, new, now), was.disaster, old, new)
        for was, will in zip(before, after, strict=True)
        for old, new in zip(was.masters, will.masters, strict=True)
    ]
    gain, disaster, old, new = max(changes, key=lambda each: each[0])
    if gain < (False, timedelta(minutes=1)):
        waited = "holds no backup yet" if line.last is None else f"was backed up {age(line.last, now)}"
        return f"{line.drive.name} {waited}, and no other drive would protect more"
    master = f" of {shown(old.master)}" if len(fleet.masters) > 1 else ""
    return (
        f"{_placed(line.drive)}: {CONDITION[disaster]}, {_lost(old, now)}{master} is lost; "
        f"with a backup on it now, {_lost(new, now)} would be"
    )


def _gain(old: MasterLoss, new: MasterLoss, now: datetime) -> tuple[bool, timedelta]:
    """Whether a master is no longer lost as a whole, and how much less work is."""
    if new.since is None:
        return (False, timedelta() if old.since is None else old.since - now)
    return (True, new.since - now) if old.since is None else (False, new.since - old.since)


def _placed(drive: KnownDrive) -> str:
    return f"{drive.name} ({shown(drive.place)})" if drive.place else drive.name


def _lost(loss: MasterLoss, now: datetime) -> str:
    if loss.since is None:
        return "everything"
    return f"the work of {span(now - loss.since)}" if now > loss.since else "nothing"


def reminder_due(line: DriveOutlook, *, told: tuple[State, datetime] | None, every: timedelta, now: datetime) -> bool:
    """Whether to remind of a drive: once when due, once when overdue (or never backed up), then every so often.

    `told` is the state that the last reminder of this drive spoke of, and when.
    """
    if line.state not in {State.DUE, State.OVERDUE, State.NEVER}:
        return False
    if told is None or told[0] is not line.state or (line.last is not None and line.last > told[1]):
        return True
    return line.state is not State.DUE and now - told[1] >= every
