"""A master on Btrfs is read from a read-only snapshot, which is taken for the run and shown where the master lies.

The snapshot lies in a folder of root's at the top of the master's subvolume, and is shown at the master's own path to
this process and what it starts, nobody else: it lives in a mount namespace of its own. So every path that is read,
printed or remembered is the master's, and links lead where they led. No snapshot is kept: what tells the next run that
the subvolume has the same history is a small file with a random token, written when a run was complete. A file system
or subvolume that was set back to an earlier state has another one.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import flashback
from flashback.compare.renamed import Listing
from flashback.config.values import Master
from flashback.drive import layout
from flashback.tools import btrfs_changes
from flashback.walk import road
from flashback.walk.narrow import Narrow, narrowed
from flashback.walk.reader import Owner


@dataclass(frozen=True, slots=True)
class Taken:
    """A snapshot that is shown at the master's path: open as `top`; `folder` is that of ours in the living subvolume.

    `place` is the master's path in the subvolume, `root` its inode; `transaction` is the last that the snapshot holds.
    """

    top: int
    folder: int
    subvolume: str
    transaction: int
    place: bytes
    root: int
    token: str


@dataclass(slots=True)
class Source:
    """How one master is read in this run over one drive. `why`: what stands against less than a whole walk of it.

    `failed`: a snapshot should have been taken, and could not be.
    """

    master: Master
    drive: str
    taken: Taken | None = None
    why: str = ""
    failed: str = ""

    def as_json(self, *, narrow: bool) -> dict[str, object]:
        """For the plan (docs/reference/json.md)."""
        return {"snapshot": self.taken is not None, "changes_only": narrow, "why": None if narrow else self.why or None}

    def narrow(self, owner: Owner, catalogue: Path, listing: Listing) -> Narrow | None:
        """What of the master need not be walked, held against the catalogue; `None`: walk it all.

        `listing` reads the file `catalogue` once more. Raises `CatalogueBroken`.
        """
        if self.taken is None:
            return None
        then = road.recall(memory(catalogue))
        self.why = road.doubt(then, self._now(self.taken, owner, catalogue))
        if self.why or then is None:
            return None
        try:
            written = _written(self.taken, then)
        except btrfs_changes.CannotSay as problem:
            self.why = str(problem)
        except OSError as problem:
            self.why = f"Btrfs does not say what was written: {os.strerror(problem.errno or 0)}"
        else:
            with listing() as known:
                return narrowed(known.entries(), written=written, anew=then.unsure) if known is not None else None
        return None

    def _now(self, taken: Taken, owner: Owner, catalogue: Path) -> road.Now:
        return road.Now(
            subvolume=taken.subvolume,
            transaction=taken.transaction,
            root=taken.root,
            token=taken.token,
            how=road.how(self.master, owner, taken.place, flashback.__version__),
            catalogue=road.identity(catalogue),
        )

    def keep(self, owner: Owner, catalogue: Path, looked: road.Looked, entries: int) -> None:
        """The drive holds what the snapshot does, and `catalogue` says so: the next run may rest on it.

        What cannot be written down is no reason for a run to fail: the next one then walks.
        """
        file = memory(catalogue)
        try:
            if self.taken is None or looked.too_many or not entries or not catalogue.is_file():
                file.unlink(missing_ok=True)
                return
            now = self._now(self.taken, owner, catalogue)
            token = secrets.token_hex(16)
            layout.write_text(self.taken.folder, f"{self.drive}.{self.master.name}", token.encode())
            road.remember(
                file,
                road.Remembered(
                    subvolume=now.subvolume,
                    transaction=now.transaction,
                    root=now.root,
                    token=token,
                    how=now.how,
                    catalogue=now.catalogue,
                    entries=entries,
                    unsure=sorted(looked.unsure),
                ),
            )
        except OSError:
            with suppress(OSError):
                file.unlink(missing_ok=True)


def memory(catalogue: Path) -> Path:
    """Where it is remembered what the list in `catalogue` rests on."""
    return catalogue.with_suffix(".changes")


def _written(taken: Taken, then: road.Remembered) -> set[bytes]:
    """The paths in the master of all that was written since. Raises `CannotSay`, `OSError`."""
    found = set()
    for number in btrfs_changes.changed_inodes(taken.top, then.transaction, most=road.most_written(then)):
        for path in btrfs_changes.paths_of(taken.top, number):
            if not taken.place:
                found.add(path)
            elif path.startswith(taken.place + b"/"):
                found.add(path[len(taken.place) + 1 :])
    return found
