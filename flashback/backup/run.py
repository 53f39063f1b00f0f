"""The run over one drive: see, plan, guard, act, prove (DESIGN part 3). Opening and closing are `drive.session`'s."""

from __future__ import annotations

import errno
import os
import time
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from flashback.backup import outcome, pins
from flashback.backup.copy import CopyResult, bring_up_to_date
from flashback.backup.holds import Watch
from flashback.backup.last_copies import Rotation
from flashback.backup.masters import carried, look_at, refuse_vanished
from flashback.backup.pen import Pen
from flashback.backup.plan import (
    MasterPlan,
    Places,
    Plan,
    plan_master,
    read_journal,
    scrub_due,
    snapshots_of,
    space_for,
)
from flashback.backup.prune import Pruning, arranged, finish_earlier, refuse_hopeless, with_room
from flashback.backup.record import (
    distrust_history,
    keep_ballast,
    keep_catalogue,
    keep_configuration,
    keep_history,
    keep_sources,
    touched,
)
from flashback.backup.report import Report, RunRequest
from flashback.backup.siblings import keep_siblings
from flashback.backup.source import Source
from flashback.backup.taking import sources
from flashback.config.values import Config, Master
from flashback.core.context import Context
from flashback.core.errors import NoSpace, NotFinished
from flashback.core.events import Planned, Remark, Remarked, RemarkKind, Step, StepBegun, StepDone
from flashback.core.text import number, parse_stamp, rfc3339, size
from flashback.drive import identity, journal, layout
from flashback.drive.commit import commit
from flashback.drive.session import OpenDrive, Session, prove_destination
from flashback.drive.written import write_line
from flashback.health.scrub import scrub
from flashback.rotation.ledger import Ledger
from flashback.rotation.rows import scrub_facts
from flashback.rotation.values import Standing
from flashback.tools import btrfs


class Run:
    """One run over one open drive. `report` is what the caller reads, whatever happens."""

    def __init__(self, context: Context, config: Config, ledger: Ledger, session: Session, request: RunRequest) -> None:
        self.context = context
        self.config = config
        self.ledger = ledger
        self.session = session
        self.request = request
        paths = context.paths
        self.places = Places(spool=paths.state, avoid=paths.runtime, catalogues=paths.catalogues)
        self.report = Report()
        self.pen = Pen(context, self.report)
        self.begun = context.clock()
        self.known = session.candidate.known
        self.masters = carried(config, self.known)
        self.missing = look_at(self.masters, mounts=context.paths.mounts)
        self.watch = Watch(context, config.guards, ledger, self.known, request, self.report, config.min_battery)

    def execute(self) -> None:
        """Do it all. Raises what stopped it; the drive is then put away nevertheless."""
        self.watch.before(self.missing)
        with self.session.held(purpose="run", read_only=self.request.dry_run) as drive, self._sources() as self.sources:
            plan = self._see_and_plan(drive)
            holds = self.watch.after(plan)
            self.context.tell(Planned(plan.as_json(self.known.name) | self.watch.shown(holds)))
            self.watch.settle(holds, plan)
            if self.request.dry_run:
                return
            refuse_hopeless(plan, self.known.name)
            self._act(drive, plan)
            if plan.scrub is not None:
                self.report.scrub = scrub(self.context, drive)
                record = self.report.scrub.record(self.known.uuid)
                self._note(drive, journal.Mark.SCRUB, at=record.ended, facts=scrub_facts(record))
                self._prove(drive)
            self._look_back(drive)
            self._sign_off(drive)

    # --- see, plan

    def _sources(self) -> AbstractContextManager[dict[str, Source]]:
        active = {drive.uuid for drive in self.ledger.drives() if drive.standing is Standing.ACTIVE}
        masters = [master for master in self.masters if master not in self.missing]
        return sources(
            self.context, masters, drive=self.known.uuid, drives=active | {self.known.uuid}, dry=self.request.dry_run
        )

    def _see_and_plan(self, drive: OpenDrive) -> Plan:
        self.context.tell(StepBegun(Step.PLAN, ", ".join(str(each.path) for each in self.masters)))
        begun = time.monotonic()
        lines = self.report.journal = read_journal(drive)
        self.report.pins = pins.seen(self.ledger, self.known.uuid, lines)
        if not self.request.dry_run:
            self._begin(lines)
        plans = tuple(self._plan_one(drive, master) for master in self.masters if master not in self.missing)
        now = self.context.clock()
        scrubs = [line.moment for line in lines if line.mark is journal.Mark.SCRUB]
        due = scrub_due(
            asked=self.request.scrub,
            every=self.config.scrub_every,
            last=max(scrubs, default=None),
            since=self.known.enrolled,
            now=now,
        )
        finish_earlier(drive)
        plan = self.report.plan = with_room(
            drive,
            Plan(plans, tuple(self.missing), due, space_for(drive)),
            keep=self.config.keep,
            lines=lines,
            pins=self.report.pins,
            now=now,
            rotation=self._rotation(),
        )
        files = sum(each.changes.files_to_copy for each in plans)
        detail = f"{number(files, 'file')} to copy, {size(plan.needed)}" if files else "nothing to copy"
        self.context.tell(StepDone(Step.PLAN, time.monotonic() - begun, detail))
        return plan

    def _rotation(self) -> Rotation:
        lost = frozenset(each.uuid for each in self.ledger.drives() if each.standing is Standing.LOST)
        return Rotation(self.places.catalogues, self.known.uuid, lost)

    def _begin(self, lines: tuple[journal.Line, ...]) -> None:
        """The ledger learns what the drive's journal knows, then gives the run its number."""
        self.ledger.merge(self.known.uuid, (journal.as_dict(line) for line in lines))
        self.report.sequence = self.ledger.begin_run(
            self.known.uuid,
            run_id=self.report.run_id,
            machine=self.context.machine,
            begun=self.context.clock(),
            above=journal.last_sequence(lines),
        )

    def _plan_one(self, drive: OpenDrive, master: Master) -> MasterPlan:
        try:
            plan = plan_master(
                drive,
                master,
                self.report.journal,
                places=self.places,
                full=self.request.full,
                full_every=self.config.full_every,
                watch=drive.watch,
                limits=self.config.guards,
                source=self.sources[master.name],
            )
        except OSError as problem:
            if problem.errno != errno.ENOSPC:
                refuse_vanished(master)
                raise
            raise NotFinished(
                f"this machine has no room in {self.places.spool} for the lists of what is to be done",
                hint="make room there, then run again; nothing was written to the drive",
            ) from problem
        if failed := self.sources[master.name].failed:
            self._remark(Remark(RemarkKind.GENERAL, master.name, b"", f"{failed}; it was read as it is"))
        for remark in plan.remarks:
            self._remark(remark)
        return plan

    # --- act, prove

    def _act(self, drive: OpenDrive, plan: Plan) -> None:
        write = partial(self.pen.note_snapshot, drive)
        arrange = partial(arranged, self._rotation())
        pinned = partial(pins.seen, self.ledger, self.known.uuid, self.report.journal)
        self._pruning = Pruning(self.context, drive, write, further=plan.room.further, arrange=arrange, pinned=pinned)
        self.report.pruned = self._pruning.removed
        self._pruning.remove(plan.room.goes)
        pins.settle(self.ledger, self.known.uuid, self.report.journal, write)
        for each in plan.masters:
            if each.changes.is_empty and each.incumbent.complete:
                facts = {**self._begun_facts(), **each.changes.totals(), "full": each.full}
                name = each.master.name
                unread = self._unread_in(name)
                self.report.completed[name] = self._note(
                    drive, journal.Mark.UNCHANGED, name, unread=unread, facts=facts
                )
                if each.full:
                    distrust_history(drive, each, self.context)
                    keep_catalogue(drive, each, self.places, doubtful=())
            else:
                self._bring_up_to_date(drive, each)
        identity.keep(drive, machine=self.context.machine)
        keep_configuration(drive, self.config)
        keep_siblings(self.context, self.ledger, drive)
        keep_history(drive, plan.masters, self.report.touched, self.context)
        self._prove(drive)
        keep_sources(drive, plan.masters, self.sources, self.places, self.report.copies)

    def _bring_up_to_date(self, drive: OpenDrive, plan: MasterPlan) -> None:
        name = plan.master.name
        with ExitStack() as opened:
            prove_destination(drive)
            made = partial(layout.made_directory, drive.root, name, 0o755)
            folder = self._pruning.roomy(lambda: opened.enter_context(made()))
            place = drive.mount_point / name
            self._note(drive, journal.Mark.BEGUN, name, facts=self._begun_facts())
            newest = self._take_snapshot(drive, plan, folder, place)
            self._note(drive, journal.Mark.COPYING, name)
            if not _exists(folder, layout.CURRENT):
                self._pruning.roomy(lambda: btrfs.create_subvolume(self.context.run, place / layout.CURRENT))
            current = opened.enter_context(layout.directory(folder, layout.CURRENT))
            result = self._pruning.roomy(lambda: self._copy(drive, plan, current, place / layout.CURRENT, newest))
            self._prove_copy(drive)
            completed = self._note(
                drive,
                journal.Mark.COMPLETE,
                name,
                generation=btrfs.subvolume(current).generation,
                unread=self._unread_in(name),
                facts={
                    **plan.changes.totals(),
                    "bytes_copied": result.bytes_copied,
                    "full": plan.full,
                    **self.watch.noted(plan),
                },
            )
            self._prove(drive)
            self.report.completed[name] = completed
            doubtful = [remark.path for remark in result.remarks]
            keep_catalogue(drive, plan, self.places, doubtful=doubtful)
            self.report.touched[name] = touched(plan, doubtful)

    def _unread_in(self, master: str) -> int:
        return len([remark for remark in self.report.unread if remark.master == master])

    def _begun_facts(self) -> dict[str, Any]:
        """Everything that was in the master at this moment is on the drive once the run is complete."""
        return {"begun": rfc3339(self.begun)}

    def _take_snapshot(self, drive: OpenDrive, plan: MasterPlan, folder: int, place: Path) -> Path | None:
        """Keep the incumbent under its name, if it is worth it; return the newest snapshot there is."""
        with ExitStack() as opened:
            made = partial(layout.made_directory, folder, layout.SNAPSHOTS)
            snapshots = self._pruning.roomy(lambda: opened.enter_context(made()))
            if plan.snapshot is not None:
                self.context.tell(StepBegun(Step.SNAPSHOT, plan.snapshot))
                begun = time.monotonic()
                self._remark_foreign_hand(drive, plan)
                target = place / layout.SNAPSHOTS / plan.snapshot
                self._pruning.roomy(lambda: btrfs.snapshot(self.context.run, place / layout.CURRENT, target))
                self.report.snapshots[plan.master.name] = plan.snapshot
                self._note(drive, journal.Mark.SNAPSHOT, plan.master.name, snapshot=plan.snapshot)
                self.context.tell(StepDone(Step.SNAPSHOT, time.monotonic() - begun, plan.snapshot))
            names = layout.snapshot_names(snapshots)
        return place / layout.SNAPSHOTS / names[-1] if names else None

    def _remark_foreign_hand(self, drive: OpenDrive, plan: MasterPlan) -> None:
        if distrust_history(drive, plan, self.context):
            detail = (
                f"the copy was changed by another hand since {plan.snapshot}; its snapshot holds it as it was found"
            )
            self._remark(Remark(RemarkKind.GENERAL, plan.master.name, b"", detail))

    def _copy(self, drive: OpenDrive, plan: MasterPlan, current: int, path: Path, newest: Path | None) -> CopyResult:
        result = bring_up_to_date(
            self.context.run,
            master=plan.master.path,
            owner=plan.owner,
            incumbent=current,
            incumbent_path=path,
            changes=plan.changes,
            symlinks=plan.master.symlinks,
            newest_snapshot=newest,
            tell=self.context.tell,
            watch=drive.watch,
        )
        self.report.copies[plan.master.name] = result
        for remark in result.remarks:
            self._remark(Remark(remark.kind, plan.master.name, remark.path, remark.detail))
        return result

    def _prove(self, drive: OpenDrive) -> None:
        """What was written is on the medium, or this raises."""
        begun = time.monotonic()
        commit(drive)
        self.report.sync_seconds += time.monotonic() - begun

    def _prove_copy(self, drive: OpenDrive) -> None:
        """The same after a copy, where it takes long enough to be told as a step of its own."""
        self.context.tell(StepBegun(Step.SYNC, f"{self.known.name}: everything to the medium"))
        before = self.report.sync_seconds
        self._prove(drive)
        self.context.tell(StepDone(Step.SYNC, self.report.sync_seconds - before, self.known.name))

    def _look_back(self, drive: OpenDrive) -> None:
        """What the ledger is to remember while the drive is in the safe."""
        keep_ballast(drive)
        self.report.space_after = space_for(drive)
        self.report.errors_after = btrfs.error_counts(drive.filesystem)
        self.report.snapshots_after = [
            (master.name, name, moment)
            for master in self.masters
            for name in snapshots_of(drive, master.name)
            if (moment := parse_stamp(name)) is not None
        ]

    def _sign_off(self, drive: OpenDrive) -> None:
        """The journal's last word on the run; on a drive that is full to the last byte there is none."""
        word = outcome.last_word(self.report, self.session)
        line = self.pen.line(journal.Mark.ENDED, "", facts=asdict(word))
        self.report.ended, self.report.last_word = line.moment, word
        with suppress(NoSpace):
            write_line(drive, line)

    # --- small things

    def _note(self, drive: OpenDrive, mark: journal.Mark, master: str = "", **more: Any) -> str:  # noqa: ANN401
        """Write one line of the journal; return the moment it bears."""
        line = self.pen.line(mark, master, **more)
        self._pruning.roomy(lambda: write_line(drive, line))
        return line.at

    def _remark(self, remark: Remark) -> None:
        self.report.remarks.append(remark)
        self.context.tell(Remarked(remark))


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
