"""What four disasters would cost at this moment: pure (docs/explanation/exposure.md)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from flashback.core.text import number, shown
from flashback.rotation.values import HOME, POCKET, Backup, KnownDrive, Standing

SLACK: Final = timedelta(minutes=5)
"""A backup dated further ahead of the present than this is not believed; clocks differ by less."""


class Disaster(StrEnum):
    """What may happen now."""

    MACHINE = "machine-dies"
    HOUSE = "house-burns"
    BAG = "bag-stolen"
    FRESHEST = "freshest-bad"


CONDITION: Final = {
    Disaster.MACHINE: "if this machine dies now",
    Disaster.HOUSE: "if the house burns",
    Disaster.BAG: "if the bag is stolen",
    Disaster.FRESHEST: "if the freshest drive turns out bad",
}


@dataclass(frozen=True, slots=True)
class Fleet:
    """All that the outlook rests on. `masters` are those of the configuration; `plugged` are LUKS UUIDs.

    `backups` holds the newest whole backup for each drive and master: `Ledger.backups(by=now + SLACK)`.
    """

    drives: tuple[KnownDrive, ...]
    backups: tuple[Backup, ...]
    masters: tuple[str, ...]
    plugged: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class MasterLoss:
    """Of this master the work since `since` is lost, all of it where that is `None`; `drive` has what remains."""

    master: str
    since: datetime | None
    drive: str | None


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a disaster would cost. `since` is the worst of all masters, `None` when one of them is lost as a whole.

    `survivors` are the drives that remain, by name.
    """

    disaster: Disaster
    since: datetime | None
    masters: tuple[MasterLoss, ...]
    survivors: tuple[str, ...]


@dataclass(frozen=True, slots=True, order=True)
class Cost:
    """What all four disasters cost together: first how many masters would be lost whole, then the sum of the rest."""

    wholly_lost: int
    work: timedelta


def exposures(fleet: Fleet, *, now: datetime) -> tuple[Exposure, ...]:
    """What each of the four disasters would cost at this moment."""
    return tuple(exposure(fleet, disaster, now=now) for disaster in Disaster)


def exposure(fleet: Fleet, disaster: Disaster, *, now: datetime) -> Exposure:
    """What one disaster would cost. A drive that is plugged in is where this machine is."""
    left = survivors(fleet, disaster, now=now)
    losses = tuple(_loss(fleet, master, left, now) for master in fleet.masters)
    since = [each.since for each in losses if each.since is not None]
    worst = min(since, default=now) if len(since) == len(losses) else None
    return Exposure(disaster, worst, losses, tuple(each.name for each in left))


def survivors(fleet: Fleet, disaster: Disaster, *, now: datetime) -> tuple[KnownDrive, ...]:
    """The drives that are still there afterwards; lost and retired ones never count."""
    active = [each for each in fleet.drives if each.standing is Standing.ACTIVE]
    if disaster is Disaster.FRESHEST:
        worst = freshest(fleet, now=now)
        return tuple(each for each in active if worst is None or each.uuid != worst.uuid)
    gone = _GONE[disaster]
    with_machine = set() if disaster is Disaster.MACHINE else fleet.plugged
    return tuple(each for each in active if whereabouts(each) not in gone and each.uuid not in with_machine)


_GONE: Final[dict[Disaster, frozenset[str]]] = {
    Disaster.MACHINE: frozenset(),
    Disaster.HOUSE: frozenset({HOME, POCKET}),
    Disaster.BAG: frozenset({POCKET}),
}


def whereabouts(drive: KnownDrive) -> str:
    """`home`, `pocket`, or any other word for a place away; no place is home. The first word of the place decides."""
    word = re.search(r"\w+", drive.place.casefold())
    return word[0] if word else (drive.place or HOME)


def freshest(fleet: Fleet, *, now: datetime) -> KnownDrive | None:
    """The active drive with the newest whole backup of any master; of two from one moment the higher number."""
    active = {each.uuid: each for each in fleet.drives if each.standing is Standing.ACTIVE}
    counted = [
        each for each in believed(fleet.backups, now) if each.drive_uuid in active and each.master in fleet.masters
    ]
    newest = max(counted, key=lambda each: (each.begun, each.sequence, each.drive_uuid), default=None)
    return None if newest is None else active[newest.drive_uuid]


def _loss(fleet: Fleet, master: str, left: Sequence[KnownDrive], now: datetime) -> MasterLoss:
    names = {each.uuid: each.name for each in left}
    copies = [each for each in believed(fleet.backups, now) if each.master == master and each.drive_uuid in names]
    best = max(copies, key=lambda each: (each.begun, each.sequence, each.drive_uuid), default=None)
    if best is None:
        return MasterLoss(master, None, None)
    return MasterLoss(master, min(best.begun, now), names[best.drive_uuid])


def believed(backups: Iterable[Backup], now: datetime) -> list[Backup]:
    """Those whose date can be true."""
    return [each for each in backups if each.completed <= now + SLACK]


def cost(fleet: Fleet, *, now: datetime) -> Cost:
    """The total exposure, with every drive at its place: what is plugged in now will be put back."""
    at_rest = replace(fleet, plugged=frozenset())
    since = [loss.since for each in exposures(at_rest, now=now) for loss in each.masters]
    work = sum((now - each for each in since if each is not None), timedelta())
    return Cost(sum(each is None for each in since), work)


def after_backup(fleet: Fleet, drive: KnownDrive, *, now: datetime) -> Fleet:
    """The fleet as it would be with a complete backup on this drive at this moment."""
    number_of_it = max((each.sequence for each in fleet.backups), default=0) + 1
    new = [Backup(drive.uuid, master, number_of_it, now, now) for master in fleet.masters if drive.carries(master)]
    replaced = {each.master for each in new}
    old = [each for each in fleet.backups if each.drive_uuid != drive.uuid or each.master not in replaced]
    return replace(fleet, backups=(*old, *new))


def sentence(exposure: Exposure, *, now: datetime) -> str:
    """`if the house burns: you lose the work since 2026-01-02 03:04 UTC (3 days)`."""
    start = f"{CONDITION[exposure.disaster]}: you lose"
    if exposure.since is not None:
        if now - exposure.since < timedelta(minutes=1):
            return f"{start} nothing"
        return f"{start} the work since {exposure.since:%Y-%m-%d %H:%M} UTC ({span(now - exposure.since)})"
    gone = [shown(each.master) for each in exposure.masters if each.since is None]
    return f"{start} everything" if len(gone) == len(exposure.masters) else f"{start} all of {', '.join(gone)}"


def span(length: timedelta) -> str:
    """`40 minutes`, `5 hours`, `12 days`: the largest unit of which there are at least two."""
    if length >= timedelta(days=2):
        return number(length // timedelta(days=1), "day")
    if length >= timedelta(hours=2):
        return number(length // timedelta(hours=1), "hour")
    return number(length // timedelta(minutes=1), "minute")
