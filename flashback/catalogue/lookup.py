"""Questions to the index about known paths: which states hold it and how, what lies in it, what is nowhere else.

Only states that the drives still have are in any answer. Every order is a fixed one: the same catalogue, made anew
from the drives, gives the same answers to the byte.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from flashback.catalogue.index import ROOT, Index
from flashback.catalogue.seen import Kind, Seen, order
from flashback.core.text import parse_stamp, stamp

CURRENT: Final = "current"


@dataclass(frozen=True, slots=True)
class Tree:
    """One master on one drive, by the drive's LUKS UUID. `path` is where the master lay when it was last backed up;
    `current` is the state of the copy, empty while that is incomplete; `unknown` counts states that are on the drive
    and not in the catalogue.
    """

    id: int
    drive: str
    master: str
    path: str
    current: str
    unknown: int


@dataclass(frozen=True, slots=True)
class State:
    """A state of a tree, by the moment of its completion (`name`, as a snapshot's). `number` orders those of a tree."""

    tree: Tree
    number: int
    name: str

    @property
    def is_current(self) -> bool:
        """It is the copy itself, and no snapshot yet."""
        return self.name == self.tree.current

    @property
    def folder(self) -> str:
        """Where it lies on the drive, below the master's folder."""
        return CURRENT if self.is_current else f"snapshots/{self.name}"

    @property
    def completed(self) -> datetime:
        """The moment."""
        moment = parse_stamp(self.name)
        assert moment is not None  # noqa: S101 - nothing else is entered
        return moment


@dataclass(frozen=True, slots=True)
class Held:
    """How one path is in one or more `states` of one tree, oldest first."""

    seen: Seen
    states: tuple[State, ...]

    @property
    def newest(self) -> State:
        """The last of the states."""
        return self.states[-1]


class Lookup:
    """Answers from an index; what trees and states there are is read once."""

    def __init__(self, index: Index) -> None:
        self.index = index
        rows = index.rows("SELECT id, drive, master, path, current, unknown FROM trees ORDER BY drive, master")
        self.trees = tuple(Tree(*row) for row in rows)
        by_id = {tree.id: tree for tree in self.trees}
        self._states: dict[int, list[State]] = {tree.id: [] for tree in self.trees}
        for tree, number, name in index.rows(
            "SELECT tree, number, state FROM states WHERE living ORDER BY tree, number"
        ):
            self._states[tree].append(State(by_id[tree], number, name))
        self._paths: dict[int, bytes] = {ROOT: b""}

    def states(self, *, master: str | None = None, drive: str | None = None) -> tuple[State, ...]:
        """The states there are, of this master and on the drive with this LUKS UUID, newest first."""
        trees = [tree for tree in self.trees if master in {None, tree.master} and drive in {None, tree.drive}]
        found = [state for tree in trees for state in self._states[tree.id]]
        return tuple(sorted(found, key=lambda each: (each.name, each.tree.drive, each.tree.master), reverse=True))

    # --- paths and nodes

    def node(self, path: bytes) -> int | None:
        """The number of a path, relative to its master, if there ever was such a path."""
        node = ROOT
        for name in path.split(b"/") if path else ():
            found = self.index.rows("SELECT id FROM nodes WHERE parent = ? AND name = ?", node, name)
            if not found:
                return None
            node = found[0][0]
        return node

    def path(self, node: int) -> bytes:
        """The path of a node; that of its directory is remembered."""
        known = self._paths.get(node)
        if known is not None:
            return known
        parent, name = self.index.rows("SELECT parent, name FROM nodes WHERE id = ?", node)[0]
        above = self._paths.get(parent)
        if above is None:
            above = self._paths[parent] = self.path(parent)
        return above + b"/" + name if above else bytes(name)

    # --- one path

    def versions(self, node: int, path: bytes | None = None) -> list[Held]:
        """How a node was, in each tree and in the order of its states; neighbours that are alike are one answer."""
        path = self.path(node) if path is None else path
        found: list[Held] = []
        for tree, since, until, *how in self.index.rows(
            "SELECT tree, since, until, kind, mode, uid, gid, size, mtime_ns, target FROM versions"
            " WHERE node = ? ORDER BY tree, since",
            node,
        ):
            states = tuple(
                each for each in self._states[tree] if since <= each.number and (until is None or each.number < until)
            )
            seen = _seen(path, how)
            if states and found and found[-1].newest.tree.id == tree and found[-1].seen == seen:
                found[-1] = Held(seen, found[-1].states + states)
            elif states:
                found.append(Held(seen, states))
        return sorted(found, key=lambda each: (each.states[0].tree.drive, each.states[0].tree.master, each.newest.name))

    def candidates(
        self,
        path: bytes,
        *,
        master: str,
        at: datetime | None = None,
        state: str | None = None,
        drive: str | None = None,
    ) -> list[Held]:
        """From where `path` (relative to `master`) can be had, the best first: of the newest state, each drive once.

        With `at`, as it was at that moment: of the newest state completed by then. With `state`, of exactly that one
        (a snapshot's name, or `current`); with `drive`, a LUKS UUID, of that drive. Each answer has one state only. A
        path that was not there in the newest state of a drive is looked for in the ones before.
        """
        node = self.node(path)
        best: dict[str, Held] = {}
        for held in self.versions(node, path) if node is not None else ():
            for each in held.states:
                fits = each.tree.master == master and drive in {None, each.tree.drive}
                fits = fits and (at is None or each.name <= stamp(at))
                fits = fits and (state in {None, each.name} or (state == CURRENT and each.is_current))
                before = best.get(each.tree.drive)
                if fits and (before is None or before.newest.name < each.name):
                    best[each.tree.drive] = Held(held.seen, (each,))
        newest_first = sorted(best.values(), key=lambda each: each.newest.tree.drive)
        return sorted(newest_first, key=lambda each: each.newest.name, reverse=True)

    # --- one state

    def entry(self, state: State, path: bytes) -> Seen | None:
        """How `path` is in a state, `None` where it is not there."""
        node = self.node(path)
        found = self.index.rows(_AT.format("node = ?3"), state.tree.id, state.number, node) if node else []
        return _seen(path, found[0][1:]) if found else None

    def children(self, state: State, path: bytes) -> Iterator[Seen]:
        """What lies in a directory of a state, by name."""
        node = self.node(path)
        if node is None:
            return
        before = path + b"/" if path else b""
        rows = self.index.rows(
            "SELECT n.name, v.kind, v.mode, v.uid, v.gid, v.size, v.mtime_ns, v.target FROM nodes AS n"
            " JOIN versions AS v ON v.node = n.id WHERE n.parent = ?3 AND v.tree = ?1 AND v.since <= ?2"
            " AND (v.until IS NULL OR v.until > ?2) ORDER BY n.name",
            state.tree.id,
            state.number,
            node,
        )
        for name, *how in rows:
            yield _seen(before + name, how)

    def differing(self, old: State, new: State) -> Iterator[tuple[Seen | None, Seen | None]]:
        """What differs between two states, of whichever trees, in no order: how a path is in either."""
        sql = (
            "SELECT node, tree, since, kind, mode, uid, gid, size, mtime_ns, target, until FROM versions WHERE"
            " (tree = ?1 AND since <= ?2 AND (until IS NULL OR until > ?2))"
            " OR (tree = ?3 AND since <= ?4 AND (until IS NULL OR until > ?4)) ORDER BY node"
        )
        values = (old.tree.id, old.number, new.tree.id, new.number)
        last, left, right = 0, None, None
        for row in self.index.db.execute(sql, values):
            if row[0] != last:
                yield from self._pair(last, left, right)
                last, left, right = row[0], None, None
            tree, since, until = row[1], row[2], row[10]
            if tree == old.tree.id and since <= old.number and (until is None or until > old.number):
                left = row[3:10]
            if tree == new.tree.id and since <= new.number and (until is None or until > new.number):
                right = row[3:10]
        yield from self._pair(last, left, right)

    def _pair(self, node: int, left: Any, right: Any) -> Iterator[tuple[Seen | None, Seen | None]]:  # noqa: ANN401
        if left != right:
            path = self.path(node)
            yield (_seen(path, left) if left else None), (_seen(path, right) if right else None)

    # --- what is nowhere else

    def only_in(self, states: Collection[State]) -> Iterator[Held]:
        """The files and links that are in no state but these, anywhere in the rotation, sorted by master and path.

        The same path of the same master with the same content, on whatever drive, counts as the file itself.
        """
        chosen = {(state.tree.id, state.number) for state in states}
        found = []
        for tree in {state.tree for state in states}:
            for node in self._ending(tree, {state.number for state in states if state.tree == tree}):
                mine = [each for each in self.versions(node) if each.newest.tree.master == tree.master]
                for content in {each.seen.content for each in mine if each.seen.kind in {Kind.FILE, Kind.SYMLINK}}:
                    same = [each for each in mine if each.seen.content == content]
                    every = tuple(state for each in same for state in each.states)
                    if all((state.tree.id, state.number) in chosen for state in every):
                        found.append(Held(same[-1].seen, every))
        unique = {(each.newest.tree.master, each.seen.path, each.seen.content): each for each in found}
        return iter([unique[key] for key in sorted(unique, key=lambda key: (key[0], order(key[1]), key[2]))])

    def _ending(self, tree: Tree, numbers: set[int]) -> Iterator[int]:
        """The nodes of which a version of the tree may be in no other of its states than these."""
        others = [each.number for each in self._states[tree.id] if each.number not in numbers]
        if max(numbers) > max(others, default=0):
            sql = "SELECT DISTINCT node FROM versions WHERE tree = ? AND (until IS NULL OR until > ?)"
            rows = self.index.rows(sql, tree.id, min(numbers))
        else:
            sql = "SELECT DISTINCT node FROM versions WHERE tree = ? AND until > ? AND until <= ?"
            rows = self.index.rows(sql, tree.id, min(numbers), max(others))
        return (row[0] for row in rows)


_AT: Final = (
    "SELECT node, kind, mode, uid, gid, size, mtime_ns, target FROM versions WHERE tree = ?1 AND since <= ?2"
    " AND (until IS NULL OR until > ?2) AND {}"
)


def _seen(path: bytes, how: Any) -> Seen:  # noqa: ANN401 - a row
    kind, mode, uid, gid, size, mtime_ns, target = how
    return Seen(path, kind, mode, uid, gid, size, mtime_ns, target or b"")
