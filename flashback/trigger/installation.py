"""`enable` and `disable`: what has to change on this machine, as a plan; then the deed."""

from __future__ import annotations

import contextlib
import os
import pwd
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from flashback.core.command import Runner
from flashback.core.errors import FlashbackError, Missing, UsageError
from flashback.core.text import shown
from flashback.tools import systemctl, udev
from flashback.trigger.pieces import MARK, PIECES, Piece, content

TIMER: Final = "flashback-remind.timer"
WATCH: Final = "flashback-watch.service"
_LARGEST: Final = 256 * 1024
_MADE: Final = ".made-by-flashback"
"""Lies in a directory that was not there before: polkit may not be installed, and its folder not exist."""


class Change(StrEnum):
    """What becomes of a file."""

    WRITE = "written"
    UPDATE = "updated"
    REMOVE = "removed"
    NONE = "unchanged"


class State(StrEnum):
    """How a file of ours is."""

    MISSING = "missing"
    CURRENT = "current"
    OLD = "old"


@dataclass(frozen=True, slots=True)
class Step:
    """One file and what becomes of it; `text` is its new content."""

    path: Path
    change: Change
    text: str = ""

    def as_json(self) -> dict[str, Any]:
        """For scripts (docs/reference/json.md)."""
        return {"path": str(self.path), "change": self.change.value, "content": self.text}


class Unseen(Missing):
    """Only root may look there."""


def placed(path: Path, root: Path) -> Path:
    """A place on the machine below another root directory (tests, packagers)."""
    return root / path.relative_to("/")


def look(piece: Piece, command: str, root: Path = Path("/")) -> State:
    """Whether a file is there and is what `enable` would write. Raises `UsageError` for somebody else's file."""
    there = _read(placed(piece.target, root))
    if there is None:
        return State.MISSING
    linked = piece.link is None or os.path.lexists(placed(piece.link, root))
    return State.CURRENT if there == content(piece, command) and linked else State.OLD


def plan_enable(command: str, root: Path = Path("/"), pieces: Sequence[Piece] = PIECES) -> tuple[Step, ...]:
    """What `enable` changes. Raises `UsageError` where a file of another's stands in the way, `Missing`."""
    changes = {State.MISSING: Change.WRITE, State.OLD: Change.UPDATE, State.CURRENT: Change.NONE}
    return tuple(Step(piece.target, changes[look(piece, command, root)], content(piece, command)) for piece in pieces)


def plan_disable(root: Path = Path("/"), pieces: Sequence[Piece] = PIECES) -> tuple[Step, ...]:
    """What `disable` removes, the rule first: whatever of ours is there, written by whichever installation."""
    steps = []
    for piece in reversed(pieces):
        ours = _read(placed(piece.target, root)) is not None
        linked = piece.link is not None and os.path.lexists(placed(piece.link, root))
        steps.append(Step(piece.target, Change.REMOVE if ours or linked else Change.NONE))
    return tuple(steps)


def _read(path: Path) -> str | None:
    """The text of a file of ours; `None` where there is none. Raises `UsageError` where it is somebody else's,
    `Unseen` where we may not look.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except PermissionError as problem:  # polkit's folder is closed to all but root and polkit
        raise Unseen(f"only root can see whether {shown(str(path))} is there") from problem
    except OSError as problem:
        raise _foreign(path) from problem
    try:
        with open(descriptor, "rb") as file:
            text = file.read(_LARGEST).decode("utf-8", "surrogateescape")
    except OSError as problem:  # a directory, for instance
        raise _foreign(path) from problem
    if MARK not in text:
        raise _foreign(path)
    return text


def _foreign(path: Path) -> UsageError:
    return UsageError(
        f"{shown(str(path))} was not made by Flashback", hint="look at it, and move it away; nothing was changed"
    )


def enable(run: Runner, steps: Sequence[Step], root: Path = Path("/"), pieces: Sequence[Piece] = PIECES) -> list[str]:
    """Write what the plan says, and make udev and systemd see it. Returns what could not be made to take effect.

    They are told also where every file was there: an earlier call may have been cut off, or not been listened to.
    """
    links = {piece.target: piece.link for piece in pieces}
    for step in steps:
        target = placed(step.path, root)
        if step.change is not Change.NONE:
            _write(target, step.text)
        link = links.get(step.path)
        if link is not None and not os.path.lexists(placed(link, root)):
            placed(link, root).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            placed(link, root).symlink_to(step.path)
    failed = take_effect(run)
    _timer(run, "start")
    # what asks somebody just now is ended only for a new one
    verb = "start" if all(step.change is Change.NONE for step in steps) else "restart"
    tell_sessions(run, ("daemon-reload",), (verb, WATCH))
    return failed


def disable(run: Runner, steps: Sequence[Step], root: Path = Path("/"), pieces: Sequence[Piece] = PIECES) -> list[str]:
    """Remove what the plan says. Returns what could not be made to take effect. May be called twice."""
    links = {piece.target: piece.link for piece in pieces}
    removed = [step for step in steps if step.change is Change.REMOVE]
    if not removed:
        return []
    tell_sessions(run, ("stop", WATCH))
    _timer(run, "stop")
    for step in removed:
        link = links.get(step.path)
        for path in (placed(step.path, root), *([placed(link, root)] if link else [])):
            path.unlink(missing_ok=True)
        if link is not None:
            with contextlib.suppress(OSError):  # others have their links there
                placed(link, root).parent.rmdir()
    for step in removed:
        _unmake(placed(step.path, root).parent)
    failed = take_effect(run)
    with contextlib.suppress(FlashbackError):  # a unit that failed is remembered although its file is gone
        systemctl.tell(run, "reset-failed", "flashback-*")
    tell_sessions(run, ("daemon-reload",))
    return failed


def _make(folder: Path) -> None:
    """The directory, and those above it; one that was not there is marked, so that `disable` knows it as ours."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir()
        folder.chmod(0o755)
        (folder / _MADE).touch()
        (folder / _MADE).chmod(0o644)


def _unmake(folder: Path) -> None:
    """Remove the directory if we made it and nobody else has put anything there, then those above it."""
    with contextlib.suppress(OSError):
        while (folder / _MADE).is_file():
            (folder / _MADE).unlink()
            folder.rmdir()
            folder = folder.parent


def _write(target: Path, text: str) -> None:
    """The file whole or not at all, 0644 whatever the umask, on the disk before it is believed."""
    _make(target.parent)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _timer(run: Runner, verb: str) -> None:
    """Now, too, and not only from the next start of the machine on."""
    with contextlib.suppress(FlashbackError):
        systemctl.tell(run, verb, TIMER)


def tell_sessions(run: Runner, *words: tuple[str, ...], sessions: Path = Path("/run/user")) -> None:
    """Tell the managers of those who are logged in; the next log-in sees the files anyway, so no answer is needed."""
    for folder in sorted(sessions.glob("[0-9]*/systemd/private")):
        try:
            user = pwd.getpwuid(int(folder.parents[1].name)).pw_name
            for each in words:
                systemctl.in_session(run, user, *each)
        except (KeyError, ValueError, FlashbackError):
            continue


def take_effect(run: Runner) -> list[str]:
    """Have udev and systemd read their files anew. Returns a sentence for each that could not be told."""
    failed = []
    for who, tell in (("systemd", systemctl.reload), ("udev", udev.reload)):
        try:
            tell(run)
        except Missing as problem:
            failed.append(f"{who} could not be told: {problem.what}")
        except FlashbackError as problem:
            failed.append(
                f"{who} did not read its files anew: {problem.what}. It will at the next start of the machine"
            )
    return failed
