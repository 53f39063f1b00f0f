"""The plan of space: how much a run needs, and which snapshots make way for it. Pure (docs/explanation/retention.md).

The rules of retention say in which order snapshots may go, and which never; a run takes the first of them, as few as
the plan needs, and none where there is room enough.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from flashback.backup.pins import Name
from flashback.compare.changes import ChangeSet
from flashback.config.values import Keep
from flashback.core.text import parse_stamp
from flashback.rotation.retention import Decision, Snapshot, Value, Verdict, decide, rank
from flashback.tools.btrfs import Space
from flashback.tools.btrfs_trees import Freed

COMPRESSION_HOPED_FOR: Final = 2
"""A plan that needs more than so many times the free space is refused before the first byte; less may yet fit, since
what is written is compressed."""
ENTRY: Final = 1024
"""Bytes of metadata for a file: its inode, names, extents and extended attributes."""
CHECKSUMS: Final = 128
"""One byte of metadata for so many of data: 32 for each 4096 (BLAKE2)."""
SLACK: Final = 1024 * 1024
"""Bytes of metadata that every run touches: the tops of the trees."""


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a run takes on the drive before compression; of `metadata` one copy."""

    data: int = 0
    metadata: int = 0


@dataclass(frozen=True, slots=True)
class Missing:
    """Bytes that have to come free first."""

    data: int
    metadata: int

    @property
    def nothing(self) -> bool:
        """There is room enough."""
        return self.data <= 0 and self.metadata <= 0


@dataclass(frozen=True, slots=True)
class Goes:
    """A snapshot that may go or goes; `freed` is what that frees after those before it, `None` where it is unknown."""

    master: str
    verdict: Verdict
    freed: Freed | None = None

    @property
    def name(self) -> str:
        """The snapshot's."""
        return self.verdict.snapshot.name

    def as_json(self) -> dict[str, Any]:
        """For `Planned` (docs/reference/json.md)."""
        return {**verdict_json(self.master, self.verdict, keep=False), "bytes": self.freed and self.freed.data}


@dataclass(frozen=True, slots=True)
class Candidates:
    """All that may go, in order; `ratio` is how much of its size the drive's data takes, `None` where that is unknown.

    `measured`: what each frees is known.
    """

    goes: tuple[Goes, ...] = ()
    ratio: float | None = None
    measured: bool = True

    @property
    def expected_ratio(self) -> float:
        """What to reckon with for new data: a little more than was seen, for it may be of another kind."""
        return 1.0 if self.ratio is None else min(1.0, self.ratio * 1.1)


@dataclass(frozen=True, slots=True)
class Room:
    """What a run does about space. `goes` make way before it copies; `further` could, too, should that not be enough.

    `hopeless`: it will not fit whatever goes, so nothing goes. `reaches_reserve` is false where less than the reserve
    will stay free.
    """

    need: Need = Need()
    reserve: int = 0
    goes: tuple[Goes, ...] = ()
    further: tuple[Goes, ...] = ()
    hopeless: bool = False
    reaches_reserve: bool = True


def verdict_json(master: str, verdict: Verdict, *, keep: bool) -> dict[str, Any]:
    """A snapshot and what is decided about it."""
    return {
        "master": master,
        "name": verdict.snapshot.name,
        "keep": keep,
        "rule": verdict.value.name.lower().replace("_", "-"),
        "reasons": list(verdict.reasons),
        "bytes": None,
    }


def need_of(changes: Iterable[ChangeSet], *, ballast: int) -> Need:
    """What these changes take at least, and the ballast that is to be laid anew."""
    data, entries = ballast, 0
    for each in changes:
        data += each.lower_bound_bytes
        entries += each.steps
    return Need(data, SLACK + entries * ENTRY + data // CHECKSUMS if data or entries else 0)


def reserve_of(keep: Keep, size: int) -> int:
    """`keep.min_free` in bytes on a drive of this size."""
    return round(keep.min_free * size) if isinstance(keep.min_free, float) else keep.min_free


def missing(space: Space, need: Need, reserve: int) -> Missing:
    """What is not there. Metadata is kept twice, and what is allocated to neither can become either."""
    metadata = need.metadata - (space.metadata_total - space.metadata_used - space.reserved)
    unallocated = space.unallocated - 2 * max(0, metadata)
    data = need.data + reserve - (space.data_total - space.data_used) - max(0, unallocated)
    return Missing(max(0, data), max(0, -unallocated // 2))


def decisions(
    names: Mapping[str, Collection[str]], numbers: Mapping[Name, int], pins: Collection[Name], keep: Keep, now: datetime
) -> dict[str, Decision]:
    """What retention says of the snapshots of each master; `numbers` are those of the runs that completed them."""
    return {
        master: decide(
            [
                Snapshot(name, moment, (master, name) in pins, numbers.get((master, name)))
                for name in those
                if (moment := parse_stamp(name)) is not None
            ],
            keep,
            now=now,
        )
        for master, those in names.items()
    }


def in_order(decided: Mapping[str, Decision], *, only_here: Collection[Name] = ()) -> tuple[Goes, ...]:
    """All that may go to make space, of all masters, in the order in which it would (`retention.prune_order`)."""
    found = [
        Goes(master, verdict)
        for master, decision in decided.items()
        for verdict in (*decision.prune, *(each for each in decision.keep if each.value is not Value.FLOOR))
    ]
    return tuple(sorted(found, key=lambda each: rank(each.verdict, only_here=(each.master, each.name) in only_here)))


def plan(
    space: Space, need: Need, reserve: int, known: Sequence[Goes], look: Callable[[Sequence[Goes]], Candidates]
) -> Room:
    """Which of the `known` go, in their order, as few as will do; `look` measures them, only where space is short.

    What the data takes is reckoned with the compression that the drive's own data shows. Where `reserve` cannot be
    reached whatever goes, only the data counts: a state is worth more than a reserve that is missed either way. Where
    it is not certain that all of them are enough, they go one by one when the copy has found the drive full.
    """
    if need == Need() or missing(space, need, reserve).nothing:
        return Room(need, reserve, further=tuple(known))
    found = look(known)
    goes, expected = found.goes, Need(round(need.data * found.expected_ratio), need.metadata)
    best = _prefix(missing(space, expected, reserve), goes)
    if best is not None:
        return Room(expected, reserve, goes[:best], goes[best:])
    enough = _prefix(missing(space, Need(expected.data), 0), goes)
    if enough is not None:
        return Room(expected, reserve, goes[:enough], goes[enough:], reaches_reserve=False)
    least = Need(min(expected.data, need.data // COMPRESSION_HOPED_FOR))
    hopeless = found.measured and _prefix(missing(space, least, 0), goes) is None
    return Room(expected, reserve, (), goes, hopeless, reaches_reserve=False)


def _prefix(wanted: Missing, known: Sequence[Goes]) -> int | None:
    """How many of them have to go, `None` where all are not enough."""
    data, metadata = wanted.data, wanted.metadata
    for count, each in enumerate(known):
        if data <= 0 and metadata <= 0:
            return count
        if each.freed is not None:
            data, metadata = data - each.freed.data, metadata - each.freed.metadata
    return len(known) if data <= 0 and metadata <= 0 else None
