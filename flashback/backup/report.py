"""What is asked of a run, and what came of it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from flashback.backup.copy import CopyResult
from flashback.backup.history import Touched
from flashback.backup.pins import Name
from flashback.backup.plan import Plan
from flashback.backup.room import Goes
from flashback.compare.guard import Hold
from flashback.core.events import UNREAD, Remark
from flashback.drive import journal
from flashback.health.scrub import ScrubReport
from flashback.rotation.values import RunResult
from flashback.tools import btrfs


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What was asked for. `full` compares both sides whatever is known; `allowed` names guards to be passed over.

    `unattended`: nobody asked for this run, a timer or a plug did. `waits`: until other drives have had their turn.
    """

    scrub: bool = False
    full: bool = False
    dry_run: bool = False
    allowed: Collection[str] = ()
    unattended: bool = False
    waits: bool = False


@dataclass(frozen=True, slots=True)
class LastWord:
    """How a run ended, as the drive's journal says it and the ledger, too, where the drive could be put away after it.

    `bytes_written` reached the device until then.
    """

    result: RunResult
    exit_code: int
    bytes_copied: int
    bytes_written: int
    seconds: float
    remarks: int


@dataclass(slots=True)
class Report:
    """What came of a run, as far as it got; filled step by step, so that it is true after any ending."""

    plan: Plan | None = None
    pruned: list[Goes] = field(default_factory=list)
    copies: dict[str, CopyResult] = field(default_factory=dict)
    snapshots: dict[str, str] = field(default_factory=dict)
    completed: dict[str, str] = field(default_factory=dict)
    touched: dict[str, Touched] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    scrub: ScrubReport | None = None
    sequence: int = 0
    held: tuple[Hold, ...] = ()
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    journal: tuple[journal.Line, ...] = ()
    pins: frozenset[Name] = frozenset()
    started: float = field(default_factory=time.monotonic)
    sync_seconds: float = 0.0
    space_after: btrfs.Space | None = None
    errors_after: Mapping[str, int] | None = None
    last_word: LastWord | None = None
    ended: datetime | None = None
    snapshots_after: list[tuple[str, str, datetime]] | None = None

    @property
    def seconds(self) -> float:
        """How long the run has taken so far."""
        return time.monotonic() - self.started

    @property
    def unread(self) -> tuple[Remark, ...]:
        """The files that could not be read or written."""
        return tuple(remark for remark in self.remarks if remark.kind in UNREAD)
