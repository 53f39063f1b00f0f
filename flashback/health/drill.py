"""A drill: versions of files out of the snapshots are read to their end, as a restore would have to read them.

The drive's checksums are looked at by the kernel as it reads; what does not fit is not given out. Where the catalogue
knows a state, half of the files are chosen there, so that one that is missing on the drive is missed.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

from flashback.core.descent import DIRECTORY, Descent, exchanged
from flashback.drive import layout, states
from flashback.drive.proofs import Proofs
from flashback.drive.states import State
from flashback.drive.tree import Item, Trouble, digest, item_of, listed, looked_at, unread

TRIES: Final = 20
"""So many times as files are wanted it is tried to find one: directories may be empty."""


@dataclass(slots=True)
class Drill:
    """What was read; `remembered` is how many files were held against the catalogue. `damaged` are those that were not
    given out or are not as noted, with the snapshot they lie in; `differing` of them were given out, or are missing.
    """

    files: int = 0
    bytes: int = 0
    remembered: int = 0
    differing: int = 0
    damaged: list[tuple[State, Trouble]] = field(default_factory=list)


class Memory(Protocol):
    """What is known of the drive without it."""

    def knows(self, state: State) -> bool:
        """Whether there is anything to hold a state against."""

    def pick(self, state: State, rng: random.Random) -> bytes | None:
        """A file that the state should hold, `None` where none was found."""

    def wrong(self, state: State, path: bytes, item: Item | None) -> str:
        """In what a file of the state is not as it should be; empty where it is, or nothing is known."""


def drill(
    root: int,
    *,
    sample: int | None,
    rng: random.Random,
    proofs: Proofs,
    watch: Callable[[], None],
    told: Callable[[Drill], None],
    memory: Memory | None = None,
) -> Drill:
    """Read `sample` files of random snapshots of the drive open as `root`, or each version of every file once.

    What `proofs` has seen read already is left out of the second; what is read is held against what it knows. Damage
    is in the result, not an exception. Raises what `watch` raises.
    """
    done = Drill()
    found = [
        state
        for master in states.masters_on(root)
        for state in states.states_of(root, master)
        if state.name != layout.CURRENT or sample is None
    ]
    if sample is None:
        chosen = _every(root, found, proofs, done)
    else:
        chosen = _Sampler(root, rng, done, memory).files(found, sample)
    for state, item in chosen:
        watch()
        if why := _read(root, state, item, done, proofs, memory):
            watch()
            done.damaged.append((state, Trouble(item.path, why)))
            proofs.bad(state.master, item)
        else:
            done.files += 1
            done.bytes += item.size
            told(done)
    if done.damaged:  # in choosing, too, where a drive that is gone gives nothing out
        watch()
    return done


def _read(root: int, state: State, item: Item, done: Drill, proofs: Proofs, memory: Memory | None) -> str:
    """Read one file. What is wrong with it, in words; empty where it is as it should be."""
    path = item.path.partition(b"/")[2]
    if memory is not None and memory.knows(state):
        done.remembered += 1
        if why := memory.wrong(state, path, item):
            done.differing += 1
            return why
    with states.opened(root, state) as (folder, _name), Descent(folder, beyond=True) as below:
        try:
            content = digest(*below.parent(item.path), afresh=True)
        except OSError as problem:
            return problem.strerror or "it cannot be read"
    why = proofs.judged(state.master, path, item, content) if state.complete else ""
    done.differing += bool(why)
    return why


def _every(root: int, found: list[State], proofs: Proofs, done: Drill) -> Iterator[tuple[State, Item]]:
    for state in found:
        with states.opened(root, state) as (folder, name):
            for item in listed(folder, name, lambda trouble, state=state: done.damaged.append((state, trouble))):  # type: ignore[misc]
                if item.is_file and proofs.unread(state.master, item.path.partition(b"/")[2], item):
                    yield state, item


@dataclass(slots=True)
class _Sampler:
    """Chooses by steps down at random, so that no snapshot has to be listed. Files of small directories come more
    often.
    """

    root: int
    rng: random.Random
    done: Drill
    memory: Memory | None
    met: set[tuple[str, str, bytes]] = field(default_factory=set)
    """What was chosen, by master, snapshot and path: a file that is read twice proves no more."""

    def files(self, found: list[State], sample: int) -> Iterator[tuple[State, Item]]:
        """So many files, each once; fewer where there are hardly any."""
        for _ in range(sample * TRIES if found else 0):
            if len(self.met) >= sample:
                return
            state = self.rng.choice(found)
            item = self._remembered(state) if self.memory is not None and self.rng.random() < 0.5 else self._any(state)
            if item is not None and (which := (state.master, state.name, item.path)) not in self.met:
                self.met.add(which)
                yield state, item

    def _any(self, state: State) -> Item | None:
        with states.opened(self.root, state) as (folder, name):
            return _one(folder, name, self.rng, lambda trouble: self._note(state, trouble))

    def _remembered(self, state: State) -> Item | None:
        """One that the catalogue names; what is not on the drive is noted."""
        path = self.memory.pick(state, self.rng) if self.memory is not None else None
        if path is None or self.memory is None:
            return None
        with states.opened(self.root, state) as (folder, name):
            whole = name + b"/" + path
            try:
                item = looked_at(folder, whole)
            except OSError as problem:
                self._note(state, unread(whole, problem))
                return None
        if item is None or not item.is_file:
            if self._note(state, Trouble(whole, self.memory.wrong(state, path, None))):
                self.done.remembered += 1
                self.done.differing += 1
            return None
        return item

    def _note(self, state: State, trouble: Trouble) -> bool:
        """Once for each place; whether this was the first time."""
        first = (state, trouble) not in self.done.damaged
        if first:
            self.done.damaged.append((state, trouble))
        return first


def _one(folder: int, name: bytes, rng: random.Random, trouble: Callable[[Trouble], object]) -> Item | None:
    """A file somewhere below; `None` where the way ended in an empty directory or a link."""
    path = name
    here = os.dup(folder)
    try:
        while True:
            at = os.stat(name, dir_fd=here, follow_symlinks=False)
            if not stat.S_ISDIR(at.st_mode):
                return item_of(path, at) if stat.S_ISREG(at.st_mode) else None
            here = exchanged(here, os.open(name, DIRECTORY, dir_fd=here))
            names = os.listdir(here)
            if not names:
                return None
            name = os.fsencode(rng.choice(names))
            path += b"/" + name
    except OSError as problem:
        trouble(Trouble(path, problem.strerror or "it cannot be read"))
        return None
    finally:
        with suppress(OSError):
            os.close(here)
