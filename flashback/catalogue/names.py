"""What people type: a state (`latest`, `red:20260502`, a date), a path of theirs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime

from flashback.catalogue.lookup import Lookup, State
from flashback.config.moments import CURRENT, LATEST, begun, drive_before, is_name, listed, moment
from flashback.core.errors import UsageError
from flashback.core.text import shown, stamp


def states(lookup: Lookup, text: str, drives: Mapping[str, str], now: datetime) -> list[State]:
    """The state that is meant of each master, by name. `drives` are the LUKS UUIDs by the drives' names.

    Raises `UsageError` where nothing or too much is meant.
    """
    drive, wanted = drive_before(text, drives)
    known = lookup.states(drive=drives[drive] if drive else None)
    if not known:
        raise UsageError(
            f"the catalogue knows nothing of {shown(drive)}" if drive else "the catalogue is empty",
            hint="it is written by each run; `flashback catalogue rebuild DRIVE` reads it from a drive",
        )
    found = _meant(known, wanted, now)
    if not found:
        there = listed(list(dict.fromkeys(state.name for state in known)))
        raise UsageError(
            f"there is no state {shown(text)}",
            findings=[f"there are: {there}"],
            hint="`flashback snapshots` lists them; `latest` is the newest",
        )
    first: dict[str, State] = {}
    for state in found:
        first.setdefault(state.tree.master, state)
    return [first[master] for master in sorted(first)]


def _meant(known: Sequence[State], wanted: str, now: datetime) -> list[State]:
    """Those that are meant, the best first; `known` has the newest first."""
    if wanted == LATEST:
        return list(known)
    if wanted == CURRENT:
        return [state for state in known if state.is_current]
    if is_name(wanted):
        name = begun(wanted, [state.name for state in known])
        return sorted((state for state in known if state.name == name), key=lambda state: state.tree.drive)
    latest = stamp(moment(wanted, now, end=True))
    return [state for state in known if state.name <= latest]


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
