"""Taking snapshots off an open drive, and waiting until their space is really free again."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

from flashback.backup import room
from flashback.backup.last_copies import Rotation, only_here
from flashback.backup.pins import Name
from flashback.backup.plan import Plan, snapshots_of
from flashback.backup.record import ballast_missing
from flashback.backup.room import SLACK, Candidates, Goes, Missing, Need, missing
from flashback.config.values import Keep
from flashback.core.context import Context
from flashback.core.errors import DriveError, NoSpace, NotFinished
from flashback.core.events import Progress, Step, StepBegun, StepDone
from flashback.core.text import number, size
from flashback.drive import journal, layout
from flashback.drive.commit import commit
from flashback.drive.session import OpenDrive, prove_destination
from flashback.tools import btrfs, btrfs_delete, btrfs_trees, cryptsetup

PACE: Final = 0.05
"""Seconds between two looks at what is being given back."""
CHUNKS: Final = 64
"""Times `SLACK`: with less than that unallocated, metadata may find no room although data has it."""
LOOKS: Final = 40
"""So often that is tried: the kernel may do it itself meanwhile, a moment after the space was given back."""
SHARE: Final = 100
"""When a copy has found the drive full, room is made for a hundredth of it at a time at least."""


LESS: Final = (
    "exclude something, or use a larger drive; `flashback run {drive} --dry-run` names the largest directories"
)
T = TypeVar("T")


class Write(Protocol):
    """Adds a line about a snapshot to the journal."""

    def __call__(self, mark: journal.Mark, master: str, name: str, /, *, facts: dict[str, Any]) -> None:
        """Raises `NoSpace` and what else stops the work."""


def with_room(
    drive: OpenDrive,
    plan: Plan,
    *,
    keep: Keep,
    lines: Sequence[journal.Line],
    pins: Collection[Name],
    now: datetime,
    rotation: Rotation,
) -> Plan:
    """The plan of a run with what is to make way for it; of the snapshots of its masters and no others."""
    names = {
        each.master.name: {*snapshots_of(drive, each.master.name), *filter(None, [each.snapshot])}
        for each in plan.masters
    }
    decided = room.decisions(names, journal.completed_by(lines), pins, keep, now)
    need = room.need_of([each.changes for each in plan.masters], ballast=ballast_missing(drive))
    reserve = 0 if plan.is_empty else room.reserve_of(keep, plan.space.size)
    made = room.plan(
        plan.space, need, reserve, room.in_order(decided), lambda goes: measured(drive, arranged(rotation, goes))
    )
    return replace(plan, room=made)


def arranged(rotation: Rotation, goes: Sequence[Goes]) -> tuple[Goes, ...]:
    """The same, with those that hold the last of a file in the whole rotation behind all others."""
    last = only_here(rotation, [(each.master, each.name) for each in goes])
    return tuple(sorted(goes, key=lambda each: (each.master, each.name) in last))


def refuse_hopeless(plan: Plan, name: str) -> None:
    """Raise `NoSpace` where the plan does not fit whatever goes; not one byte was written, and nothing went."""
    if plan.room.hopeless:
        count = len(plan.room.further)
        may_go = f"{number(count, 'snapshot')} could go, which would not be enough" if count else "no snapshot may go"
        raise NoSpace(
            f"{name} has {size(plan.space.free_estimate)} free, and {size(plan.needed)} are to be copied; {may_go}, so "
            "nothing was removed or written",
            hint=LESS.format(drive=name),
        )


def measured(drive: OpenDrive, goes: Sequence[Goes]) -> Candidates:
    """The same with what each frees after those before it. Reads all trees of the drive once, and writes nothing.

    Where the trees cannot be read, without. Raises what `drive.watch` and `commit` raise.
    """
    if not goes:
        return Candidates()
    if not drive.read_only:
        commit(drive)  # the trees on the medium are what is read
    device = cryptsetup.mapper_path(drive.mapping)
    try:
        numbers = [_number(drive, each) for each in goes]
        found = btrfs_trees.freed(device, numbers, watch=drive.watch)
    except DriveError:
        return Candidates(tuple(goes), measured=False)
    known = tuple(replace(each, freed=freed) for each, freed in zip(goes, found.freed, strict=True))
    return Candidates(known, found.ratio)


def _number(drive: OpenDrive, each: Goes) -> int:
    with (
        layout.directory(drive.root, each.master) as folder,
        layout.directory(folder, layout.SNAPSHOTS) as snapshots,
        layout.directory(snapshots, each.name) as opened,
    ):
        return btrfs.subvolume(opened).id


class Pruning:
    """Removes what goes, and what could go further where that was not enough. `removed` is true after any ending."""

    def __init__(
        self,
        context: Context,
        drive: OpenDrive,
        write: Write,
        *,
        further: Sequence[Goes] = (),
        arrange: Callable[[Sequence[Goes]], Sequence[Goes]] = tuple,
        pinned: Callable[[], Collection[Name]] = frozenset,
    ) -> None:
        self.context = context
        self.drive = drive
        self.write = write
        self.further = list(further)
        self.arrange: Callable[[Sequence[Goes]], Sequence[Goes]] | None = arrange
        self.pinned = pinned
        self._tidied = False
        self.removed: list[Goes] = []

    def remove(self, goes: Sequence[Goes]) -> None:
        """Remove them, in this order; when this returns, their space is free and that is on the medium.

        What somebody has pinned since the plan was made stays. Raises `DriveError` where one is none of ours,
        `DriveGone`, `NotFinished`, `NoSpace`.
        """
        pinned = self.pinned() if goes else ()
        goes = [each for each in goes if (each.master, each.name) not in pinned]
        if not goes:
            return
        self.context.tell(StepBegun(Step.PRUNE, number(len(goes), "snapshot")))
        begun, before = time.monotonic(), self._used()
        prove_destination(self.drive)
        numbers = [self._remove(each) for each in goes]
        commit(self.drive)
        wait_deleted(
            self.drive, numbers, lambda: self.context.tell(Progress(Step.PRUNE, max(0, before - self._used())))
        )
        commit(self.drive)
        for each in goes:
            with suppress(NoSpace):  # that it is gone can be seen
                self.write(journal.Mark.PRUNED, each.master, each.name, facts=_facts(each))
        freed = max(0, before - self._used())
        done = f"{number(len(goes), 'snapshot')}, {size(freed)} free again"
        self.context.tell(StepDone(Step.PRUNE, time.monotonic() - begun, done))

    def more(self) -> bool:
        """The drive is full: remove what may still go until there is some room; false when there is nothing."""
        if self.arrange is not None:
            self.further, self.arrange = list(self.arrange(self.further)), None
        if not self._tidied:
            self._tidied = True  # once: what a copy that failed leaves behind may be such a chunk each time
            if self._chunks_given_back():
                return True
        before = len(self.removed)
        while self.further and (len(self.removed) == before or not self._some_room()):
            self.remove([self.further.pop(0)])
            self._chunks_given_back()
        return len(self.removed) > before

    def _chunks_given_back(self) -> bool:
        """Where nothing is left that could become metadata, empty chunks of data are made free for it."""
        before = self._space().unallocated
        if before >= SLACK * CHUNKS:
            return False
        for _ in range(LOOKS):
            if btrfs_delete.give_back_chunks(self.context.run, self.drive.mount_point):
                break
            commit(self.drive)
            btrfs_delete.clean_up(self.drive.root)
            time.sleep(PACE)
        return self._space().unallocated > before

    def roomy(self, work: Callable[[], T]) -> T:
        """Do it; as often as the drive turns out to be full, make room and do it again, down to the floor.

        Raises `NoSpace` when nothing may go any more, and what else the work raises.
        """
        while True:
            try:
                return work()
            except NoSpace as problem:
                full = problem
            except OSError as problem:
                if problem.errno != errno.ENOSPC:
                    raise
                full = NoSpace(f"{self.drive.known.name} is full")
            if not self.more():
                full.hint = f"no snapshot may go any more: {LESS.format(drive=self.drive.known.name)}"
                raise full

    def _some_room(self) -> bool:
        space = self._space()
        return missing(space, Need(metadata=SLACK), space.size // SHARE) == Missing(0, 0)

    def _space(self) -> btrfs.Space:
        return btrfs.space(self.drive.mount_point, self.drive.filesystem)

    def _used(self) -> int:
        return self._space().data_used

    def _remove(self, each: Goes) -> int:
        """Take one out of its directory; return its number."""
        self.drive.watch()
        found = _number(self.drive, each)
        with (
            layout.directory(self.drive.root, each.master) as folder,
            layout.directory(folder, layout.SNAPSHOTS) as snapshots,
        ):
            try:
                btrfs_delete.delete(snapshots, each.name)
            except NoSpace:
                if not self._ballast_given_up():
                    raise
                btrfs_delete.delete(snapshots, each.name)
        self.removed.append(each)
        return found

    def _ballast_given_up(self) -> bool:
        with layout.directory(self.drive.root, layout.OURS) as ours:
            return layout.give_up_ballast(ours)


def wait_deleted(drive: OpenDrive, numbers: Sequence[int], on_wait: Callable[[], None] = lambda: None) -> None:
    """Until the kernel has given back what these subvolumes held, however long that takes on a slow drive.

    A file system that has stopped would let us wait for ever, so it is looked at. Raises `DriveGone`, `NotFinished`.
    """
    waiting, woken = list(numbers), 0.0
    try:
        while waiting:
            if time.monotonic() - woken > 1:
                btrfs_delete.clean_up(drive.root)
                woken = time.monotonic()
                on_wait()
            waiting = [each for each in waiting if not btrfs_delete.is_deleted(drive.root, each)]
            drive.watch()
            if os.fstatvfs(drive.root).f_flag & os.ST_RDONLY:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            if waiting:
                time.sleep(PACE)
    except OSError as problem:
        drive.watch()
        raise NotFinished(
            f"{drive.known.name} did not give back the space of removed snapshots: {problem.strerror}",
            hint=f"the kernel log (`dmesg`) says why; then: flashback run {drive.known.name}",
        ) from problem


def finish_earlier(drive: OpenDrive) -> None:
    """Wait for what an earlier run removed and was cut short in: that room is on its way, nothing more need go for it.

    Raises as `wait_deleted`.
    """
    if not drive.read_only and (numbers := btrfs_delete.pending(drive.root)):
        wait_deleted(drive, numbers)
        commit(drive)


def _facts(each: Goes) -> dict[str, Any]:
    return {"reasons": list(each.verdict.reasons), "bytes": each.freed.data if each.freed is not None else None}
