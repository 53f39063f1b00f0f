"""What can go wrong, as data. Sentences for people are made from it in `flashback.tell`.

Every error says *what* happened and *what to do next* (`hint`); the state of the drive is added by whoever
unwinds (`flashback.core.stack`), since only then is it known.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, StrEnum
from typing import ClassVar


class Exit(IntEnum):
    """The published exit codes; never reused (docs/reference/exit-codes.md)."""

    DONE = 0
    UNEXPECTED = 1
    USAGE = 2
    LOCKED = 3
    DRIVE = 4
    PASSPHRASE = 5
    MISSING = 6
    NOT_FINISHED = 10
    UNREAD = 11
    STILL_HELD = 12
    HELD_BY_GUARD = 13
    DAMAGE = 14
    NO_SPACE = 15
    OVERDUE = 20


class DriveState(StrEnum):
    """What a person must know about the drive after any ending. `OPEN`: it is, and that is as it should be."""

    NOT_INVOLVED = "not-involved"
    NOT_OPENED = "not-opened"
    CLOSED = "closed"
    OPEN = "open"
    GONE = "gone"
    STILL_HELD = "still-held"
    UNKNOWN = "unknown"


class FlashbackError(Exception):
    """The root of everything that Flashback raises on purpose.

    `what` is one sentence without a full stop, `hint` says what to do next, `findings` are further lines
    (for instance every finding in a configuration file).
    """

    exit_code: ClassVar[Exit] = Exit.UNEXPECTED

    def __init__(self, what: str, *, hint: str = "", findings: Sequence[str] = ()) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.findings = tuple(findings)
        self.drive_state = DriveState.NOT_INVOLVED
        self.held: tuple[str, ...] = ()


class UsageError(FlashbackError):
    """The command line asks for something that cannot be meant."""

    exit_code = Exit.USAGE


class ConfigError(FlashbackError):
    """The configuration cannot be used; `findings` are `file:line:column: path: what is wrong`."""

    exit_code = Exit.USAGE


class Locked(FlashbackError):
    """Another run holds the lock."""

    exit_code = Exit.LOCKED


class DriveError(FlashbackError):
    """The drive is not there, not known, or not the drive it claims to be."""

    exit_code = Exit.DRIVE


class PassphraseRefused(FlashbackError):
    """No key slot was opened by what was given."""

    exit_code = Exit.PASSPHRASE


class Missing(FlashbackError):
    """A program, kernel feature or privilege is missing."""

    exit_code = Exit.MISSING


class NotFinished(FlashbackError):
    """The run stopped half-way; the next one carries on."""

    exit_code = Exit.NOT_FINISHED


class DriveGone(NotFinished):
    """The device vanished while it was in use."""


class StillHeld(FlashbackError):
    """Something could not be given back: a mount or a mapping is still there."""

    exit_code = Exit.STILL_HELD

    def __init__(self, held: Sequence[str], *, hint: str = "") -> None:
        super().__init__("; ".join(held), hint=hint)
        self.held = tuple(held)
        self.drive_state = DriveState.STILL_HELD


class HeldByGuard(FlashbackError):
    """A guard wants a person; nothing was written. `holds` are the guards' names."""

    exit_code = Exit.HELD_BY_GUARD

    def __init__(self, what: str, *, holds: Sequence[str], hint: str = "", findings: Sequence[str] = ()) -> None:
        super().__init__(what, hint=hint, findings=findings)
        self.holds = tuple(holds)


class DamageFound(FlashbackError):
    """The drive returned data that does not match its checksums."""

    exit_code = Exit.DAMAGE


class NoSpace(FlashbackError):
    """The drive is full and nothing more may be removed."""

    exit_code = Exit.NO_SPACE
