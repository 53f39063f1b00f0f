"""Searching all drives for names, plugged in or not."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from flashback.catalogue.index import ROOT
from flashback.catalogue.lookup import Held, Lookup, State, Tree
from flashback.catalogue.match import Matcher
from flashback.catalogue.seen import Kind, Seen, order


@dataclass(frozen=True, slots=True)
class OnDrive:
    """A path on one drive: how it is in the `newest` state that has it, and how many different contents there are."""

    seen: Seen
    newest: State
    versions: int

    @property
    def tree(self) -> Tree:
        """The master on the drive."""
        return self.newest.tree


@dataclass(frozen=True, slots=True)
class Found:
    """A path of a master, with the drives that have it, the newest state first. `path` is relative to the master."""

    master: str
    path: bytes
    drives: tuple[OnDrive, ...]

    @property
    def whole(self) -> bytes:
        """The path as its owner knows it, by where the master lay when it was last backed up."""
        return whole_path(self.drives[0].tree, self.path)


def whole_path(tree: Tree, path: bytes) -> bytes:
    """Where a path of a master lies on this machine; with the master's name where that is not known."""
    top = os.fsencode(tree.path.rstrip("/")) if tree.path else os.fsencode(tree.master)
    return _joined(top or b"/", path)


def _joined(top: bytes, path: bytes) -> bytes:
    return top.rstrip(b"/") + b"/" + path if path else top


def find(
    lookup: Lookup, wanted: Matcher, *, since: datetime | None = None, drives: Collection[str] | None = None
) -> list[Found]:
    """Every path that is meant, by master and path. `since` leaves out what was last modified before; `drives` are the
    LUKS UUIDs of those to be looked at.
    """
    found: list[Found] = []
    tops = {whole_path(tree, b"") for tree in lookup.trees}
    for node, path in _nodes(lookup, wanted):
        if wanted.path is not None and not any(wanted.path(os.fsdecode(_joined(top, path))) for top in tops):
            continue
        by_master: dict[str, list[OnDrive]] = {}
        for each in _on_drives(lookup.versions(node, path), wanted, since, drives):
            by_master.setdefault(each.tree.master, []).append(each)
        for master, places in by_master.items():
            newest = sorted(places, key=lambda each: each.newest.name, reverse=True)
            found.append(Found(master, newest[0].seen.path, tuple(newest)))
    return sorted(found, key=lambda each: (each.master, order(each.path)))


def _on_drives(
    versions: Iterable[Held], wanted: Matcher, since: datetime | None, drives: Collection[str] | None
) -> Iterator[OnDrive]:
    by_tree: dict[int, list[Held]] = {}
    oldest = None if since is None else int(since.timestamp()) * 10**9
    for held in versions:
        seen, tree = held.seen, held.newest.tree
        if drives is not None and tree.drive not in drives:
            continue
        if (oldest is not None and seen.mtime_ns < oldest) or (wanted.directories and seen.kind != Kind.DIRECTORY):
            continue
        if wanted.path is None or wanted.path(os.fsdecode(whole_path(tree, seen.path))):
            by_tree.setdefault(tree.id, []).append(held)
    for alike in by_tree.values():
        newest = max(alike, key=lambda each: each.newest.number)
        yield OnDrive(newest.seen, newest.newest, len({each.seen.content for each in alike}))


def _nodes(lookup: Lookup, wanted: Matcher) -> Iterator[tuple[int, bytes]]:
    """The paths whose names can be meant: names are searched in large pieces, for a text that must be in them."""
    if not wanted.literal:
        yield from _all_nodes(lookup, wanted)
        return
    literal, name = wanted.literal, wanted.name
    if wanted.path is not None:
        yield ROOT, b""  # has no name in the index, but a whole path
    for first, piece in lookup.index.rows("SELECT first, piece FROM names"):
        text = piece.lower() if wanted.ignore_case else piece
        counted, at = 0, text.find(literal)
        node = first - 1
        while at >= 0:
            start = text.rfind(b"\0", 0, at)
            end = text.find(b"\0", at)
            node += text.count(b"\0", counted, start + 1)
            counted = start + 1
            if name(os.fsdecode(piece[start + 1 : end])):
                yield node, lookup.path(node)
            at = text.find(literal, end)


def _all_nodes(lookup: Lookup, wanted: Matcher) -> Iterator[tuple[int, bytes]]:
    name, last, before = wanted.name, -1, b""
    for node, parent, each in lookup.index.rows("SELECT id, parent, name FROM nodes ORDER BY parent"):
        if name(os.fsdecode(each)):
            if parent != last and node != ROOT:
                last, above = parent, lookup.path(parent)
                before = above + b"/" if above else b""
            yield node, before + each if node != ROOT else b""
