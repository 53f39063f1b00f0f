"""Writing into the drive's own journal, and reading it."""

from __future__ import annotations

import errno
import os

from flashback.core.errors import NoSpace, NotFinished
from flashback.drive import journal, layout
from flashback.drive.session import OpenDrive


def write_line(drive: OpenDrive, line: journal.Line) -> None:
    """Append a line to the drive's journal, on the medium when this returns.

    Raises `DriveGone`, `NoSpace`, `NotFinished`; the run must not go on then.
    """
    name = drive.known.name
    try:
        with layout.directory(drive.root, layout.OURS) as ours:
            layout.append_line_even_when_full(ours, layout.JOURNAL, journal.encode(line))
    except OSError as problem:
        drive.watch()
        if problem.errno == errno.ENOSPC:
            raise NoSpace(f"{name} is full to the last byte") from problem
        raise NotFinished(
            f"the journal on {name} could not be written: {os.strerror(problem.errno or 0)}",
            hint=f"check the cable and the port, then: flashback run {name}",
        ) from problem
