"""`flashback scrub`: everything on a drive is read back, told, and remembered here and on the drive."""

from __future__ import annotations

import time
import uuid
from datetime import datetime
from typing import Any

from flashback.core.context import Context
from flashback.core.errors import Exit, FlashbackError
from flashback.core.events import Finished
from flashback.core.signals import Interrupted
from flashback.core.text import number, rfc3339
from flashback.drive import journal, layout
from flashback.drive.commit import commit
from flashback.drive.recognise import Candidate
from flashback.drive.session import OpenDrive, Session
from flashback.drive.written import write_line
from flashback.health.scrub import ScrubReport, scrub
from flashback.rotation.ledger import Ledger
from flashback.rotation.rows import scrub_facts
from flashback.tell import explain
from flashback.tools import block


def scrub_drive(context: Context, ledger: Ledger, candidate: Candidate) -> int:
    """Scrub the drive, tell it, and return the exit code. Only what nobody expected is raised.

    A write-protected drive is read, too; it cannot note that it was.
    """
    session, begun, started = Session(context, candidate), context.clock(), time.monotonic()
    report: ScrubReport | None = None
    name = candidate.known.name
    try:
        protected = block.read_only(candidate.volume.path)
        with session.held(purpose="scrub", read_only=protected, unwanted_too=True) as drive:
            report = scrub(context, drive)
            ledger.record_scrub(report.record(candidate.known.uuid))
            if not protected:
                _note(context, drive, report)
        last = _finished(report, session, _facts(context, report, begun, started))
    except (FlashbackError, Interrupted) as error:
        facts = _facts(context, report, begun, started)
        last = explain.finished(explain.explain(error, drive=name), name, facts, closed_for_sure=session.safe_to_remove)
    context.tell(last)
    return int(last.exit_code)


def _note(context: Context, drive: OpenDrive, report: ScrubReport) -> None:
    """The drive's own word on it, with the number of the last run: a scrub is none."""
    with layout.directory(drive.root, layout.OURS) as ours:
        lines = journal.decode(layout.read_lines(ours, layout.JOURNAL))
    line = journal.Line(
        sequence=max(1, journal.last_sequence(lines)),
        run=str(uuid.uuid4()),
        at=rfc3339(report.ended),
        mark=journal.Mark.SCRUB,
        machine=context.machine,
        facts=scrub_facts(report.record(drive.known.uuid)),
    )
    write_line(drive, line)
    commit(drive)


def _facts(context: Context, report: ScrubReport | None, begun: datetime, started: float) -> dict[str, Any]:
    return {
        "action": "scrub",
        "begun": rfc3339(begun),
        "ended": rfc3339(context.clock()),
        "seconds": round(time.monotonic() - started, 1),
        "scrub": report.as_json() if report is not None else None,
    }


def _finished(report: ScrubReport, session: Session, facts: dict[str, Any]) -> Finished:
    name, damage = session.candidate.known.name, report.found_damage
    hint = (
        f"back up to another drive now; then get back what {name} alone has: flashback restore --drive {name}. "
        f"A file that the master still has is copied again by the next run after `touch`"
    )
    files = number(len(report.damaged), "file") if report.damaged else "what is damaged could not be named"
    error = {"kind": "DamageFound", "what": files, "findings": [], "held": [], "next": hint}
    return Finished(
        result="failed" if damage else "complete",
        exit_code=Exit.DAMAGE if damage else Exit.DONE,
        drive=name,
        drive_state=session.state,
        safe_to_remove=session.safe_to_remove,
        facts=facts,
        error=error if damage else None,
        next_step=hint if damage else "",
    )
