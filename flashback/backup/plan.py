"""The plan of a run, as a value: what would change on the drive, what will be snapshotted, whether a scrub is due.

It is made by reading only: one walk of each master, held against the copy on the drive. A dry run prints it and stops.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from flashback.backup.current import opened_current
from flashback.backup.room import Room
from flashback.backup.source import Source
from flashback.catalogue.frames import CatalogueBroken
from flashback.compare.changes import ChangeSet
from flashback.compare.comparison import Comparison, compare
from flashback.compare.differing import Differing
from flashback.compare.guard import MasterFacts, worth_inspecting
from flashback.compare.inspect import Inspection, inspect
from flashback.compare.known import Draft, Since, State, believed, forget
from flashback.compare.renamed import Listing, Look, each, noting, with_renames
from flashback.compare.renames import Search
from flashback.compare.spool import Spool
from flashback.compare.tally import Counts, Tally
from flashback.compare.values import Change, difference
from flashback.config.values import Guards, Master
from flashback.core.events import Remark
from flashback.core.text import stamp
from flashback.drive import journal, layout
from flashback.drive.session import OpenDrive
from flashback.tools import btrfs
from flashback.walk.listing import Entry, Item
from flashback.walk.master import walk_incumbent
from flashback.walk.reader import Owner, owner_of
from flashback.walk.reading import reading
from flashback.walk.road import Looked

SEEMING: Final = 1000
"""So many files that differ from the catalogue in inode and change time alone are left to rsync to look at. Where more
of them are a quarter of the master and above, the catalogue says nothing: its inodes are numbered anew with each mount
(FAT, some network file systems), or somebody went through all of it (`chmod -R`)."""


WORTH_MOVING: Final = 64 * 1024 * 1024
"""So many bytes that were renamed are worth a comparison in full one run later, which could not tell that they were."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a plan may put things: `spool` takes work lists, `avoid` is a folder of ours, mount points and
    all, that is never entered, `catalogues` the folder of what this machine knows the drives to hold.

    The lists of a first run have as many bytes as all paths together: `spool` is no place in memory, as /run is.
    """

    spool: Path
    avoid: Path
    catalogues: Path

    def catalogue(self, drive: OpenDrive, master: Master) -> Path:
        """The file of one master on one drive."""
        return self.catalogues / drive.known.uuid / f"{master.name}.listing"


@dataclass(frozen=True, slots=True)
class MasterPlan:
    """What the run is going to do with one master. `snapshot` is the name that the incumbent gets first, if any.

    `draft` is the catalogue to be, `full` says that the copy itself was looked at; `counts` and `inspection` are what
    the guards judge by. `looked`: what the walk was not sure of; `reading`: by which road it went, for people.
    """

    master: Master
    owner: Owner
    changes: ChangeSet
    remarks: tuple[Remark, ...]
    incumbent: journal.Incumbent
    snapshot: str | None
    draft: Draft
    full: bool
    counts: Counts
    inspection: Inspection
    looked: Looked = field(default_factory=Looked)
    reading: dict[str, object] = field(default_factory=dict)

    def facts(self) -> MasterFacts:
        """What the guards look at."""
        return MasterFacts(
            name=self.master.name,
            path=str(self.master.path),
            missing=False,
            files=self.changes.files_in_master,
            files_before=self.changes.files_on_drive,
            bytes=self.changes.bytes_in_master,
            bytes_before=self.changes.on_drive.bytes,
            counts=self.counts,
            inspection=self.inspection,
        )

    def as_json(self) -> dict[str, Any]:
        """For `--dry-run` and `--json`."""
        return {**self.changes.as_json(), "snapshot": self.snapshot, "reading": self.reading}


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole run. `missing` are masters that are not there (and were allowed to be)."""

    masters: tuple[MasterPlan, ...]
    missing: tuple[Master, ...]
    scrub: str | None
    space: btrfs.Space
    room: Room = field(default_factory=Room)

    @property
    def is_empty(self) -> bool:
        """Nothing on the drive differs from its master."""
        return all(each.changes.is_empty and each.incumbent.complete for each in self.masters)

    @property
    def needed(self) -> int:
        """Bytes that the copy takes at least, before compression."""
        return sum(each.changes.lower_bound_bytes for each in self.masters)

    def as_json(self, drive: str) -> dict[str, Any]:
        """For `Planned` (docs/reference/json.md)."""
        largest = [
            {"master": each.master.name, **directory}
            for each in self.masters
            for directory in each.changes.as_json()["largest"]
            if directory["bytes"]
        ]
        return {
            "drive": drive,
            "masters": {each.master.name: each.as_json() for each in self.masters},
            "largest": sorted(largest, key=lambda directory: -int(directory["bytes"]))[:10],
            "prune": [f"{each.master}/{each.name}" for each in self.room.goes],
            "snapshots": [each.as_json() for each in self.room.goes],
            "scrub": self.scrub is not None,
            "space": {
                "size": self.space.size,
                "free": self.space.free_estimate,
                "needed": self.needed,
                "reserve": self.room.reserve,
                "reserve_kept": self.room.reaches_reserve,
            },
        }


def plan_master(
    drive: OpenDrive,
    master: Master,
    lines: Sequence[journal.Line],
    *,
    places: Places,
    full: bool,
    full_every: int,
    watch: Callable[[], None],
    limits: Guards,
    source: Source,
) -> MasterPlan:
    """Walk the master as its owner, and hold it against its copy.

    What the copy holds is in the catalogue, if that can be believed; else, with `full`, and after
    `full_every` runs that rested on it, it is walked, too, as root and at the same time. So much renamed that it would
    take long to copy puts that off, to twice as many runs at most. Raises what the walk of the master runs into,
    `DriveGone` when the drive vanishes meanwhile.
    """
    passed = journal.runs_since_full(lines, master.name)
    if not full and passed < 2 * full_every:
        try:
            plan = _planned(drive, source, lines, places, watch, limits, full=False)
            if passed < full_every or plan.full or plan.changes.moved.bytes >= WORTH_MOVING:
                return plan
        except CatalogueBroken:
            forget(places.catalogue(drive, master))
    return _planned(drive, source, lines, places, watch, limits, full=True)


def _planned(
    drive: OpenDrive,
    source: Source,
    lines: Sequence[journal.Line],
    places: Places,
    watch: Callable[[], None],
    limits: Guards,
    *,
    full: bool,
) -> MasterPlan:
    remarks: list[Remark] = []
    master, looked = source.master, Looked()
    owner = owner_of(master.path, master.owner)
    draft, since, tally = Draft.begun(places.catalogues), Since(), Tally(int.from_bytes(os.urandom(4)))
    with ExitStack() as opened:
        current = opened_current(drive, master.name, opened)
        state = _incumbent(lines, master, current)
        known, now = None, State("", 0, "")
        if current is not None and state.complete and not full:
            now = state_of(current, lines, master.name)
            known = opened.enter_context(believed(places.catalogue(drive, master), now))
        listing = partial(believed, places.catalogue(drive, master), now) if known is not None else None
        narrow = source.narrow(owner, places.catalogue(drive, master), listing) if listing is not None else None
        with_xattrs = known is None and current is not None  # of a first copy nobody asks: rsync copies what there is
        master_entries = opened.enter_context(
            reading(master, owner, places.avoid, remarks.append, looked, narrow, with_xattrs=with_xattrs)
        )
        entries = master_entries, (known.entries() if known is not None else _walked(current))
        change = tally.change if current is not None else _nothing_to_judge
        look = _look(*entries, listing, draft, since, tally.gone, change, places, watch)
        changes, draft = look.changes, look.draft
        names = snapshots_of(drive, master.name)
        counts = tally.counts()
        inspection = Inspection()
        if current is not None and worth_inspecting(counts, changes.files_on_drive, limits):
            inspection = inspect(counts, master=master.path, owner=owner, current=current)
    return MasterPlan(
        master=master,
        owner=owner,
        changes=changes,
        remarks=tuple(Remark(each.kind, master.name, each.path, each.detail) for each in remarks),
        incumbent=state,
        snapshot=snapshot_due(state, names, changed=not changes.is_empty),
        draft=draft,
        full=known is None,
        counts=counts,
        inspection=inspection,
        looked=looked,
        reading=source.as_json(narrow=narrow is not None),
    )


def _look(
    master: Iterator[Item],
    incumbent: Iterator[Entry],
    listing: Listing | None,
    draft: Draft,
    since: Since,
    gone: Callable[[Entry], None],
    change: Callable[[Change], None],
    places: Places,
    watch: Callable[[], None],
) -> Look:
    """Compare; `listing` reads the catalogue once more, if that is what `incumbent` comes from."""
    if listing is None:
        comparison = compare(master, incumbent, differs=difference, record=draft.add, gone=gone)
        look = Look(ChangeSet.collect(comparison, directory=places.spool, watch=watch, tally=change), draft, comparison)
    else:
        kept, search, differing = Spool(places.spool), Search(), Differing(places.spool)
        gone, change = each(gone, search.gone, differing.gone), each(change, search.change, differing.change)
        alike = differing.alike
        comparison = compare(noting(master, kept), incumbent, differs=since, record=draft.add, gone=gone, alike=alike)
        changes = ChangeSet.collect(comparison, directory=places.spool, watch=watch, tally=change)
        if since.seeming > max(SEEMING, draft.count // 4):
            raise CatalogueBroken("nearly everything seems to have changed")
        first = Look(changes, draft, comparison)
        look = with_renames(first, search, differing, kept, listing, places.spool, places.catalogues, watch)
    _judge(look.draft, since, look.comparison, look.changes)
    return look


def _nothing_to_judge(_change: Change) -> None:
    """Of a first copy no guard has anything to say, and it may be of millions of files."""


def _judge(draft: Draft, since: Since, comparison: Comparison, changes: ChangeSet) -> None:
    """What came of a comparison, in view of trust. Raises `CatalogueBroken` where the catalogue was of no use."""
    if changes.moves is None and since.seeming and since.seeming == changes.steps:
        # A file that was renamed and renamed back: no reason to write to the drive and to keep a snapshot.
        raise CatalogueBroken("nothing but times of change differs, and the drive knows whether anything else does")
    if comparison.keeps_links:
        draft.spoil()


def state_of(current: int, lines: Sequence[journal.Line], master: str) -> State:
    """In which state the open copy is, and by which run, as the journal says."""
    at = btrfs.subvolume(current)
    completed = (line.run for line in reversed(lines) if line.master == master and line.mark is journal.Mark.COMPLETE)
    return State(at.uuid, at.generation, next(completed, ""))


def _walked(current: int | None) -> Iterator[Entry]:
    return walk_incumbent(current) if current is not None else iter(())


def snapshot_due(state: journal.Incumbent, existing: Sequence[str], *, changed: bool) -> str | None:
    """The name under which the incumbent is to be kept before it is changed, or `None`.

    Only a complete state is kept, only if it is about to change, and only once: its name is the moment of its
    completion.
    """
    if not changed or not state.complete or state.completed is None:
        return None
    name = stamp(state.completed)
    return None if name in existing else name


def scrub_due(
    *, asked: bool, every: timedelta | None, last: datetime | None, since: datetime, now: datetime
) -> str | None:
    """Why the drive is to be scrubbed in this run, or `None`. `since`: when the drive was made, if never scrubbed."""
    if asked:
        return "asked for"
    if every is None or now - (last or since) < every:
        return None
    return f"the last one was {(now - (last or since)).days} days ago, due every {every.days}"


def space_for(drive: OpenDrive) -> btrfs.Space:
    """How much room the drive has."""
    return btrfs.space(drive.mount_point, drive.filesystem)


def _incumbent(lines: Sequence[journal.Line], master: Master, current: int | None) -> journal.Incumbent:
    """What the journal says of the copy; of one that is not there, or was put aside by hand, nothing can be kept."""
    return journal.incumbent(lines, master.name) if current is not None else journal.Incumbent(complete=False)


def snapshots_of(drive: OpenDrive, master: str) -> tuple[str, ...]:
    """The names of the snapshots of a master on the drive, oldest first."""
    try:
        with layout.directory(drive.root, master) as folder, layout.directory(folder, layout.SNAPSHOTS) as snapshots:
            return layout.snapshot_names(snapshots)
    except FileNotFoundError:
        return ()


def read_journal(drive: OpenDrive) -> tuple[journal.Line, ...]:
    """The drive's journal, as far as it can be read."""
    with layout.directory(drive.root, layout.OURS) as ours:
        return journal.decode(layout.read_lines(ours, layout.JOURNAL))
