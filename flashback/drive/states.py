"""The states that a drive holds of a master: its snapshots, and the copy of the last run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from flashback.config.masters import valid_name
from flashback.core.descent import DIRECTORY
from flashback.core.errors import DriveError
from flashback.core.text import local, parse_stamp, stamp
from flashback.drive import journal, layout


@dataclass(frozen=True, slots=True)
class State:
    """One state of one master. `name` is a snapshot's or `current`; `moment` is when it was complete.

    `complete` is false for a copy in the middle of which a run was broken off: files of two moments lie in it.
    """

    master: str
    name: str
    moment: datetime | None
    complete: bool = True

    @property
    def said(self) -> str:
        """As a person reads it."""
        when = local(self.moment) if self.moment else "an unknown moment"
        if self.name != layout.CURRENT:
            return f"the snapshot {self.name}"
        return f"the latest copy, of {when}" if self.complete else "the copy of a run that was broken off"

    @property
    def mark(self) -> str:
        """What distinguishes it in a file name."""
        return self.name if self.name != layout.CURRENT else stamp(self.moment) if self.moment else "incomplete"


class Holding(Protocol):
    """What is held of masters in states, wherever that is to be read: a whole drive, or the folders of `mount`."""

    def masters(self) -> tuple[str, ...]:
        """The masters of which something is held."""

    def states(self, master: str) -> tuple[State, ...]:
        """All states of one, in the order of `states_of`."""

    def opened(self, state: State) -> AbstractContextManager[tuple[int, bytes]]:
        """The directory that a state lies in, open, and the state's name there."""


@dataclass(frozen=True, slots=True)
class OnDrive:
    """What a drive holds whose top directory is open as `root`."""

    root: int

    def masters(self) -> tuple[str, ...]:
        """See `Holding`."""
        return masters_on(self.root)

    def states(self, master: str) -> tuple[State, ...]:
        """See `Holding`."""
        return states_of(self.root, master)

    def opened(self, state: State) -> AbstractContextManager[tuple[int, bytes]]:
        """See `Holding`."""
        return opened(self.root, state)


def masters_on(root: int) -> tuple[str, ...]:
    """The masters that the drive open as `root` holds something of. A folder that no master can be called is none."""
    fresh = os.open(".", DIRECTORY, dir_fd=root)
    try:
        with os.scandir(fresh) as entries:
            names = [each.name for each in entries if each.is_dir(follow_symlinks=False)]
    finally:
        os.close(fresh)
    return tuple(sorted(name for name in names if valid_name(name) and _has_copy(root, name)))


def _has_copy(root: int, master: str) -> bool:
    with suppress(OSError, DriveError), layout.directory(root, master) as folder:
        return any(_is_directory(folder, name) for name in (layout.CURRENT, layout.SNAPSHOTS))
    return False


def states_of(root: int, master: str) -> tuple[State, ...]:
    """All states of a master, the newest first; a copy that is not complete comes last.

    Raises `DriveError` for a drive that holds nothing of it or was tampered with.
    """
    try:
        with ExitStack() as opened:
            folder = opened.enter_context(layout.directory(root, master))
            names: tuple[str, ...] = ()
            with suppress(FileNotFoundError):
                snapshots = opened.enter_context(layout.directory(folder, layout.SNAPSHOTS))
                names = layout.snapshot_names(snapshots)
            found = [State(master, name, parse_stamp(name)) for name in reversed(names)]
            if not _is_directory(folder, layout.CURRENT):
                return tuple(found)
    except FileNotFoundError:
        return ()
    said = journal.incumbent(_journal(root), master)
    current = State(master, layout.CURRENT, said.completed, complete=said.complete)
    return (current, *found) if current.complete else (*found, current)


def _is_directory(folder: int, name: str) -> bool:
    """One that cannot be read is one, too: whoever reads it hears why."""
    try:
        os.close(layout.open_directory(folder, name))
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def _journal(root: int) -> tuple[journal.Line, ...]:
    """Nothing where it cannot be read: then the copy counts as one that is not complete."""
    with suppress(OSError, DriveError), layout.directory(root, layout.OURS) as ours:
        return journal.decode(layout.read_lines(ours, layout.JOURNAL))
    return ()


@contextmanager
def opened(root: int, state: State) -> Iterator[tuple[int, bytes]]:
    """The directory that the state lies in, open, and the state's name there. Raises `DriveError`, `OSError`."""
    with ExitStack() as stack:
        folder = stack.enter_context(layout.directory(root, state.master))
        if state.name != layout.CURRENT:
            folder = stack.enter_context(layout.directory(folder, layout.SNAPSHOTS))
        yield folder, state.name.encode()
