"""Which file is where, with the drives in the safe: `flashback find`, `versions`, `ls`, `diff`."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from flashback.cli import front

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from flashback.app import App
    from flashback.catalogue.lookup import Lookup, State
    from flashback.catalogue.seen import Seen
    from flashback.catalogue.words import Drives

    Beside = Callable[[State], tuple[State | None, Any]]

FIND = front.examples(
    ("sudo flashback find thesis", "every name with this text in it, on all drives"),
    ("sudo flashback find '*.odt' --since 2026-05-01", "by wildcard, last modified since then"),
    ("sudo flashback find 'Photos/**/*.jpg' --drive red", "by path, on one drive"),
    ("sudo flashback find --regex '/20(25|26)/.*[.]tex$' --json", "for scripts"),
)
VERSIONS = front.examples(
    ("sudo flashback versions ~/Documents/thesis.odt", "each content it had, and which drives have it"),
    ("sudo flashback versions thesis.odt --json", "for scripts"),
)
LS = front.examples(
    ("sudo flashback ls latest", "what the newest backup holds"),
    ("sudo flashback ls red:latest Photos", "a folder of it, on this drive"),
    ("sudo flashback ls 2026-05-02 ~/Documents", "as it was at the end of that day"),
    ("sudo flashback ls 20260502T141000Z", "a snapshot by its name, or by the beginning of it"),
)
DIFF = front.examples(
    ("sudo flashback diff latest", "what has changed since the newest backup"),
    ("sudo flashback diff 2026-05-01 2026-06-01", "between two days"),
    ("sudo flashback diff red:latest blue:latest --json", "between two drives, for scripts"),
)

DriveOption = Annotated[str | None, typer.Option("--drive", metavar="DRIVE", help="Look at this drive only.")]
Path = Annotated[str, typer.Argument(metavar="PATH", help="A path as you know it, or relative to the master.")]


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command(epilog=FIND, short_help="Search all drives for names, plugged in or not.")(find)
    app.command(epilog=VERSIONS, short_help="The versions of a file, and which drives have them.")(versions)
    app.command("ls", epilog=LS, short_help="What a snapshot holds.")(list_state)
    app.command(epilog=DIFF, short_help="What differs between two snapshots, or from now.")(diff)


def find(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="Text, or a name with wildcards; with / a path.")],
    regex: Annotated[bool, typer.Option("--regex", help="PATTERN is a regular expression for the whole path.")] = False,
    ignore_case: Annotated[bool, typer.Option("--ignore-case", "-i", help="Capitals do not matter.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DATE", help="Last modified since then: 2026-05-01, or 7d.")
    ] = None,
    drive: DriveOption = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Search all drives for names, plugged in or not: where it is, and how many versions."""

    def work(app: App) -> int:
        from flashback.catalogue import find as finding
        from flashback.catalogue.match import matcher
        from flashback.config.moments import moment

        wanted = matcher(pattern, regex=regex, ignore_case=ignore_case)
        oldest = moment(since, app.clock()) if since is not None else None
        with looking(app, "find") as (lookup, drives):
            chosen = None if drive is None else {_uuid(drives, drive)}
            found = finding.find(lookup, wanted, since=oldest, drives=chosen)
            _find_answer(app, found, lookup, drives)
        return 0

    front.enter(work, config=config, state=state, json=json, verbose=verbose)


def _find_answer(app: App, found: list[Any], lookup: Lookup, drives: Drives) -> None:
    from flashback.catalogue import words

    if app.settings.json:
        front.say_json("find", {**words.find_json(found, drives), "unknown": words.gaps(lookup, drives)})
        return
    _say_lines(words.find_text(found, drives))
    if not found:
        front.say("Nothing of that name is on any drive, as far as this machine knows.")
    _say_lines(words.gaps(lookup, drives))


def versions(
    path: Path,
    drive: DriveOption = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """The versions of a file whose contents differ, the newest first, and which drives have them."""

    def work(app: App) -> int:
        from flashback.catalogue import words
        from flashback.catalogue.names import known_path
        from flashback.rotation.contents import last_read

        with looking(app, "versions") as (lookup, drives):
            master, rest = known_path(lookup, path, os.getcwd(), _masters(app, lookup))
            chosen = None if drive is None else _uuid(drives, drive)
            held = [
                each
                for each in lookup.versions(lookup.node(rest) or 0, rest)
                if each.newest.tree.master == master and chosen in {None, each.newest.tree.drive}
            ]
            found = words.versions_of(held)
            read = last_read(app.paths.contents, words.marks_of(found))
            if json:
                front.say_json("versions", words.versions_json(master, rest, found, drives, read))
            else:
                _say_lines(words.versions_text(found, drives, read))
                _say_lines(words.gaps(lookup, drives))
        return 0

    front.enter(work, config=config, state=state, json=json, verbose=verbose)


def list_state(
    snapshot: Annotated[str, typer.Argument(metavar="SNAPSHOT", help="latest, a name, DRIVE:NAME, or a date.")],
    path: Annotated[str | None, typer.Argument(metavar="PATH", help="A folder or file; without: the top.")] = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """What a snapshot holds, or a folder of it."""

    def work(app: App) -> int:
        from flashback.catalogue import words

        with looking(app, "ls") as (lookup, drives):
            listed = list(_listed(app, lookup, _states(app, lookup, snapshot, drives), path))
            if json:
                body = [
                    {**words.state_json(each, drives), "files": [words.seen_json(seen) for seen in files]}
                    for each, files in listed
                ]
                front.say_json("ls", {"states": body})
                return 0
            for each, files in listed:
                front.say(f"{each.tree.master} on {drives.label(each.tree.drive)}, {words.day(each.name)}:")
                front.say(words.ls_text(files) if files else "    (empty)")
        return 0

    front.enter(work, config=config, state=state, json=json, verbose=verbose)


def _listed(app: App, lookup: Lookup, states: list[State], path: str | None) -> Iterator[tuple[State, list[Seen]]]:
    from flashback.catalogue.names import paths
    from flashback.catalogue.seen import Kind
    from flashback.core.errors import UsageError
    from flashback.core.text import shown

    if path is None:
        yield from ((state, list(lookup.children(state, b""))) for state in states)
        return
    for master, rest in paths(path, os.getcwd(), _masters(app, lookup)):
        for state in states:
            entry = lookup.entry(state, rest) if state.tree.master == master else None
            if entry is not None:
                yield state, list(lookup.children(state, rest)) if entry.kind == Kind.DIRECTORY else [entry]
                return
    raise UsageError(f"{shown(path)} is not in that state", hint=f"flashback versions {path} shows where it is")


def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="latest, a snapshot's name, DRIVE:NAME, or a date.")],
    other: Annotated[str | None, typer.Argument(metavar="B", help="The same; without: the master as it is.")] = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """What differs between two snapshots, or between one and the master as it is now."""

    def work(app: App) -> int:
        from flashback.catalogue import words
        from flashback.catalogue.diff import differences

        with looking(app, "diff") as (lookup, drives):
            first = _states(app, lookup, one, drives)
            beside, left_out = _beside(app, lookup, other, drives)
            body = []
            for old in first:
                new, pairs = beside(old)
                if pairs is None:
                    left_out[old.tree.master] = _ONLY_HERE if other is not None else _NOT_CONFIGURED
                    continue
                left_out.pop(old.tree.master, None)
                found = differences(pairs)
                body.append(
                    {
                        "master": old.tree.master,
                        "old": words.state_json(old, drives),
                        "new": words.state_json(new, drives) if new is not None else None,
                        **words.diff_json(found),
                    }
                )
                if not json:
                    _say_lines(words.diff_text(old, found))
                    front.say(f"{old.tree.master}: {words.diff_total(found)}.")
        _say_diff(body, left_out, json=json)
        return 0

    front.enter(work, config=config, state=state, json=json, verbose=verbose)


_ONLY_HERE: Final = "B names no state of it, so it is not compared"
_ONLY_THERE: Final = "A names no state of it, so it is not compared"
_NOT_CONFIGURED: Final = "the configuration has no such master, so it is not compared; name a second snapshot"


def _say_diff(body: list[Any], left_out: dict[str, str], *, json: bool) -> None:
    """What remains to be said. Raises `UsageError` where nothing was compared."""
    from flashback.core.errors import UsageError

    rest = [{"master": master, "why": why} for master, why in sorted(left_out.items())]
    if rest and not body:
        raise UsageError("there is nothing to compare", findings=[f"{each['master']}: {each['why']}" for each in rest])
    if json:
        front.say_json("diff", {"masters": body, "left_out": rest})
    else:
        _say_lines(f"{each['master']}: {each['why']}." for each in rest)


def _beside(app: App, lookup: Lookup, other: str | None, drives: Drives) -> tuple[Beside, dict[str, str]]:
    """What a state is held against: a state of the same master, or the master itself; `None` where there is none.

    With it why masters that the second names are not compared, where the first does not name them, too.
    """
    if other is not None:
        chosen = {state.tree.master: state for state in _states(app, lookup, other, drives)}

        def state_of(old: State) -> tuple[State | None, Any]:
            new = chosen.get(old.tree.master)
            return new, lookup.differing(old, new) if new is not None else None

        return state_of, dict.fromkeys(chosen, _ONLY_THERE)
    from flashback.backup.living import beside_master
    from flashback.catalogue.shelves import Shelves

    masters = {master.name: master for master in app.config().masters}

    def living(old: State) -> tuple[State | None, Any]:
        if old.tree.master not in masters:
            return None, None
        master = masters[old.tree.master]
        return None, beside_master(Shelves(app.paths.catalogues), old, master, avoid=app.paths.runtime)

    return living, {}


# --- what all of them share


@contextmanager
def looking(app: App, command: str) -> Iterator[tuple[Lookup, Drives]]:
    """The catalogue, and the drives it speaks of. Raises `Missing` for anybody but root."""
    from flashback.app import needs_root
    from flashback.catalogue.lookup import Lookup
    from flashback.catalogue.shelves import Shelves
    from flashback.catalogue.words import Drives
    from flashback.core.errors import Missing

    needs_root(f"flashback {command}")
    with app.ledger() as ledger:
        known = {drive.uuid: drive for drive in ledger.drives()}
    here = frozenset(uuid for uuid in known if os.path.exists(f"/dev/disk/by-uuid/{uuid}"))
    try:
        with Shelves(app.paths.catalogues).index() as index:
            yield Lookup(index), Drives(known, here)
    except OSError as problem:
        raise Missing(
            f"the catalogue cannot be read: {problem}", hint=f"is there room in {app.paths.state}?"
        ) from problem


def _states(app: App, lookup: Lookup, text: str, drives: Drives) -> list[State]:
    from flashback.catalogue.names import states

    return states(lookup, text, {drive.name.lower(): uuid for uuid, drive in drives.known.items()}, app.clock())


def _masters(app: App, lookup: Lookup) -> dict[str, str]:
    from flashback.catalogue.names import masters_paths

    config = app.config() if app.paths.config.exists() else None
    return masters_paths(lookup, {each.name: str(each.path) for each in config.masters} if config else {})


def _uuid(drives: Drives, wanted: str) -> str:
    from flashback.drive.recognise import known_by_name

    return known_by_name(tuple(drives.known.values()), wanted).uuid


def _say_lines(lines: Iterable[str]) -> None:
    for line in lines:
        front.say(line)
