"""What the catalogue answers, for people and for scripts."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from flashback.catalogue.diff import Difference, What
from flashback.catalogue.find import Found, whole_path
from flashback.catalogue.lookup import Held, Lookup, State
from flashback.catalogue.seen import Kind, Seen
from flashback.core.text import local, number, parse_stamp, rfc3339, shown, size
from flashback.rotation.contents import version_mark
from flashback.rotation.values import KnownDrive, Standing

KINDS: Final = {Kind.FILE: "file", Kind.DIRECTORY: "directory", Kind.SYMLINK: "link", Kind.OTHER: "other"}
_LETTERS: Final = {Kind.FILE: stat.S_IFREG, Kind.DIRECTORY: stat.S_IFDIR, Kind.SYMLINK: stat.S_IFLNK}
MARKS: Final = {What.ADDED: "+", What.CHANGED: "~", What.DELETED: "-", What.RENAMED: ">"}


@dataclass(frozen=True, slots=True)
class Drives:
    """The drives of the rotation by LUKS UUID, and the UUIDs of those that are plugged in."""

    known: Mapping[str, KnownDrive]
    here: frozenset[str]

    def name(self, uuid: str) -> str:
        """A drive's name; of one that is known no more its UUID."""
        return self.known[uuid].name if uuid in self.known else uuid

    def label(self, uuid: str) -> str:
        """Its name and place."""
        drive = self.known.get(uuid)
        return f"{self.name(uuid)} ({shown(drive.place)})" if drive is not None and drive.place else self.name(uuid)

    def what_to_do(self, uuid: str) -> str:
        """Whether it is at hand."""
        drive = self.known.get(uuid)
        if uuid in self.here:
            return "plugged in"
        if drive is None:
            return "not known any more"
        if drive.standing is Standing.LOST:
            return "lost"
        return "plug it in" if drive.standing is Standing.ACTIVE else f"plug it in ({drive.standing.value})"


def day(name: str) -> str:
    """A state's moment for people, in this machine's time: `2026-05-02 16:10 CEST`."""
    moment = parse_stamp(name)
    return local(moment) if moment is not None else name


def modified(seen: Seen) -> str:
    """When it was last modified, in this machine's time; an impossible time as its number."""
    try:
        return local(datetime.fromtimestamp(seen.mtime_ns // 10**9, UTC), seconds=True)
    except (ValueError, OverflowError, OSError):
        return f"{seen.mtime_ns} ns"


def _moment(mtime_ns: int) -> str:
    try:
        return datetime.fromtimestamp(mtime_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return ""


def seen_json(seen: Seen) -> dict[str, Any]:
    """One file. `modified_ns` is exact, `modified` for people and `null` where no calendar has it."""
    known = _moment(seen.mtime_ns)
    return {
        "path": os.fsdecode(seen.path),
        "kind": KINDS[Kind(seen.kind)],
        "size": seen.size,
        "modified": known.replace(" ", "T") + "Z" if known else None,
        "modified_ns": seen.mtime_ns,
        "mode": f"{seen.mode:04o}",
        "uid": seen.uid,
        "gid": seen.gid,
        "target": os.fsdecode(seen.target) if seen.kind == Kind.SYMLINK else None,
    }


def state_json(state: State, drives: Drives) -> dict[str, Any]:
    """One state."""
    return {
        "drive": drives.name(state.tree.drive),
        "drive_uuid": state.tree.drive,
        "master": state.tree.master,
        "name": state.name,
        "completed": rfc3339(state.completed),
        "current": state.is_current,
    }


# --- find


def find_text(found: Sequence[Found], drives: Drives) -> Iterable[str]:
    """Each path, and below it the drives that have it."""
    for each in found:
        slash = "/" if each.drives[0].seen.kind == Kind.DIRECTORY else ""
        yield shown(each.whole) + slash
        for place in each.drives:
            uuid = place.tree.drive
            count = number(place.versions, "version")
            what = f"{day(place.newest.name)}, {count}; {drives.what_to_do(uuid)}"
            yield f"    {drives.label(uuid)}, {what}"


def find_json(found: Sequence[Found], drives: Drives) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "matches": [
            {
                "master": each.master,
                "path": os.fsdecode(each.path),
                "whole": os.fsdecode(each.whole),
                "drives": [
                    {
                        **state_json(place.newest, drives),
                        "plugged_in": place.tree.drive in drives.here,
                        "versions": place.versions,
                        "file": seen_json(place.seen),
                    }
                    for place in each.drives
                ],
            }
            for each in found
        ]
    }


def gaps(lookup: Lookup, drives: Drives) -> list[str]:
    """What the catalogue does not know, so that no answer seems whole that is not."""
    return [
        f"{number(tree.unknown, 'snapshot')} of {tree.master} on {drives.name(tree.drive)} "
        f"{'is' if tree.unknown == 1 else 'are'} not in the catalogue: "
        f"sudo flashback catalogue rebuild {drives.name(tree.drive)}"
        for tree in lookup.trees
        if tree.unknown
    ]


# --- versions


@dataclass(frozen=True, slots=True)
class Version:
    """One content of a path, and how each drive has it, the newest state first."""

    seen: Seen
    held: tuple[Held, ...]

    @property
    def newest(self) -> State:
        """The newest state that has it."""
        return max((each.newest for each in self.held), key=lambda state: (state.name, state.tree.drive))


def versions_of(held: Iterable[Held]) -> list[Version]:
    """The different contents, the newest first."""
    by_content: dict[tuple[int, int, int, bytes], list[Held]] = {}
    for each in held:
        by_content.setdefault(each.seen.content, []).append(each)
    found = [
        Version(max(each, key=lambda one: one.newest.name).seen, tuple(_by_drive(each))) for each in by_content.values()
    ]
    return sorted(found, key=lambda each: (each.newest.name, each.seen.content), reverse=True)


def _by_drive(held: Iterable[Held]) -> list[Held]:
    """One for each drive, with all of its states."""
    states: dict[str, list[State]] = {}
    newest: dict[str, Held] = {}
    for each in held:
        drive = each.newest.tree.drive
        states.setdefault(drive, []).extend(each.states)
        if drive not in newest or newest[drive].newest.number < each.newest.number:
            newest[drive] = each
    joined = [
        Held(each.seen, tuple(sorted(states[drive], key=lambda state: state.number))) for drive, each in newest.items()
    ]
    by_drive = sorted(joined, key=lambda each: each.newest.tree.drive)
    return sorted(by_drive, key=lambda each: each.newest.name, reverse=True)


ReadAt = Mapping[bytes, Mapping[str, datetime]]
"""When the content of a version was read last, by version (`rotation.contents.version_mark`) and LUKS UUID."""


def marks_of(versions: Iterable[Version]) -> Iterable[bytes]:
    """The versions as they stand in `ReadAt`."""
    return (_mark(held) for each in versions for held in each.held)


def _mark(held: Held) -> bytes:
    return version_mark(held.newest.tree.master, held.seen.path, held.seen.size, held.seen.mtime_ns)


def _proven(held: Held, read: ReadAt) -> datetime | None:
    return read.get(_mark(held), {}).get(held.newest.tree.drive) if held.seen.kind == Kind.FILE else None


def versions_text(versions: Sequence[Version], drives: Drives, read: ReadAt) -> Iterable[str]:
    """Each version with its size and date, and below it the drives and states that have it."""
    for each in versions:
        what = f"-> {shown(each.seen.target)}" if each.seen.kind == Kind.SYMLINK else size(each.seen.size)
        if each.seen.kind == Kind.DIRECTORY:
            what = "a directory"
        yield f"{modified(each.seen)}  {what}"
        for held in each.held:
            uuid, moment = held.newest.tree.drive, _proven(held, read)
            proven = f"; content proven {local(moment)}" if moment is not None else ""
            yield f"    {drives.label(uuid)}, {_span(held.states)}{proven}; {drives.what_to_do(uuid)}"


def _span(states: Sequence[State]) -> str:
    if len(states) == 1:
        return _named(states[0])
    return f"{number(len(states), 'state')}, {_named(states[0])} to {_named(states[-1])}"


def _named(state: State) -> str:
    return f"{state.name} (current)" if state.is_current else state.name


def versions_json(
    master: str, path: bytes, versions: Sequence[Version], drives: Drives, read: ReadAt
) -> dict[str, Any]:
    """The same for scripts."""

    def proven(held: Held) -> dict[str, str | None]:
        moment = _proven(held, read)
        return {"content_proven": rfc3339(moment) if moment is not None else None}

    return {
        "master": master,
        "path": os.fsdecode(path),
        "versions": [
            {
                **seen_json(each.seen),
                "states": [
                    {**state_json(state, drives), **proven(held)}
                    for held in each.held
                    for state in reversed(held.states)
                ],
            }
            for each in versions
        ],
    }


# --- ls


def ls_text(files: Sequence[Seen]) -> str:
    """As `ls -l` does; names only, since where they are was said."""
    from flashback.tell.tables import Cell, render

    rows = [
        (
            Cell(stat.filemode(_LETTERS.get(Kind(seen.kind), 0) | seen.mode)),
            Cell(f"{seen.uid}:{seen.gid}"),
            Cell(size(seen.size) if seen.kind == Kind.FILE else "", right=True),
            Cell(modified(seen)),
            Cell(_name(seen)),
        )
        for seen in files
    ]
    return "\n".join(render(("mode", "owner", "size", "modified", "name"), rows).splitlines())


def _name(seen: Seen) -> str:
    name = shown(seen.path.rpartition(b"/")[2]) or "."
    if seen.kind == Kind.SYMLINK:
        return f"{name} -> {shown(seen.target)}"
    return f"{name}/" if seen.kind == Kind.DIRECTORY else name


# --- diff


def diff_text(state: State, changes: Sequence[Difference]) -> Iterable[str]:
    """One line for each difference, as its owner knows the path."""
    for each in changes:
        line = f"{MARKS[each.what]} {shown(whole_path(state.tree, each.path))}"
        if each.what is What.RENAMED and each.old is not None:
            line = f"> {shown(whole_path(state.tree, each.old.path))} -> {shown(whole_path(state.tree, each.path))}"
        elif each.what is What.CHANGED and each.old is not None and each.new is not None:
            sizes = f" {size(each.old.size)} -> {size(each.new.size)}" if each.old.size != each.new.size else ""
            line += f"  ({', '.join(each.aspects)}{sizes})"
        yield line


def diff_total(changes: Sequence[Difference]) -> str:
    """`3 added, 1 changed`, or that there is none."""
    counts = [(sum(each.what is what for each in changes), what.value) for what in What]
    return ", ".join(f"{count:,} {what}" for count, what in counts if count) or "no difference"


def diff_json(changes: Sequence[Difference]) -> dict[str, Any]:
    """The same for scripts, a list for each kind of difference."""
    found: dict[str, list[dict[str, Any]]] = {what.value: [] for what in What}
    for each in changes:
        found[each.what.value].append(
            {
                "path": os.fsdecode(each.path),
                "old": seen_json(each.old) if each.old is not None else None,
                "new": seen_json(each.new) if each.new is not None else None,
                "aspects": list(each.aspects),
            }
        )
    return found
