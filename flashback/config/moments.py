"""What people type for a moment or a state: a date, an age, `latest`, the beginning of a name, `red:latest`. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from flashback.config.units import read_duration
from flashback.core.errors import UsageError
from flashback.core.text import parse_stamp, shown

LATEST: Final = "latest"
CURRENT: Final = "current"
_DATE: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?)?(Z| UTC)?", re.ASCII)
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]", re.ASCII)
_LONGER: Final = re.compile(r"(\d{1,4})([my])", re.ASCII)
_DAYS: Final = {"m": 30, "y": 365}
_PREFIX: Final = re.compile(r"\d{4,8}(?:T\d{0,6}Z?)?", re.ASCII)
_SHOWN: Final = 6
"""So many states are named to whoever named none of them."""


def moment(text: str, now: datetime, *, end: bool = False, zone: tzinfo | None = None) -> datetime:
    """A moment: `2026-05-02`, `2026-05-02 14:10` in this machine's time (`zone`), with `Z` or ` UTC` behind it in UTC;
    a snapshot's name; so long ago, as the configuration says it (`30min`, `12h`, `7d`, `2w`) or in months and years of
    30 and 365 days (`6m`, `1y`).

    With `end`, the end of the day, the minute or the second that was named. Returns it in UTC. Raises `UsageError`.
    """
    if (named := parse_stamp(text)) is not None:
        return named
    with suppress(ValueError, OverflowError, OSError):
        if (match := _DATE.fullmatch(text)) is not None:
            return _dated(match, end=end, zone=zone)
        if (longer := _LONGER.fullmatch(text)) is not None:
            return now - timedelta(days=int(longer[1]) * _DAYS[longer[2]])
        return now - read_duration(text)
    raise UsageError(
        f"{shown(text)} is no date",
        hint="for instance 2026-05-02, '2026-05-02 14:10' (this machine's time), or 7d for a week ago",
    )


def _dated(match: re.Match[str], *, end: bool, zone: tzinfo | None) -> datetime:
    parts = [int(part) for part in match.groups()[:6] if part is not None]
    step = {3: timedelta(days=1), 5: timedelta(minutes=1)}.get(len(parts), timedelta(seconds=1))
    begin = datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001 - the zone follows
    meant = begin + step - timedelta(seconds=1) if end else begin
    where = UTC if match[7] else zone
    return (meant.replace(tzinfo=where) if where else meant.astimezone()).astimezone(UTC)


def is_name(text: str) -> bool:
    """Whether it names a state by itself (`latest`, `current`, a name or the beginning of one), and no moment."""
    return text in {LATEST, CURRENT} or _PREFIX.fullmatch(text) is not None


def begun(text: str, names: Sequence[str]) -> str | None:
    """The one of these that begins so, or is it; `None` where none does. Raises `UsageError` where several do."""
    if text in names:
        return text
    found = sorted({each for each in names if each.startswith(text)}) if _PREFIX.fullmatch(text) else []
    if len(found) > 1:
        raise UsageError(f"{shown(text)} could be one of {len(found)} states", findings=found[:20])
    return found[0] if found else None


def drive_before(text: str, drives: Collection[str]) -> tuple[str, str]:
    """The drive that stands before a state (`red:latest`) and the rest; no drive (`""`) where there is none.

    `drives` are the names in small letters. Raises `UsageError` for a name that no drive has.
    """
    drive, colon, rest = text.partition(":")
    if colon and drive.lower() in drives:
        return drive.lower(), rest
    if colon and not _DAY.match(text):
        there = f"there are {', '.join(sorted(drives))}; " if drives else ""
        raise UsageError(f"there is no drive {shown(drive)}", hint=f"{there}`flashback drive list` shows all")
    return "", text


def listed(names: Sequence[str]) -> str:
    """The states there are, by name, the newest first; of many the newest ones and the oldest."""
    if len(names) <= _SHOWN:
        return ", ".join(names) or "no state"
    return f"{', '.join(names[: _SHOWN - 1])}, {len(names) - _SHOWN:,} more, {names[-1]}"
