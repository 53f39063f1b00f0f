"""`flashback restore`: from which drives, one after the other, and what came of it in all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from flashback.config.moments import listed
from flashback.config.values import Master
from flashback.core.context import Context
from flashback.core.errors import Exit, UsageError
from flashback.core.events import Finished, Note
from flashback.drive.reading import Reading
from flashback.recover.choice import choose
from flashback.recover.errand import Errand, RestoreRequest, as_error, row
from flashback.recover.source import Plugged, Source
from flashback.recover.wanted import Wanted, When
from flashback.rotation.ledger import Ledger

ELSEWHERE: Final = "`flashback find NAME` says on which drive a file is; `flashback snapshots` lists the states on each"
FINISHED: Final = frozenset({Exit.DONE, Exit.UNREAD, Exit.DAMAGE})


def restore(
    context: Context, ledger: Ledger, drive: str | None, masters: Sequence[Master], request: RestoreRequest
) -> int:
    """Restore from the drives that hold what was asked for; tell it, and return the exit code.

    Raises `DriveError`, `UsageError` where there is none, and what nobody expected.
    """
    chosen = choose(context, ledger, drive, request.wanted, request.when)
    if chosen.newer:
        context.tell(Note(chosen.newer))
    sources = [Plugged(Reading(context, each), ledger) for each in chosen.candidates]
    return restore_from(context, sources, masters, request, elsewhere=chosen.elsewhere)


def restore_from(
    context: Context, sources: Sequence[Source], masters: Sequence[Master], request: RestoreRequest, *, elsewhere: str
) -> int:
    """Restore from the first of the sources that holds it all; what it does not hold, from the next ones.

    `elsewhere` says on which other drive it is. Raises `UsageError` where nothing of it is here.
    """
    endings: list[Finished] = []
    there: list[str] = []
    left = request.wanted
    for count, source in enumerate(sources):
        errand = Errand(context, source, masters, replace(request, wanted=left))
        last = errand.execute()
        there += _states(source, errand)
        if last is not None:
            endings.append(last)
            left = tuple(each for each in left if each not in errand.found)
            if not left or last.exit_code not in FINISHED:
                break
        if count + 1 < len(sources):
            context.tell(Note(_on_to(source, sources[count + 1], left, last)))
    if not endings:
        names = ", ".join(each.name for each in sources)
        raise UsageError(
            f"{', '.join(each.said for each in request.wanted) or 'nothing'} is on none of the drives that are here"
            f" ({names})" + (", in no state of that time or name" if request.when != When() else ""),
            hint=elsewhere or ELSEWHERE,
            findings=there if request.when != When() else (),
        )
    last = together(endings, left if endings[-1].exit_code in FINISHED else (), elsewhere or ELSEWHERE)
    context.tell(last)
    return int(last.exit_code)


def _states(source: Source, errand: Errand) -> list[str]:
    """What there is, for whoever asked for a state that is not there."""
    return [
        f"{source.name} has of {master}: {listed([each.mark for each in states])}"
        for master, states in sorted(errand.known.items())
    ]


def _on_to(source: Source, following: Source, left: Sequence[Wanted], last: Finished | None) -> str:
    if last is None:
        return f"{source.name} does not hold it; the next one is {following.name}."
    closed = "it is closed; safe to remove" if last.safe_to_remove else "it stays open"
    missing = ", ".join(each.said for each in left)
    return f"{source.name}: restored what it holds, {closed}. {missing} is looked for on {following.name}."


def together(endings: Sequence[Finished], missing: Sequence[Wanted], hint: str) -> Finished:
    """One ending for those of several drives; `missing` was on none of them, and `hint` says what to do about that."""
    last = max(endings, key=lambda each: int(each.exit_code)) if endings[-1].exit_code in FINISHED else endings[-1]
    facts = {
        **last.facts,
        "begun": endings[0].facts["begun"],
        "ended": endings[-1].facts["ended"],
        "seconds": round(sum(each.facts["seconds"] for each in endings), 1),
        "restored": [row for each in endings for row in each.facts["restored"]],
        "unread": [row for each in endings for row in each.facts["unread"]],
    }
    safe = all(each.safe_to_remove for each in endings)
    state = next((each.drive_state for each in endings if not each.safe_to_remove), endings[-1].drive_state)
    merged = replace(last, facts=facts, safe_to_remove=safe, drive_state=state)
    if len(endings) > 1 and any(each.result == "complete" for each in endings) and last.exit_code == Exit.DONE:
        merged = replace(merged, result="complete")
    if not missing:
        return merged
    facts["unread"] += [row(each, b"", "it is on none of the drives that are here") for each in missing]
    if merged.exit_code != Exit.DONE:
        return merged
    error = as_error("FlashbackError", f"{', '.join(each.said for each in missing)} is on none of these drives", hint)
    return replace(merged, result="incomplete", exit_code=Exit.UNREAD, error=error, next_step=hint)
