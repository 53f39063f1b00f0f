"""A copy of a drive's header, here and wherever a person wants one."""

from __future__ import annotations

import os
from pathlib import Path

from flashback.core.context import Context
from flashback.core.errors import UsageError
from flashback.core.locks import locked
from flashback.core.text import shown
from flashback.drive.kept import keep_header, writing_to
from flashback.drive.recognise import Candidate, check_identity
from flashback.tools import cryptsetup


def save(context: Context, candidate: Candidate, to: Path | None) -> tuple[Path, ...]:
    """Renew the copy in the state directory, and write one to the new file `to`; return the files.

    Raises `DriveError` for a header that is not the known one: a damaged copy must not take the place of a good one,
    `Missing` where a copy cannot be written.
    """
    known, volume = candidate.known, candidate.volume
    if to is not None:
        if os.path.lexists(to):
            raise UsageError(f"{shown(str(to))} exists already", hint="name a new file for the header")
        if not to.parent.is_dir():
            raise UsageError(
                f"there is no directory {shown(str(to.parent))}", hint="make it first, or name another file"
            )
    with locked(context.paths.locks / "run.lock", purpose=f"key header save {known.name}"):
        check_identity(candidate)
        files = [keep_header(context, volume.path, known.uuid)]
        if to is not None:
            with writing_to(to):
                cryptsetup.backup_header(context.run, volume.path, to)
            files.append(to)
    return tuple(files)
