"""Looking that a drive is really gone from the kernel's view, before anybody is told that it may be pulled."""

from __future__ import annotations

import time
from typing import Final

from flashback.core.context import Context
from flashback.core.errors import FlashbackError, StillHeld
from flashback.core.events import Note
from flashback.rotation.values import KnownDrive
from flashback.tools import block, cryptsetup

GONE_WITHIN: Final = 10.0
"""Seconds that the kernel is given to let go of a mapping after the unmount."""
LET_GO_WITHIN: Final = 5.0
"""Seconds that are waited for a disk of which the mapping has gone, until its use must be somebody else's."""


def used_otherwise(context: Context, known: KnownDrive, disk: str) -> bool:
    """Whether somebody uses the disk although the drive on it is closed: another partition is mounted. It is told.

    A mapping vanishes from the kernel's list a moment before it lets go of the disk (seen on a busy machine), and udev
    looks at a disk that was written to; both pass.
    """
    try:
        deadline = time.monotonic() + LET_GO_WITHIN
        while (used := block.in_use(disk)) and time.monotonic() < deadline:
            time.sleep(0.05)
    except FlashbackError:  # it is gone, which others find out
        return False
    if used:
        context.tell(
            Note(f"{known.name} is closed, but {disk}, on which it lies, is in use: `lsblk {disk}` shows how.")
        )
    return used


def wait_until_gone(known: KnownDrive, *, raises: bool = True) -> None:
    """Wait until no mapping of the drive exists. Raises `StillHeld` after `GONE_WITHIN` seconds."""
    deadline = time.monotonic() + GONE_WITHIN
    while still := cryptsetup.mappings_of(known.uuid):
        if time.monotonic() > deadline:
            if raises:
                names = [f"the mapping {each.name} of {known.name} is still open" for each in still]
                raise StillHeld(names, hint=f"end what uses it, then: flashback close {known.name}")
            return
        time.sleep(0.05)
