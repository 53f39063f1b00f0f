"""Restore over what is there: what would change is found first, shown, and asked about; then each file is exchanged.

Nothing is removed that the drive does not know of. A file is exchanged as a whole by one rename; where a directory
stands in the place of a file, or the other way round, it is put aside under another name, never removed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum

from flashback.core.descent import DIRECTORY, Descent
from flashback.core.errors import UsageError
from flashback.drive import layout
from flashback.drive.spool import Spool
from flashback.drive.states import State
from flashback.drive.tree import Item, Trouble, digest, digest_of, listed
from flashback.recover import attributes, destination
from flashback.recover.destination import Staging
from flashback.recover.parts import Owner, Part, Planner, differs, with_the_way
from flashback.recover.wanted import Wanted
from flashback.recover.work import Done
from flashback.tools.rename import rename_new


class How(StrEnum):
    """What becomes of one path. `LINK…`: a link is there, and the backup, which followed it, holds what it led to."""

    NEW = "new"
    REPLACED = "replaced"
    ASIDE = "put-aside"
    LINK = "link-replaced"
    LINK_ASIDE = "link-put-aside"
    ATTRIBUTES = "attributes"


@dataclass(frozen=True, slots=True)
class Change:
    """One path that is to change, relative to the master."""

    how: How
    path: bytes
    is_directory: bool


@dataclass(slots=True)
class InPlace:
    """One path that is restored over what is there: `part` has only what is to change, and the directories above."""

    part: Part
    changes: list[Change]

    def as_json(self) -> dict[str, object]:
        """For the plan."""
        changes = [{"path": os.fsdecode(each.path), "how": each.how.value} for each in self.changes]
        return {**self.part.as_json(), "changes": changes}

    def put(self, stage: Staging, done: Done) -> None:
        """Exchange everything that is ready. What cannot be is told as trouble of this side."""
        part, placed = self.part, b""
        with Descent(stage.files) as ready, Descent(part.place, beyond=True) as there:
            for change in self.changes:
                path = change.path
                if placed and path.startswith(placed):
                    continue  # it came with the directory that it lies in
                try:
                    source, name = ready.parent(path)
                    os.stat(name, dir_fd=source, follow_symlinks=False)
                except OSError:
                    continue  # it could not be had, which was said
                try:
                    if not _exchange(change, source, there.parent(path)[0], name, part.state):
                        continue  # another part has brought the directory; what lies in it comes one by one
                except OSError as problem:
                    done.troubles.append(Trouble(path, problem.strerror or "it cannot be put there", damage=False))
                    continue
                if change.is_directory and change.how is not How.ATTRIBUTES:
                    placed = path + b"/"
        done.name = part.wanted.path


def plan(planner: Planner, wanted: Wanted, state: State, owner: Owner | None) -> InPlace:
    """What would change where `wanted` was. Raises `UsageError` where that is not known, `NotFinished`."""
    if wanted.home is None:
        raise UsageError(f"where {wanted.said} was on this machine is not known", hint="use --to DIR instead")
    place = planner.opened.enter_context(destination.directory(wanted.home, planner.trusted))
    folder, name = planner.opened.enter_context(planner.holding.opened(state))
    top = planner.opened.enter_context(layout.directory(folder, os.fsdecode(name)))
    troubles: list[Trouble] = []
    items = Spool(_everything(top, wanted, troubles))
    changes = _with_their_links(items, list(_changes(items, top, place, owner, troubles)), place)
    needed = _with_those_above(items, changes)
    part = Part(wanted, state, top, place, wanted.home, b"", wanted.path, needed, troubles)
    if not changes and not troubles:
        part.already = wanted.path
    return InPlace(part, changes)


def _everything(top: int, wanted: Wanted, troubles: list[Trouble]) -> Iterator[Item]:
    if wanted.path:
        yield from with_the_way(top, wanted.path, troubles.append)
        return
    for name in sorted(os.fsencode(each) for each in os.listdir(top)):
        yield from listed(top, name, troubles.append)


def _changes(
    items: Iterable[Item], source: int, place: int, owner: Owner | None, troubles: list[Trouble]
) -> Iterator[Change]:
    missing = b""
    with Descent(source) as here, Descent(place, beyond=True) as there:
        for item in items:
            if missing and item.path.startswith(missing):
                yield _change(How.NEW, item)
                continue
            try:
                parent, name = there.parent(item.path)
                at = os.stat(name, dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                yield _change(How.NEW, item)
                missing = item.path + b"/" if item.is_directory else missing
                continue
            except OSError:
                troubles.append(Trouble(item.path, "a link, or no directory, is on the way to it", damage=False))
                continue
            how = _how(item, at, here, there, owner)
            if how is not None:
                yield _change(how, item)
            if how in {How.ASIDE, How.LINK_ASIDE} and item.is_directory:
                missing = item.path + b"/"


def _change(how: How, item: Item) -> Change:
    return Change(how, item.path, item.is_directory)


def _how(item: Item, at: os.stat_result, here: Descent, there: Descent, owner: Owner | None) -> How | None:
    what = differs(item, at, owner)
    if what == "kind" and stat.S_ISLNK(at.st_mode):
        if item.is_file and _leads_to(item, here, there):
            return None
        return How.LINK_ASIDE if item.is_directory else How.LINK
    if what == "kind":
        same_rank = not item.is_directory and not stat.S_ISDIR(at.st_mode)
        return How.REPLACED if same_rank else How.ASIDE
    settable = not item.is_directory or os.geteuid() in {0, at.st_uid}  # files are exchanged for ones of our own
    with contextlib.suppress(OSError):
        if not what and settable:
            what = attributes.differing(here.parent(item.path), there.parent(item.path), given=owner is not None)
    if item.is_directory:
        return How.ATTRIBUTES if what else None
    if what or at.st_mtime_ns != item.mtime_ns:
        return How.REPLACED
    with contextlib.suppress(OSError):
        if _content(item, here) == _content(item, there):
            return None
    return How.REPLACED


def _leads_to(item: Item, here: Descent, there: Descent) -> bool:
    """Whether a link leads to the very file that was copied in its place: then it may stay."""
    with contextlib.suppress(OSError), ExitStack() as opened:
        parent, name = there.parent(item.path)
        found = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=parent)
        opened.callback(os.close, found)
        at = os.fstat(found)
        if (stat.S_IFMT(at.st_mode), at.st_size, at.st_mtime_ns) != (stat.S_IFREG, item.size, item.mtime_ns):
            return False
        readable = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        return digest_of(readable) == _content(item, here)
    return False


def _with_their_links(items: Iterable[Item], changes: Sequence[Change], place: int) -> list[Change]:
    """With the other names of each file that has several on the drive, unless they are names of one file here already.

    What is exchanged gets an inode of its own; all of its names have to come, so that they are one file again.
    """
    families: dict[int, list[Item]] = {}
    for item in items:
        if item.is_file and item.links > 1:
            families.setdefault(item.ino, []).append(item)
    known = {each.path: each for each in changes}
    for family in families.values():
        if len(family) > 1 and (any(each.path in known for each in family) or not _are_one(family, place)):
            known.update({each.path: _change(How.REPLACED, each) for each in family if each.path not in known})
    return [known[item.path] for item in items if item.path in known] if len(known) > len(changes) else list(changes)


def _are_one(family: Sequence[Item], place: int) -> bool:
    found = set()
    with contextlib.suppress(OSError), Descent(place, beyond=True) as there:
        for item in family:
            parent, name = there.parent(item.path)
            at = os.stat(name, dir_fd=parent, follow_symlinks=False)
            found.add((at.st_dev, at.st_ino))
    return len(found) <= 1


def _content(item: Item, below: Descent) -> bytes:
    parent, name = below.parent(item.path)
    return digest(parent, name) if item.is_file else os.readlink(name, dir_fd=parent)


def _with_those_above(items: Iterable[Item], changes: Sequence[Change]) -> Spool:
    """The items that change, and the directories on the way to them, which rsync needs to get there."""
    paths = {each.path for each in changes}
    for path in list(paths):
        while (path := path.rpartition(b"/")[0]) and path not in paths:
            paths.add(path)
    return Spool(item for item in items if item.path in paths)


def _exchange(change: Change, source: int, target: int, name: bytes, state: State) -> bool:
    """One rename, or two where something is put aside. False for a directory that is there meanwhile.

    Raises `OSError`.
    """
    match change.how:
        case How.NEW:
            try:
                with destination.movable(source, name):
                    rename_new(source, name, target, name)
            except FileExistsError:
                there = os.stat(name, dir_fd=target, follow_symlinks=False)
                if not (change.is_directory and stat.S_ISDIR(there.st_mode)):
                    raise
                return False
        case How.REPLACED | How.LINK:
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        case How.ASIDE | How.LINK_ASIDE:
            suffix = f".before-restore-{state.mark}".encode()
            rename_new(target, name, target, name[: 255 - len(suffix)] + suffix)
            with destination.movable(source, name):
                rename_new(source, name, target, name)
        case How.ATTRIBUTES:
            _dress(source, target, name)
    return True


def _dress(source: int, target: int, name: bytes) -> None:
    """A directory's owner, rights and attributes; its owner first, since that takes mode bits away."""
    with ExitStack() as opened:
        ready, there = (os.open(name, DIRECTORY, dir_fd=each) for each in (source, target))
        opened.callback(os.close, ready)
        opened.callback(os.close, there)
        at = os.fstat(ready)
        if os.geteuid() == 0:
            os.fchown(there, at.st_uid, at.st_gid)
        attributes.dress(ready, there)
