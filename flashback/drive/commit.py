"""Is what was written really on the drive? rsync's exit 0 and umount's exit 0 do not say so.

Pulled out mid-run, rsync ends with 0 and umount with 0 while nothing reached the drive; only the *first* syncfs() says
EIO, later ones say that all is well. So: the first syncfs succeeded, the file system is not read-only, the error
counters are as before, and the device is still there.
"""

from __future__ import annotations

import errno
import os

from flashback.core.errors import NotFinished
from flashback.drive.session import OpenDrive
from flashback.tools import btrfs


def commit(drive: OpenDrive) -> None:
    """Flush the drive and prove it. Raises `DriveGone` or `NotFinished`; then nothing may be called complete."""
    name = drive.known.name
    try:
        btrfs.sync(drive.root)
    except OSError as problem:
        drive.watch()
        if problem.errno == errno.ENOSPC:
            # No `NoSpace`: done again once there is room, a sync would say that all is well.
            raise NotFinished(
                f"{name} is full: not all that was written has found room",
                hint=f"flashback prune {name} makes room, then: flashback run {name}. It carries on where it stopped",
            ) from problem
        raise NotFinished(
            f"{name} did not take what was written: {problem.strerror}",
            hint=f"check the cable and the port, then: flashback run {name}. It carries on where it stopped",
        ) from problem
    drive.watch()
    if os.fstatvfs(drive.root).f_flag & os.ST_RDONLY:
        raise NotFinished(
            f"{name} turned read-only while it was being written to",
            hint=f"this is how a dying drive or a bad cable shows itself: flashback run {name} --scrub tells more",
        )
    now = btrfs.error_counts(drive.filesystem)
    worse = [key for key, count in now.items() if count > drive.errors_before.get(key, 0)]
    if worse:
        raise NotFinished(
            f"{name} reported errors while it was being written to ({', '.join(worse)})",
            hint=f"check the cable and the port, then: flashback run {name} --scrub",
        )
