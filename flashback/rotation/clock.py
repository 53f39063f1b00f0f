"""Whether this machine's clock can be right (DESIGN 7.8): pure, the time is handed in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from flashback.core.text import age, duration, rfc3339
from flashback.rotation.values import RunRecord, RunResult

SLACK: Final = timedelta(minutes=5)
"""How far a clock may step back without a word: a cold clock that is corrected a moment after the boot."""

LONGEST_PAUSE: Final = timedelta(days=5 * 365)
"""Longer than this after the last run and after the build, a date is taken for a clock that has run away."""


def impossible(now: datetime, *, last_run: datetime | None, built: datetime) -> str | None:
    """Why `now` cannot be true, as a sentence, or `None` when it can.

    `last_run` is the end of the run with the highest sequence number (not the latest date: one run under a wrong
    clock that a person allowed must not hold all those after it); `built` is when this program was made.
    """
    if now < built - timedelta(days=1):  # a day: who builds may be ahead of UTC and note only the date
        return f"the clock says {rfc3339(now)}, which is before this program was built ({rfc3339(built)})"
    if last_run is not None and now < last_run - SLACK:
        return f"the clock says {rfc3339(now)}, which is before the last run ({rfc3339(last_run)})"
    reference = built if last_run is None else max(last_run, built)
    if now > reference + LONGEST_PAUSE:
        since = "this program was built" if reference == built else "the last run"
        return f"the clock says {rfc3339(now)}, which is more than five years after {since} ({rfc3339(reference)})"
    return None


def too_soon(now: datetime, runs: Sequence[RunRecord], every: timedelta) -> str | None:
    """Why a drive is not to be run again without a person, or `None`. `runs` are its own, newest first.

    Only a run that came to its end counts: one that was broken off is to be carried on.
    """
    ended = next((run.ended for run in runs if run.ended and run.result in _ENDED), None)
    if ended is None or not timedelta() <= now - ended < every:
        return None
    often = duration(every.total_seconds())
    return f"the last run ended {age(ended, now)}; without a person there is at most one in {often}"


_ENDED: Final = frozenset({RunResult.COMPLETE, RunResult.NOTHING_TO_DO})
