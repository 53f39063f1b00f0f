"""Which directories of a master need not be entered, against a tree that is changed at random."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from flashback.walk.listing import Entry, Kind, order
from flashback.walk.narrow import narrowed

Tree = dict[bytes, int]
"""Paths of directories and files, and their inodes; a file's name ends in f."""


def entry(path: bytes, inode: int) -> Entry:
    kind = Kind.FILE if path.endswith(b"f") else Kind.DIRECTORY
    return Entry(path, kind, 0, 0, 0, 0, 0, 0, 1, inode, 1)


class Machine:
    """A file system that notes what is written, as Btrfs does: a thing itself, and the directory that its name is in."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.tree: Tree = {b"": 256}
        self.content = {256: 0}
        self.written: set[int] = set()
        self.next = 257

    def step(self) -> None:
        self.chance.choice([self.make, self.make, self.make, self.write, self.remove, self.move])()

    def place(self) -> bytes:
        directory = self.chance.choice([path for path in self.tree if not path.endswith(b"f")])
        name = self.chance.choice([b"a", b"b", b"c"]) + self.chance.choice([b"", b"f"])
        return directory + b"/" + name if directory else name

    def touch(self, path: bytes) -> None:
        self.written |= {self.tree[path]} if path in self.tree else set()

    def make(self) -> None:
        path = self.place()
        if path not in self.tree:
            self.tree[path], self.content[self.next] = self.next, 0
            self.next += 1
            self.touch(path)
            self.touch(path.rpartition(b"/")[0])

    def write(self) -> None:
        path = self.chance.choice(sorted(self.tree))
        self.content[self.tree[path]] += 1
        self.touch(path)

    def below(self, path: bytes) -> list[bytes]:
        return [each for each in self.tree if each == path or each.startswith(path + b"/")]

    def remove(self) -> None:
        path = self.chance.choice(sorted(self.tree))
        if path:
            self.touch(path.rpartition(b"/")[0])
            for each in self.below(path):
                del self.tree[each]

    def move(self) -> None:
        old, new = self.chance.choice(sorted(self.tree)), self.place()
        if old and new not in self.tree and not new.startswith(old + b"/") and old.endswith(b"f") == new.endswith(b"f"):
            self.touch(old)
            self.touch(old.rpartition(b"/")[0])
            self.touch(new.rpartition(b"/")[0])
            for each in self.below(old):
                self.tree[new + each[len(old) :]] = self.tree.pop(each)

    def seen(self) -> dict[bytes, tuple[int, int]]:
        return {path: (inode, self.content[inode]) for path, inode in self.tree.items()}


def narrow_walk(machine: Machine, before: dict[bytes, tuple[int, int]], anew: frozenset[bytes]) -> dict:
    """What a run would come to know: what it looks at, and for the rest what was known before."""
    entries = [entry(path, before[path][0]) for path in sorted(before, key=order)]
    written = {path for path, inode in machine.tree.items() if inode in machine.written}
    narrow = narrowed(entries, written=written, anew=anew)
    now, found = machine.seen(), {}

    def enter(path: bytes, *, anew: bool) -> None:
        found[path] = now[path]
        before_it = path + b"/" if path else b""
        for child in machine.tree:
            name = child[len(before_it) :]
            if not child or not child.startswith(before_it) or b"/" in name:
                continue
            if child.endswith(b"f"):
                found[child] = now[child]
            elif not anew and narrow.is_same(child, machine.tree[child]):
                found.update({each: at for each, at in before.items() if (each + b"/").startswith(child + b"/")})
            else:
                enter(child, anew=anew or narrow.is_other(child, machine.tree[child]))

    enter(b"", anew=False)
    return found


@given(st.integers(0, 2**32), st.integers(0, 40), st.integers(0, 12))
def test_what_is_looked_at_and_what_was_known_make_up_what_is_there(seed, first, then) -> None:
    machine = Machine(random.Random(seed))
    for _ in range(first):
        machine.step()
    known = machine.seen()
    for _ in range(3):
        machine.written.clear()
        for _ in range(then):
            machine.step()
        known = narrow_walk(machine, known, frozenset())
        assert known == machine.seen()


@given(st.integers(0, 2**32))
def test_a_place_of_which_nothing_was_known_is_looked_at_whole(seed) -> None:
    machine = Machine(random.Random(seed))
    for _ in range(40):
        machine.step()
    directories = [path for path in machine.tree if path and not path.endswith(b"f")]
    hidden = machine.chance.choice([*directories, b"x"])
    wrong = {path: (at[0], -1) if path.startswith(hidden + b"/") else at for path, at in machine.seen().items()}
    machine.written.clear()
    assert narrow_walk(machine, wrong, frozenset({hidden})) == machine.seen()


def test_where_nothing_was_written_only_the_top_is_entered() -> None:
    entries = [entry(path, number) for number, path in enumerate([b"", b"a", b"a/b", b"c"])]
    narrow = narrowed(entries, written=(), anew=())
    assert narrow.listed == {b""}
    assert narrow.is_same(b"a", 1)
    assert not narrow.is_same(b"a", 7)
    assert not narrow.is_same(b"new", 1)
