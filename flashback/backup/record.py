"""What a run leaves behind beside the copy: lines in the drive's journal, the configuration, the catalogue."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Final

from flashback.backup.copy import CopyResult
from flashback.backup.history import MOST_LOOKED_AT, History, Touched, masters_on
from flashback.backup.plan import MasterPlan, Places, read_journal, space_for, state_of
from flashback.backup.source import Source
from flashback.catalogue.frames import CatalogueBroken
from flashback.catalogue.index import IndexBroken
from flashback.catalogue.shelves import Shelves
from flashback.compare.known import forget
from flashback.config.values import Config
from flashback.core.context import Context
from flashback.core.errors import NotFinished
from flashback.core.events import Note
from flashback.core.text import stamp
from flashback.drive import configuration, layout
from flashback.drive.session import OpenDrive
from flashback.tools import btrfs

ROOM_FOR_BALLAST: Final = 4
"""The ballast is laid anew when so many times its length is free."""


def keep_configuration(drive: OpenDrive, config: Config) -> None:
    """A copy of the configuration and the exclusions, for a bare machine; written only where it differs.

    On a full drive, or where a file cannot be read any more: the next time. Raises `DriveGone`, `NotFinished`.
    """
    try:
        _write_configuration(drive, config)
    except OSError as problem:
        drive.watch()
        if problem.errno not in {errno.ENOSPC, errno.ENOENT, errno.EACCES}:
            raise NotFinished(
                f"the copy of the configuration on {drive.known.name} could not be written: "
                f"{os.strerror(problem.errno or 0)}",
                hint=f"check the cable and the port, then: flashback run {drive.known.name}",
            ) from problem


def _write_configuration(drive: OpenDrive, config: Config) -> None:
    others = (file for master in config.masters for file in master.exclusion_files)
    names = configuration.names_for(config.file, others)
    with ExitStack() as opened:
        ours = opened.enter_context(layout.directory(drive.root, layout.OURS))
        folder = opened.enter_context(layout.made_directory(ours, layout.CONFIG_COPY))
        for name, file in names.items():
            content = file.read_bytes() if file.is_file() else b""
            if content and layout.read_text(folder, name) != content:
                layout.write_text(folder, name, content)
        index = configuration.encode(names)
        if layout.read_text(folder, configuration.INDEX) != index:
            layout.write_text(folder, configuration.INDEX, index)


def ballast_missing(drive: OpenDrive) -> int:
    """Bytes of the ballast that are to be laid anew. Raises `OSError`."""
    with layout.directory(drive.root, layout.OURS) as ours:
        return max(0, layout.ballast_for(drive.known.size) - layout.ballast(ours))


def keep_ballast(drive: OpenDrive) -> None:
    """Lay the ballast anew where it was given up and there is room again. Raises `DriveGone`, `OSError`."""
    length = layout.ballast_for(drive.known.size)
    if not ballast_missing(drive) or space_for(drive).free_estimate < length * ROOM_FOR_BALLAST:
        return
    try:
        with layout.directory(drive.root, layout.OURS) as ours:
            layout.write_ballast(ours, length)
    except OSError as problem:
        if problem.errno != errno.ENOSPC:
            raise


def keep_catalogue(drive: OpenDrive, plan: MasterPlan, places: Places, *, doubtful: Collection[bytes]) -> None:
    """Note what the drive holds now. `doubtful` are the paths that were not copied as planned.

    Where it is not known what is there instead, nothing will be believed next time: a path that the listing does not
    have (nobody said which file it was; it could not be removed), something that could not be cleared out of the way.
    """
    file, name = places.catalogue(drive, plan.master), plan.master.name
    if _in_the_way(plan, frozenset(doubtful)):
        forget(file)
        return
    lines = read_journal(drive)
    with layout.directory(drive.root, name) as folder, layout.directory(folder, layout.CURRENT) as current:
        state = state_of(current, lines, name)
    plan.draft.keep(file, state, doubtful=doubtful)


def _in_the_way(plan: MasterPlan, doubtful: frozenset[bytes]) -> bool:
    if not doubtful:
        return False
    cleared = (plan.changes.remove_first, plan.changes.apart, plan.changes.remove_after)
    return b"" in doubtful or any(path in doubtful for paths in cleared for path in paths)


def keep_sources(
    drive: OpenDrive,
    plans: Sequence[MasterPlan],
    sources: Mapping[str, Source],
    places: Places,
    copies: Mapping[str, CopyResult],
) -> None:
    """Note that the drive holds what the masters' snapshots do, where nothing went wrong."""
    for plan in plans:
        name = plan.master.name
        wrong = name in copies and copies[name].remarks
        sources[name].keep(
            plan.owner, places.catalogue(drive, plan.master), plan.looked, entries=0 if wrong else plan.draft.count
        )


def distrust_history(drive: OpenDrive, plan: MasterPlan, context: Context) -> bool:
    """Whether the copy is not as the last complete run left it. The catalogue then forgets that state, which is read
    anew after the run. Raises `DriveGone`.
    """
    if not plan.incumbent.generation or plan.incumbent.completed is None:
        return False
    with layout.directory(drive.root, plan.master.name) as folder, layout.directory(folder, layout.CURRENT) as current:
        if btrfs.subvolume(current).generation == plan.incumbent.generation:
            return False
    _history(drive, context).distrust(plan.master.name, stamp(plan.incumbent.completed))
    return True


def touched(plan: MasterPlan, doubtful: Collection[bytes]) -> Touched:
    """What a run did to a copy: the places in its work lists and where it went wrong, with the directories around.

    Nobody knows what is below something that could not be cleared out of the way; and where it is very much, the whole
    is looked at instead.
    """
    changes, incumbent = plan.changes, plan.incumbent
    before = stamp(incumbent.completed) if incumbent.complete and incumbent.completed else ""
    if not before or changes.steps > MOST_LOOKED_AT or _in_the_way(plan, frozenset(doubtful)):
        return Touched(before, None)
    paths = {path for spool in changes.lists for path in spool} | set(doubtful)
    return Touched(before, frozenset(paths | {path.rpartition(b"/")[0] for path in paths}))


def keep_history(drive: OpenDrive, plans: Sequence[MasterPlan], done: Mapping[str, Touched], context: Context) -> None:
    """Bring the catalogue up to date, of other machines' masters on the drive too; `index_history` is for later, when
    nobody waits for the drive any more. Raises `DriveGone`.
    """
    history = _history(drive, context, with_index=False)
    for plan in plans:
        history.keep(plan.master.name, plan.master.path, done.get(plan.master.name))
    for master in masters_on(drive):
        if master not in {plan.master.name for plan in plans}:
            history.keep(master)


def learn_history(drive: OpenDrive, context: Context) -> None:
    """Take the catalogue over from a drive that is only read. Raises `DriveGone`."""
    history = _history(drive, context)
    for master in masters_on(drive):
        history.learn(master)


def index_history(context: Context) -> None:
    """Have what runs have noted ready to be searched. It needs no drive, and whoever searches does it otherwise."""
    with suppress(OSError, CatalogueBroken, IndexBroken):
        Shelves(context.paths.catalogues).bring_up_to_date()


def _history(drive: OpenDrive, context: Context, *, with_index: bool = True) -> History:
    tell = lambda line: context.tell(Note(line))  # noqa: E731
    return History(drive, Shelves(context.paths.catalogues), tell, with_index=with_index)
