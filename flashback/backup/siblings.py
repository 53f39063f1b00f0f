"""Every drive carries the headers of the others: a header that was wiped can be had from any drive of the rotation."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from flashback.core.context import Context
from flashback.core.errors import NotFinished
from flashback.drive import layout
from flashback.drive.kept import kept_file
from flashback.drive.session import OpenDrive
from flashback.rotation.ledger import Ledger

ROOM: Final = 8
"""A header is copied only where so many times its length is free: backups come first."""


def keep_siblings(context: Context, ledger: Ledger, drive: OpenDrive) -> None:
    """Have the drive carry what this machine keeps of the others' headers, and the ledger what surrounds this one.

    A copy of the same length and date is not written anew. On a full drive: the next time. Raises `DriveGone`,
    `NotFinished`.
    """
    known, partition = drive.known, drive.volume.partition_uuid
    if (known.filesystem_uuid, known.partition_uuid) != (drive.filesystem, partition):
        ledger.change(known.uuid, filesystem_uuid=drive.filesystem, partition_uuid=partition)
    try:
        _write(drive, list(_headers(context, ledger, known.uuid)))
    except OSError as problem:
        drive.watch()
        if problem.errno not in {errno.ENOSPC, errno.ENOENT, errno.EACCES}:
            raise NotFinished(
                f"the copies of the other drives' headers could not be written to {known.name}: "
                f"{os.strerror(problem.errno or 0)}",
                hint=f"check the cable and the port, then: flashback run {known.name}",
            ) from problem


def _headers(context: Context, ledger: Ledger, uuid: str) -> Iterator[Path]:
    files = (kept_file(context, other.uuid) for other in ledger.drives() if other.uuid != uuid)
    return (file for file in files if file.is_file())


def _write(drive: OpenDrive, files: list[Path]) -> None:
    with ExitStack() as opened:
        ours = opened.enter_context(layout.directory(drive.root, layout.OURS))
        folder = opened.enter_context(layout.made_directory(ours, layout.HEADERS))
        for file in files:
            status = file.stat()
            if _same(folder, file.name, status) or not _room(drive, status.st_size):
                continue
            try:
                layout.write_text(folder, file.name, file.read_bytes(), 0o400)
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(f".{file.name}.new", dir_fd=folder)
                raise
            os.utime(file.name, ns=(status.st_mtime_ns, status.st_mtime_ns), dir_fd=folder, follow_symlinks=False)


def _same(folder: int, name: str, wanted: os.stat_result) -> bool:
    try:
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (there.st_size, there.st_mtime_ns) == (wanted.st_size, wanted.st_mtime_ns)


def _room(drive: OpenDrive, length: int) -> bool:
    status = os.fstatvfs(drive.root)
    return status.f_bavail * status.f_frsize > ROOM * length
