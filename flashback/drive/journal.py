"""The drive's own journal, `.flashback/runs.jsonl`: one line per step begun or completed.

It decides what the incumbent is worth: *complete* only if no copying has begun since it was completed. Lines that
cannot be read (a torn last line after a power cut, a foreign hand) are passed over: nothing may be concluded from them
but that they are there.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec

from flashback.core.text import parse_rfc3339, parse_stamp, stamp

VERSION: Final = 1
LONGEST_LINE: Final = 64 * 1024
Fact = str | int | float | bool | None | Annotated[list[str], msgspec.Meta(max_length=32)]
Facts = Annotated[Mapping[str, Fact], msgspec.Meta(max_length=32)]
"""What a line says besides: flat, and not much more than Flashback ever writes, so that no drive fills the memory."""
HIGHEST_SEQUENCE: Final = 2**48
"""A higher one is nobody's count of runs (see `flashback.rotation.rows`); what comes after it must fit, too."""


class Mark(StrEnum):
    """What a line says of a master on this drive."""

    BEGUN = "begun"
    COPYING = "copying"
    COMPLETE = "complete"
    UNCHANGED = "unchanged"
    SNAPSHOT = "snapshot"
    PRUNED = "pruned"
    PINNED = "pinned"
    UNPINNED = "unpinned"
    SCRUB = "scrub"
    ENDED = "ended"


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. `sequence` counts the runs of this drive and never falls; `at` is RFC 3339 in UTC.

    `generation` is the incumbent's Btrfs generation when it was completed. `facts` is for people and for a ledger
    that is rebuilt from drives.
    """

    v: int = VERSION
    sequence: int
    run: str
    at: str
    mark: Mark
    machine: str = ""
    master: str = ""
    snapshot: str = ""
    generation: int = 0
    unread: int = 0
    facts: Facts = {}

    @property
    def moment(self) -> datetime:
        """`at` as a moment."""
        return parse_rfc3339(self.at)


@dataclass(frozen=True, slots=True)
class Incumbent:
    """What the journal says of `<master>/current`: since when it is complete, or that it is not."""

    complete: bool
    completed: datetime | None = None
    generation: int = 0
    unread: int = 0


def encode(line: Line) -> bytes:
    """One line of JSON without its newline, in ASCII."""
    return json.dumps(msgspec.to_builtins(line), ensure_ascii=True, separators=(",", ":")).encode("ascii")


def as_dict(line: Line) -> dict[str, Any]:
    """The line as plain types, for the ledger."""
    found: dict[str, Any] = msgspec.to_builtins(line)
    return found


def decode(content: bytes) -> tuple[Line, ...]:
    """The lines that can be read, in their order. Never raises: the content is a drive's."""
    return tuple(line for text in io.BytesIO(content) if (line := _decoded(text)) is not None)


def _decoded(text: bytes) -> Line | None:
    if not text.strip() or len(text) > LONGEST_LINE:
        return None
    try:
        line = _line(text)
        parse_rfc3339(line.at)
        is_ours = line.v == VERSION and line.sequence >= 0
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return line if is_ours else None


_line: Final = msgspec.json.Decoder(Line).decode


def incumbent(lines: Iterable[Line], master: str) -> Incumbent:
    """What the journal as a whole says of the incumbent of `master`."""
    state = Incumbent(complete=False)
    for line in lines:
        if line.master != master:
            continue
        if line.mark is Mark.COPYING:
            state = Incumbent(complete=False)
        elif line.mark is Mark.COMPLETE:
            state = Incumbent(complete=True, completed=line.moment, generation=line.generation, unread=line.unread)
    return state


def pins(lines: Iterable[Line]) -> frozenset[tuple[str, str]]:
    """The snapshots that are pinned, as (master, name), whichever machine pinned them."""
    found: set[tuple[str, str]] = set()
    for line in lines:
        snapshot = (line.master, line.snapshot)
        if line.mark is Mark.PINNED and line.master and parse_stamp(line.snapshot) is not None:
            found.add(snapshot)
        elif line.mark in {Mark.UNPINNED, Mark.PRUNED}:
            found.discard(snapshot)
    return frozenset(found)


def completed_by(lines: Iterable[Line]) -> dict[tuple[str, str], int]:
    """Which run completed each state: its number by master and the name that a snapshot of it gets."""
    return {
        (line.master, stamp(line.moment)): line.sequence
        for line in lines
        if line.mark is Mark.COMPLETE and line.sequence < HIGHEST_SEQUENCE
    }


def last_sequence(lines: Sequence[Line]) -> int:
    """The highest sequence number so far, 0 when there is none; order does not rest on the clock.

    One that no run can have is passed over, or a foreign hand could use the numbers up.
    """
    return max((line.sequence for line in lines if line.sequence < HIGHEST_SEQUENCE), default=0)


def last_moment(lines: Sequence[Line]) -> datetime | None:
    """The moment that the last line of the run with the highest sequence number names."""
    last = max(lines, key=lambda line: line.sequence, default=None)
    return None if last is None else max(line.moment for line in lines if line.sequence == last.sequence)


def runs_since_full(lines: Sequence[Line], master: str) -> int:
    """How many runs over this master, by the drive's journal, since both sides were last compared in full."""
    count = 0
    for line in lines:
        if line.master == master and line.mark in {Mark.COMPLETE, Mark.UNCHANGED}:
            count = 0 if line.facts.get("full") else count + 1
    return count
