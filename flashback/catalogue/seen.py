"""What the catalogue says of one file, and the arithmetic of lists of that: compose two deltas, find the difference.

A *listing* is all that a state holds, a *delta* leads from one state to the next. Both are streams of `Seen` in one
order, that of `order`: a directory before what it holds. In a delta `Kind.GONE` says that a path and all below it are
no more; `fresh` says the same of what was below a directory that is there again. A listing is a delta from nothing.
Pure, and nothing here grows with the length of a stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Final, NamedTuple


class Kind(IntEnum):
    """What lies at a path; the numbers of the last four are those of a run's own listings."""

    GONE = 0
    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3
    OTHER = 4


class Seen(NamedTuple):
    """One path of a state. `path` is relative to the master, whose own is `b""`; `kind` is a number of `Kind`.

    `mode` holds the permission bits, `mtime_ns` is nanoseconds since 1970, `target` a link's text. `size` in bytes, 0
    for anything but a file.
    """

    path: bytes
    kind: int
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    target: bytes = b""
    fresh: bool = False

    @property
    def content(self) -> tuple[int, int, int, bytes]:
        """Where two of these differ, the contents do: as rsync decides it, by size and time of modification.

        What a directory holds is no content of its own.
        """
        if self.kind == Kind.DIRECTORY:
            return (self.kind, 0, 0, b"")
        if self.kind == Kind.SYMLINK:
            return (self.kind, 0, 0, self.target)
        return (self.kind, self.size, self.mtime_ns, b"")

    @property
    def covers(self) -> bool:
        """Whether nothing of what was below this path before is there any more."""
        return self.fresh or self.kind != Kind.DIRECTORY


def order(path: bytes) -> bytes:
    """The key by which streams are sorted."""
    return path.replace(b"/", b"\0")


_EVERYTHING: Final = b""


def _below(path: bytes) -> bytes:
    """What the key of everything below `path` begins with."""
    return order(path) + b"\0" if path else _EVERYTHING


def compose(older: Iterable[Seen], newer: Iterable[Seen]) -> Iterator[Seen]:
    """The delta that does what `older` and then `newer` do. Of a listing and a delta: see `listing`."""
    olds, cover = iter(older), None
    old = next(olds, None)
    old_key = order(old.path) if old is not None else b""
    for new in newer:
        key = order(new.path)
        while old is not None and old_key < key:
            if cover is None or not old_key.startswith(cover):
                yield old
            old = next(olds, None)
            old_key = order(old.path) if old is not None else b""
        if old is not None and old_key == key:
            fresh = old.covers and new.kind == Kind.DIRECTORY
            yield new._replace(fresh=True) if fresh and not new.fresh else new
            old = next(olds, None)
            old_key = order(old.path) if old is not None else b""
        else:
            yield new
        if new.covers and (cover is None or not key.startswith(cover)):
            cover = _below(new.path)
    while old is not None:
        if cover is None or not order(old.path).startswith(cover):
            yield old
        old = next(olds, None)


def listing(delta: Iterable[Seen]) -> Iterator[Seen]:
    """What is there after a delta from nothing."""
    for each in delta:
        if each.kind != Kind.GONE:
            yield each._replace(fresh=False) if each.fresh else each


def pairs(old: Iterable[Seen], new: Iterable[Seen]) -> Iterator[tuple[Seen | None, Seen | None]]:
    """Two listings side by side: each path once, with what either says of it."""
    olds, news = iter(old), iter(new)
    left, right = next(olds, None), next(news, None)
    while left is not None or right is not None:
        if right is None or (left is not None and order(left.path) < order(right.path)):
            yield left, None
            left = next(olds, None)
        elif left is None or order(right.path) < order(left.path):
            yield None, right
            right = next(news, None)
        else:
            yield left, right
            left, right = next(olds, None), next(news, None)


def difference(old: Iterable[Seen], new: Iterable[Seen]) -> Iterator[Seen]:
    """The delta that leads from one listing to the other."""
    gone: bytes | None = None
    for left, right in pairs(old, new):
        if right is not None:
            if right != left:
                yield right
                if left is not None and left.kind == Kind.DIRECTORY != right.kind:
                    gone = _below(right.path)
        elif left is not None:
            key = order(left.path)
            if gone is None or not key.startswith(gone):
                yield Seen(left.path, Kind.GONE)
                gone = _below(left.path)
