"""Looking into a few of the files that a plan would change: the copy on the drive, and what the master has now.

The master's side is read by the master's owner, in the same kind of child process that walks it; the drive's side by
root, through descriptors that follow no link. A few blocks of each file, of some hundred files at most, and only where
enough of them change for it to matter.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flashback.compare.tally import EXAMPLES, Counts, Sample
from flashback.walk.content import BLOCK, SHORTEST, Damage, Look, damages, is_sound, look
from flashback.walk.master import Produce, Said
from flashback.walk.reader import Owner, reading_as

ENOUGH: Final = 3
SHARE: Final = 0.2
"""So many of a sample, and so large a part of it, must look damaged before anything is concluded for all the others."""
_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Inspection:
    """What came of it. `damaged` is an estimate for all that changes, `examples` are paths in the master.

    `sound` is the share of the added files that look like files of some kind, and not like noise or one another.
    """

    damaged: int = 0
    how: tuple[Damage, ...] = ()
    examples: tuple[bytes, ...] = ()
    sound: float = 1.0

    @property
    def encrypted(self) -> int:
        """How many of the damaged look encrypted: the estimate, where that is what happened to most."""
        return self.damaged if self.how and self.how[0] is Damage.SCRAMBLED else 0


def inspect(counts: Counts, *, master: Path, owner: Owner, current: int) -> Inspection:
    """Look into the samples. What cannot be read on either side says nothing. Raises what the child runs into.

    On the drive, where each look may take milliseconds, only those are read of which what the master has leaves doubt.
    """
    paths = {new for sample in counts.samples for _, new in sample.pairs}
    paths |= {new for _, new in counts.additions.pairs}
    with reading_as(owner, looking(master, sorted(paths))) as said:
        new = {each.path: each for each in said if isinstance(each, Look)}
    return concluded(counts, _old(counts, new, current), new)


def _old(counts: Counts, new: Mapping[bytes, Look], current: int) -> dict[bytes, Look]:
    """What the drive has of the samples, by path. For what is sound whatever was there before, it stands itself."""
    became: dict[bytes, set[bytes]] = {}
    for old, path in (pair for sample in counts.samples for pair in sample.pairs):
        if path in new:
            became.setdefault(old, set()).add(path)
    common = Counter(each.content for each in new.values())
    found = {}
    for old, paths in sorted(became.items()):
        look = new[min(paths)]
        known = look if len(paths) == 1 and common[look.content] < ENOUGH else None
        if (was := _on_drive(current, old, known)) is not None:
            found[old] = was
    return found


def concluded(counts: Counts, old: Mapping[bytes, Look], new: Mapping[bytes, Look]) -> Inspection:
    """From what was seen of the samples to the whole: pure.

    A file that was renamed may be in two of the samples (the third and the fourth); the larger estimate counts.
    """
    estimates, how, examples = [], Counter[Damage](), list[bytes]()
    for sample in counts.samples:
        pairs = [(old[a], new[b]) for a, b in sample.pairs if a in old and b in new]
        verdicts = damages(pairs)
        bad = [(what, pair[1].path) for what, pair in zip(verdicts, pairs, strict=True) if what is not None]
        conclusive = len(bad) >= ENOUGH and len(bad) >= SHARE * len(pairs)
        estimates.append(round(sample.count * len(bad) / len(pairs)) if conclusive else 0)
        if conclusive:
            how.update(what for what, _ in bad)
            examples += [path for _, path in bad]
    precious, others, moved, renamed = estimates
    return Inspection(
        damaged=precious + others + max(moved, renamed),
        how=tuple(what for what, _ in how.most_common()),
        examples=tuple(dict.fromkeys(examples))[:EXAMPLES],
        sound=_sound(counts.additions, new),
    )


def _sound(additions: Sample, new: Mapping[bytes, Look]) -> float:
    found = [new[path] for _, path in additions.pairs if path in new]
    if not found:
        return 1.0
    alike = Counter((each.size, each.head, each.tail) for each in found)
    bad = [
        each
        for each in found
        if each.blank or _is_noise(each) or alike[each.size, each.head, each.tail] * 4 > len(found) > 4
    ]
    return 1.0 - len(bad) / len(found)


def _is_noise(found: Look) -> bool:
    return found.noise[0] and not found.kind


def looking(master: Path, paths: Sequence[bytes]) -> Produce:
    """What `reader.reading_as` runs as the owner: a `Look` of each of these files that can be read."""

    def produce(emit: Callable[[Said], None]) -> None:
        root = os.open(master, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for path in paths:
                with suppress(OSError):
                    emit(_looked(os.open(path, _FILE, dir_fd=root), path))
        finally:
            os.close(root)

    return produce


def _on_drive(current: int, path: bytes, known: Look | None = None) -> Look | None:
    """The same of a file on the drive, or `known` where that is sound; no component may be a link."""
    *folders, name = path.split(b"/")
    here = os.dup(current)
    try:
        for folder in folders:
            below = os.open(folder, _FOLDER, dir_fd=here)
            os.close(here)
            here = below
        if known is not None:
            at = os.stat(name, dir_fd=here, follow_symlinks=False)
            if stat.S_ISREG(at.st_mode) and is_sound(known, at.st_size):
                return known
        return _looked(os.open(name, _FILE | os.O_NOFOLLOW, dir_fd=here), path)
    except OSError:
        return None
    finally:
        os.close(here)


def _looked(opened: int, path: bytes) -> Look:
    """Look into an open file, and close it. Raises `OSError`, as for anything that is no file."""
    try:
        at = os.fstat(opened)
        if not stat.S_ISREG(at.st_mode):
            raise OSError("no file")
        blocks = [os.pread(opened, BLOCK, start) for start in _starts(at.st_size)]
        return look(path, at.st_size, *blocks)
    finally:
        os.close(opened)


def _starts(size: int) -> Iterator[int]:
    """Where the three blocks begin; in a short file the latter two are empty."""
    yield 0
    long = size >= BLOCK + SHORTEST
    yield max(size // 2, BLOCK) if long and size >= 2 * BLOCK else size
    yield max(size - BLOCK, 0) if long else size
