"""Back up to one drive, and remember what came of it, whatever the ending."""

from __future__ import annotations

from dataclasses import asdict, replace

from flashback.backup import holds, outcome
from flashback.backup.record import index_history
from flashback.backup.report import RunRequest
from flashback.backup.run import Run
from flashback.config.values import Config
from flashback.core.context import Context
from flashback.core.errors import Exit, FlashbackError
from flashback.core.events import Finished, Note
from flashback.core.signals import Interrupted
from flashback.drive.recognise import Candidate
from flashback.drive.session import Session
from flashback.rotation.ledger import Ledger
from flashback.rotation.values import ErrorCounts, RunRecord, RunResult, SnapshotRecord, SpaceRecord
from flashback.tell import explain


def back_up(context: Context, config: Config, ledger: Ledger, candidate: Candidate, request: RunRequest) -> int:
    """Run over the drive, tell it, and return the exit code. Only what nobody expected is raised."""
    begun = context.clock()
    session = Session(context, candidate, compress=config.compress, waits=request.waits)
    run = Run(context, config, ledger, session, request)
    try:
        run.execute()
        last = outcome.finished(run.report, session, begun=begun, ended=context.clock(), dry_run=request.dry_run)
    except (FlashbackError, Interrupted) as error:
        known = outcome.facts(run.report, session, begun=begun, ended=context.clock(), dry_run=request.dry_run)
        name = candidate.known.name
        last = explain.finished(explain.explain(error, drive=name), name, known, closed_for_sure=session.safe_to_remove)
    try:
        with context.signals.held():
            last = _remembered(context, ledger, run, session, last)
            context.tell(last)
        if run.report.sequence and context.signals.first is None:
            index_history(context)  # the drive is put away by now
    except Interrupted:
        pass  # all was done when it came; whoever has more to do looks at `signals.first`
    return int(last.exit_code)


def _remembered(context: Context, ledger: Ledger, run: Run, session: Session, last: Finished) -> Finished:
    """What is to be told: `last`, unless it was well and this machine cannot remember it."""
    if not run.report.sequence:
        return last
    try:
        result, code = RunResult(last.result), int(last.exit_code)
        remember(context, ledger, run, session, result=result, code=code)
    except FlashbackError as problem:
        if last.exit_code != Exit.DONE:
            context.tell(Note(f"This machine will not remember this run: {problem.what}"))
            return last
        name = session.candidate.known.name
        problem.what = f"the backup on {name} is complete, but this machine cannot remember it: {problem.what}"
        explanation = explain.explain(problem, drive=name, state=session.state)
        failed = explain.finished(explanation, name, last.facts, closed_for_sure=session.safe_to_remove)
        return replace(failed, result=last.result)
    return last


def remember(context: Context, ledger: Ledger, run: Run, session: Session, *, result: RunResult, code: int) -> None:
    """Write the run, its scrub, the space and the snapshots into the ledger."""
    report, uuid, ended = run.report, session.candidate.known.uuid, context.clock()
    record = RunRecord(
        drive_uuid=uuid,
        sequence=report.sequence,
        run_id=report.run_id,
        machine=context.machine,
        begun=run.begun,
        ended=ended,
        result=result,
        exit_code=code,
        masters=outcome.master_counts(report),
        bytes_copied=sum(each.bytes_copied for each in report.copies.values()),
        bytes_written=session.bytes_written,
        seconds=report.seconds,
        unread=len(report.unread),
        remarks=len(report.remarks),
        holds=tuple(dict.fromkeys(str(hold.name) for hold in report.held)),
    )
    word = report.last_word
    if word is not None and code == word.exit_code:  # as the drive has it: a ledger made from drives is the same
        record = replace(record, ended=report.ended, **asdict(word))
    ledger.end_run(record)
    holds.remember(ledger, report.held, drive_uuid=uuid, run_id=report.run_id, at=ended)
    if report.scrub is not None:
        ledger.record_scrub(report.scrub.record(uuid))
    if report.errors_after is not None:
        ledger.record_errors(ErrorCounts(uuid, ended, report.errors_after))
    if report.space_after is not None:
        space = report.space_after
        ledger.record_space(SpaceRecord(uuid, ended, space.size, space.free_estimate))
    if report.snapshots_after is not None:
        ledger.replace_snapshots(
            uuid, [SnapshotRecord(uuid, master, name, moment) for master, name, moment in report.snapshots_after]
        )
