"""What a person asks for: a path as they know it, and the state it is to come from."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

from flashback.config.masters import valid_name
from flashback.config.values import Master
from flashback.core.errors import UsageError
from flashback.core.text import parse_stamp, shown
from flashback.drive.states import State


@dataclass(frozen=True, slots=True)
class Wanted:
    """`path` is relative to the master, `b""` is all of it; `home` is where the master lies here, if that is known."""

    master: str
    path: bytes = b""
    home: Path | None = None

    @property
    def name(self) -> bytes:
        """What to call it."""
        return self.path.rpartition(b"/")[2] or self.master.encode()

    @property
    def said(self) -> str:
        """`documents:photos/2.jpg`, safe to print."""
        return f"{self.master}:{shown(self.path)}" if self.path else f"all of {self.master}"


@dataclass(frozen=True, slots=True)
class When:
    """Which state is meant: the one of this name (`current` too), the newest one at a moment, or the newest one."""

    snapshot: str = ""
    at: datetime | None = None

    def of(self, states: Sequence[State]) -> tuple[State, ...]:
        """Those that come into question, in the order of `states`."""
        if self.snapshot:
            return tuple(each for each in states if self.snapshot in {each.name, each.mark})
        if self.at is not None:
            at = self.at
            return tuple(each for each in states if each.complete and each.moment is not None and each.moment <= at)
        return tuple(states)


def wanted(text: str, masters: Sequence[Master], *, cwd: Path) -> Wanted:
    """What `text` names: `documents:a/b`, an absolute path, or one relative to `cwd`. Raises `UsageError`."""
    name, colon, rest = text.partition(":")
    known = {each.name: each.path for each in masters}
    if colon and (name in known or (valid_name(name) and not os.path.lexists(cwd / text))):
        return Wanted(name, _relative(text, rest), known.get(name))
    path = os.path.normpath(cwd / text)
    real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    for each in sorted(masters, key=lambda master: -len(str(master.path))):
        for asked, home in ((path, os.path.normpath(each.path)), (real, os.path.realpath(each.path))):
            if asked == home or asked.startswith(home.rstrip("/") + "/"):
                return Wanted(each.name, os.fsencode(asked[len(home) :].strip("/")), each.path)
    here = ", ".join(f"{shown(str(each.path))} ({each.name})" for each in masters)
    hint = (
        f"the directories that are backed up: {here}" if here else "say it as MASTER:PATH, for instance documents:a/b"
    )
    raise UsageError(f"{shown(path)} lies in none of the directories that are backed up", hint=hint)


def _relative(text: str, rest: str) -> bytes:
    parts = [part for part in rest.split("/") if part not in {"", "."}]
    if ".." in parts or "\0" in rest:
        raise UsageError(f"{shown(text)} is no path below a master")
    return os.fsencode("/".join(parts))


_FORMS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d")


def moment(text: str, *, zone: tzinfo | None = None) -> datetime:
    """The end of what `text` names: a day, a minute, a second; in `zone` (the machine's own), with `Z` in UTC.

    A snapshot's name is a moment too. Raises `UsageError`.
    """
    stamped = parse_stamp(text)
    if stamped is not None:
        return stamped
    utc = text.removesuffix("Z")
    for form in _FORMS:
        if not re.fullmatch(r"[0-9T: -]+", utc):
            break
        with suppress(ValueError, OverflowError, OSError):
            found = datetime.strptime(utc, form)  # noqa: DTZ007 - the zone follows
            last = found + {10: timedelta(days=1), 16: timedelta(minutes=1)}.get(len(utc), timedelta(seconds=1))
            where = UTC if utc != text else zone
            aware = last.replace(tzinfo=where) if where else last.astimezone()
            return aware.astimezone(UTC) - timedelta(seconds=1)
    raise UsageError(
        f"{shown(text)} is no date", hint="for instance 2026-01-31, or '2026-01-31 14:00' (this machine's time)"
    )
