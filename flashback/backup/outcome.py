"""What came of a run, in the words of the ledger and of `run --json`; made from the report, whatever the ending."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from flashback.backup.report import LastWord, Report
from flashback.core.errors import Exit
from flashback.core.events import Finished
from flashback.core.text import parse_rfc3339, rfc3339
from flashback.drive.session import Session
from flashback.rotation.values import MasterCounts, RunResult


def finished(report: Report, session: Session, *, begun: datetime, ended: datetime, dry_run: bool) -> Finished:
    """The last event of a run that was not stopped by an error."""
    known, plan = session.candidate.known, report.plan
    code = exit_code(report)
    return Finished(
        result=str(result(report, nothing=dry_run or (plan is not None and plan.is_empty))),
        exit_code=code,
        drive=known.name,
        drive_state=session.state,
        safe_to_remove=session.safe_to_remove,
        facts=facts(report, session, begun=begun, ended=ended, dry_run=dry_run),
        next_step=_next_step(code, known.name),
    )


def last_word(report: Report, session: Session) -> LastWord:
    """What the run says of itself before its drive is put away."""
    return LastWord(
        result=result(report, nothing=report.plan is not None and report.plan.is_empty),
        exit_code=int(exit_code(report)),
        bytes_copied=sum(copied.bytes_copied for copied in report.copies.values()),
        bytes_written=session.written_so_far(),
        seconds=round(report.seconds, 1),
        remarks=len(report.remarks),
    )


def exit_code(report: Report) -> Exit:
    """Damage comes before unread files: it is about what was there already."""
    if report.scrub is not None and report.scrub.found_damage:
        return Exit.DAMAGE
    return Exit.UNREAD if report.unread else Exit.DONE


def result(report: Report, *, nothing: bool) -> RunResult:
    """A run with unread files has finished, but its backup is not whole."""
    if report.unread:
        return RunResult.INCOMPLETE
    return RunResult.NOTHING_TO_DO if nothing else RunResult.COMPLETE


def facts(
    report: Report, session: Session, *, begun: datetime, ended: datetime, dry_run: bool = False
) -> dict[str, Any]:
    """For people and scripts (docs/reference/json.md); as far as the run got."""
    found: dict[str, Any] = {
        "action": "run",
        "dry_run": dry_run,
        "begun": rfc3339(begun),
        "ended": rfc3339(ended),
        "seconds": round(report.seconds, 1),
        "masters": _masters(report, dry_run=dry_run),
        "pruned": [f"{each.master}/{each.name}" for each in report.pruned],
        "bytes_copied": sum(copied.bytes_copied for copied in report.copies.values()),
        "bytes_written": session.bytes_written,
        "sync_seconds": round(report.sync_seconds, 1),
        "close_seconds": round(session.close_seconds, 1),
        "unread": [
            {"master": each.master, "path": os.fsdecode(each.path), "why": each.detail or each.kind.value}
            for each in report.unread
        ],
        "holds": [hold.as_json() for hold in report.held],
        "scrub": report.scrub.as_json() if report.scrub is not None else None,
    }
    if report.plan is not None:
        space = report.space_after or report.plan.space
        found["space"] = {"size": space.size, "free": space.free_estimate}
    return found


def _masters(report: Report, *, dry_run: bool) -> dict[str, dict[str, Any]]:
    if report.plan is None:
        return {}
    found = {}
    for each in report.plan.masters:
        name = each.master.name
        if name not in report.completed and not dry_run:
            continue  # what was planned and not brought to its end is not to be read as done
        counts = {key: value for key, value in each.changes.as_json().items() if key != "largest"}
        unread = len([remark for remark in report.unread if remark.master == name])
        found[name] = {**counts, "snapshot": report.snapshots.get(name), "unread": unread}
    return found


def master_counts(report: Report) -> tuple[MasterCounts, ...]:
    """For the ledger: what was done with each master that the plan knew."""
    if report.plan is None:
        return ()
    return tuple(_counts(report, each.master.name, each.changes.as_json()) for each in report.plan.masters)


def _counts(report: Report, name: str, counts: dict[str, Any]) -> MasterCounts:
    completed = report.completed.get(name)
    if completed is None:
        return MasterCounts(master=name)
    known = {
        key: counts[key] for key in MasterCounts.__slots__ if key.startswith(("files_", "bytes_")) and key in counts
    }
    return MasterCounts(
        master=name,
        completed=parse_rfc3339(completed),
        unread=len([remark for remark in report.unread if remark.master == name]),
        **known,
    )


def _next_step(code: Exit, name: str) -> str:
    if code is Exit.DAMAGE:
        return f"back up to another drive now, then look at {name}: flashback run {name} --scrub"
    if code is Exit.UNREAD:
        return "make the files readable for their owner, or exclude them; then run again"
    return ""
