"""What writes a run's lines into the drive's journal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flashback.backup.report import Report
from flashback.core.context import Context
from flashback.core.text import rfc3339
from flashback.drive import journal
from flashback.drive.session import OpenDrive
from flashback.drive.written import write_line


@dataclass(frozen=True, slots=True)
class Pen:
    """Writes a run's lines. Who is handed it does not keep the whole run, which may hold much, in memory."""

    context: Context
    report: Report

    def line(self, mark: journal.Mark, master: str, *, at: datetime | None = None, **more: Any) -> journal.Line:  # noqa: ANN401
        """A line of the journal, as of `at` or of now."""
        return journal.Line(
            sequence=self.report.sequence,
            run=self.report.run_id,
            at=rfc3339(at or self.context.clock()),
            mark=mark,
            machine=self.context.machine,
            master=master,
            **more,
        )

    def note_snapshot(self, drive: OpenDrive, mark: journal.Mark, master: str, name: str, **more: Any) -> None:  # noqa: ANN401
        """Write one about a snapshot, without making room for it."""
        write_line(drive, self.line(mark, master, snapshot=name, **more))
