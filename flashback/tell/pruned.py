"""Which snapshots go and which stay, for a person: depth and text of each line. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from flashback.core.text import number, shown, size

FIRST_NAMES: Final = 5
FIRST_FILES: Final = 20
"""So many files that would be on no drive any more are named; `--json` names all."""


def plan_of(plan: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """The part of a plan that is about snapshots."""
    known = plan.get("snapshots", ())
    goes, stays = ([each for each in known if each["keep"] is kept] for kept in (False, True))
    if goes:
        yield 1, f"{_go(len(goes), action=plan.get('action', 'run'))}{_freed(goes)}:"
        yield from ((2, _line(each)) for each in goes)
    elif plan.get("action") == "prune":
        yield 1, "no snapshot goes: a rule keeps each of them"
    if stays:
        yield 1, f"{number(len(stays), 'snapshot stays', 'snapshots stay')}:"
        yield from ((2, _line(each)) for each in stays)
    space = plan.get("space") or {}
    if space.get("reserve_kept") is False:
        yield 1, f"less than keep.min_free ({size(space.get('reserve', 0))}) will stay free, whatever goes"
    yield from _vanishing(plan.get("vanish"))


def done(facts: Mapping[str, Any]) -> Iterator[str]:
    """What went in a run, also in one that did not come to its end."""
    names = facts.get("pruned", ())
    if names and facts.get("action", "run") == "run":
        which = "One old snapshot" if len(names) == 1 else f"{len(names)} old snapshots"
        more = "" if len(names) <= FIRST_NAMES else f" and {len(names) - FIRST_NAMES} more"
        yield f"{which} made way: {', '.join(map(shown, names[:FIRST_NAMES]))}{more}."


def headline(facts: Mapping[str, Any]) -> str:
    """What came of `prune`."""
    removed = number(len(facts.get("pruned", ())), "snapshot")
    freed = facts.get("bytes_freed")
    return f"{removed} removed" + (f", {size(freed)} free again." if freed is not None else ".")


def _go(count: int, *, action: str) -> str:
    if action == "prune":
        return number(count, "snapshot goes", "snapshots go")
    return number(count, "old snapshot makes way", "old snapshots make way")


def _freed(goes: Sequence[Mapping[str, Any]]) -> str:
    known = [each["bytes"] for each in goes if each["bytes"] is not None]
    return f", {size(sum(known))} come free" if len(known) == len(goes) else ""


def _line(each: Mapping[str, Any]) -> str:
    freed = f"{size(each['bytes']):>8}  " if each["bytes"] is not None else ""
    return f"{shown(each['master'])}/{shown(each['name'])}  {freed}{'; '.join(map(shown, each['reasons']))}"


def _vanishing(files: Sequence[Mapping[str, Any]] | None) -> Iterator[tuple[int, str]]:
    whole = [each for each in files or () if each["whole"]]
    if whole:
        yield 1, f"{number(len(whole), 'file')} would be on no drive any more, for ever:"
        yield from ((2, f"{size(each['size']):>8}  {_path(each)}") for each in whole[:FIRST_FILES])
    if len(whole) > FIRST_FILES:
        yield 2, f"and {len(whole) - FIRST_FILES:,} more: --json names all"
    versions = len(files or ()) - len(whole)
    if versions:
        yield 1, f"{number(versions, 'version')} of files that are still there in another would go for ever, too"


def _path(each: Mapping[str, Any]) -> str:
    return f"{shown(each['master'])}/{shown(each['path'])}"
