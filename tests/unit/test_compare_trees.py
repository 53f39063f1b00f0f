"""Random trees: doing what the comparison says makes the drive what the master is, and touches nothing else."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from flashback.compare.comparison import compare
from flashback.compare.values import What
from flashback.walk.listing import Entry, Kept, Kind, order

PATHS = [b"a", b"b", b"d", b"d/a", b"d/d", b"d/d/a", b"d/d/b", b"d-", b"d a", b"\xff"]


def drawn(draw, kinds, inodes):
    """A tree as path -> (kind, inode); what lies below something that is no directory does not exist."""
    chosen = draw(st.dictionaries(st.sampled_from(PATHS), st.tuples(kinds, inodes), min_size=3))
    found: dict[bytes, tuple[Kind | None, int]] = {}
    for path in sorted(chosen, key=order):
        kind, inode = chosen[path]
        above = path.rpartition(b"/")[0]
        if above and found.get(above, (None, 0))[0] is not Kind.DIRECTORY:
            continue
        found[path] = (kind, inode)
    return found


@st.composite
def pairs(draw):
    kinds = st.sampled_from([Kind.FILE, Kind.FILE, Kind.FILE, Kind.DIRECTORY, Kind.DIRECTORY, Kind.SYMLINK])
    few = st.integers(1, 3)
    versions = st.dictionaries(few, st.tuples(st.integers(1, 2), st.integers(1, 2)))
    master = drawn(draw, st.one_of(kinds, kinds, kinds, st.none()), few)
    drive = drawn(draw, kinds, few)
    return listing(master, draw(versions)), [e for e in listing(drive, draw(versions)) if isinstance(e, Entry)]


def listing(found, versions):
    """Entries with the attributes of their inode; `None` for a kind stands for what is kept."""
    shared = {}
    for path, (kind, inode) in found.items():
        shared.setdefault((kind, inode), []).append(path)
    items = [Entry(b"", Kind.DIRECTORY, 0o755, 0, 0, 0, 1, 1, 1, 1, 1)]
    for number, path in enumerate(sorted(found, key=order)):
        kind, inode = found[path]
        if kind is None:
            items.append(Kept(path))
            continue
        content, mode = versions.get(inode, (1, 1))
        alone = kind is Kind.DIRECTORY
        target = b"to%d" % content if kind is Kind.SYMLINK else b""
        facts = {"size": content if kind is Kind.FILE else 0, "mtime_ns": content, "ctime_ns": 0, "dev": 1}
        ino = 1000 + number if alone else inode * 10 + kind
        nlink = 1 if alone else len(shared[kind, inode])
        items.append(Entry(path, kind, mode, 0, 0, **facts, ino=ino, nlink=nlink, target=target))
    return items


class Drive:
    """A file system as simple as can be: path -> inode number, inode number -> kind and attributes."""

    def __init__(self, entries):
        self.names = {entry.path: entry.ino for entry in entries}
        self.inodes = {entry.ino: facts(entry) for entry in entries}
        self.fresh = itertools.count(10_000)

    def put(self, path, what):
        number = next(self.fresh)
        self.names[path], self.inodes[number] = number, what

    def remove(self, path):
        for name in [name for name in self.names if name == path or name.startswith(path + b"/")]:
            del self.names[name]

    def rsync(self, entries):
        """Content goes into a new inode, attributes into the one that is there; then groups are joined."""
        for entry in entries:
            assert b"/" not in entry.path or entry.path.rpartition(b"/")[0] in self.names
            old = self.inodes[self.names[entry.path]] if entry.path in self.names else None
            if old is not None:
                assert old[0] is entry.kind, "another kind was in the way"
            if old is None or old[:3] != facts(entry)[:3]:
                self.put(entry.path, facts(entry))
            else:
                self.inodes[self.names[entry.path]] = facts(entry)
        firsts = {}
        for entry in entries:
            if entry.nlink > 1 and entry.kind is not Kind.DIRECTORY:
                self.names[entry.path] = firsts.setdefault(entry.ino, self.names[entry.path])

    def seen(self, path):
        return self.inodes[self.names[path]]

    def partition(self, paths):
        groups = {}
        for path in paths:
            groups.setdefault(self.names[path], set()).add(path)
        return {frozenset(group) for group in groups.values()}


def facts(entry):
    return (entry.kind, (entry.size, entry.mtime_ns if entry.kind is not Kind.DIRECTORY else 0), entry.target,
            entry.mode if entry.kind is not Kind.SYMLINK else 0)  # fmt: skip


def is_at_or_below(path, kept):
    return any(path == each or path.startswith(each + b"/") for each in kept)


@given(pairs())
@settings(max_examples=400, deadline=None)
def test_doing_what_is_said_makes_the_drive_what_the_master_is(pair):
    master, incumbent = pair
    kept = {item.path for item in master if isinstance(item, Kept)}
    entries = [item for item in master if isinstance(item, Entry)]
    drive = Drive(incumbent)
    spared = {path: drive.seen(path) for path in drive.names if is_at_or_below(path, kept)}

    comparison = compare(master, incumbent)
    changes = list(comparison.changes())
    for change in changes:
        if change.what is What.REPLACE:
            drive.remove(change.path)
    for change in changes:
        if change.apart:
            drive.put(change.path, drive.seen(change.path))
    drive.rsync(sorted((c.entry for c in changes if c.entry is not None), key=lambda entry: order(entry.path)))
    for change in changes:
        if change.what is What.DELETE:
            drive.remove(change.path)

    above_kept = {b"/".join(path.split(b"/")[:n]) for path in kept for n in range(path.count(b"/") + 1)}
    expected = {entry.path for entry in entries}
    assert {path for path in drive.names if path not in spared and path not in above_kept - expected} == expected
    assert {path: drive.seen(path) for path in spared} == spared
    assert {path: drive.seen(path) for path in expected} == {entry.path: facts(entry) for entry in entries}
    files = [entry for entry in entries if entry.kind is not Kind.DIRECTORY]
    assert drive.partition(entry.path for entry in files) == Drive(files).partition(entry.path for entry in files)


@given(pairs())
@settings(max_examples=200, deadline=None)
def test_everything_is_counted_once(pair):
    master, incumbent = pair
    comparison = compare(master, incumbent)
    changes = list(comparison.changes())
    entries = [item for item in master if isinstance(item, Entry)]
    listed = [change.path for change in changes if change.entry is not None]
    assert len(listed) == len(set(listed))
    assert comparison.unchanged.files + comparison.unchanged.directories == len(entries) - len(listed)
    assert comparison.on_drive.files + comparison.on_drive.directories == len(incumbent)


@given(pairs())
@settings(max_examples=100, deadline=None)
def test_a_tree_does_not_differ_from_itself(pair):
    _master, incumbent = pair
    assert list(compare(incumbent, incumbent).changes()) == []
