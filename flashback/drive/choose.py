"""Which drive is meant when nobody says: the one that is plugged in; a person is asked among several; else wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flashback.core.context import Context
from flashback.core.errors import DriveError, UsageError
from flashback.core.events import Note
from flashback.drive.headerless import headerless
from flashback.drive.recognise import Candidate, by_name, plugged_in, reappeared
from flashback.rotation.values import KnownDrive, Standing
from flashback.tools import udev

Choose = Callable[[Sequence[str]], str]


def choose(
    context: Context, known: Sequence[KnownDrive], wanted: str | None, *, ask: Choose | None, wait: bool
) -> Candidate:
    """The drive to work on. `ask` is `None` where nobody can be asked. Raises `DriveError`, `UsageError`."""
    chosen = by_name(context.run, known, wanted) if wanted is not None else None
    _say_who_reappeared(context, known, chosen)
    if chosen is not None:
        return chosen
    here = _usable(context, known)
    for gone in headerless(context.run, known) if not here else ():
        context.tell(Note(f"{gone.sentence}. Do not erase it; the header can be put back: {gone.remedy}"))
    if not here and wait:
        return _wait(context, known)
    if not here:
        raise DriveError("no drive of the rotation is plugged in", hint="plug one in, or name its device")
    if len(here) == 1:
        return here[0]
    names = [candidate.known.name for candidate in here]
    if ask is None:
        raise UsageError(
            f"several drives are plugged in ({', '.join(names)})", hint="say which one you mean by its name"
        )
    answer = ask(names)
    return next(candidate for candidate in here if candidate.known.name == answer)


def _say_who_reappeared(context: Context, known: Sequence[KnownDrive], chosen: Candidate | None) -> None:
    """Lost and retired drives that are plugged in are told first; of the chosen one the refusal says it."""
    gone = [drive for drive in known if drive.standing is not Standing.ACTIVE]
    if chosen is not None:
        gone = [drive for drive in gone if drive.uuid != chosen.known.uuid]
    for each in plugged_in(context.run, gone) if gone else ():
        context.tell(Note(reappeared(each.known)))


def _usable(context: Context, known: Sequence[KnownDrive]) -> tuple[Candidate, ...]:
    return plugged_in(context.run, [drive for drive in known if drive.standing is Standing.ACTIVE])


def _wait(context: Context, known: Sequence[KnownDrive]) -> Candidate:
    active = [drive.name for drive in known if drive.standing is Standing.ACTIVE]
    if not active:
        raise DriveError(
            "no drive is known here yet", hint="prepare one: flashback init /dev/sdX (`lsblk` shows which device it is)"
        )
    context.tell(Note(f"Waiting for a drive: plug in {_either(active)}. Ctrl-C ends the waiting."))

    def first() -> Candidate | None:
        here = _usable(context, known)
        return here[0] if here else None

    return udev.wait_for_luks(is_wanted=first)


def _either(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
