"""Snapshots of the masters on Btrfs are taken for a run, shown where the masters lie, and given back."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flashback.backup.source import Source, Taken
from flashback.config.values import Btrfs, Master
from flashback.core.context import Context, Paths
from flashback.core.descent import DIRECTORY, Descent
from flashback.core.errors import FlashbackError
from flashback.core.events import Note
from flashback.core.stack import ResourceStack
from flashback.core.text import shown
from flashback.drive import layout
from flashback.tools import btrfs, btrfs_changes, btrfs_delete, mount
from flashback.walk import road
from flashback.walk.filter import Filter
from flashback.walk.markers import OURS

_SNAPSHOT: Final = re.compile(r"run-[0-9a-f]{16}")
_TOKEN: Final = re.compile(r"(?P<drive>[0-9a-f-]{36})\.(?P<master>.+)")


@contextmanager
def sources(
    context: Context, masters: Sequence[Master], *, drive: str, drives: Collection[str], dry: bool
) -> Iterator[dict[str, Source]]:
    """How each of the masters is to be read, by name; what is taken for it is given back after the block.

    `drives` are the LUKS UUIDs of those that count: marks that were left for others are removed. Never fails: a master
    of which no snapshot can be taken is read as it is.
    """
    with ExitStack() as opened, ResourceStack(context.signals) as stack:
        places = {master.name: Path(os.path.realpath(master.path)) for master in masters}
        found = {}
        for master in masters:
            source = found[master.name] = Source(master, drive)
            here = places[master.name]
            others = [name for name, place in places.items() if name != master.name and _touch(place, here)]
            taking = _Taking(context, source, here, opened, stack)
            try:
                taking.take(others, drives, dry=dry)
            except (OSError, FlashbackError) as problem:
                words = problem.what if isinstance(problem, FlashbackError) else os.strerror(problem.errno or 0)
                source.why = source.failed = f"no snapshot could be taken: {words}"
        yield found


def _touch(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


@dataclass(slots=True)
class _Taking:
    context: Context
    source: Source
    place: Path
    opened: ExitStack
    stack: ResourceStack

    def take(self, others: Sequence[str], drives: Collection[str], *, dry: bool) -> None:
        """Take a snapshot and show it, or say in the source why not. Raises `OSError`, `FlashbackError`."""
        if self.source.master.btrfs is Btrfs.NEVER:
            self.source.why = road.obstacle(road.Facts(wanted=False))
            return
        try:
            living = self._open(os.open(self.place, DIRECTORY))
            subvolume = btrfs.subvolume(living)
        except OSError:
            self.source.why = road.obstacle(road.Facts(on_btrfs=False))
            return
        top = _top_of(self.place)
        self.source.why = road.obstacle(self._facts(living, subvolume, top, others))
        if top is None or self.source.why:
            return
        folder = self._folder(top, dry=dry)
        if folder is None:
            self.source.why = road.obstacle(road.Facts(folder=False))
            return
        _tidy(folder, drives)
        self._show(living, subvolume, top, folder)

    def _open(self, descriptor: int) -> int:
        self.opened.callback(os.close, descriptor)
        return descriptor

    def _folder(self, top: Path, *, dry: bool) -> int | None:
        """Our folder, made where it is missing. Raises `OSError`, `FlashbackError` for one that is not root's alone."""
        above = self._open(os.open(top, DIRECTORY))
        if not os.path.lexists(top / os.fsdecode(OURS)):
            if dry:
                return None
            os.mkdir(OURS, 0o700, dir_fd=above)
        folder = self._open(os.open(OURS, DIRECTORY, dir_fd=above))
        at = os.fstat(folder)
        if at.st_uid != 0 or stat.S_IMODE(at.st_mode) & 0o077 or at.st_dev != os.fstat(above).st_dev:
            raise FlashbackError(f"{top / os.fsdecode(OURS)} is not a folder of root's alone")
        return folder

    def _facts(self, living: int, subvolume: btrfs.Subvolume, top: Path | None, others: Sequence[str]) -> road.Facts:
        writable = not os.fstatvfs(living).f_flag & os.ST_RDONLY and not subvolume.read_only
        below = [each.target for each in mount.mounts() if Path(each.target) != self.place]
        nested = _nested(self.source.master, living, subvolume.id, top, self.place) if top is not None else ()
        return road.Facts(
            private=mount.is_private(),
            whole=top is not None,
            writable=writable,
            mounts=tuple(target for target in below if Path(target).is_relative_to(self.place)),
            subvolumes=tuple(shown(path) for path in nested),
            ours=tuple(_ours_in(self.context.paths, self.place)),
            masters=tuple(others),
        )

    def _show(self, living: int, subvolume: btrfs.Subvolume, top: Path, folder: int) -> None:
        name = f"run-{secrets.token_hex(8)}"
        whole = self._open(os.open(top, DIRECTORY))
        self.stack.take(
            f"the snapshot {name} in {top / os.fsdecode(OURS)}",
            lambda: btrfs_changes.snapshot(whole, folder, name),
            lambda: self._quietly(lambda: _given_back(folder, name)),
        )
        copy = self._open(os.open(name, DIRECTORY, dir_fd=folder))
        made = btrfs.subvolume(copy)
        place = os.fsencode(os.path.relpath(self.place, top)) if self.place != top else b""
        root = self._within(copy, place)
        if made.parent_uuid != subvolume.uuid or os.fstat(root).st_ino != os.fstat(living).st_ino:
            raise FlashbackError("the master was exchanged meanwhile")
        device = os.fstat(root).st_dev
        self.stack.take(
            f"the snapshot shown at {self.place}",
            lambda: mount.bind(root, living),
            lambda: self._quietly(lambda: mount.unbind(self.place, device)),
        )
        if os.stat(self.place).st_dev != device:
            raise FlashbackError("what is mounted on the way hides it")
        token = layout.read_text(folder, f"{self.source.drive}.{self.source.master.name}") or b""
        self.source.taken = Taken(
            top=copy,
            folder=folder,
            subvolume=subvolume.uuid,
            transaction=made.otransid,
            place=place,
            root=os.fstat(root).st_ino,
            token=token.decode("ascii", "replace"),
        )

    def _quietly(self, give_back: Callable[[], object]) -> None:
        """What is not given back ends with this process, or is found by the next run: the drive is none the worse."""
        try:
            give_back()
        except (OSError, FlashbackError) as problem:
            words = problem.what if isinstance(problem, FlashbackError) else os.strerror(problem.errno or 0)
            self.context.tell(Note(f"The snapshot of {self.source.master.name} could not be put away yet: {words}."))

    def _within(self, copy: int, place: bytes) -> int:
        with Descent(copy) as descent:
            if not place:
                return copy
            parent, name = descent.parent(place)
            return self._open(os.open(name, DIRECTORY, dir_fd=parent))


def _top_of(place: Path) -> Path | None:
    """The top of the subvolume that a directory lies in, if that can be reached going up."""
    device = os.stat(place).st_dev
    for directory in (place, *place.parents):
        at = os.lstat(directory)
        if at.st_dev != device:
            return None
        if at.st_ino == btrfs_changes.TOP:
            return directory
    return None


def _nested(master: Master, living: int, number: int, top: Path, place: Path) -> list[bytes]:
    """The subvolumes in the master that its rules do not leave out, by their paths in it. Raises `OSError`."""
    rules, found = Filter(master.rules), []
    before = os.fsencode(os.path.relpath(place, top)) + b"/" if place != top else b""
    try:
        paths = btrfs_changes.subvolumes_in(living, number)
    except btrfs_changes.CannotSay:
        return [b"one that cannot be named"]
    for path in paths:
        inside = path[len(before) :]
        if path.startswith(before) and not _left_out(rules, inside):
            found.append(inside)
    return found


def _left_out(rules: Filter, path: bytes) -> bool:
    parts = path.split(b"/")
    ways = (b"/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return OURS in parts or any(rules.excluded(way, is_directory=True) for way in ways)


def _ours_in(paths: Paths, place: Path) -> Iterator[str]:
    for each in (paths.state, paths.runtime):
        if Path(os.path.realpath(each)).is_relative_to(place):
            yield str(each)


def _tidy(folder: int, drives: Collection[str]) -> None:
    """Remove what runs that were killed have left, and the marks of drives that do not count any more.

    Not while somebody has a snapshot here: this run of another master, or one with a configuration of its own.
    """
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(folder, fcntl.LOCK_SH)
        return
    for name in os.listdir(folder):
        if _SNAPSHOT.fullmatch(name):
            with suppress(FlashbackError):
                btrfs_delete.delete(folder, name)
        elif (mark := _TOKEN.fullmatch(name)) and mark["drive"] not in drives:
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)
    fcntl.flock(folder, fcntl.LOCK_SH)


def _given_back(folder: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.stat(name, dir_fd=folder, follow_symlinks=False)
        btrfs_delete.delete(folder, name)
