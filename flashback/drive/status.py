"""`status`: the rotation at a glance, the drives in the safe included; from the ledger and from what is plugged in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from flashback.config.values import Config, Rotation
from flashback.core.context import Context
from flashback.core.text import age, number, rfc3339, shown
from flashback.drive.browse import shells_of
from flashback.drive.headerless import Headerless, headerless
from flashback.drive.recognise import reappeared
from flashback.rotation.exposure import SLACK, Fleet
from flashback.rotation.exposure import sentence as exposure_sentence
from flashback.rotation.ledger import Ledger
from flashback.rotation.outlook import DriveOutlook, Outlook, State, outlook
from flashback.rotation.proven import LATELY, share
from flashback.rotation.reminders import decision, standing
from flashback.rotation.soundness import Health, health
from flashback.rotation.values import HoldRecord, ProofKind, ProofRecord, RunRecord, SnapshotSpan, SpaceRecord, Written
from flashback.tell.tables import StatusRow, status_table
from flashback.tools import block, cryptsetup

_OUT: Final = frozenset({State.LOST, State.RETIRED})


@dataclass(frozen=True, slots=True)
class Stock:
    """What `status` knows at one moment. `still_open` are the names of drives that are open now.

    `proofs` and `writes` are those of the last 90 days by drive; `browsed` says where those lie that are open to look
    around in.
    """

    now: datetime
    outlook: Outlook
    spaces: dict[str, SpaceRecord]
    snapshots: dict[str, SnapshotSpan]
    last_runs: dict[str, RunRecord]
    still_open: tuple[str, ...]
    headerless: tuple[Headerless, ...] = ()
    holds: tuple[HoldRecord, ...] = ()
    proofs: Mapping[str, tuple[ProofRecord, ...]] = field(default_factory=dict)
    writes: Mapping[str, tuple[Written, ...]] = field(default_factory=dict)
    browsed: Mapping[str, str] = field(default_factory=dict)
    health: Mapping[str, Health] = field(default_factory=dict)

    def text(self, *, colour: bool, width: int | None = None) -> str:
        """For a person."""
        if not self.outlook.drives:
            return "No drive is known here yet. Prepare one: sudo flashback init /dev/sdX (`lsblk` shows which it is)."
        table = status_table([self._row(each) for each in self.outlook.drives], self.now, colour=colour, width=width)
        first = [f"{line}\n" for line in (*self._holds(), *self._reappeared())]
        return "\n".join([*first, table.rstrip(), "", *self._details(), *self._advice()]).rstrip()

    def _holds(self) -> list[str]:
        """The first thing to be said: until somebody decides, no drive is run without a person."""
        names = {each.drive.uuid: each.drive.name for each in self.outlook.drives}
        usable = {each.drive.uuid: each.drive.name for each in self.outlook.drives if each.state not in _OUT}
        lines = [
            f"HELD: {standing(hold, names.get(hold.drive_uuid, hold.drive_uuid), self.now)}.\n"
            f"  Next: {decision(hold, usable.get(hold.drive_uuid, ''))}."
            for hold in self.holds
        ]
        return [*lines, "Until then no drive is run without a person."] if lines else []

    def _reappeared(self) -> list[str]:
        here = [each for each in self.outlook.drives if each.plugged and each.state in _OUT]
        return [reappeared(each.drive) for each in here]

    def _row(self, line: DriveOutlook) -> StatusRow:
        space = self.spaces.get(line.drive.uuid)
        advised = self.outlook.advice
        return StatusRow(
            drive=line.drive.name,
            state=line.state.value,
            last_complete=line.last,
            size=space.size if space else line.drive.size or None,
            free=space.free if space else None,
            health=self._health(line).state.value,
            place=line.drive.place,
            plugged_in=line.plugged,
            comes_next=advised is not None and advised.drive.uuid == line.drive.uuid,
        )

    def _health(self, line: DriveOutlook) -> Health:
        return self.health.get(line.drive.uuid, Health())

    def _details(self) -> list[str]:
        lines = []
        for each in self.outlook.drives:
            words = []
            if (span := self.snapshots.get(each.drive.uuid)) is not None:
                words.append(f"{number(span.count, 'snapshot')} back to {rfc3339(span.oldest)[:10]}")
            if each.missing:
                words.append(f"holds no whole backup of {shown(', '.join(each.missing))} yet")
            if each.left_out:
                words.append(f"is not meant to hold {shown(', '.join(each.left_out))}")
            words.extend(self._health(each).words)
            words.extend(self._proven(each))
            words.extend(self._last_run(each))
            if words:
                lines.append(f"{shown(each.drive.name)}: {'; '.join(words)}.")
        lines.extend(
            f"STILL OPEN: {self._open(name)}. Put it away with: flashback close {name}" for name in self.still_open
        )
        lines.extend(f"{each.sentence}. Put it back with: {each.remedy}" for each in self.headerless)
        return [*lines, ""] if lines else []

    def _open(self, name: str) -> str:
        return f"{name}, to look around in {shown(self.browsed[name])}" if name in self.browsed else name

    def _proven(self, line: DriveOutlook) -> list[str]:
        """How much of it was compared with the masters lately."""
        proofs = self.proofs.get(line.drive.uuid, ())
        known = share(proofs, self.writes.get(line.drive.uuid, ()))
        if known is None:
            return []
        last = max(each.at for each in proofs if each.kind is ProofKind.COMPARED)
        return [f"{_percent(known)} compared with the masters in the last 90 days ({age(last, self.now)})"]

    def _last_run(self, line: DriveOutlook) -> list[str]:
        """What the last run was, if it was no complete one."""
        run = self.last_runs.get(line.drive.uuid)
        if run is None or run.exit_code in {0, None}:
            return []
        what = f"{number(run.unread, 'file')} could not be read" if run.unread else f"{run.result or 'broken off'}"
        return [f"last run {age(run.begun, self.now)}: {what}"]

    def _advice(self) -> list[str]:
        advice = self.outlook.advice
        lines = [exposure_sentence(each, now=self.now) for each in self.outlook.exposures]
        return [
            *([f"Next: {advice.why}.", ""] if advice is not None else []),
            *(line[0].upper() + line[1:] for line in lines),
        ]

    def as_json(self) -> dict[str, Any]:
        """For scripts (docs/reference/json.md)."""
        advice = self.outlook.advice
        return {
            "now": rfc3339(self.now),
            "drives": [self._drive_json(each) for each in self.outlook.drives],
            "holds": [
                {
                    "name": hold.hold,
                    "drive": next((e.drive.name for e in self.outlook.drives if e.drive.uuid == hold.drive_uuid), None),
                    "why": hold.why,
                    "since": rfc3339(hold.stood),
                }
                for hold in self.holds
            ],
            "next": None if advice is None else {"drive": advice.drive.name, "why": advice.why},
            "exposure": [
                {
                    "disaster": each.disaster.value,
                    "since": None if each.since is None else rfc3339(each.since),
                    "survivors": list(each.survivors),
                }
                for each in self.outlook.exposures
            ],
        }

    def _drive_json(self, line: DriveOutlook) -> dict[str, Any]:
        drive, space = line.drive, self.spaces.get(line.drive.uuid)
        span, run = self.snapshots.get(drive.uuid), self.last_runs.get(drive.uuid)
        proven = share(self.proofs.get(drive.uuid, ()), self.writes.get(drive.uuid, ()))
        return {
            "name": drive.name,
            "uuid": drive.uuid,
            "place": drive.place,
            "state": line.state.value,
            "plugged_in": line.plugged,
            "open": drive.name in self.still_open,
            "header_gone": drive.uuid in {each.known.uuid for each in self.headerless},
            "last_complete": None if line.last is None else rfc3339(line.last),
            "due_at": None if line.due_at is None else rfc3339(line.due_at),
            "overdue_at": None if line.overdue_at is None else rfc3339(line.overdue_at),
            "missing": list(line.missing),
            "left_out": list(line.left_out),
            "health": self._health(line).state.value,
            "size": space.size if space else drive.size,
            "free": space.free if space else None,
            "proven": None if proven is None else round(proven, 4),
            "snapshots": span.count if span else 0,
            "oldest_snapshot": rfc3339(span.oldest) if span else None,
            "last_result": run.result.value if run is not None and run.result is not None else None,
        }


def _percent(part: float) -> str:
    """Never 100 % where something is missing, nor 0 % where something is there."""
    whole = round(part * 100)
    return "all of it" if part >= 1 else f"{min(99, max(1, whole))} %" if part > 0 else "nothing of it"


def take_stock(context: Context, ledger: Ledger, config: Config | None) -> Stock:
    """Look at the ledger and at what is plugged in. Nothing is opened, and no root is needed for the looking."""
    now, drives = context.clock(), ledger.drives()
    backups = ledger.backups(by=now + SLACK)
    masters = tuple(m.name for m in config.masters) if config else tuple(sorted({each.master for each in backups}))
    uuids = {volume.uuid for volume in block.luks_volumes(context.run)}
    fleet = Fleet(
        drives=drives,
        backups=backups,
        masters=masters,
        plugged=frozenset(drive.uuid for drive in drives if drive.uuid in uuids),
    )
    rotation = config.rotation if config is not None else Rotation()
    proofs = {drive.uuid: ledger.proofs(drive.uuid, since=now - LATELY) for drive in drives}
    runs = {drive.uuid: run for drive in drives for run in ledger.runs(drive.uuid, limit=1)}
    return Stock(
        now=now,
        outlook=outlook(fleet, rotation, now=now),
        spaces=ledger.spaces(),
        snapshots=ledger.snapshot_spans(),
        last_runs=runs,
        proofs=proofs,
        writes={drive.uuid: ledger.written(drive.uuid, since=now - LATELY) for drive in drives},
        health={drive.uuid: _health(ledger, drive.uuid, proofs[drive.uuid], now) for drive in drives},
        browsed={drive.name: str(place) for drive in drives for place in shells_of(drive)},
        still_open=tuple(drive.name for drive in drives if cryptsetup.mappings_of(drive.uuid)),
        headerless=headerless(context.run, drives),
        holds=ledger.standing_holds(),
    )


def _health(ledger: Ledger, uuid: str, proofs: Sequence[ProofRecord], now: datetime) -> Health:
    scrubs, errors = ledger.scrubs(uuid, limit=1), ledger.errors(uuid, limit=1)
    return health(scrubs[0] if scrubs else None, errors[0] if errors else None, proofs, now=now)
