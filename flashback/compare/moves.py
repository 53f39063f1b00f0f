"""Where things on the drive go when what was renamed in the master is moved (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flashback.walk.listing import directories_above


class Moves:
    """Where things of the drive go: `to` leads from each root of a move to its new path; what lies below goes along.

    `between`, `taken`, `put` and `are_done` say how far the moving has come: it goes on there once room was made.
    """

    def __init__(self, to: Mapping[bytes, bytes]) -> None:
        self.to = dict(to)
        self.source = {new: old for old, new in self.to.items()}
        self._above = {above for new in self.source for above in directories_above(new)}
        self.between = b""
        self.taken: set[bytes] = set()
        self.put: set[bytes] = set()
        self.are_done = False
        self._parent: bytes | None = None
        self._parent_place: bytes | None = None

    def place(self, path: bytes, *, directory: bool = True) -> bytes | None:
        """Where the thing at `path` lies after all moves, or `None`: it stands in the way of what is moved."""
        place = self._placed(path)
        return place if directory or place not in self._above else None

    def _placed(self, path: bytes) -> bytes | None:
        moved = self.to.get(path)
        if moved is not None or not path:
            return path if moved is None else moved
        parent, _slash, name = path.rpartition(b"/")
        if parent != self._parent:
            self._parent_place, self._parent = self._placed(parent), parent
        if self._parent_place is None:
            return None
        place = self._parent_place + b"/" + name if self._parent_place else name
        return None if place in self.source else place

    def origin(self, path: bytes) -> bytes:
        """Where the thing that lies at `path` after all moves was before."""
        rest = path
        while rest:
            if rest in self.source:
                return self.source[rest] + path[len(rest) :]
            rest = rest.rpartition(b"/")[0]
        return path

    def then(self, further: Mapping[bytes, bytes]) -> Moves:
        """These, and then others that were found in what they lead to."""
        more = {self.origin(old): new for old, new in further.items() if new not in self.source}
        return Moves({**self.to, **more})

    def __len__(self) -> int:
        return len(self.to)


def by_depth(paths: Iterable[bytes], *, deepest_first: bool = False) -> list[bytes]:
    """Paths in an order in which each comes after (or before) what it lies in."""
    return sorted(paths, key=lambda path: (path.count(b"/"), path), reverse=deepest_first)
