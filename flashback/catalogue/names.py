"""What people type: a state (`latest`, `red:20260502`, a date), a moment, a path of theirs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from flashback.catalogue.lookup import CURRENT, Lookup, State
from flashback.core.errors import UsageError
from flashback.core.text import parse_stamp, shown, stamp

LATEST: Final = "latest"
_DATE: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?(Z| UTC)?)?", re.ASCII)
_AGO: Final = re.compile(r"(\d{1,6})([hdwmy])", re.ASCII)
_UNITS: Final = {"h": 1 / 24, "d": 1, "w": 7, "m": 30, "y": 365}
_PREFIX: Final = re.compile(r"\d{4,8}(?:T\d{0,6}Z?)?", re.ASCII)


def moment(text: str, now: datetime, *, end: bool = False) -> datetime:
    """A moment: `2026-05-02`, `2026-05-02 14:10` in this machine's time, with `Z` or ` UTC` behind it in UTC; a
    snapshot's name; so long ago: `12h`, `7d`, `3w`, `6m`, `1y`.

    With `end`, the end of the day or the minute that was named. Returns it in UTC. Raises `UsageError`.
    """
    if (named := parse_stamp(text)) is not None:
        return named
    match = _DATE.fullmatch(text)
    try:
        if ago := _AGO.fullmatch(text):
            return now - timedelta(days=int(ago[1]) * _UNITS[ago[2]])
        if match is not None:
            parts = [int(part) for part in match.groups()[:6] if part is not None]
            step = {3: timedelta(days=1), 5: timedelta(minutes=1)}.get(len(parts), timedelta(seconds=1))
            begin = datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001 - the zone follows
            meant = begin + step - timedelta(seconds=1) if end else begin
            return (meant.replace(tzinfo=UTC) if match[7] else meant.astimezone()).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise UsageError(
        f"{shown(text)} is no date",
        hint="for instance 2026-05-02, '2026-05-02 14:10' (this machine's time), or 7d for a week ago",
    )


def states(lookup: Lookup, text: str, drives: Mapping[str, str], now: datetime) -> list[State]:
    """The state that is meant of each master, by name. `drives` are the LUKS UUIDs by the drives' names.

    Raises `UsageError` where nothing or too much is meant.
    """
    drive, colon, wanted = text.partition(":") if _has_drive(text, drives) else ("", "", text)
    uuid = drives[drive.lower()] if colon else None
    known = lookup.states(drive=uuid)
    if not known:
        raise UsageError(
            "the catalogue is empty", hint="it is written by each run, and read from a drive by `flashback run`"
        )
    found = _meant(known, wanted, now)
    if not found:
        raise UsageError(
            f"there is no state {shown(text)}", hint="`flashback snapshots` lists them; `latest` is the newest"
        )
    first: dict[str, State] = {}
    for state in found:
        first.setdefault(state.tree.master, state)
    return [first[master] for master in sorted(first)]


def _has_drive(text: str, drives: Mapping[str, str]) -> bool:
    drive, colon, _rest = text.partition(":")
    if colon and drive.lower() not in drives and not drive.isdigit() and not _DATE.match(text):
        raise UsageError(f"there is no drive {shown(drive)}", hint="`flashback drive list` shows all")
    return bool(colon) and drive.lower() in drives


def _meant(known: Sequence[State], wanted: str, now: datetime) -> list[State]:
    """Those that are meant, the best first; `known` has the newest first."""
    if wanted == LATEST:
        return list(known)
    if wanted == CURRENT:
        return [state for state in known if state.is_current]
    exact = [state for state in known if state.name == wanted]
    if exact:
        return sorted(exact, key=lambda state: state.tree.drive)
    if _PREFIX.fullmatch(wanted):
        begun = [state for state in known if state.name.startswith(wanted)]
        names = sorted({state.name for state in begun})
        if len(names) > 1:
            raise UsageError(f"{shown(wanted)} could be {number_of(names)}", findings=names[:20])
        return begun
    latest = stamp(moment(wanted, now, end=True))
    return [state for state in known if state.name <= latest]


def number_of(names: Sequence[str]) -> str:
    """`one of 12 states`."""
    return f"one of {len(names)} states"


def masters_paths(lookup: Lookup, configured: Mapping[str, str]) -> dict[str, str]:
    """Where each master lies: as configured, else as the newest state says."""
    noted = {state.tree.master: state.tree.path for state in reversed(lookup.states())}
    return {**noted, **configured}


def paths(text: str, cwd: str, masters: Mapping[str, str]) -> list[tuple[str, bytes]]:
    """What a path as somebody types it may mean, the likeliest first: masters, and paths relative to them.

    An absolute path lies in a master; a relative one does with the working directory before it, or is relative to a
    master, whose name may stand before it, with a slash or (as restore says and takes it) a colon.
    """
    given = os.fsencode(text)
    master, colon, inside = given.partition(b":")
    below = _bare(inside.lstrip(b"/"))
    named = [(name, below) for name in masters if colon and os.fsencode(name) == master and not _leaves(below)]
    whole = os.path.normpath(given if given.startswith(b"/") else os.fsencode(cwd) + b"/" + given)
    found = [
        (name, rest)
        for name, rest in ((name, _below(whole, path)) for name, path in masters.items())
        if rest is not None
    ]
    found.sort(key=lambda each: len(each[1]))
    if not given.startswith(b"/"):
        bare = _bare(given)
        if not _leaves(bare):
            first, _slash, rest = bare.partition(b"/")
            found += [(name, rest) for name in masters if os.fsencode(name) == first]
            found += [(name, bare) for name in sorted(masters)]
    return list(dict.fromkeys(named + found))


def _leaves(path: bytes) -> bool:
    return path == b".." or path.startswith(b"../")


def _bare(path: bytes) -> bytes:
    relative = os.path.normpath(path)
    return b"" if relative == b"." else relative


def _below(whole: bytes, top: str) -> bytes | None:
    """`whole` relative to `top`, if it lies there."""
    above = os.fsencode(top).rstrip(b"/")
    if not top or not (whole + b"/").startswith(above + b"/"):
        return None
    return whole[len(above) + 1 :]


def known_path(lookup: Lookup, text: str, cwd: str, masters: Mapping[str, str]) -> tuple[str, bytes]:
    """The first meaning that any state holds. Raises `UsageError` where no drive ever had such a path."""
    meanings = paths(text, cwd, masters)
    for master, path in meanings:
        node = lookup.node(path)
        if node is not None and any(held.newest.tree.master == master for held in lookup.versions(node, path)):
            return master, path
    raise UsageError(
        f"{shown(text)} is on no drive, as far as this machine knows",
        hint="`flashback find NAME` searches all drives; `flashback explain PATH` says whether it is backed up",
    )
