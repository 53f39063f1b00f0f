"""What the catalogue says a drive should hold, for the drill: a file that is not there any more is found, too."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flashback.catalogue.index import IndexBroken
from flashback.catalogue.lookup import Lookup
from flashback.catalogue.lookup import State as Known
from flashback.catalogue.seen import Kind
from flashback.catalogue.shelves import Shelves
from flashback.core.descent import DEEPEST
from flashback.core.text import size
from flashback.drive.states import State
from flashback.drive.tree import Item


class Remembered:
    """The states of one drive as the catalogue has them; see `health.drill.Memory`."""

    def __init__(self, lookup: Lookup, drive: str) -> None:
        self._lookup = lookup
        self._states = {(each.tree.master, each.name): each for each in lookup.states(drive=drive)}

    def _known(self, state: State) -> Known | None:
        return self._states.get((state.master, state.mark)) if state.complete else None

    def knows(self, state: State) -> bool:
        """Whether the catalogue has this state."""
        return self._known(state) is not None

    def pick(self, state: State, rng: random.Random) -> bytes | None:
        """A file of a state, found by steps down at random; `None` where the way ended in something else."""
        known, path = self._known(state), b""
        if known is None:
            return None
        for _ in range(DEEPEST):
            below = list(self._lookup.children(known, path))
            if not below:
                return None
            chosen = rng.choice(below)
            if chosen.kind != Kind.DIRECTORY:
                return chosen.path if chosen.kind == Kind.FILE else None
            path = chosen.path
        return None

    def wrong(self, state: State, path: bytes, item: Item | None) -> str:
        """In what the file of a state is not as it was noted, in words; empty where it is, or nothing was noted."""
        known = self._known(state)
        if known is None:
            return ""
        noted = self._lookup.entry(known, path)
        if noted is None or noted.kind != Kind.FILE:
            return "" if item is None else "the catalogue has no such file in this state"
        if item is None or not item.is_file:
            return "the catalogue has it in this state, and it is not there"
        if item.size != noted.size:
            return f"it is {size(item.size)} long, and {size(noted.size)} in the catalogue"
        return "" if item.mtime_ns == noted.mtime_ns else "it has another date than in the catalogue"


@contextmanager
def remembered(catalogues: Path, drive: str) -> Iterator[Remembered | None]:
    """What the catalogue of this machine has of the drive with this LUKS UUID; `None` where it cannot be read."""
    with ExitStack() as stack:
        try:
            lookup = Lookup(stack.enter_context(Shelves(catalogues).index())) if catalogues.is_dir() else None
        except (OSError, IndexBroken):
            lookup = None
        yield Remembered(lookup, drive) if lookup is not None else None
