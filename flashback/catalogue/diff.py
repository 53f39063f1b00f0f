"""What differs between two states, as people think of it: added, changed, deleted, renamed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from flashback.catalogue.seen import Kind, Seen, order


class What(StrEnum):
    """What became of a path."""

    ADDED = "added"
    CHANGED = "changed"
    DELETED = "deleted"
    RENAMED = "renamed"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference; `aspects` of what has changed are `content`, `kind`, `mode`, `owner`, `time`."""

    what: What
    old: Seen | None
    new: Seen | None
    aspects: tuple[str, ...] = ()

    @property
    def path(self) -> bytes:
        """Where it is, or was."""
        seen = self.new or self.old
        assert seen is not None  # noqa: S101 - one of the two is there
        return seen.path


def differences(pairs: Iterable[tuple[Seen | None, Seen | None]]) -> list[Difference]:
    """The differences among these, by path. The time of a directory says only that something in it has changed."""
    added: list[Seen] = []
    deleted: list[Seen] = []
    found: list[Difference] = []
    for old, new in pairs:
        if old is not None and new is not None:
            if aspects := _aspects(old, new):
                found.append(Difference(What.CHANGED, old, new, aspects))
        elif new is not None:
            added.append(new)
        elif old is not None:
            deleted.append(old)
    renamed = _renamed(deleted, added)
    gone, come = {old.path for old, _new in renamed}, {new.path for _old, new in renamed}
    found += [Difference(What.RENAMED, old, new) for old, new in renamed]
    found += [Difference(What.DELETED, each, None) for each in deleted if each.path not in gone]
    found += [Difference(What.ADDED, None, each) for each in added if each.path not in come]
    return sorted(found, key=lambda each: order(each.path))


def _aspects(old: Seen, new: Seen) -> tuple[str, ...]:
    if old.kind != new.kind:
        return ("kind",)
    is_directory = new.kind == Kind.DIRECTORY
    aspects = {
        "content": old.content != new.content,
        "mode": old.mode != new.mode and new.kind != Kind.SYMLINK,
        "owner": (old.uid, old.gid) != (new.uid, new.gid),
        "time": old.mtime_ns != new.mtime_ns and old.content == new.content and not is_directory,
    }
    return tuple(name for name, differs in aspects.items() if differs)


def _renamed(deleted: Iterable[Seen], added: Iterable[Seen]) -> list[tuple[Seen, Seen]]:
    """Files that are the same at another path: of one size and time that nothing else has, or besides of one name.

    A size and a time to the nanosecond are as good as unique; empty files, and links, are not told apart.
    """
    before, after = _by_content(deleted), _by_content(added)
    found = []
    for content, olds in before.items():
        news = after.get(content, [])
        if len(olds) == len(news) == 1:
            found.append((olds[0], news[0]))
            continue
        for name in {_name(each) for each in olds}:
            one, other = [each for each in olds if _name(each) == name], [each for each in news if _name(each) == name]
            if len(one) == len(other) == 1:
                found.append((one[0], other[0]))
    return found


def _by_content(files: Iterable[Seen]) -> dict[tuple[int, int], list[Seen]]:
    found: dict[tuple[int, int], list[Seen]] = {}
    for each in files:
        if each.kind == Kind.FILE and each.size:
            found.setdefault((each.size, each.mtime_ns), []).append(each)
    return found


def _name(seen: Seen) -> bytes:
    return seen.path.rpartition(b"/")[2]
