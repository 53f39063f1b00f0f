"""The guards of one run: what they are given to judge, who is asked, and what is remembered of the answer.

While a hold about a master stands, no run goes on without a person, on whatever drive: the rotation would carry the
disaster to the last clean one. It stands until a person lets it pass, or until the drive whose run was held finds
nothing in its plan any more. What a person let pass is remembered with the state that the master had, so that the other
drives, which have yet to meet the same change, do not ask again; a further loss is held again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from flashback import BUILT
from flashback.backup.plan import MasterPlan, Plan
from flashback.backup.report import Report, RunRequest
from flashback.compare.guard import (
    FLEET,
    LATELY,
    PASSING,
    Accepted,
    Hold,
    HoldName,
    MasterFacts,
    enforce,
    holds_for,
)
from flashback.config.values import Guards, Master
from flashback.core.context import Context, Doubt
from flashback.core.text import age, parse_rfc3339, shown
from flashback.drive import journal
from flashback.rotation.clock import impossible, too_soon
from flashback.rotation.fork import forked
from flashback.rotation.ledger import Ledger
from flashback.rotation.values import Decision, HoldRecord, KnownDrive, RunRecord
from flashback.tools.power_supply import power

MOST_DAMAGED: Final = 10**9
"""More than that no run has seen: a number from a drive."""
LOOKED_BACK: Final = 100
"""So many of the last runs are looked at."""


@dataclass(slots=True)
class Watch:
    """The guards of one run over one drive."""

    context: Context
    limits: Guards
    ledger: Ledger
    known: KnownDrive
    request: RunRequest
    report: Report
    min_battery: float = 0.0
    passed: set[str] = field(default_factory=set)

    def before(self, missing: Mapping[Master, str]) -> None:
        """What can be known before a passphrase is asked for. Raises `HeldByGuard`."""
        facts = [
            MasterFacts(each.name, str(each.path), missing=True, files=0, files_before=0, absence=why)
            for each, why in missing.items()
        ]
        runs = self.ledger.runs(limit=LOOKED_BACK)
        last = next((run.ended or run.begun for run in runs if run.machine == self.context.machine), None)
        clock = impossible(self.context.clock(), last_run=last, built=parse_rfc3339(BUILT))
        holds = [*holds_for(facts, clock=clock, limits=self.limits), *self._too_soon(), *self._battery()]
        if not self.context.person.decides and not self.request.dry_run:
            holds += standing(self.context, self.ledger, besides=self.known.uuid)
        self._settle(holds, None)

    def _too_soon(self) -> Iterator[Hold]:
        if self.request.unattended:
            runs = self.ledger.runs(self.known.uuid, limit=LOOKED_BACK)
            if why := too_soon(self.context.clock(), runs, self.limits.min_interval):
                yield Hold(HoldName.TOO_SOON, why)

    def _battery(self) -> Iterator[Hold]:
        if self.request.unattended and (low := power().too_low(self.min_battery)):
            yield Hold(HoldName.BATTERY, f"{low}, and nothing charges it")

    def after(self, plan: Plan) -> tuple[Hold, ...]:
        """Every hold for this plan, those that stand on account of other drives included."""
        lines = self.report.journal
        clock = impossible(self.context.clock(), last_run=journal.last_moment(lines), built=parse_rfc3339(BUILT))
        clone = cloned(self.ledger, self.known.uuid, lines)
        own = holds_for([self._facts(each) for each in plan.masters], clock=clock, clone=clone, limits=self.limits)
        names = {hold.name for hold in own}
        others = standing(self.context, self.ledger, besides=self.known.uuid)
        return (*own, *(hold for hold in others if hold.name not in names))

    def shown(self, holds: Sequence[Hold]) -> dict[str, Any]:
        """What the plan that is shown says of them: nothing where somebody is about to be asked."""
        asking = self.context.person.decides and not self.request.dry_run
        if asking:
            return {}
        allowed = sorted({str(each.name) for each in holds if each.name in self.request.allowed})
        return {"holds": [each.as_json() for each in holds]} | ({"allowed": allowed} if allowed else {})

    def _facts(self, plan: MasterPlan) -> MasterFacts:
        facts, made = plan.facts(), plan.incumbent.completed
        decisions = [each for each in self.ledger.decisions() if each.master == facts.name]
        accepted = {
            each.hold: Accepted(each.files, each.bytes, each.damaged)
            for each in decisions
            if made is None or each.at > made
        }
        decided = max((each.at for each in decisions if each.hold == HoldName.MASS_CHANGE), default=None)
        return replace(
            facts,
            accepted=accepted,
            grown_before=grown_before(self.ledger.runs(limit=LOOKED_BACK), facts.name),
            damaged_before=damaged_before(self.report.journal, facts.name, since=decided, now=self.context.clock()),
        )

    def noted(self, plan: MasterPlan) -> dict[str, int]:
        """For the journal: how many files looked encrypted and were not held, unless a person has accepted that."""
        found = plan.inspection.encrypted
        return {"damaged": found} if found and HoldName.MASS_CHANGE not in self._facts(plan).accepted else {}

    def settle(self, holds: Sequence[Hold], plan: Plan) -> None:
        """Ask about each, if somebody can be asked; remember what was decided. Raises `HeldByGuard`."""
        self._settle(holds, plan)
        if self.request.dry_run:
            return
        now = self.context.clock()
        passed = {hold.name for hold in holds if hold.name in FLEET}
        states = {each.master.name: each.facts().state for each in plan.masters}
        self.ledger.decide(
            [
                Decision(name, hold, now, at.files, at.bytes, at.damaged)
                for hold in passed
                for name, at in states.items()
            ]
        )
        self.ledger.lift_holds(passed, at=now)
        if not plan.missing:
            self.ledger.lift_holds(FLEET - passed, at=now, drive_uuid=self.known.uuid)

    def _settle(self, holds: Sequence[Hold], plan: Plan | None) -> None:
        person = self.context.person
        for hold in holds:
            if hold.name in self.request.allowed or hold.name in self.passed or self.request.dry_run:
                continue
            if not person.decides or not person.decide(self._doubt(hold, holds, plan)):
                break
            self.passed.add(hold.name)
        allowed = {*self.request.allowed, *self.passed}
        self.report.held = tuple(hold for hold in holds if hold.name not in allowed)
        if self.report.held and not self.report.sequence and _is_worth_remembering(self.report.held, self.request):
            self._number()
        enforce(holds, allowed, drive=self.known.name, seen=self.request.dry_run)

    def _doubt(self, hold: Hold, holds: Sequence[Hold], plan: Plan | None) -> Doubt:
        why = "; ".join(each.why for each in holds if each.name == hold.name)
        examples = tuple(path for each in holds if each.name == hold.name for path in each.examples)
        return Doubt(self.known.name, str(hold.name), why, examples, lambda: listing(hold.name, plan))

    def _number(self) -> None:
        """A run that is held before the drive was opened has its place in the ledger, too."""
        begun = self.context.clock()
        self.report.sequence = self.ledger.begin_run(
            self.known.uuid, run_id=self.report.run_id, machine=self.context.machine, begun=begun
        )


def standing(context: Context, ledger: Ledger, *, besides: str = "") -> list[Hold]:
    """The holds about masters that nobody has decided about, but for those of the drive `besides` (a LUKS UUID)."""
    names = {drive.uuid: drive.name for drive in ledger.drives()}
    found = []
    for record in ledger.standing_holds():
        if record.hold in FLEET and record.drive_uuid != besides:
            where, when = shown(names.get(record.drive_uuid, record.drive_uuid)), age(record.stood, context.clock())
            why = f"{where} was held {when}, and nobody has decided since: {record.why}"
            found.append(Hold(HoldName(record.hold), why, standing=True))
    return found


def cloned(ledger: Ledger, uuid: str, lines: Sequence[journal.Line]) -> str | None:
    """Why the drive with this journal cannot be the one that this machine last wrote to, or `None`."""
    return forked([(line.sequence, line.run) for line in lines], ledger.runs(uuid, limit=LOOKED_BACK))


def _is_worth_remembering(holds: Sequence[Hold], request: RunRequest) -> bool:
    return not request.dry_run and any(hold.name not in PASSING for hold in holds)


def grown_before(runs: Sequence[RunRecord], master: str) -> int:
    """By how many bytes a copy of this master grew most in one run, on any drive, its first run left aside."""
    counts = [each for run in runs for each in run.masters if each.master == master and each.files_unchanged]
    return max((each.bytes_added - each.bytes_deleted for each in counts), default=0)


def damaged_before(lines: Sequence[journal.Line], master: str, *, since: datetime | None, now: datetime) -> int:
    """How many files looked encrypted in the runs that lately copied them to this drive, and nobody was asked.

    `since` is when a person last let such a change pass.
    """
    begin = now - LATELY if since is None else max(since, now - LATELY)
    found = [
        line.facts.get("damaged")
        for line in lines
        if line.mark is journal.Mark.COMPLETE and line.master == master and line.moment > begin
    ]
    return sum(count for count in found if isinstance(count, int) and 0 < count < MOST_DAMAGED)


def listing(name: str, plan: Plan | None) -> Iterator[str]:
    """All that a hold is about: what would be deleted (directories as a whole), or written."""
    for each in plan.masters if plan is not None else ():
        changes = each.changes
        lists = {
            HoldName.MASS_DELETION: (("delete", changes.remove_first), ("delete", changes.remove_after)),
            HoldName.MASS_CHANGE: (("write", changes.whole), ("write", changes.holes), ("write", changes.in_place)),
            HoldName.GROWTH: (("write", changes.whole), ("write", changes.holes), ("write", changes.in_place)),
        }
        for verb, paths in lists.get(HoldName(name), ()):
            yield from (f"{verb}  {shown(each.master.name)}/{shown(path)}" for path in paths)


def remember(ledger: Ledger, holds: Collection[Hold], *, drive_uuid: str, run_id: str, at: datetime) -> None:
    """What is about a master stands from now on, for every drive."""
    own = [hold for hold in holds if hold.name in FLEET and not hold.standing]
    reasons = {str(hold.name): "; ".join(each.why for each in own if each.name is hold.name) for hold in own}
    ledger.stand_holds([HoldRecord(drive_uuid, run_id, name, why, at) for name, why in reasons.items()])
