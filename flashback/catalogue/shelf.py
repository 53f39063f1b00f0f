"""The folder that holds the catalogue of one master on one drive: here, and the same on the drive itself.

Files are only ever made whole and replaced whole. What leads from a first listing to the last state without a gap is
the *chain*; a file that is not in it is not believed. A folder here has a note besides, of which states the drive had
when it was last seen: those of snapshots that are gone stay in the chain until it is worth the while to join them.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Final

from flashback.catalogue import file as files
from flashback.catalogue.file import Batches, Header
from flashback.catalogue.frames import CatalogueBroken, proven, write_proven
from flashback.catalogue.seen import Seen, compose, listing

NOTE: Final = "states.json"
LARGEST_NOTE: Final = 4 * 1024 * 1024
MOST_FILES: Final = 20_000
"""More than a drive could have snapshots; what lies beyond is not looked at."""
FOLD: Final = 4
"""The states before the oldest snapshot are joined once they are a fourth of the listing that they change."""


@dataclass(frozen=True, slots=True)
class Note:
    """What the drive had when it was last seen: the `states` of its snapshots and its copy, oldest first, the state of
    the copy (`current`, empty while it is incomplete), and where the master lies on the machine that wrote it last.
    """

    states: tuple[str, ...] = ()
    current: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """A file of the catalogue: its header and its size."""

    header: Header
    size: int

    @property
    def state(self) -> str:
        """The state to which it leads."""
        return self.header.state


class Shelf:
    """The folder open as `fd` (not closed here)."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def chain(self) -> tuple[Link, ...]:
        """What can be believed, oldest state first: what leads to the newest state that a whole listing leads to.

        Raises `OSError` where the folder cannot be read.
        """
        known = {link.header.stem: link for link in self._links()}
        for newest in sorted(known, reverse=True):
            found = [known[newest]]
            while (base := found[-1].header.base) in known:
                found.append(known[base])
            if not base:
                return tuple(reversed(found))
        return ()

    def _links(self) -> Iterator[Link]:
        for name in self.names():
            with suppress(CatalogueBroken, FileNotFoundError), self._opened(name) as file:
                header = files.read(file, name).header
                yield Link(header, os.fstat(file.fileno()).st_size)

    def names(self) -> list[str]:
        """The names of files that may be ours; the folder is opened anew, as `layout.snapshot_names` says why."""
        fresh = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)
        try:
            return sorted(name for name in os.listdir(fresh) if files.is_name(name))[:MOST_FILES]
        finally:
            os.close(fresh)

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.fd)
        except OSError as problem:
            if problem.errno in {errno.ELOOP, errno.ENXIO}:
                raise CatalogueBroken("it is a link") from problem
            raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise CatalogueBroken("it is no file")
        with open(fd, "rb") as opened:
            yield opened

    @contextmanager
    def read(self, name: str) -> Iterator[Batches]:
        """The file called so. Raises `CatalogueBroken`, also while its entries are read; `OSError`."""
        with self._opened(name) as file:
            yield files.read(file, name)

    @contextmanager
    def listing(self, links: Sequence[Link]) -> Iterator[Iterator[Seen]]:
        """All that the last of these holds: `links` is a chain, or the beginning of one."""
        with ExitStack() as opened:
            yield listing(self._joined(links, opened))

    def _joined(self, links: Sequence[Link], opened: ExitStack) -> Iterator[Seen]:
        """The small ones are put together first, so that each entry of the large one is handled once."""
        start = max((at for at, link in enumerate(links) if not link.header.base), default=0)
        streams = [opened.enter_context(self.read(link.header.name)).entries for link in links[start:]]
        changes: Iterator[Seen] | None = None
        for stream in streams[1:]:
            changes = stream if changes is None else compose(changes, stream)
        first = streams[0] if streams else iter(())
        return first if changes is None else compose(first, changes)

    def write(self, header: Header, entries: Iterable[Seen]) -> Link:
        """Make the file, whole, on the medium, or not at all. Raises `OSError`."""
        self._replace(header.name, lambda file: files.write(file, header, entries))
        return Link(header, os.stat(header.name, dir_fd=self.fd, follow_symlinks=False).st_size)

    def copy(self, other: Shelf, name: str) -> None:
        """Take a file over from another shelf once all of it was found to be right. `CatalogueBroken`, `OSError`."""
        with other.read(name) as (header, entries):
            self.write(header, entries)

    def take_over(self, other: Shelf, name: str) -> None:
        """The same for a file that this process has just made: as it is, its entries not looked at once more."""
        with other._opened(name) as file:
            self._replace(name, lambda copy: write_proven(copy, proven(file)))

    def remove(self, name: str) -> None:
        """Let one go, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    def note(self) -> Note:
        """What was noted; nothing where that cannot be read."""
        try:
            fd = os.open(NOTE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.fd)
            with open(fd, "rb") as opened:
                said = json.loads(opened.read(LARGEST_NOTE))
            return Note(tuple(map(str, said["states"])), str(said["current"]), str(said["path"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return Note()

    def keep_note(self, note: Note) -> None:
        """Write it where it differs from what is there. Raises `OSError`."""
        if self.note() == note:
            return
        content = {"states": note.states, "current": note.current, "path": note.path}
        self._replace(NOTE, lambda file: file.write(json.dumps(content).encode("ascii")))

    def _replace(self, name: str, fill: Callable[[IO[bytes]], object]) -> None:
        temporary = f".{name}.new"
        self.remove(temporary)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(temporary, flags, 0o600, dir_fd=self.fd)
        try:
            with open(fd, "wb") as file:
                os.fchmod(fd, 0o600)
                fill(file)
                file.flush()
                os.fsync(fd)
            os.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except BaseException:
            with suppress(OSError):
                self.remove(temporary)
            raise

    # --- letting go of states that are no more

    def cut(self, links: Sequence[Link], first: int) -> tuple[Link, ...]:
        """Let go of `links[first:]` and of all that is not in the chain, newest first; return what is left of it."""
        kept = links[:first]
        names = {link.header.name for link in kept}
        for name in reversed([name for name in self.names() if name not in names]):
            self.remove(name)
        return tuple(kept)

    def tidy(self, links: Sequence[Link], living: frozenset[str]) -> tuple[Link, ...]:
        """Join what is between the `living` states of the chain `links`; return it as it is then.

        A state that is gone is joined with the one after it. The first listing is large, and is made anew only when
        what is to be joined with it makes up for the writing; a state that is kept for that is in no answer.
        """
        links = list(links)
        for at in range(len(links) - 2, 0, -1):
            if links[at].state not in living:
                links[at : at + 2] = [self._fused(links[at], links[at + 1])]
        if len(links) > 1 and links[0].state not in living and links[1].size * FOLD >= links[0].size:
            links[:2] = [self._fused(links[0], links[1])]
        return tuple(links)

    def _fused(self, older: Link, newer: Link) -> Link:
        """Both as one file, called as the newer. Killed in between, the older is left over and in no chain."""
        from msgspec.structs import replace

        header = replace(newer.header, base=older.header.base)
        with self.read(older.header.name) as one, self.read(newer.header.name) as two:
            joined = compose(one.entries, two.entries)
            link = self.write(header, joined if header.base else listing(joined))
        self.remove(older.header.name)
        return link
