"""What lies at a place on the drive and below it: listed without following anything, and without stopping at damage."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from flashback.core.descent import DIRECTORY, Descent, allow_deep_trees

CHUNK: Final = 1024 * 1024
HOLES_FROM: Final = 64 * 1024
"""Holes of smaller files are filled with zeros."""
AHEAD: Final = 128
FETCHED: Final = 256 * 1024
"""So many files of up to so many bytes are asked of the medium before they are read."""
_ALL_BITS: Final = 2**64 - 1
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Item(NamedTuple):
    """One entry. `path` begins with the name of what was asked for; `mode` has the kind in it (`stat.S_ISREG`)."""

    path: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    ino: int
    links: int
    blocks: int
    changed: int = 0
    """When anything about it was changed last (ctime), as a number to tell it by: nobody can set that."""

    @property
    def is_file(self) -> bool:
        """A regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_directory(self) -> bool:
        """A directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def has_holes(self) -> bool:
        """Whether it takes less room than it is long (stat(2): blocks of 512 bytes), by enough to be worth keeping."""
        return self.is_file and self.size >= HOLES_FROM and self.blocks * 512 + 4096 < self.size


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that could not be had. `damage`: the drive did not give it, else it is this machine's side."""

    path: bytes
    why: str
    damage: bool = True


def unread(path: bytes, problem: OSError, more: str = "") -> Trouble:
    """Something could not be read: the drive's fault, unless whoever reads may not."""
    why = problem.strerror or "it cannot be read"
    return Trouble(path, why + more, damage=problem.errno not in {errno.EACCES, errno.EPERM})


def item_of(path: bytes, at: os.stat_result) -> Item:
    """The entry for what the kernel says."""
    size = at.st_size if stat.S_ISREG(at.st_mode) else 0
    numbers = (at.st_mtime_ns, at.st_ino, at.st_nlink, at.st_blocks, at.st_ctime_ns & _ALL_BITS)
    return Item(path, at.st_mode, at.st_uid, at.st_gid, size, *numbers)


def looked_at(root: int, path: bytes) -> Item | None:
    """What lies at `path` below `root`; `None` when nothing does. Raises other `OSError`s."""
    with Descent(root, beyond=True) as below:
        try:
            parent, name = below.parent(path)
            return item_of(path, os.stat(name, dir_fd=parent, follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            return None


def listed(parent: int, name: bytes, trouble: Callable[[Trouble], None]) -> Iterator[Item]:
    """List `name` in the open directory `parent`, and everything below, directories before what they hold.

    No link is followed, no other subvolume entered. What cannot be read is told as `trouble`, and the listing goes on.
    """
    allow_deep_trees()
    top = _looked(parent, name, name, trouble)
    if top is None:
        return
    yield top
    stack: list[tuple[int, bytes, Iterator[bytes]]] = []
    try:
        device = os.stat(name, dir_fd=parent, follow_symlinks=False).st_dev
        if top.is_directory and (below := _opened(parent, name, top.path, device, trouble)) is not None:
            stack.append(below)
        while stack:
            here, before, names = stack[-1]
            each = next(names, None)
            if each is None:
                os.close(stack.pop()[0])
                continue
            found = _looked(here, each, before + each, trouble)
            if found is None:
                continue
            yield found
            if found.is_directory and (below := _opened(here, each, found.path, device, trouble)) is not None:
                stack.append(below)
    finally:
        for here, _before, _names in stack:
            os.close(here)


def _looked(parent: int, name: bytes, path: bytes, trouble: Callable[[Trouble], None]) -> Item | None:
    try:
        at = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError as problem:
        trouble(unread(path, problem))
        return None
    if stat.S_ISREG(at.st_mode) or stat.S_ISDIR(at.st_mode) or stat.S_ISLNK(at.st_mode):
        return item_of(path, at)
    trouble(Trouble(path, "it is neither file, directory nor link, which a backup never holds"))
    return None


def _opened(
    parent: int, name: bytes, path: bytes, device: int, trouble: Callable[[Trouble], None]
) -> tuple[int, bytes, Iterator[bytes]] | None:
    """The directory, open, with the names in it."""
    try:
        here = os.open(name, DIRECTORY, dir_fd=parent)
    except OSError as problem:
        trouble(unread(path, problem, "; what is in it is unknown"))
        return None
    try:
        if os.fstat(here).st_dev == device:
            return here, path + b"/", iter(sorted(os.fsencode(each) for each in os.listdir(here)))
        trouble(Trouble(path, "another subvolume or file system lies here"))
    except OSError as problem:
        trouble(unread(path, problem, "; what is in it is unknown"))
    os.close(here)
    return None


def digest(parent: int, name: bytes, *, afresh: bool = False, heard: Callable[[int], None] | None = None) -> bytes:
    """BLAKE2b of the regular file `name`, read to its end. Raises `OSError`; also when it is no file.

    `afresh` has the kernel forget what it holds of the file in memory (posix_fadvise(2)), as far as that is on the
    medium; `heard` is told how many bytes were read, chunk by chunk.
    """
    return digest_of(os.open(name, _READ, dir_fd=parent), afresh=afresh, heard=heard)


def digest_of(descriptor: int, *, afresh: bool = False, heard: Callable[[int], None] | None = None) -> bytes:
    """The same of a file that is open, and closed by this."""
    with open(descriptor, "rb", buffering=0) as file:
        at = os.fstat(descriptor)
        if not stat.S_ISREG(at.st_mode):
            raise OSError(0, "it is no regular file")
        if afresh:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        state = hashlib.blake2b(digest_size=32)
        length = min(CHUNK, at.st_size + 1)  # as much is made ready for each reading, however little there is
        while chunk := file.read(length):
            state.update(chunk)
            if heard is not None:
                heard(len(chunk))
    return state.digest()


def fetch(descriptor: int) -> None:
    """Have the kernel forget what it holds of an open file, and begin to read it from the medium (posix_fadvise(2)).

    What was not written to the medium yet is not forgotten.
    """
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)


def fetched(items: Iterable[Item], root: int) -> Iterator[Item]:
    """The entries; the next small files below the directory open as `root` are asked of the medium meanwhile.

    A small file takes the medium longer to find than to read, so that it is well to have asked for many.
    """
    waiting: deque[Item] = deque()
    with Descent(root, beyond=True) as below:
        for item in items:
            if item.is_file and item.size <= FETCHED:
                with suppress(OSError):  # it is read, or missed, when its turn comes
                    parent, name = below.parent(item.path)
                    descriptor = os.open(name, _READ, dir_fd=parent)
                    try:
                        fetch(descriptor)
                    finally:
                        os.close(descriptor)
            waiting.append(item)
            if len(waiting) > AHEAD:
                yield waiting.popleft()
    yield from waiting
