"""A drive was plugged in: what now? Pure; everything that matters is in `Seen`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from flashback.config.values import OnPlug
from flashback.rotation.plugs import PlugOutcome, PlugRecord
from flashback.rotation.values import KnownDrive, RunRecord, RunResult, Standing
from flashback.tools.power_supply import Power

FRESH: Final = timedelta(minutes=15)
"""A drive that was backed up within this time is not asked about: it was put back, or the machine was started anew."""


class Act(StrEnum):
    """`offer` and `warn` tell a person something; nothing is opened. `leave` is only logged. `later`: put off."""

    ASK = "ask"
    LATER = "later"
    RUN = "run"
    LEAVE = "leave"
    OFFER = "offer"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Seen:
    """`drive` is `None` where this machine does not know it. `insertion` names this plugging in, `agents` says whether
    somebody's session can be asked, `last_run` is the newest of this drive, `last_plug` the newest question about it.
    `quiet_for` is the configuration's `min_interval` between runs that nobody asked for, `min_battery` what a battery
    in use must hold. `busy`: somebody works with this drive already. `due_after`: how old its backup may become.
    """

    drive: KnownDrive | None
    default: OnPlug
    now: datetime
    insertion: str
    quiet_for: timedelta = timedelta(hours=1)
    agents: bool = False
    last_run: RunRecord | None = None
    last_plug: PlugRecord | None = None
    power: Power = field(default_factory=Power)
    min_battery: float = 0.0
    busy: bool = False
    due_after: timedelta = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and why, in words for the journal."""

    act: Act
    why: str


def decide(seen: Seen) -> Decision:
    """What is to be done about a drive with our label that was plugged in."""
    drive = seen.drive
    if drive is None:
        return Decision(Act.OFFER, "this machine does not know it")
    if drive.standing is Standing.LOST:
        return Decision(Act.WARN, "it was marked lost")
    if drive.standing is Standing.RETIRED:
        return Decision(Act.WARN, "it was marked retired")
    if seen.busy:
        return Decision(Act.LEAVE, "another command is at work with it")
    wish = drive.on_plug or seen.default
    if wish is OnPlug.NEVER:
        return Decision(Act.LEAVE, "on_plug is never")
    if (fresh := _fresh(seen, max(FRESH, seen.quiet_for) if wish is OnPlug.ALWAYS else FRESH)) is not None:
        return fresh
    if (said := _said_already(seen)) is not None:
        return said
    if wish is OnPlug.ASK:
        return Decision(Act.ASK, "on_plug is ask")
    if low := seen.power.too_low(seen.min_battery):
        return Decision(Act.ASK if seen.agents else Act.LATER, low)
    return Decision(Act.RUN, "on_plug is always")


def _backed_up(seen: Seen, within: timedelta) -> datetime | None:
    """When its last run ended, if that was a backup and not longer ago."""
    run = seen.last_run
    if run is None or run.ended is None or run.result not in {RunResult.COMPLETE, RunResult.NOTHING_TO_DO}:
        return None
    return run.ended if timedelta(0) <= seen.now - run.ended < within else None


def _fresh(seen: Seen, within: timedelta) -> Decision | None:
    if _backed_up(seen, within) is not None:
        return Decision(Act.LEAVE, "it was backed up a moment ago")
    return None


def _said_already(seen: Seen) -> Decision | None:
    """One plug, one question: what was said to the last one holds until the drive is plugged in again."""
    last = seen.last_plug
    if last is None:
        return None
    if last.outcome is PlugOutcome.LATER and last.until is not None and seen.now < last.until <= seen.now + _LONGEST:
        return Decision(Act.LEAVE, "it was put off until later")
    if last.insertion != seen.insertion:
        return None
    if last.outcome is PlugOutcome.DECLINED:
        return Decision(Act.LEAVE, "the answer was no, and it was not unplugged since")
    if last.outcome is PlugOutcome.UNANSWERED and (last.agents or not seen.agents):
        return Decision(Act.LEAVE, "nobody answered, and it was not unplugged since")
    return _done_since(seen, last)


def _done_since(seen: Seen, last: PlugRecord) -> Decision | None:
    """A drive that stays plugged in is not asked about at each log-in; what runs by itself has its own measure."""
    wish = seen.drive.on_plug if seen.drive is not None else None
    ended = _backed_up(seen, seen.due_after)
    if (wish or seen.default) is OnPlug.ASK and ended is not None and ended >= last.at:
        return Decision(Act.LEAVE, "it was backed up since it was plugged in, and is not due")
    return None


_LONGEST: Final = timedelta(days=2)
"""Nobody puts off for longer: a moment further away was written with a wrong clock."""
