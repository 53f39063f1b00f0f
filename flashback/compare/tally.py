"""What a plan means, counted while it is made, in bounded memory: what is lost, what only moved, what to look into.

Deletions come from the plan as whole directories, additions as paths, and whether something was renamed stands nowhere.
So each deleted and each added file is remembered by what a rename leaves alone. Beyond `LIMIT` files every second, then
every fourth … is remembered, and the rest is estimated from those.
"""

from __future__ import annotations

import heapq
import re
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from flashback.compare.values import Change, What
from flashback.walk.listing import Entry, Kind

LIMIT: Final = 16_384
SAMPLE: Final = 40
"""So many files of each sort are looked into at most."""
EXAMPLES: Final = 3
_SPARE: Final = re.compile(
    rb"(?:^|/)(?:node_modules|__pycache__|\.cache|\.tox|\.nox|\.venv|venv|\.mypy_cache|\.pytest_cache|\.ruff_cache|"
    rb"\.gradle|\.npm|\.next|\.Trash[^/]*|Trash|CMakeFiles|build|dist|target|\.git/objects)/"
    rb"|\.(?:o|obj|lo|gch|pyc|class|rlib|rmeta|tmp|swp)$"
)
"""What programs make again by themselves, and throw away by thousands on a good day: its loss is none."""
_PRECIOUS: Final = re.compile(
    rb"\.(?:jpe?g|png|gif|tiff?|heic|webp|cr2|cr3|nef|arw|dng|raf|psd|xcf|svg|mp[34]|m4[av]|mov|avi|mkv|webm|flac|ogg|wav|"
    rb"pdf|docx?|xlsx?|pptx?|od[tspg]|rtf|tex|txt|md|csv|eml|mbox|kdbx|zip|7z|tar|gz|epub|sqlite|db)$",
    re.IGNORECASE,
)
"""What people make and encryptors look for. Its changes are looked into apart, so that a build does not hide them."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Files to be looked into, of `count` of one sort: each as its path on the drive and its path in the master."""

    count: int = 0
    pairs: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Counts:
    """Files alone; what is spare is in none of it but the bytes and `largest`.

    `deleted` are gone from their place, of which `moved` are elsewhere now. `emptied` had content and have none.
    `deleted_below` are the directories (two names deep at most) that lose most, with how many. `grown` is what the copy
    would grow by, in bytes, deletions set against it; `largest` the file that grows most.
    """

    deleted: int = 0
    deleted_bytes: int = 0
    spare_deleted: int = 0
    moved: int = 0
    added: int = 0
    changed: int = 0
    emptied: int = 0
    grown: int = 0
    largest: tuple[int, bytes] = (0, b"")
    deleted_examples: tuple[bytes, ...] = ()
    deleted_below: tuple[tuple[bytes, int], ...] = ()
    emptied_examples: tuple[bytes, ...] = ()
    samples: tuple[Sample, ...] = ()
    additions: Sample = field(default_factory=Sample)


def is_spare(path: bytes) -> bool:
    """Whether a file is one of those that programs make again."""
    return _SPARE.search(path) is not None


class _Few:
    """A fair choice of at most `most` paths: those with the lowest marks."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[int, bytes]] = []
        self.count = 0

    def add(self, mark: int, path: bytes) -> None:
        self.count += 1
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, (-mark, path))
        elif -mark > self._heap[0][0]:
            heapq.heapreplace(self._heap, (-mark, path))

    def paths(self) -> tuple[bytes, ...]:
        return tuple(sorted(path for _, path in self._heap))

    def sample(self) -> Sample:
        return Sample(self.count, tuple((path, path) for path in self.paths()))


class _Met:
    """How many files of one key went, how many came, and the last path of each."""

    __slots__ = ("came", "came_path", "went", "went_path")

    def __init__(self) -> None:
        self.went, self.came, self.went_path, self.came_path = 0, 0, b"", b""

    @property
    def both(self) -> int:
        return min(self.went, self.came)


class _Matches:
    """What went and came again under a key that a rename leaves alone."""

    def __init__(self) -> None:
        self._met: dict[int, _Met] = {}
        self._mask = 0

    def went(self, key: int, path: bytes) -> None:
        if (met := self._at(key)) is not None:
            met.went, met.went_path = met.went + 1, path

    def came(self, key: int, path: bytes) -> None:
        if (met := self._at(key)) is not None:
            met.came, met.came_path = met.came + 1, path

    def _at(self, key: int) -> _Met | None:
        if key & self._mask:
            return None
        met = self._met.get(key)
        if met is None:
            met = self._met[key] = _Met()
            while len(self._met) > LIMIT:
                self._mask = self._mask << 1 | 1
                self._met = {key: met for key, met in self._met.items() if not key & self._mask}
        return met

    def matched(self) -> int:
        """How many files met, estimated where not all were remembered."""
        return sum(met.both for met in self._met.values()) * (self._mask + 1)

    def sample(self) -> Sample:
        few = heapq.nsmallest(SAMPLE, (key for key, met in self._met.items() if met.both))
        pairs = ((self._met[key].went_path, self._met[key].came_path) for key in few)
        return Sample(self.matched(), tuple(sorted(pairs)))


class _Below:
    """How many files are below each directory, as far as its first two names; near enough where these are very many."""

    def __init__(self) -> None:
        self._counts = Counter[bytes]()

    def add(self, path: bytes) -> None:
        self._counts[b"/".join(path.split(b"/")[:-1][:2])] += 1
        if len(self._counts) > LIMIT:
            self._counts = Counter(dict(self._counts.most_common(LIMIT // 2)))

    def most(self) -> tuple[tuple[bytes, int], ...]:
        return tuple(self._counts.most_common(EXAMPLES))


class Tally:
    """Given every change (`change`) and every single thing that the drive would lose (`gone`), in any order.

    `seed` makes the choice of samples one that nobody can foresee.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._deleted, self._precious, self._others = _Few(EXAMPLES), _Few(SAMPLE), _Few(SAMPLE)
        self._added, self._emptied = _Few(SAMPLE), _Few(EXAMPLES)
        self._moved, self._kept_name, self._suffixed = _Matches(), _Matches(), _Matches()
        self._below = _Below()
        self._deleted_bytes = self._spare = self._grown = 0
        self._largest = (0, b"")

    def gone(self, old: Entry) -> None:
        """Something on the drive that would be deleted."""
        if old.kind is not Kind.FILE:
            return
        path = old.path
        self._grown -= old.size
        if is_spare(path):
            self._spare += 1
            return
        self._deleted_bytes += old.size
        self._deleted.add(self._mark(path), path)
        self._below.add(path)
        self._moved.went(self._mark(b"%d %d" % (old.size, old.mtime_ns)), path)
        self._kept_name.went(self._mark(b"%d %b" % (old.size, _name(path))), path)
        self._suffixed.went(self._mark(path), path)
        if (stem := _stem(path)) != path:
            self._suffixed.went(self._mark(stem), path)

    def change(self, change: Change) -> None:
        """Something that would be written, or deleted (which `gone` counts)."""
        new, old = change.entry, change.old
        if new is None or new.kind is not Kind.FILE or change.what in {What.ATTRIBUTES, What.LINK}:
            return
        before = old.size if old is not None and old.kind is Kind.FILE and change.what is What.CHANGE else 0
        more = min(new.size, new.blocks * 512) - before if new.size >= 65536 else new.size - before
        self._grown += more
        self._largest = max(self._largest, (more, change.path))
        if is_spare(change.path):
            return
        if change.what is What.CHANGE:
            self._rewritten(change.path, new, before)
        else:
            self._appeared(change.path, new)

    def _rewritten(self, path: bytes, new: Entry, before: int) -> None:
        mark = self._mark(path)
        if before and not new.size:
            self._emptied.add(mark, path)
        else:
            (self._precious if _PRECIOUS.search(path) else self._others).add(mark, path)

    def _appeared(self, path: bytes, new: Entry) -> None:
        self._added.add(self._mark(path), path)
        self._moved.came(self._mark(b"%d %d" % (new.size, new.mtime_ns)), path)
        self._kept_name.came(self._mark(b"%d %b" % (new.size, _name(path))), path)
        if (stem := _stem(path)) != path:
            self._suffixed.came(self._mark(stem), path)

    def _mark(self, what: bytes) -> int:
        return zlib.crc32(what, self._seed)

    def counts(self) -> Counts:
        """Everything, once all was told."""
        changed = self._precious.count + self._others.count + self._emptied.count
        return Counts(
            deleted=self._deleted.count,
            deleted_bytes=self._deleted_bytes,
            spare_deleted=self._spare,
            moved=min(self._deleted.count, max(self._moved.matched(), self._kept_name.matched())),
            added=self._added.count,
            changed=changed,
            emptied=self._emptied.count,
            grown=self._grown,
            largest=self._largest,
            deleted_examples=self._deleted.paths(),
            deleted_below=self._below.most(),
            emptied_examples=self._emptied.paths(),
            samples=(
                self._precious.sample(),
                self._others.sample(),
                self._moved.sample(),
                self._suffixed.sample(),
            ),
            additions=self._added.sample(),
        )


def _name(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]


def _stem(path: bytes) -> bytes:
    """The path without its last extension."""
    folder, slash, name = path.rpartition(b"/")
    stem, dot, _ = name.rpartition(b".")
    return folder + slash + stem if dot and stem else path
