"""Does the copy equal the master? Both are read, the master by a process that is its owner, and the hashes compared.

Only what a run would call unchanged is compared: a file that has another size or time by now is simply newer than the
copy. A bit that flipped while the time stayed, on either side, is what no run can see, and what is found here.
"""

from __future__ import annotations

import errno
import os
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from flashback.config.values import Master
from flashback.core.descent import Descent
from flashback.core.events import Remark, RemarkKind
from flashback.drive import states
from flashback.drive.proofs import Proofs
from flashback.drive.spool import Spool
from flashback.drive.states import State
from flashback.drive.tree import AHEAD, CHUNK, FETCHED, Item, Trouble, digest, fetch, fetched, listed
from flashback.walk.listing import Entry, Kept
from flashback.walk.master import Produce, Said
from flashback.walk.places import file_of
from flashback.walk.reader import ReadingFailed, owner_of, reading_as


@dataclass(slots=True)
class Compared:
    """One master. `files` and `bytes` are what the copy has, `equal_…` what was found equal.

    `newer` and `gone` are changed or removed in the master since; `differing` have not the content that they should;
    `damaged` the drive did not give, `unread` the master's owner could not read.
    """

    master: str
    files: int = 0
    bytes: int = 0
    equal_files: int = 0
    equal_bytes: int = 0
    newer: int = 0
    gone: int = 0
    differing: list[Trouble] = field(default_factory=list)
    damaged: list[Trouble] = field(default_factory=list)
    unread: list[Remark] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "files": self.files,
            "bytes": self.bytes,
            "equal_files": self.equal_files,
            "equal_bytes": self.equal_bytes,
            "newer": self.newer,
            "gone": self.gone,
            "differing": [os.fsdecode(each.path) for each in self.differing],
        }


def compare_content(
    root: int,
    master: Master,
    state: State,
    *,
    sample: int | None,
    rng: random.Random,
    proofs: Proofs,
    watch: Callable[[], None],
    told: Callable[[Compared, int], None],
) -> Compared:
    """Compare `sample` files of the copy `state` on the drive open as `root`, or all of them, with the master.

    `told` hears how it stands and how many bytes are to be read. Raises `OSError` when the master cannot be opened,
    `ReadingFailed`, and what `watch` raises.
    """
    done = Compared(master.name)
    owner = owner_of(master.path, master.owner)
    with states.opened(root, state) as (folder, name):
        items = Spool(item for item in listed(folder, name, done.damaged.append) if item.is_file)
        if done.damaged:  # or the drive is gone
            watch()
        done.files, done.bytes = len(items), items.bytes
        if sample is not None and sample < len(items):
            items = Spool(_some(items, set(rng.sample(range(len(items)), sample))))
        produce = _hashing(os.fspath(master.path), items, cut=len(name) + 1)
        with Descent(folder, beyond=True) as below, reading_as(owner, produce, keep=items.fileno()) as said:
            ahead = fetched(items, folder)
            for each in said:
                watch()
                _judge(done, each, ahead, below, proofs, watch)
                told(done, items.bytes)
    return done


def _some(items: Iterable[Item], chosen: set[int]) -> Iterator[Item]:
    return (item for position, item in enumerate(items) if position in chosen)


def _judge(
    done: Compared, said: Said, ahead: Iterator[Item], below: Descent, proofs: Proofs, watch: Callable[[], None]
) -> None:
    """Entries come in the order in which they were asked for, which is that of `ahead`; remarks come when they do."""
    if isinstance(said, Remark):
        done.unread.append(Remark(said.kind, done.master, said.path, said.detail))
    elif isinstance(said, Kept):
        done.gone += 1
    elif not isinstance(said, Entry) or not said.xattrs:
        done.newer += 1
    else:
        item = next((each for each in ahead if _inside(each.path) == said.path), None)
        if item is None:
            raise ReadingFailed("the process that read the master named a file that it was not asked for")
        try:
            mine = digest(*below.parent(item.path), afresh=item.size > FETCHED)
        except OSError as problem:
            watch()
            done.damaged.append(Trouble(said.path, problem.strerror or "it cannot be read"))
            proofs.bad(done.master, item)
            return
        if why := proofs.compared(done.master, said.path, item, mine, (said.ino, said.ctime_ns, said.xattrs)):
            done.differing.append(Trouble(said.path, why))
            proofs.bad(done.master, item)
        else:
            done.equal_files += 1
            done.equal_bytes += item.size


def _inside(path: bytes) -> bytes:
    return path.partition(b"/")[2]


def _hashing(master: str, items: Iterable[Item], *, cut: int) -> Produce:
    """What the owner's process does: an entry with the content's hash in the place of that of the attributes.

    The hash is missing where size or time is not what was asked for; a file that is gone is `Kept`.
    """

    def produce(emit: Callable[[Said], None]) -> None:
        root = os.open(master, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for item in _asked_ahead(root, items, cut):
            path = item.path[cut:]
            try:
                emit(_hashed(root, path, item.size, item.mtime_ns))
            except OSError as problem:
                gone = problem.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
                why = problem.strerror or "it cannot be read"
                emit(Kept(path) if gone else Remark(RemarkKind.UNREADABLE, path=path, detail=why))

    return produce


def _asked_ahead(root: int, items: Iterable[Item], cut: int) -> Iterator[Item]:
    """The entries; the kernel has begun to read the small files whose turn comes soon."""
    waiting: deque[Item] = deque()
    for item in items:
        if item.size <= FETCHED:
            with suppress(OSError):
                descriptor = os.open(item.path[cut:], os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
                try:
                    fetch(descriptor)
                finally:
                    os.close(descriptor)
        waiting.append(item)
        if len(waiting) > AHEAD:
            yield waiting.popleft()
    yield from waiting


def _hashed(root: int, path: bytes, size: int, mtime_ns: int) -> Entry:
    """Links are followed, as they are in a backup: this is the owner, who may."""
    import hashlib

    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
    with open(descriptor, "rb", buffering=0) as file:
        at = os.fstat(descriptor)
        if (at.st_size, at.st_mtime_ns) != (size, mtime_ns):
            return file_of(path, at, b"")
        if size > FETCHED:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        state = hashlib.blake2b(digest_size=32)
        while chunk := file.read(min(CHUNK, size + 1)):
            state.update(chunk)
        after = os.fstat(descriptor)
        same = (after.st_size, after.st_mtime_ns, after.st_ctime_ns) == (at.st_size, at.st_mtime_ns, at.st_ctime_ns)
        return file_of(path, after, state.digest() if same else b"")
