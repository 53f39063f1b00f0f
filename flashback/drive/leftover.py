"""What a run that was killed has left open: a mapping of our name that nobody has mounted, in whatever namespace.

A run tells its mapping to close itself as soon as it is open, and has somebody who does it should it be killed before.
Where they are killed together (a whole control group is), a mapping stays open and nothing is mounted; killed later, a
program that the run had started may hold the mount for a moment longer.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from typing import Final

from flashback.core.context import Context
from flashback.core.errors import DriveError, StillHeld
from flashback.core.events import Note
from flashback.core.heir import Heir
from flashback.core.locks import locked
from flashback.core.text import shown
from flashback.tools import block, cryptsetup, dmsetup, mount

PREFIX: Final = "flashback-"
"""How the names of our mappings begin."""
ENDS_WITHIN: Final = 5.0
"""Seconds that a program of the killed run is given to come to its end."""


@contextlib.contextmanager
def closing_with_us(context: Context, mapping: str) -> Iterator[None]:
    """Have the kernel close the open mapping when its last user goes: in the block that is at least this process.

    Whatever is mounted from it within the block uses it from then on. Raises `DriveError`, `OSError`.
    """
    descriptor = os.open(cryptsetup.mapper_path(mapping), os.O_RDONLY | os.O_CLOEXEC)
    try:
        cryptsetup.close_deferred(context.run, mapping)
        yield
    finally:
        os.close(descriptor)


def guarded(context: Context, mapping: str) -> Heir:
    """Who has the kernel close the mapping when its last user goes, should we be killed before we have seen to it."""
    return Heir(context.run, (*dmsetup.REMOVE_DEFERRED, mapping))


def put_away_own(context: Context, mapping: str) -> None:
    """Close a mapping of our name. Whoever calls this holds the run lock: no run is alive that could be using it.

    Raises `StillHeld`, naming the processes, when it is mounted where one of them sees it, or in use otherwise.
    """
    deadline = time.monotonic() + ENDS_WITHIN
    while cryptsetup.is_open(mapping) and (users := mounted_by(mapping)):
        if time.monotonic() > deadline:
            raise StillHeld((f"{mapping} is open already, and mounted for {named(users)}",))
        time.sleep(0.1)
    if cryptsetup.is_open(mapping):
        cryptsetup.close(context.run, mapping)
        context.tell(Note(f"{mapping} was left open by an earlier run that was killed; it was closed"))


def put_away_on(context: Context, device: str) -> None:
    """Close what an `init` that was killed has left open on this device; what is mounted or used is left alone.

    Raises `Locked` while a run is at work.
    """
    real = os.path.realpath(device)
    volumes = [each for each in block.luks_volumes(context.run) if real in {each.path, each.disk}]
    names = [each.name for volume in volumes for each in cryptsetup.mappings_of(volume.uuid)]
    ours = [name for name in names if name.startswith(PREFIX)]
    if not ours:
        return
    with locked(context.paths.locks / "run.lock", purpose="close what was left open"):
        for name in ours:
            if not mounted_by(name):
                with contextlib.suppress(StillHeld):
                    put_away_own(context, name)


def named(users: Iterable[mount.ProcessUsing]) -> str:
    """The processes as a person reads them."""
    return ", ".join(f"{shown(each.name)} (process {each.pid})" for each in users)


def mounted_by(mapping: str) -> tuple[mount.ProcessUsing, ...]:
    """The processes in whose view of the file systems the mapping is mounted, one for each such view."""
    try:
        number = block.presence(cryptsetup.mapper_path(mapping)).number
    except DriveError:
        return ()
    return mount.namespaces_with(number)
