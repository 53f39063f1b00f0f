"""What a long piece of work says while it goes on: values, made below, shown by `flashback.tell`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from flashback.core.errors import DriveState, Exit


class Step(StrEnum):
    """The steps that people see, in the order in which they come."""

    SEE = "see"
    PARTITION = "partition"
    FORMAT = "format"
    OPEN = "open"
    PLAN = "plan"
    PRUNE = "prune"
    SNAPSHOT = "snapshot"
    MOVE = "move"
    COPY = "copy"
    DELETE = "delete"
    SYNC = "sync"
    SCRUB = "scrub"
    RESTORE = "restore"
    VERIFY = "verify"
    CLOSE = "close"


class RemarkKind(StrEnum):
    """Why something is worth saying although the run is no failure (or why a file counts as unread)."""

    DANGLING_LINK = "dangling-link"
    LOOPING_LINK = "looping-link"
    SPECIAL_FILE = "special-file"
    VANISHED = "vanished"
    UNREADABLE = "unreadable"
    UNWRITABLE = "unwritable"
    NAME_TOO_LONG = "name-too-long"
    GENERAL = "general"


UNREAD = frozenset({RemarkKind.UNREADABLE, RemarkKind.UNWRITABLE, RemarkKind.NAME_TOO_LONG})
"""The kinds that make a finished run end with exit code 11."""


@dataclass(frozen=True, slots=True)
class Remark:
    """`path` is relative to the master, as bytes from the file system; `detail` is for people."""

    kind: RemarkKind
    master: str = ""
    path: bytes = b""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StepBegun:
    """A step begins; `detail` says on what."""

    step: Step
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step is over, after so many seconds; `detail` says what came of it."""

    step: Step
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """Within a step: bytes and files, done and in all; `None` where the total is not known."""

    step: Step
    bytes_done: int
    bytes_total: int | None = None
    files_done: int = 0
    files_total: int | None = None
    current: bytes = b""


@dataclass(frozen=True, slots=True)
class Remarked:
    """Something worth saying."""

    remark: Remark


@dataclass(frozen=True, slots=True)
class Note:
    """One line for the person that belongs to no step: waiting for a drive, touch your key.

    `waiting`: nothing goes on until others have finished.
    """

    text: str
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """The plan as a JSON-ready object (docs/reference/json.md)."""

    plan: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event. `facts` is JSON-ready (counts, bytes, seconds); `lines` are the same for people.

    `result` is `complete`, `incomplete`, `held`, `failed` or `nothing-to-do`. `safe_to_remove` is said only after the
    mapping was seen to be gone and the device was flushed.
    """

    result: str
    exit_code: Exit | int
    drive: str
    drive_state: DriveState
    safe_to_remove: bool
    facts: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    next_step: str = ""


Event = StepBegun | StepDone | Progress | Remarked | Note | Planned | Finished
Tell = Callable[[Event], None]
