"""What would be on no drive any more if snapshots went: asked of the catalogue of the whole rotation.

A file counts by its path in its master and its content (size and time). What is on a lost drive is not there any more.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashback.backup.pins import Name
from flashback.core.errors import FlashbackError

if TYPE_CHECKING:
    from flashback.catalogue.lookup import Held, Lookup, State


@dataclass(frozen=True, slots=True)
class Vanishing:
    """A version of a file that is nowhere else. `path` is relative to its master; `whole`: no other version is left."""

    master: str
    path: bytes
    size: int
    whole: bool

    def as_json(self) -> dict[str, Any]:
        """For the plan (docs/reference/json.md)."""
        return {"master": self.master, "path": os.fsdecode(self.path), "size": self.size, "whole": self.whole}


@dataclass(frozen=True, slots=True)
class Rotation:
    """Where the catalogue lies, the LUKS UUID of the drive in question, and those of the drives that are lost."""

    catalogue: Path
    drive: str
    lost: frozenset[str] = frozenset()


def vanishing(rotation: Rotation, going: Collection[Name]) -> tuple[Vanishing, ...] | None:
    """The files that are in no state of any drive but these; `None` where the catalogue does not know these states."""
    found = _asked(rotation, [frozenset(going)])
    return found[0] if found is not None else None


def only_here(rotation: Rotation, names: Sequence[Name]) -> frozenset[Name]:
    """Those of the snapshots that hold the last version of a file there is. None where the catalogue cannot tell."""
    found = _asked(rotation, [frozenset({name}) for name in names])
    answers = zip(names, found or (), strict=False)
    return frozenset(name for name, files in answers if any(each.whole for each in files or ()))


def _asked(rotation: Rotation, questions: Sequence[frozenset[Name]]) -> list[tuple[Vanishing, ...] | None] | None:
    from flashback.catalogue.frames import CatalogueBroken
    from flashback.catalogue.index import IndexBroken
    from flashback.catalogue.lookup import Lookup
    from flashback.catalogue.shelves import Shelves

    try:
        with Shelves(rotation.catalogue).index() as index:
            lookup = Lookup(index)
            return [_only_in(lookup, rotation, question) for question in questions]
    except (OSError, CatalogueBroken, IndexBroken, FlashbackError):
        return None


def _only_in(lookup: Lookup, rotation: Rotation, going: frozenset[Name]) -> tuple[Vanishing, ...] | None:
    known = lookup.states(drive=rotation.drive)
    states = {_key(each) for each in known if (each.tree.master, each.name) in going and not each.is_current}
    if len(states) != len(going):
        return None
    gone = [each for each in lookup.states() if _key(each) in states or each.tree.drive in rotation.lost]
    found = [each for each in lookup.only_in(gone) if any(_key(state) in states for state in each.states)]
    away = {_key(each) for each in gone}
    return tuple(
        Vanishing(each.newest.tree.master, each.seen.path, each.seen.size, whole=_is_last(lookup, each, away))
        for each in found
    )


def _is_last(lookup: Lookup, held: Held, away: Collection[tuple[int, int]]) -> bool:
    node = lookup.node(held.seen.path)
    every = lookup.versions(node, held.seen.path) if node is not None else []
    of_master = [each for each in every if each.newest.tree.master == held.newest.tree.master]
    return all(_key(state) in away for each in of_master for state in each.states)


def _key(state: State) -> tuple[int, int]:
    return state.tree.id, state.number
