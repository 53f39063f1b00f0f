"""Does the copy equal the master? Both are read, the master by a process that is its owner, and the hashes compared.

Only what a run would call unchanged is compared: a file that has another size or time by now is simply newer than the
copy. A bit that flipped while the time stayed, on either side, is what no run can see, and what is found here.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from flashback.config.values import Master
from flashback.core.descent import Descent
from flashback.core.events import Remark, RemarkKind
from flashback.drive import states
from flashback.drive.states import State
from flashback.drive.tree import AHEAD, CHUNK, FETCHED, Item, Trouble, digest, fetch, fetched, listed
from flashback.health.drill import Version, version_of
from flashback.walk.listing import Entry, Kept
from flashback.walk.master import Produce, Said
from flashback.walk.places import file_of
from flashback.walk.reader import owner_of, reading_as

Name = bytes


@dataclass(slots=True)
class Compared:
    """One master. `files` and `bytes` are what the copy has, `equal_…` what was found equal.

    `newer` and `gone` are changed or removed in the master since; `differing` have one size and time, and two
    contents; `damaged` the drive did not give, `unread` the master's owner could not read.
    """

    master: str
    files: int = 0
    bytes: int = 0
    equal_files: int = 0
    equal_bytes: int = 0
    newer: int = 0
    gone: int = 0
    differing: list[Name] = field(default_factory=list)
    damaged: list[Trouble] = field(default_factory=list)
    unread: list[Remark] = field(default_factory=list)
    read: set[Version] = field(default_factory=set)

    def as_json(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "files": self.files,
            "bytes": self.bytes,
            "equal_files": self.equal_files,
            "equal_bytes": self.equal_bytes,
            "newer": self.newer,
            "gone": self.gone,
            "differing": [os.fsdecode(path) for path in self.differing],
        }


def compare_content(
    root: int,
    master: Master,
    state: State,
    *,
    sample: int | None,
    rng: random.Random,
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
        items = [item for item in listed(folder, name, done.damaged.append) if item.is_file]
        done.files, done.bytes = len(items), sum(item.size for item in items)
        if sample is not None and sample < len(items):
            items = sorted(rng.sample(items, sample))
        total = sum(item.size for item in items)
        asked = [(item.path[len(name) + 1 :], item.size, item.mtime_ns) for item in items]
        by_path = {path: item for (path, _size, _time), item in zip(asked, items, strict=True)}
        with Descent(folder, beyond=True) as below, reading_as(owner, _hashing(os.fspath(master.path), asked)) as said:
            ahead = fetched(items, folder)
            for each in said:
                watch()
                _judge(done, each, by_path, below, ahead)
                told(done, total)
    return done


def _judge(done: Compared, said: Said, items: dict[bytes, Item], below: Descent, ahead: Iterator[Item]) -> None:
    """Entries come in the order in which they were asked for, which is that of `ahead`: asked of the drive, too."""
    if isinstance(said, Remark):
        done.unread.append(Remark(said.kind, done.master, said.path, said.detail))
    elif isinstance(said, Kept):
        done.gone += 1
    elif not isinstance(said, Entry) or not said.xattrs:
        done.newer += 1
    else:
        item = items[said.path]
        next((each for each in ahead if each is item), None)
        try:
            mine = digest(*below.parent(item.path), afresh=item.size > FETCHED)
        except OSError as problem:
            done.damaged.append(Trouble(said.path, problem.strerror or "it cannot be read"))
            return
        done.read.add(version_of(item))
        if mine == said.xattrs:
            done.equal_files += 1
            done.equal_bytes += item.size
        else:
            done.differing.append(said.path)


def _hashing(master: str, asked: Sequence[tuple[bytes, int, int]]) -> Produce:
    """What the owner's process does: an entry with the content's hash in the place of that of the attributes.

    The hash is missing where size or time is not what was asked for; a file that is gone is `Kept`.
    """

    def produce(emit: Callable[[Said], None]) -> None:
        root = os.open(master, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for count, (path, size, mtime_ns) in enumerate(asked):
            _ask_ahead(root, asked, count)
            try:
                emit(_hashed(root, path, size, mtime_ns))
            except OSError as problem:
                gone = problem.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
                why = problem.strerror or "it cannot be read"
                emit(Kept(path) if gone else Remark(RemarkKind.UNREADABLE, path=path, detail=why))

    return produce


def _ask_ahead(root: int, asked: Sequence[tuple[bytes, int, int]], here: int) -> None:
    """Have the kernel begin to read the small files whose turn comes soon."""
    for path, size, _time in asked[0 if here == 0 else here + AHEAD : here + AHEAD + 1]:
        if size <= FETCHED:
            with suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
                try:
                    fetch(descriptor)
                finally:
                    os.close(descriptor)


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
