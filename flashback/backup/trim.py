"""`flashback prune`: what the rules do not keep is removed from a drive.

While a guard's hold stands nothing is removed without a person: one of the states may be the last clean one.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from flashback.backup import holds, pins, room
from flashback.backup.history import History, masters_on
from flashback.backup.last_copies import Rotation, vanishing
from flashback.backup.masters import carried
from flashback.backup.plan import read_journal, snapshots_of, space_for
from flashback.backup.prune import Pruning, finish_earlier, measured
from flashback.backup.record import keep_ballast
from flashback.catalogue.shelves import Shelves
from flashback.compare.guard import Hold, HoldName, enforce
from flashback.config.values import Config
from flashback.core.context import Context, Doubt
from flashback.core.errors import Exit, FlashbackError
from flashback.core.events import Finished, Note, Planned
from flashback.core.signals import Interrupted
from flashback.core.text import parse_stamp, rfc3339
from flashback.drive import journal
from flashback.drive.commit import commit
from flashback.drive.recognise import Candidate
from flashback.drive.session import OpenDrive, Session
from flashback.drive.written import write_line
from flashback.rotation.ledger import Ledger
from flashback.rotation.retention import Decision, Value
from flashback.rotation.values import SnapshotRecord, SpaceRecord, Standing
from flashback.tell import explain


@dataclass(frozen=True, slots=True)
class TrimRequest:
    """`dry_run` removes nothing; `explain` gives the reasons of those that stay, too; `allowed` names guards."""

    dry_run: bool = False
    explain: bool = False
    allowed: Collection[str] = ()


def trim(context: Context, config: Config, ledger: Ledger, candidate: Candidate, request: TrimRequest) -> int:
    """Remove from the drive what the rules do not keep; tell it, and return the exit code."""
    session = Session(context, candidate, compress=config.compress)
    work = Trim(context, config, ledger, session, request)
    name = candidate.known.name
    try:
        work.execute()
        last = Finished(
            result="complete" if work.goes else "nothing-to-do",
            exit_code=Exit.DONE,
            drive=name,
            drive_state=session.state,
            safe_to_remove=session.safe_to_remove,
            facts=work.facts(),
        )
    except (FlashbackError, Interrupted) as error:
        explanation = explain.explain(error, drive=name)
        last = explain.finished(explanation, name, work.facts(), closed_for_sure=session.safe_to_remove)
    context.tell(last)
    return int(last.exit_code)


@dataclass(slots=True)
class Trim:
    """One such removal. What it did stands in its fields, whatever the ending."""

    context: Context
    config: Config
    ledger: Ledger
    session: Session
    request: TrimRequest
    goes: tuple[room.Goes, ...] = ()
    removed: list[room.Goes] = field(default_factory=list)
    held: tuple[Hold, ...] = ()
    started: float = field(default_factory=time.monotonic)
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    sequence: int = 0

    def execute(self) -> None:
        """Do it. Raises what stopped it; the drive is put away nevertheless."""
        standing = holds.standing(self.context, self.ledger)
        if not self.request.dry_run:
            self._settle(standing)
        with self.session.held(purpose="prune", read_only=self.request.dry_run) as drive:
            finish_earlier(drive)
            lines = read_journal(drive)
            clone = self._clone(lines)
            if not self.request.dry_run:
                self._settle(clone)
                self.ledger.merge(drive.known.uuid, (journal.as_dict(line) for line in lines))
            self.sequence = max(1, journal.last_sequence(lines))
            decided = self._decide(drive, lines)
            unwanted = [each for each in room.in_order(decided) if each.verdict.value is Value.NONE]
            self.goes = measured(drive, unwanted).goes
            self.context.tell(
                Planned({**self._plan(drive, decided), "holds": [each.as_json() for each in (*standing, *clone)]})
            )
            if self.request.dry_run:
                self._settle([*standing, *clone])
                return
            pinned = partial(pins.seen, self.ledger, drive.known.uuid, lines)
            pruning = Pruning(self.context, drive, self._writing(drive), pinned=pinned)
            self.removed = pruning.removed
            pruning.remove(self.goes)
            pins.settle(self.ledger, drive.known.uuid, lines, self._writing(drive))
            self._remember(drive)
            commit(drive)

    def facts(self) -> dict[str, Any]:
        """For `finished` (docs/reference/json.md)."""
        freed = [each.freed.data for each in self.removed if each.freed is not None]
        return {
            "action": "prune",
            "dry_run": self.request.dry_run,
            "seconds": round(time.monotonic() - self.started, 1),
            "pruned": [f"{each.master}/{each.name}" for each in self.removed],
            "bytes_freed": sum(freed) if len(freed) == len(self.removed) else None,
            "holds": [each.as_json() for each in self.held],
        }

    def _clone(self, lines: Sequence[journal.Line]) -> list[Hold]:
        why = holds.cloned(self.ledger, self.session.candidate.known.uuid, lines)
        return [Hold(HoldName.CLONE, why)] if why else []

    def _settle(self, found: Sequence[Hold]) -> None:
        """Ask about each, if somebody can be asked. Raises `HeldByGuard`; nothing is decided for any run."""
        person, name, allowed = self.context.person, self.session.candidate.known.name, set(self.request.allowed)
        for hold in found:
            if hold.name in allowed or self.request.dry_run or not person.decides:
                continue
            if not person.decide(Doubt(name, str(hold.name), hold.why, hold.examples, lambda: iter(()))):
                break
            allowed.add(hold.name)
        self.held = tuple(hold for hold in found if hold.name not in allowed)
        enforce(found, allowed, drive=name, command="prune")

    def _decide(self, drive: OpenDrive, lines: tuple[journal.Line, ...]) -> dict[str, Decision]:
        """Of this machine's masters alone: the rules for others are not here."""
        names = {each.name: snapshots_of(drive, each.name) for each in carried(self.config, drive.known)}
        pinned = pins.seen(self.ledger, drive.known.uuid, lines)
        return room.decisions(names, journal.completed_by(lines), pinned, self.config.keep, self.context.clock())

    def _plan(self, drive: OpenDrive, decided: dict[str, Decision]) -> dict[str, Any]:
        keeps = [
            room.verdict_json(master, verdict, keep=True)
            for master, decision in decided.items()
            for verdict in decision.keep
            if self.request.explain
        ]
        space = space_for(drive)
        lost = frozenset(each.uuid for each in self.ledger.drives() if each.standing is Standing.LOST)
        rotation = Rotation(self.context.paths.catalogues, drive.known.uuid, lost)
        files = vanishing(rotation, [(each.master, each.name) for each in self.goes])
        return {
            "action": "prune",
            "drive": drive.known.name,
            "masters": {},
            "prune": [f"{each.master}/{each.name}" for each in self.goes],
            "snapshots": [*(each.as_json() for each in self.goes), *keeps],
            "vanish": None if files is None else [each.as_json() for each in files],
            "space": {"size": space.size, "free": space.free_estimate},
        }

    def _writing(self, drive: OpenDrive) -> Any:  # noqa: ANN401 - both `pins.Write` and `prune.Write`
        def write(mark: journal.Mark, master: str, name: str, facts: dict[str, Any] | None = None) -> None:
            line = journal.Line(
                sequence=self.sequence,
                run=self.run_id,
                at=rfc3339(self.context.clock()),
                mark=mark,
                machine=self.context.machine,
                master=master,
                snapshot=name,
                facts=facts or {},
            )
            write_line(drive, line)

        return write

    def _remember(self, drive: OpenDrive) -> None:
        """The catalogue lets go of what is gone, the ballast is laid, the ledger knows what is left."""
        history = History(drive, Shelves(self.context.paths.catalogues), lambda line: self.context.tell(Note(line)))
        for master in masters_on(drive):
            history.keep(master)
        keep_ballast(drive)
        known, now = drive.known.uuid, self.context.clock()
        self.ledger.replace_snapshots(known, list(_left(drive, known)))
        space = space_for(drive)
        self.ledger.record_space(SpaceRecord(known, now, space.size, space.free_estimate))


def _left(drive: OpenDrive, known: str) -> list[SnapshotRecord]:
    found: list[tuple[str, str, datetime | None]] = [
        (master, name, parse_stamp(name)) for master in masters_on(drive) for name in snapshots_of(drive, master)
    ]
    return [SnapshotRecord(known, master, name, moment) for master, name, moment in found if moment is not None]
