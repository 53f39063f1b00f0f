"""The plan of a restore, as values: for each path that was asked for, what is taken from where to where."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flashback.core.descent import Descent
from flashback.core.errors import UsageError
from flashback.drive import layout
from flashback.drive.spool import Spool
from flashback.drive.states import Holding, State
from flashback.drive.tree import Item, Trouble, digest, item_of, listed, looked_at, unread
from flashback.recover import attributes, destination
from flashback.recover.wanted import Wanted, When


@dataclass(frozen=True, slots=True)
class Owner:
    """To whom everything is to belong, by number."""

    uid: int
    gid: int

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid}"


@dataclass(slots=True)
class Part:
    """One path. `source` is the directory on the drive that `items` are relative to, `place` the one it goes into.

    `name` is what it is to be called there, `where` the place's own name. `top` is the first name of all items,
    `before` the way from the master to the source, with a slash at its end.
    `already` is what it is called if it is there, and equal.
    """

    wanted: Wanted
    state: State
    source: int
    place: int
    where: Path
    top: bytes
    name: bytes
    items: Spool
    troubles: list[Trouble]
    before: bytes = b""
    already: bytes | None = None

    @property
    def size(self) -> int:
        """How many bytes are in its files."""
        return self.items.bytes

    @property
    def files(self) -> int:
        """How many files and links it has."""
        return self.items.files

    @property
    def is_directory(self) -> bool:
        """Whether what gets a name is one."""
        return next((item.is_directory for item in self.items), False)

    @property
    def way(self) -> bytes:
        """From the place to what was asked for, where it goes back to under the names that it had; else its name."""
        return self.wanted.path[len(self.before) :] if self.wanted.path and self.name == self.top else self.name

    def in_master(self, path: bytes) -> bytes:
        """The path of an entry below its master."""
        return self.before + path if self.wanted.path else path.partition(b"/")[2]

    def key(self, drive: str) -> str:
        """The same for the same errand, so that it can be gone on with."""
        words = (drive, self.state.master, self.state.name, self.state.mark, self.wanted.path.hex(), self.top.hex())
        return hashlib.blake2b("\0".join(words).encode(), digest_size=8).hexdigest()

    def as_json(self, name: bytes | None = None) -> dict[str, Any]:
        """For the plan and for what was done; `name` is what it is called in the end."""
        return {
            "master": self.wanted.master,
            "path": os.fsdecode(self.wanted.path),
            "state": self.state.name,
            "to": os.path.join(self.where, os.fsdecode(name or self.already or self.name)),
            "files": self.files,
            "bytes": self.size,
            "already": self.already is not None,
        }


@dataclass(slots=True)
class Planner:
    """Finds each path in what is held somewhere, and its place here. What is open is on `opened`.

    `to` is where everything is to go, `None`: where it was. `trusted` are the users whose links may be followed.
    """

    holding: Holding
    opened: ExitStack
    when: When
    to: Path | None
    trusted: Collection[int]
    owner: Owner | None = None
    found: dict[str, tuple[State, ...]] = field(default_factory=dict)

    def find(self, wanted: Wanted, closed: list[Trouble] | None = None) -> tuple[State, Item] | None:
        """The newest state that comes into question and holds the path; `None` where there is none.

        `closed` gets the states that might be newer, or hold it, and could not be looked into.
        """
        if wanted.master not in self.found:
            self.found[wanted.master] = self.holding.states(wanted.master)
        for state in self.when.of(self.found[wanted.master]):
            try:
                with self.holding.opened(state) as (folder, name):
                    item = looked_at(folder, b"/".join(filter(None, (name, wanted.path))))
            except OSError as problem:
                if closed is not None:
                    closed.append(not_looked_into(wanted.path, state, problem))
                continue
            if item is not None:
                return state, item
        return None

    def part(self, wanted: Wanted, state: State) -> Part:
        """The plan for one path. Raises `UsageError` where it can go nowhere, `DriveError`, `NotFinished`."""
        place, where, rest, name = self._place(wanted)
        folder, state_name = self.opened.enter_context(self.holding.opened(state))
        troubles: list[Trouble] = []
        if not wanted.path:
            items = Spool(listed(folder, state_name, troubles.append))
            return self._weighed(
                Part(wanted, state, folder, place, where, state_name, wanted.name, items, troubles), name
            )
        top = self.opened.enter_context(layout.directory(folder, os.fsdecode(state_name)))
        before = wanted.path[: len(wanted.path) - len(rest)]
        with Descent(top, beyond=True) as below:
            parent, _last = below.parent(before + b"x")
            source = os.dup(parent)
            self.opened.callback(os.close, source)
            items = Spool(with_the_way(source, rest, troubles.append))
        first = rest.partition(b"/")[0]
        return self._weighed(Part(wanted, state, source, place, where, first, name, items, troubles, before), name)

    def _weighed(self, part: Part, name: bytes) -> Part:
        """With the name that it gets, and whether it is there already."""
        part.name = name
        for free in destination.free_names(name, part.state.mark):
            part.name = free
            if _nothing(part.place, free) or (part.is_directory and destination.is_empty(part.place, free)):
                break
            if is_equal(part, free, self.owner):
                part.already = free
                break
        return part

    def _place(self, wanted: Wanted) -> tuple[int, Path, bytes, bytes]:
        """The directory it goes into, what that is called, the way from there, and what it is to be called."""
        if self.to is not None:
            last = wanted.path.rpartition(b"/")[2]
            return self._chosen(self.to), self.to, last, wanted.name
        if wanted.home is None:
            raise UsageError(
                f"where {wanted.said} was on this machine is not known: the configuration has no master of that name",
                hint="say where it is to go: --to DIR",
            )
        if not wanted.path:
            place = self.opened.enter_context(destination.directory(wanted.home.parent, self.trusted))
            return place, wanted.home.parent, b"", os.fsencode(wanted.home.name)
        home = self.opened.enter_context(destination.directory(wanted.home, self.trusted))
        place, rest = destination.descended(home, wanted.path)
        self.opened.callback(os.close, place)
        way = wanted.path[: len(wanted.path) - len(rest)]
        return place, wanted.home / os.fsdecode(way), rest, rest.partition(b"/")[0]

    def _chosen(self, to: Path) -> int:
        """The directory that everything is to go to; for a dry run, where it may be missing, an empty one."""
        if not os.path.lexists(to):
            to = Path(self.opened.enter_context(tempfile.TemporaryDirectory(prefix="flashback-")))
        return self.opened.enter_context(destination.directory(to, self.trusted))


def not_looked_into(path: bytes, state: State, problem: OSError) -> Trouble:
    """What is said of a state that did not even say whether it holds the path."""
    found = unread(path, problem)
    return Trouble(path, f"{state.said} cannot be looked into: {found.why}", found.damage)


def with_the_way(source: int, rest: bytes, trouble: Callable[[Trouble], None]) -> Iterator[Item]:
    """The directories on the way to the last name of `rest`, then that and everything below it."""
    way, _slash, last = rest.rpartition(b"/")
    with Descent(source, beyond=True) as below:
        names = way.split(b"/") if way else []
        for count in range(1, len(names) + 1):
            parent, name = below.parent(b"/".join(names[:count]))
            yield item_of(b"/".join(names[:count]), os.stat(name, dir_fd=parent, follow_symlinks=False))
        parent, name = below.parent(rest)
        before = way + b"/" if way else b""

        def told(found: Trouble) -> None:
            trouble(Trouble(before + found.path, found.why, found.damage))

        for item in listed(parent, last, told):
            yield item._replace(path=before + item.path)


def _nothing(place: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=place, follow_symlinks=False)
    except FileNotFoundError:
        return True
    return False


def is_equal(part: Part, name: bytes, owner: Owner | None) -> bool:
    """Whether what is called `name` in the place is, with everything below it, what would be restored.

    First by what costs nothing, then by content. More may be there in directories.
    """
    if part.troubles:
        return False
    with Descent(part.place, beyond=True) as there, Descent(part.source, beyond=True) as here:
        cut = len(part.top)
        try:
            for item in part.items:
                parent, last = there.parent(name + item.path[cut:])
                at = os.stat(last, dir_fd=parent, follow_symlinks=False)
                if differs(item, at, owner) or (not item.is_directory and at.st_mtime_ns != item.mtime_ns):
                    return False
                if attributes.differing(here.parent(item.path), (parent, last), given=owner is not None):
                    return False
                if stat.S_ISLNK(item.mode) and _target(here, item.path) != os.readlink(last, dir_fd=parent):
                    return False
            return all(
                digest(*there.parent(name + item.path[cut:])) == digest(*here.parent(item.path))
                for item in part.items
                if item.is_file
            )
        except OSError:
            return False


def _target(below: Descent, path: bytes) -> bytes:
    parent, name = below.parent(path)
    return os.readlink(name, dir_fd=parent)


def differs(item: Item, at: os.stat_result, owner: Owner | None) -> str:
    """What is not as on the drive, in a word; empty where all is. Times, attributes and content are not looked at.

    Who is not root cannot give files away, so owners are not looked at then.
    """
    if stat.S_IFMT(at.st_mode) != stat.S_IFMT(item.mode):
        return "kind"
    if item.is_file and at.st_size != item.size:
        return "size"
    if not stat.S_ISLNK(item.mode) and stat.S_IMODE(at.st_mode) != stat.S_IMODE(item.mode):
        return "mode"
    meant = (owner.uid, owner.gid) if owner is not None else (item.uid, item.gid)
    return "owner" if os.geteuid() == 0 and (at.st_uid, at.st_gid) != meant else ""


def totals(parts: Sequence[Part]) -> tuple[int, int]:
    """Files and bytes of those that are still to be restored."""
    todo = [part for part in parts if part.already is None]
    return sum(part.files for part in todo), sum(part.size for part in todo)
