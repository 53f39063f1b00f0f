"""The living master beside a state of the catalogue: what a run would find, without a drive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flashback.backup.history import of_entry
from flashback.catalogue.frames import CatalogueBroken
from flashback.catalogue.lookup import State
from flashback.catalogue.seen import Seen, pairs
from flashback.catalogue.shelves import Shelves
from flashback.config.values import Master
from flashback.core.errors import FlashbackError, NotFinished
from flashback.walk.filter import Filter
from flashback.walk.listing import Entry, Item
from flashback.walk.reader import owner_of, reading_master

Pair = tuple[Seen | None, Seen | None]


def beside_master(shelves: Shelves, state: State, master: Master, *, avoid: Path) -> Iterator[Pair]:
    """How each path is in the state and in the master now, which is read as its owner, by its rules.

    What cannot be read, or is not to be stored, says nothing: a run leaves the copy of that as it is. Raises
    `NotFinished`, `ConfigError`.
    """
    kept: set[bytes] = set()
    try:
        owner = owner_of(master.path, master.owner)
        with (
            shelves.shelf(state.tree.drive, state.tree.master) as shelf,
            reading_master(
                master.path,
                owner,
                filter=Filter(master.rules),
                symlinks=master.symlinks,
                avoid=avoid,
                remark=lambda _remark: None,
                with_xattrs=False,
            ) as items,
        ):
            links = shelf.chain()
            chosen = [link for link in links if link.state <= state.name]
            with shelf.listing(chosen) as old:
                for left, right in pairs(old, _entries(items, kept)):
                    if right is not None or (left is not None and not _lies_in(left.path, kept)):
                        yield left, right
    except CatalogueBroken as problem:
        raise NotFinished(f"the catalogue cannot be read: {problem}", hint="run the command once more") from problem
    except OSError as problem:
        raise _unreadable(master.path, problem) from problem


def _unreadable(path: Path, problem: OSError) -> FlashbackError:
    return NotFinished(f"{path} cannot be read: {problem.strerror}", hint="look at it with ls")


def _entries(items: Iterator[Item], kept: set[bytes]) -> Iterator[Seen]:
    for item in items:
        if isinstance(item, Entry):
            yield of_entry(item)
        else:
            kept.add(item.path)


def _lies_in(path: bytes, places: set[bytes]) -> bool:
    """Whether a path is one of these, or below one."""
    while path not in places:
        path, slash, _name = path.rpartition(b"/")
        if not slash:
            return False
    return True
