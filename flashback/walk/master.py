"""The walk: a master, or the copy on a drive, as a sorted stream of entries.

By directory descriptors, one open for each level, so that nothing that is renamed meanwhile leads elsewhere; what is
held is the names of the directories on the way down. `walk_master` must run as the master's owner (see
`flashback.walk.reader`): it follows links, and must not see what the owner cannot. Files in a directory that keep
its other contents out: see `flashback.walk.markers`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from flashback.config.values import Symlinks
from flashback.core.descent import allow_deep_trees
from flashback.core.events import Remark, RemarkKind
from flashback.core.text import number
from flashback.walk.content import Look
from flashback.walk.filter import Filter, says_the_same_of_a_file
from flashback.walk.incumbent import walk_incumbent
from flashback.walk.links import LONGEST_CHAIN, leaves
from flashback.walk.listing import Entry, Item, Kept, Kind, Linked, Same
from flashback.walk.markers import LOOKED_AT, OURS, valid
from flashback.walk.narrow import Narrow
from flashback.walk.places import (
    ENCODING,
    ENTER,
    ERRORS,
    Level,
    entry_of,
    file_of,
    in_proc,
    xattrs_of,
)

__all__ = ["Produce", "Said", "walk_incumbent", "walk_master", "walking"]

LONGEST_PATH: Final = 4090
"""Bytes. rsync 3.5.0 was seen to copy paths of 4094 bytes and to refuse 4095 (MAXPATHLEN), which leaves a margin."""

BATCH: Final = 400
"""Items that are gathered at a time."""

Said = Item | Linked | Remark | Look
Emit = Callable[[Said | list[Item]], None]
"""Takes what is said; items also many at a time."""
Produce = Callable[[Emit], None]
Tell = Callable[[Remark | Linked], None]


def walk_master(
    root: int,
    *,
    filter: Filter,  # noqa: A002 - it is what it is
    symlinks: Symlinks,
    avoid: frozenset[tuple[int, int]] = frozenset(),
    remark: Callable[[Remark], None],
    with_xattrs: bool = True,
    own_process: bool = False,
) -> Iterator[Item]:
    """List the directory that is open as `root`, which comes first with the path `b""`.

    `avoid` are directories, as (st_dev, st_ino), that are not entered. Whatever cannot be listed is `Kept` and told as
    a remark. `root` stays open and is the caller's. Where the process has nothing else to do (`own_process`), the walk
    changes its working directory as it goes: the calls for attributes take no directory descriptor, and cost three
    times as much by way of /proc. Raises `OSError` when `root` itself cannot be listed.
    """
    tell: Tell = lambda said: None if isinstance(said, Linked) else remark(said)  # noqa: E731
    walk = MasterWalk(filter, symlinks, avoid, tell, with_xattrs=with_xattrs, own_process=own_process)
    for items in walk.walk(root):
        yield from items


def walking(
    path: Path,
    *,
    filter: Filter,  # noqa: A002
    symlinks: Symlinks,
    avoid: frozenset[tuple[int, int]] = frozenset(),
    with_xattrs: bool = True,
    narrow: Narrow | None = None,
) -> Produce:
    """What `reader.reading_as` runs as the owner: open `path`, walk it, give away entries and remarks as they come.

    It is for a process of its own, whose working directory it changes. What `narrow` knows to be as it was is not
    entered, and is given away as `Same`.
    """

    def produce(emit: Emit) -> None:
        root = os.open(path, ENTER)
        try:
            master = MasterWalk(filter, symlinks, avoid, emit, with_xattrs=with_xattrs, own_process=True)
            master.narrow = narrow
            for items in master.walk(root):
                emit(items)
        finally:
            os.close(root)

    return produce


class MasterWalk:
    """One walk of a master."""

    def __init__(
        self,
        rules: Filter,
        symlinks: Symlinks,
        avoid: frozenset[tuple[int, int]],
        remark: Tell,
        *,
        with_xattrs: bool,
        own_process: bool,
    ) -> None:
        self.rules = rules
        self.symlinks = symlinks
        self.avoid = avoid
        self.tell = remark
        self.with_xattrs = with_xattrs
        self.own_process = own_process
        self.uid = os.geteuid()
        self.sockets = 0
        self.narrow: Narrow | None = None

    def walk(self, root: int) -> Iterator[list[Item]]:
        """See `walk_master`; some at a time."""
        allow_deep_trees()
        top = self._level(os.dup(root), b"", os.fstat(root), None, links=0)  # closes it when it fails
        stack = [top]
        try:
            yield [top.entry]
            while stack:
                items, below, over = self._next(stack[-1])
                if below is not None:
                    stack.append(below)
                    items.append(below.entry)
                elif over:
                    os.close(stack.pop().fd)
                yield items
        finally:
            for level in stack:
                os.close(level.fd)
        if self.sockets:
            self.tell(Remark(RemarkKind.SPECIAL_FILE, detail=f"{number(self.sockets, 'socket')} left out"))

    def _next(self, level: Level) -> tuple[list[Item], Level | None, bool]:
        """What comes next in a directory: files, and the first directory among them; whether that was all.

        Nearly all time is spent here, hence names instead of attributes, and calls of nothing but the kernel.
        """
        fd, before, attributes, room = level.fd, level.before, level.attributes, level.room
        uid, look, with_xattrs = self.uid, os.stat, self.with_xattrs
        items: list[Item] = []
        if self.own_process:
            os.fchdir(fd)
        for name in level.names:
            if len(name) > room:
                items.append(self._too_long(before + name))
                continue
            try:
                at = look(name, dir_fd=fd, follow_symlinks=False)
            except OSError as problem:
                items.append(self._failed(before + name, problem))
                continue
            if at.st_mode & 0o170000 != stat.S_IFREG:
                found = self._other(level, name, at)
                if isinstance(found, Level):
                    return items, found, False
                if found is not None:
                    items.append(found)
            elif not uid or (at.st_uid == uid and at.st_mode & 0o400) or _readable(fd, name):
                xattrs = xattrs_of(attributes + name) if with_xattrs else b""
                items.append(file_of(before + name, at, xattrs))
            else:
                items.append(self._kept(RemarkKind.UNREADABLE, before + name, os.strerror(errno.EACCES)))
            if len(items) >= BATCH:
                return items, None, False
        return items, None, True

    def _too_long(self, path: bytes) -> Kept:
        return self._kept(RemarkKind.NAME_TOO_LONG, path, f"{len(path)} bytes; {LONGEST_PATH} can be copied")

    def _other(self, level: Level, name: bytes, at: os.stat_result) -> Item | Level | None:
        """Whatever is no file; `None`: it is excluded."""
        if stat.S_ISDIR(at.st_mode):
            return self._entered(level, name, at, follow=False)
        if stat.S_ISLNK(at.st_mode):
            return self._link(level, name, at)
        return self._special(level.before + name, at)

    def _link(self, level: Level, name: bytes, at: os.stat_result) -> Item | Level | None:
        path = level.before + name
        if self.symlinks is not Symlinks.FOLLOW:
            try:
                target = os.readlink(name, dir_fd=level.fd)
            except OSError as problem:
                return self._failed(path, problem)
            if self.symlinks is Symlinks.KEEP or not leaves(target, path):
                return None if level.leaves_out(name, directory=False) else self._kept_link(level, name, at, target)
        self.tell(Linked(path))
        try:
            at = os.stat(name, dir_fd=level.fd)
        except OSError as problem:
            # rsync asks the rules both ways before it complains (make_file in flist.c).
            either = level.leaves_out(name, directory=False) or level.leaves_out(name, directory=True)
            return None if either else self._lost(path, problem)
        return self._followed(level, name, at)

    def _kept_link(self, level: Level, name: bytes, at: os.stat_result, target: bytes) -> Entry:
        xattrs = xattrs_of(level.attributes + name) if self.with_xattrs else b""
        return entry_of(level.before + name, Kind.SYMLINK, at, xattrs=xattrs, target=target)

    def _followed(self, level: Level, name: bytes, at: os.stat_result) -> Item | Level | None:
        """A link that appears as what it points to."""
        path = level.before + name
        is_directory = stat.S_ISDIR(at.st_mode)
        if level.leaves_out(name, directory=is_directory):
            return None
        if level.links >= LONGEST_CHAIN:
            return self._kept(RemarkKind.LOOPING_LINK, path, f"more than {LONGEST_CHAIN} links on the way")
        if is_directory:
            return self._entered(level, name, at, follow=True)
        if not stat.S_ISREG(at.st_mode):
            return self._special(path, at)
        if self.uid and not (at.st_uid == self.uid and at.st_mode & 0o400) and not _readable(level.fd, name):
            return self._kept(RemarkKind.UNREADABLE, path, os.strerror(errno.EACCES))
        return file_of(path, at, xattrs_of(level.attributes + name, follow=True) if self.with_xattrs else b"")

    def _lost(self, path: bytes, problem: OSError) -> Kept:
        if problem.errno in {errno.ENOENT, errno.ENOTDIR}:
            return self._kept(RemarkKind.DANGLING_LINK, path)
        if problem.errno == errno.ELOOP:
            return self._kept(RemarkKind.LOOPING_LINK, path, os.strerror(errno.ELOOP))
        return self._kept(RemarkKind.UNREADABLE, path, problem.strerror or "")

    def _special(self, path: bytes, at: os.stat_result) -> Kept:
        if stat.S_ISSOCK(at.st_mode):
            self.sockets += 1
            return Kept(path)
        return self._kept(RemarkKind.SPECIAL_FILE, path, "a named pipe" if stat.S_ISFIFO(at.st_mode) else "a device")

    def _entered(self, level: Level, name: bytes, at: os.stat_result, *, follow: bool) -> Kept | Same | Level:
        """Open a directory and read its names; where that fails all of it is kept."""
        path, links = level.before + name, level.links + follow
        if (at.st_dev, at.st_ino) in self.avoid:
            return self._kept(RemarkKind.GENERAL, path, "is Flashback's own, drives are mounted there; left out")
        if self.narrow is not None and not links and not level.anew and self.narrow.is_same(path, at.st_ino):
            return Same(path)
        if links and level.closes_loop(at):
            return self._kept(RemarkKind.LOOPING_LINK, path, "it leads to a directory that it lies in")
        try:
            fd = os.open(name, ENTER | (0 if follow else os.O_NOFOLLOW), dir_fd=level.fd)
            return self._level(fd, path, at, level, links=links)
        except OSError as problem:
            return self._failed(path, problem)

    def _level(self, fd: int, path: bytes, at: os.stat_result, parent: Level | None, *, links: int) -> Level:
        """A directory that was opened as `fd`. Raises `OSError`, with `fd` closed, when its names cannot be read."""
        followed = parent is not None and links > parent.links
        xattrs = xattrs_of(fd, follow=followed) if self.with_xattrs else b""
        entry = entry_of(path, Kind.DIRECTORY, at, xattrs=xattrs)
        before = path + b"/" if path else b""
        level = Level(
            fd,
            entry,
            before,
            iter(()),
            b"" if self.own_process else in_proc(fd),
            parent,
            self.rules.within(path),
            links,
        )
        level.room = min(255, LONGEST_PATH - len(before))
        if self.narrow is not None and parent is not None:
            level.anew = parent.anew or self.narrow.is_other(path, at.st_ino)
        if parent is None or not parent.marked:
            try:
                level.names = iter(self._names(level))
            except OSError:
                os.close(fd)
                raise
        return level

    def _names(self, level: Level) -> Iterable[bytes]:
        """The names in a directory that the rules leave, sorted. Links are judged when it is known where they lead.

        Raises `OSError`, also where the names can be read but nothing that they name can be looked at.
        """
        if self.uid and not os.access(b".", os.X_OK, dir_fd=level.fd, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        links_wait = self.symlinks is not Symlinks.KEEP
        judge_file, judge_directory = level.place.file, level.place.directory
        names: list[bytes] = []
        markers: list[bytes] = []
        with os.scandir(level.fd) as entries:
            for entry in entries:
                name = entry.name.encode(ENCODING, ERRORS)
                if name in LOOKED_AT:
                    if name == OURS:
                        continue
                    markers.append(name)
                # What a rule does not meet as a directory it does not meet as a file.
                rule = judge_directory(name)
                if rule is not None and not (links_wait and entry.is_symlink()):
                    if not says_the_same_of_a_file(rule) and not entry.is_dir(follow_symlinks=False):
                        rule = judge_file(name)
                    if rule is not None and not rule.include:
                        continue
                names.append(name)
        names.sort()
        return self._unmarked(level, names, markers) if markers else names

    def _unmarked(self, level: Level, names: list[bytes], markers: list[bytes]) -> list[bytes]:
        """What remains of a directory's names in view of its markers."""
        marker = valid(level.fd, markers)
        if marker is None:
            return names
        if level.parent is None:
            self._kept(RemarkKind.GENERAL, marker, "is ignored in the master's own directory")
            return names
        level.marked = True
        return [name for name in names if name == marker]

    def _failed(self, path: bytes, problem: OSError) -> Kept:
        kind = RemarkKind.VANISHED if problem.errno in {errno.ENOENT, errno.ENOTDIR} else RemarkKind.UNREADABLE
        return self._kept(kind, path, problem.strerror or "")

    def _kept(self, kind: RemarkKind, path: bytes, detail: str = "") -> Kept:
        self.tell(Remark(kind, path=path, detail=detail))
        return Kept(path)


def _readable(fd: int, name: bytes) -> bool:
    """Asked only about files that belong to somebody else, or whose mode forbids their owner to read them."""
    return os.access(name, os.R_OK, dir_fd=fd, effective_ids=True)
