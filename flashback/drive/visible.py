"""What `flashback mount` shows, as whoever may look into it reads it: no key, no root, the folders alone.

Beside the folders lies a list of them, so that it is known which state each one is. It was written by root into a file
system in memory that nobody can change.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from flashback.core.descent import DIRECTORY
from flashback.core.errors import DriveGone
from flashback.core.text import rfc3339
from flashback.drive import layout
from flashback.drive.states import State
from flashback.tools import cryptsetup, mount

SHELL: Final = "flashback:"
"""How the file system with the folders is called in the list of mounts, followed by the drive's LUKS UUID."""
LIST: Final = ".flashback.json"


@dataclass(frozen=True, slots=True)
class Folder:
    """A state, and what its folder is called."""

    state: State
    name: str


@dataclass(frozen=True, slots=True)
class Visible:
    """A drive whose states are to be seen at `place`, for this user."""

    name: str
    uuid: str
    place: Path
    folders: tuple[Folder, ...]

    def watch(self) -> None:
        """Raise `DriveGone` as soon as the device below it is not there any more."""
        if not self.is_there:
            raise DriveGone(f"{self.name} was unplugged while it was being read")

    @property
    def is_there(self) -> bool:
        """Whether it is open, and plugged in."""
        return any(each.alive for each in cryptsetup.mappings_of(self.uuid))

    @contextmanager
    def held(self) -> Iterator[InFolders]:
        """The folders, as long as the block lasts. Raises `OSError`."""
        root = os.open(self.place, DIRECTORY)
        try:
            yield InFolders(root, self.folders)
        finally:
            os.close(root)


@dataclass(frozen=True, slots=True)
class InFolders:
    """See `states.Holding`. `root` is the directory that has a folder for each master."""

    root: int
    folders: tuple[Folder, ...]

    def masters(self) -> tuple[str, ...]:
        """See `Holding`."""
        return tuple(sorted({each.state.master for each in self.folders}))

    def states(self, master: str) -> tuple[State, ...]:
        """See `Holding`."""
        return tuple(each.state for each in self.folders if each.state.master == master)

    @contextmanager
    def opened(self, state: State) -> Iterator[tuple[int, bytes]]:
        """See `Holding`."""
        name = next(each.name for each in self.folders if each.state == state)
        with layout.directory(self.root, state.master) as master:
            yield master, name.encode()


def visible() -> tuple[Visible, ...]:
    """The drives whose states this user may see now."""
    found = []
    for each in mount.mounts():
        if each.source.startswith(SHELL) and each.fstype == "tmpfs":
            with suppress(OSError, ValueError, KeyError, TypeError):
                found.append(_listed(each.source.removeprefix(SHELL), Path(each.target)))
    return tuple(found)


def write_list(top: int, name: str, folders: Sequence[Folder]) -> None:
    """Put the list into the directory open as `top`."""
    rows = [
        {
            "master": each.state.master,
            "name": each.state.name,
            "completed": rfc3339(each.state.moment) if each.state.moment else None,
            "complete": each.state.complete,
            "folder": each.name,
        }
        for each in folders
    ]
    layout.write_text(top, LIST, json.dumps({"version": 1, "drive": name, "states": rows}).encode(), 0o644)


def _listed(uuid: str, place: Path) -> Visible:
    body = json.loads((place / LIST).read_bytes())
    folders = tuple(Folder(_state(row), row["folder"]) for row in body["states"])
    return Visible(body["drive"], uuid, place, folders)


def _state(row: dict[str, str | None]) -> State:
    moment = row["completed"]
    return State(
        str(row["master"]),
        str(row["name"]),
        datetime.fromisoformat(moment) if moment else None,
        complete=bool(row["complete"]),
    )
