"""A scrub: every block that is in use is read back and held against its blake2 checksum."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from flashback.core.context import Context
from flashback.core.errors import NotFinished
from flashback.core.events import Progress, Step, StepBegun, StepDone
from flashback.core.text import number, size
from flashback.drive.session import OpenDrive
from flashback.rotation.values import ScrubRecord
from flashback.tools import btrfs, cryptsetup
from flashback.tools.kernel_log import KernelLog

FOUND_BY_READING: Final = frozenset({"read_errs", "corruption_errs", "generation_errs"})
"""The drive's own counters that a scrub moves when it finds damage (Linux, fs/btrfs/scrub.c)."""


@dataclass(frozen=True, slots=True)
class ScrubReport:
    """What came of it. `damaged` are names relative to the drive, as far as the kernel log told them."""

    counts: btrfs.ScrubCounts
    damaged: tuple[bytes, ...]
    seconds: float
    begun: datetime
    ended: datetime

    @property
    def found_damage(self) -> bool:
        """Something on the drive could not be read back as it was written, and no second copy healed it.

        All counters together, since a read-only scrub counts nothing as uncorrectable (seen on Linux 6.1).
        """
        counts = self.counts
        errors = counts.csum_errors + counts.read_errors + counts.verify_errors + counts.super_errors
        return counts.uncorrectable > 0 or errors > counts.corrected

    @property
    def bytes_read(self) -> int:
        """How much was read."""
        return self.counts.data_bytes + self.counts.tree_bytes

    def as_json(self) -> dict[str, Any]:
        """For the journal and `--json` (docs/reference/json.md)."""
        return {
            "bytes": self.bytes_read,
            "seconds": round(self.seconds, 1),
            "csum_errors": self.counts.csum_errors,
            "read_errors": self.counts.read_errors,
            "uncorrectable": self.counts.uncorrectable,
            "corrected": self.counts.corrected,
            "damaged": [os.fsdecode(name) for name in self.damaged[:1000]],
        }

    def record(self, drive_uuid: str) -> ScrubRecord:
        """For the ledger."""
        return ScrubRecord(
            drive_uuid=drive_uuid,
            begun=self.begun,
            ended=self.ended,
            finished=True,
            bytes_read=self.bytes_read,
            corrected=self.counts.corrected,
            uncorrectable=self.counts.uncorrectable,
            damaged_files=len(self.damaged),
        )

    def sentence(self) -> str:
        """What a person reads."""
        read = f"{size(self.bytes_read)} read"
        if self.found_damage:
            return f"{read}, DAMAGE: {number(self.counts.uncorrectable, 'error')} that could not be repaired"
        if self.counts.corrected:
            return f"{read}, {number(self.counts.corrected, 'error')} repaired from the second copy"
        return f"{read}, no damage"


def scrub(context: Context, drive: OpenDrive) -> ScrubReport:
    """Scrub the open drive. Damage is in the report, not an exception.

    Raises `DriveGone` when the drive was pulled out meanwhile: what it then could not read is no damage.
    """
    used = btrfs.space(drive.mount_point, drive.filesystem)
    total = used.data_used + used.metadata_used
    context.tell(StepBegun(Step.SCRUB, f"{drive.known.name}, {size(total)}"))
    begun, begun_at = time.monotonic(), context.clock()
    with KernelLog.from_now() as log, _no_surprises(drive):
        counts = btrfs.Scrub(drive.root, read_only=drive.read_only).run(
            lambda done, of: context.tell(Progress(Step.SCRUB, done, of)), drive.watch, total
        )
        drive.watch()
        _accounted_for(drive)
        damaged = _damaged(drive, log) if counts.csum_errors or counts.read_errors else ()
    report = ScrubReport(counts, damaged, time.monotonic() - begun, begun_at, context.clock())
    context.tell(StepDone(Step.SCRUB, report.seconds, report.sentence()))
    return report


def _accounted_for(drive: OpenDrive) -> None:
    """What the scrub found is in its report: it must not look like a failure of what is written afterwards."""
    now = btrfs.error_counts(drive.filesystem)
    drive.errors_before = {**drive.errors_before, **{key: now[key] for key in FOUND_BY_READING & now.keys()}}


def _damaged(drive: OpenDrive, log: KernelLog) -> tuple[bytes, ...]:
    """The damaged files as paths on the drive: the log names them from the top of their subvolume."""
    tops = _subvolumes(drive)
    files = log.damaged(cryptsetup.mapper_path(drive.mapping))
    return tuple(dict.fromkeys(tops.get(each.root, b"?") + b"/" + each.path for each in files))


def _subvolumes(drive: OpenDrive) -> dict[int, bytes]:
    """Subvolume numbers with their paths on the drive."""
    found = {}
    for path in (p for pattern in ("*/current", "*/snapshots/*") for p in drive.mount_point.glob(pattern)):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                found[btrfs.subvolume(descriptor).id] = os.fsencode(path.relative_to(drive.mount_point))
            finally:
                os.close(descriptor)
    return found


@contextmanager
def _no_surprises(drive: OpenDrive) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        drive.watch()
        raise NotFinished(
            f"{drive.known.name} could not be scrubbed: {problem.strerror}",
            hint=f"check the cable and the port, then: flashback run {drive.known.name} --scrub",
        ) from problem
