"""The copy of a master on a drive: opened, and seen to be one that a run can go on with, before a byte is written."""

from __future__ import annotations

import os
from contextlib import ExitStack

from flashback.core.errors import DriveError, NotFinished
from flashback.drive import layout
from flashback.drive.session import OpenDrive
from flashback.tools import btrfs

_TOP_OF_A_SUBVOLUME = 256
"""The inode number of every subvolume's own directory (BTRFS_FIRST_FREE_OBJECTID, linux/btrfs_tree.h)."""


def opened_current(drive: OpenDrive, master: str, opened: ExitStack) -> int | None:
    """A descriptor of `<master>/current`, or `None` where there is none yet, or none any more.

    Raises `NotFinished` where it is no subvolume that can be written to: a snapshot of it could not be taken, or not a
    byte be copied into it, and each run would end half-way for the same reason.
    """
    try:
        folder = opened.enter_context(layout.directory(drive.root, master))
    except FileNotFoundError:
        return None
    try:
        current = opened.enter_context(layout.directory(folder, layout.CURRENT))
    except FileNotFoundError:
        return None
    except DriveError as problem:
        raise _unusable(drive, master, "is no directory of its own, but a link or a file") from problem
    if os.fstat(current).st_ino != _TOP_OF_A_SUBVOLUME:
        raise _unusable(drive, master, "is an ordinary directory and no Btrfs subvolume")
    if btrfs.subvolume(current).read_only:
        raise _unusable(drive, master, "is a subvolume that was made read-only")
    return current


def _unusable(drive: OpenDrive, master: str, what: str) -> NotFinished:
    name = drive.known.name
    return NotFinished(
        f"{master}/current, the copy on {name}, {what}; Flashback did not make it so, and nothing was written",
        hint="its snapshots are as they were: `flashback restore` reads them. Open the drive by hand as its README.txt "
        f"says, but writable, rename {master}/current to {master}/aside, and put it away. Then: flashback run {name}, "
        "which makes a new copy",
    )
