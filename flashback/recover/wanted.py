"""What a person asks for: a path as they know it, and the state it is to come from."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from flashback.config.masters import valid_name
from flashback.config.moments import LATEST, begun, is_name, moment
from flashback.config.values import Master
from flashback.core.errors import UsageError
from flashback.core.text import shown
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
    """Which state is meant: `latest`, the one of this name (`current` too) or whose name begins so, the newest one at a
    moment, or (with neither) the newest one that holds what is wanted.
    """

    snapshot: str = ""
    at: datetime | None = None

    def of(self, states: Sequence[State]) -> tuple[State, ...]:
        """Those that come into question, in the order of `states`: those of one master on one drive, newest first.

        Raises `UsageError` where the beginning of a name is that of several.
        """
        if self.snapshot == LATEST:
            return tuple(each for each in states if each.complete)[:1]
        if self.snapshot:
            name = begun(self.snapshot, [word for each in states for word in (each.mark, each.name)])
            return tuple(each for each in states if name in {each.name, each.mark})
        if self.at is not None:
            at = self.at
            return tuple(each for each in states if each.complete and each.moment is not None and each.moment <= at)
        return tuple(states)


def when(snapshot: str, at: str, now: datetime) -> When:
    """What `--snapshot` and `--at` say; a date or an age is taken by either. Raises `UsageError`."""
    if snapshot and at:
        raise UsageError("--snapshot and --at both say which state is meant", hint="use one of them")
    if at:
        return When(at=moment(at, now, end=True))
    if not snapshot or is_name(snapshot):
        return When(snapshot)
    try:
        return When(at=moment(snapshot, now, end=True))
    except UsageError:
        hint = "latest, current, a name or the beginning of one (`flashback snapshots` lists them), a date, or 7d"
        raise UsageError(f"{shown(snapshot)} is neither a state nor a date", hint=hint) from None


def wanted(text: str, masters: Sequence[Master], *, cwd: Path, others: Collection[str] = ()) -> Wanted:
    """What `text` names: an absolute path, one relative to `cwd`, or `documents:a/b`. Raises `UsageError`.

    `others` are masters that are not configured here, and of which a drive holds something. A file whose own name has a
    colon in it comes before MASTER:PATH if it is there, and before a master that nobody knows.
    """
    name, colon, rest = text.partition(":")
    known = {each.name: each.path for each in masters}
    inside = _inside(text, masters, cwd)
    if inside is not None and (not colon or os.path.lexists(cwd / text)):
        return inside
    if colon and (name in known or name in others or (inside is None and valid_name(name))):
        return Wanted(name, _relative(text, rest), known.get(name))
    if inside is not None:
        return inside
    here = ", ".join(f"{shown(str(each.path))} ({each.name})" for each in masters)
    hint = (
        f"the directories that are backed up: {here}" if here else "say it as MASTER:PATH, for instance documents:a/b"
    )
    path = os.path.normpath(cwd / text)
    raise UsageError(f"{shown(path)} lies in none of the directories that are backed up", hint=hint)


def _inside(text: str, masters: Sequence[Master], cwd: Path) -> Wanted | None:
    """As a path, in the master that it lies in."""
    path = os.path.normpath(cwd / text)
    real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    for each in sorted(masters, key=lambda master: -len(str(master.path))):
        for asked, home in ((path, os.path.normpath(each.path)), (real, os.path.realpath(each.path))):
            if asked == home or asked.startswith(home.rstrip("/") + "/"):
                return Wanted(each.name, os.fsencode(asked[len(home) :].strip("/")), each.path)
    return None


def _relative(text: str, rest: str) -> bytes:
    parts = [part for part in rest.split("/") if part not in {"", "."}]
    if ".." in parts or "\0" in rest:
        raise UsageError(f"{shown(text)} is no path below a master")
    return os.fsencode("/".join(parts))
