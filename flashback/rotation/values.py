"""What the rotation knows, as frozen values. Moments are aware, in UTC and whole seconds; sizes are bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from flashback.config.values import OnPlug

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
LONGEST_PLACE: Final = 80

HOME: Final = "home"
POCKET: Final = "pocket"
"""The places with a meaning (docs/explanation/exposure.md); the first word of a place counts, so that
`home: top drawer` is at home. Any other text is a place away from home; no text is home."""


def valid_name(name: str) -> bool:
    """Whether a drive may be called that: it appears in mapping names, labels, unit names and paths."""
    return _NAME.fullmatch(name) is not None


def valid_place(place: str) -> bool:
    """Whether a place can be shown in a table and a sentence: one short line of printable text, or nothing."""
    return len(place) <= LONGEST_PLACE and place.isprintable() and place == place.strip()


class Standing(StrEnum):
    """Whether a drive still counts."""

    ACTIVE = "active"
    RETIRED = "retired"
    LOST = "lost"


class RunResult(StrEnum):
    """How a run ended, in the words of `run --json` (DESIGN part 6)."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    HELD = "held"
    FAILED = "failed"
    NOTHING_TO_DO = "nothing-to-do"


@dataclass(frozen=True, slots=True)
class KnownDrive:
    """A drive of the rotation. `uuid` is the LUKS UUID; `header_digest` covers the first `header_length` bytes.

    `masters` are the names of those it carries, `None` for all; `on_plug` `None` is what the configuration says;
    `passphrase` is where it comes from (`drive.source`).
    """

    uuid: str
    name: str
    header_digest: str
    header_length: int
    enrolled: datetime
    size: int = 0
    model: str = ""
    serial: str = ""
    place: str = ""
    masters: tuple[str, ...] | None = None
    on_plug: OnPlug | None = None
    standing: Standing = Standing.ACTIVE
    filesystem_uuid: str = ""
    partition_uuid: str = ""
    passphrase: str = "ask"  # noqa: S105 - where it comes from

    def carries(self, master: str) -> bool:
        """Whether this master is meant to be on the drive."""
        return self.masters is None or master in self.masters


@dataclass(frozen=True, slots=True)
class MasterCounts:
    """What a run did with one master. `completed` is when its copy was proven complete, `None` when it was not.

    A copy with `unread` files is complete for the next run, but does not make the backup of that master younger.
    """

    master: str
    completed: datetime | None = None
    unread: int = 0
    files_added: int = 0
    files_changed: int = 0
    files_deleted: int = 0
    files_unchanged: int = 0
    bytes_added: int = 0
    bytes_changed: int = 0
    bytes_deleted: int = 0
    bytes_unchanged: int = 0


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run. `ended`, `result` and `exit_code` are `None` as long as it goes on, and for ever if it was killed.

    `bytes_copied` went through rsync, `bytes_written` reached the device; `seconds` by the monotonic clock.
    """

    drive_uuid: str
    sequence: int
    run_id: str
    machine: str
    begun: datetime
    ended: datetime | None = None
    result: RunResult | None = None
    exit_code: int | None = None
    masters: tuple[MasterCounts, ...] = ()
    bytes_copied: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    unread: int = 0
    remarks: int = 0
    holds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Backup:
    """A master is whole on a drive: everything in it at `begun` is there; the copy was complete at `completed`."""

    drive_uuid: str
    master: str
    sequence: int
    begun: datetime
    completed: datetime


@dataclass(frozen=True, slots=True)
class ScrubRecord:
    """One scrub. `finished` is false when it was stopped before it had read everything."""

    drive_uuid: str
    begun: datetime
    ended: datetime
    finished: bool
    bytes_read: int = 0
    corrected: int = 0
    uncorrectable: int = 0
    damaged_files: int = 0


class ProofKind(StrEnum):
    """How something was proven: the copy compared with its master, or versions read out of snapshots.

    `DIFFERING` says how many files had another content than they should, with right checksums: no scrub finds these.
    A verification of everything says so where there are none, too.
    """

    COMPARED = "compared"
    DRILLED = "drilled"
    DIFFERING = "differing"


@dataclass(frozen=True, slots=True)
class ProofRecord:
    """What a verification proved: so many `files` with so many `bytes`, of `total` bytes that there were (0: unknown).

    `damaged` files were found not to be as they should be.
    """

    drive_uuid: str
    at: datetime
    kind: ProofKind
    files: int
    bytes: int
    total: int = 0
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class Written:
    """So many bytes of the copies on a drive a run wrote anew, of `total` that they had in the end."""

    at: datetime
    fresh: int
    total: int


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """The drive's error counters at a moment, by the names Btrfs gives them (`btrfs device stats`)."""

    drive_uuid: str
    at: datetime
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpaceRecord:
    """How large the drive's file system was and how much of it was free."""

    drive_uuid: str
    at: datetime
    size: int
    free: int


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """A snapshot as last seen on its drive. `bytes` is what its removal would free, where that was measured.

    `sequence` is the run that completed this state, `None` where no record of that run is left.
    """

    drive_uuid: str
    master: str
    name: str
    completed: datetime
    pinned: bool = False
    bytes: int | None = None
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class SnapshotSpan:
    """How many snapshots a drive holds and how far back they go."""

    count: int
    oldest: datetime
    newest: datetime


@dataclass(frozen=True, slots=True)
class HoldRecord:
    """A guard's hold. While one stands (`lifted` is `None`), unattended runs hold on every drive."""

    drive_uuid: str
    run_id: str
    hold: str
    why: str
    stood: datetime
    lifted: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """A person let a hold pass: the state of the master that they accepted, in files, bytes and damaged files."""

    master: str
    hold: str
    at: datetime
    files: int
    bytes: int
    damaged: int
