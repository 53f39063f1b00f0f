"""The master's listing held against the drive's: two sorted streams in, the differences out, one pass (pure).

Only hard links are remembered, since what is to be done about one depends on all others of its group. rsync's `-H`
joins what share an inode among the names that it is given, so a group is listed as a whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from flashback.catalogue.frames import CatalogueBroken
from flashback.compare.values import MOVED, Change, Count, What, difference
from flashback.walk.listing import Entry, Item, Kept, Kind, Same, order

WATCHED_EVERY: Final = 4096
"""So many entries lie between two calls of `watch`."""

Inode = tuple[int, int]
"""Device and number."""


class Comparison:
    """Both listings, not yet read.

    `root` (device and inode of the master's own directory), `unchanged`, `on_drive` and `keeps_links` are true once
    `changes` has come to its end. `keeps_links`: something that is kept has more than one name on the drive; what a
    name outside shares with it is parted, so that what `record` was given is no more true of either.
    """

    def __init__(
        self,
        master: Iterable[Item],
        incumbent: Iterable[Entry],
        differs: Callable[[Entry, Entry], What | None] = difference,
        record: Callable[[Entry], None] = lambda _entry: None,
        gone: Callable[[Entry], None] = lambda _entry: None,
        alike: Callable[[Entry, Entry], None] = lambda _new, _old: None,
    ) -> None:
        self._master = iter(master)
        self._incumbent = iter(incumbent)
        self._differs = differs
        self._record = record
        self._gone = gone
        self._alike = alike
        self._new: Item | None = None
        self._old: Entry | None = None
        self._links = _Links()
        self._alone = Count()
        self.root: Inode | None = None
        self.unchanged = Count()
        self.moved = Count()
        self.on_drive = Count()

    def changes(self, watch: Callable[[], None] = lambda: None) -> Iterator[Change]:
        """Every difference: in the order of the listings, then those of hard-linked files. Can be read once."""
        self._next_new()
        self._next_old()
        if isinstance(self._new, Entry) and not self._new.path:
            self.root = (self._new.dev, self._new.ino)
        steps = 0
        while self._new is not None or self._old is not None:
            steps += 1
            if steps % WATCHED_EVERY == 0:
                watch()
            if (change := self._step()) is not None:
                yield change
        self._alone = msgspec.structs.replace(self.unchanged)
        yield from self._links.changes(self._same)

    def go_on_from(self, earlier: Comparison, again: Count) -> None:
        """Before anything is read: both listings are but a part of what `earlier` was given, hard links and all that
        is kept included, and all the rest is as it was found there. `again` is what was alike and is looked at again.
        """
        counts = zip(msgspec.structs.astuple(earlier._alone), msgspec.structs.astuple(again), strict=True)
        self.root, self.unchanged = earlier.root, Count(*(whole - part for whole, part in counts))
        self._links.kept |= earlier._links.kept

    @property
    def linked(self) -> Sequence[Member]:
        """The files that have more names than one, on one side at least."""
        return self._links.members

    @property
    def keeps_links(self) -> bool:
        """See above."""
        return self._links.keeps_any

    def _step(self) -> Change | None:
        """Take one path from either stream, or from both."""
        new, old = self._new, self._old
        if new is None:
            return self._only_on_drive(old) if old is not None else None
        if old is not None and new.path != old.path and order(old.path) < order(new.path):
            return self._only_on_drive(old)
        self._next_new()
        if isinstance(new, Kept):
            self._keep(new.path)
            return None
        if isinstance(new, Same):
            self._as_it_was(new.path)
            return None
        if old is None or new.path != old.path:
            return self._only_in_master(new)
        self._next_old()
        return self._in_both(new, old)

    def _only_in_master(self, new: Entry) -> Change | None:
        self._record(new)
        if new.nlink > 1 and new.kind is not Kind.DIRECTORY:
            self._links.add(new, None, What.ADD)
            return None
        return Change(new.path, What.ADD, new, None)

    def _in_both(self, new: Entry, old: Entry) -> Change | None:
        self._record(new)
        what = self._differs(new, old)
        gone = self._all_of(old) if what is What.REPLACE else None
        if (new.nlink > 1 or old.nlink > 1) and new.kind is not Kind.DIRECTORY:
            self._links.add(new, old, what, gone)
            return None
        if what is None:
            self._same(new, old)
            self._alike(new, old)
            return None
        return Change(new.path, what, new, old, gone)

    def _same(self, new: Entry, old: Entry | None) -> None:
        (self.moved if old is not None and old.blocks == MOVED else self.unchanged).add(new)

    def _only_on_drive(self, old: Entry) -> Change | None:
        """One deletion for a whole directory; a directory above something the master names (and keeps) stays."""
        self._next_old()
        if self._new is not None and self._new.path.startswith(_below(old.path)):
            self._record(old)
            return None
        return Change(old.path, What.DELETE, None, old, self._all_of(old))

    def _all_of(self, old: Entry) -> Count:
        """Count `old` and take all that the drive has below it."""
        count = Count()
        count.add(old)
        self._gone(old)
        prefix = _below(old.path)
        while self._old is not None and self._old.path.startswith(prefix):
            count.add(self._old)
            self._gone(self._old)
            self._next_old()
        return count

    def _keep(self, path: bytes) -> None:
        """Pass over what the drive has at `path` and below."""
        prefix = _below(path)
        while self._old is not None and (self._old.path == path or self._old.path.startswith(prefix)):
            if self._old.nlink > 1 and self._old.kind is not Kind.DIRECTORY:
                self._links.keep(self._old)
            self._record(self._old)
            self._next_old()

    def _as_it_was(self, path: bytes) -> None:
        """Take what the listing has at `path` and below for what the master has. Raises `CatalogueBroken`.

        Names of one file may lie elsewhere, where they were looked at: for these the master's device is that of now.
        """
        old, prefix, directory = self._old, _below(path), Kind.DIRECTORY
        if old is None or old.path != path or old.kind is not directory or self.root is None:
            raise CatalogueBroken("a directory that was left out of the walk is not in the list")
        record, unchanged, device = self._record, self.unchanged, self.root[0]
        while old is not None and (old.path.startswith(prefix) or old.path == path):
            if old.nlink > 1 and old.kind is not directory:
                new = msgspec.structs.replace(old, dev=device)
                record(new)
                self._links.add(new, old, None)
            else:
                record(old)
                unchanged.add(old)
            self._next_old()
            old = self._old

    def _next_new(self) -> None:
        self._new = next(self._master, None)

    def _next_old(self) -> None:
        self._old = old = next(self._incumbent, None)
        if old is not None:
            self.on_drive.add(old)


def compare(
    master: Iterable[Item],
    incumbent: Iterable[Entry],
    *,
    differs: Callable[[Entry, Entry], What | None] = difference,
    record: Callable[[Entry], None] = lambda _entry: None,
    gone: Callable[[Entry], None] = lambda _entry: None,
    alike: Callable[[Entry, Entry], None] = lambda _new, _old: None,
) -> Comparison:
    """Hold two listings, both in `listing.order`, against each other; nothing is read before `changes` is.

    `differs` decides about what both have. `record` is given, in order, what the drive will hold once all differences
    are gone: the master's entries, and the drive's own where the master says to keep them. `gone` is given every single
    thing that the drive will lose, `alike` what does not differ, hard links left out.
    """
    return Comparison(master, incumbent, differs, record, gone, alike)


def _below(path: bytes) -> bytes:
    """What the paths of everything below a directory begin with."""
    return path + b"/" if path else b""


class Member(msgspec.Struct):
    """A file that has, on one side at least, more names than one. `what`: its own difference."""

    new: Entry
    old: Entry | None
    what: What | None
    gone: Count | None
    apart: bool = False


class _Links:
    """Hard links: grouped by inode on each side, then judged."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.kept: set[Inode] = set()

    def add(self, new: Entry, old: Entry | None, what: What | None, gone: Count | None = None) -> None:
        """A path of the master."""
        self.members.append(Member(new, old, what, gone))

    def keep(self, old: Entry) -> None:
        """A file on the drive that stays as it is, and must not change through another name."""
        self.kept.add((old.dev, old.ino))

    @property
    def keeps_any(self) -> bool:
        """Whether anything was kept."""
        return bool(self.kept)

    def changes(self, same: Callable[[Entry, Entry | None], None]) -> Iterator[Change]:
        """What is to be done; members of groups that need nothing are told to `same`."""
        self._part()
        for group in self._groups():
            touched = _needs_rsync(group)
            for member in group:
                if touched:
                    yield _change(member)
                else:
                    same(member.new, member.old)

    def _part(self) -> None:
        """Mark the files that share an inode on the drive with what is another file in the master.

        Of those that share one, the first and its group keep it, unless something that must stay has it too.
        """
        owner: dict[Inode, Inode | bytes | None] = dict.fromkeys(self.kept)
        for member in self.members:
            old = member.old
            if old is not None and old.nlink > 1 and member.what is not What.REPLACE:
                mine = _identity(member.new)
                member.apart = owner.setdefault((old.dev, old.ino), mine) != mine

    def _groups(self) -> Iterable[list[Member]]:
        groups: dict[Inode | bytes, list[Member]] = {}
        for member in self.members:
            groups.setdefault(_identity(member.new), []).append(member)
        return groups.values()


def _identity(new: Entry) -> Inode | bytes:
    """What makes names of the master one file: its inode, or, where it has but one name, that."""
    return (new.dev, new.ino) if new.nlink > 1 else new.path


def _needs_rsync(group: list[Member]) -> bool:
    inodes = {(member.old.dev, member.old.ino) if member.old is not None else None for member in group}
    return len(inodes) > 1 or any(member.what is not None or member.apart for member in group)


def _change(member: Member) -> Change:
    return Change(member.new.path, member.what or What.LINK, member.new, member.old, member.gone, member.apart)
