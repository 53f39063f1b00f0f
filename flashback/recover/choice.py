"""On which drive is it? By the catalogue, which knows the drives in the safe, too; else by the newest backup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flashback.core.context import Context
from flashback.core.errors import DriveError, UsageError
from flashback.core.text import local
from flashback.drive import layout
from flashback.drive.recognise import Candidate, by_name, plugged_in
from flashback.drive.states import State
from flashback.recover.wanted import Wanted, When
from flashback.rotation.ledger import Ledger
from flashback.rotation.values import KnownDrive, Standing

if TYPE_CHECKING:
    from flashback.catalogue.lookup import Lookup
    from flashback.catalogue.lookup import State as Known


@dataclass(frozen=True, slots=True)
class Choice:
    """The drives to look on, in this order; `elsewhere` says which other drive holds what is wanted, if one does, and
    `newer` whether that has a newer state of it than any of these.
    """

    candidates: tuple[Candidate, ...]
    elsewhere: str = ""
    newer: str = ""


def choose(context: Context, ledger: Ledger, drive: str | None, wanted: Sequence[Wanted], when: When) -> Choice:
    """Of the drives that are plugged in, those that hold it come first, the one with the newest state of it before
    the others. Raises `DriveError` where none is plugged in, saying which one to plug in.
    """
    known = ledger.drives()
    if drive is not None:
        return Choice((by_name(context.run, known, drive),))
    held = holders(context.paths.catalogues, wanted, when) if wanted else {}
    last = {each.drive_uuid: each.completed for each in ledger.backups()}
    here = plugged_in(context.run, known)
    away = [each for each in known if each.uuid not in {candidate.known.uuid for candidate in here}]
    elsewhere = _elsewhere(away, held)
    if not here:
        raise DriveError("no drive is plugged in that this machine knows", hint=elsewhere or _newest(away, last))
    order = sorted(here, key=lambda each: (_seconds(held, each), _seconds(last, each)), reverse=True)
    return Choice(tuple(order), elsewhere, _newer(away, held, _seconds(held, order[0])))


def holders(catalogues: Path, wanted: Sequence[Wanted], when: When) -> dict[str, datetime]:
    """The drives, by LUKS UUID, that hold all of it in a state that comes into question, with the newest such state.

    Nothing where the catalogue cannot be read: then the drives themselves are asked.
    """
    from flashback.catalogue.index import IndexBroken
    from flashback.catalogue.lookup import Lookup
    from flashback.catalogue.shelves import Shelves

    if not catalogues.is_dir():
        return {}
    try:
        with Shelves(catalogues).index() as index:
            lookup = Lookup(index)
            found = [_of_one(lookup, each, when) for each in wanted]
    except (OSError, IndexBroken):
        return {}
    everywhere = set.intersection(*(set(each) for each in found)) if found else set()
    return {uuid: max(each[uuid] for each in found) for uuid in everywhere}


def _of_one(lookup: Lookup, wanted: Wanted, when: When) -> dict[str, datetime]:
    """The newest state of one path on each drive; none of a drive on which several states could be meant."""
    node = lookup.node(wanted.path)
    versions = lookup.versions(node, wanted.path) if node is not None else []
    holding = {state for held in versions for state in held.states if state.tree.master == wanted.master}
    found: dict[str, datetime] = {}
    for drive in {state.tree.drive for state in holding}:
        known = lookup.states(master=wanted.master, drive=drive)
        meant = {_on_drive(state): state for state in known}
        with suppress(UsageError):
            moments = [meant[each].completed for each in when.of(list(meant)) if meant[each] in holding]
            found.update({drive: max(moments)} if moments else {})
    return found


def _on_drive(state: Known) -> State:
    """As the drive itself would have it."""
    name = layout.CURRENT if state.is_current else state.name
    return State(state.tree.master, name, state.completed)


def _seconds(moments: Mapping[str, datetime], candidate: Candidate) -> float:
    moment = moments.get(candidate.known.uuid)
    return moment.timestamp() if moment is not None else 0.0


def _elsewhere(away: Sequence[KnownDrive], held: Mapping[str, datetime]) -> str:
    best = _best(away, held)
    return f"plug in {_label(best)}: it holds it, in a state of {local(held[best.uuid])}" if best is not None else ""


def _newer(away: Sequence[KnownDrive], held: Mapping[str, datetime], here: float) -> str:
    """Whoever is given an older version than there is has to know; nothing where none is here."""
    best = _best(away, held)
    if best is None or not 0 < here < held[best.uuid].timestamp():
        return ""
    return f"{_label(best)}, which is not plugged in, holds it in a newer state, of {local(held[best.uuid])}."


def _best(away: Sequence[KnownDrive], held: Mapping[str, datetime]) -> KnownDrive | None:
    """The drive with the newest state of it that is not plugged in; a lost one is not what anybody can plug in."""
    holding = [each for each in away if each.uuid in held and each.standing is not Standing.LOST]
    return max(holding, key=lambda each: held[each.uuid], default=None)


def _newest(away: Sequence[KnownDrive], last: Mapping[str, datetime]) -> str:
    newest = max((each for each in away if each.uuid in last), key=lambda each: last[each.uuid], default=None)
    if newest is None:
        return "a drive of another machine is made known by `flashback drive adopt DEVICE`"
    return f"plug in {_label(newest)}: it has the newest backup, of {local(last[newest.uuid])}"


def _label(drive: KnownDrive) -> str:
    return f"{drive.name} ({drive.place})" if drive.place else drive.name
