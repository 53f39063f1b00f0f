"""`flashback catalogue rebuild` and `flashback explain`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flashback.cli import front

if TYPE_CHECKING:
    from flashback.app import App
    from flashback.catalogue.lookup import Held, Lookup
    from flashback.config.values import Master
    from flashback.walk.verdict import Verdict

REBUILD = front.examples(
    ("sudo flashback catalogue rebuild red", "read what is in every snapshot of this drive"),
    ("sudo flashback catalogue rebuild red --passphrase-file - < secret", "for scripts"),
)
EXPLAIN = front.examples(
    ("sudo flashback explain ~/Documents/build", "is it backed up, and if not, which rule says so?"),
    ("sudo flashback explain notes.txt --json", "for scripts"),
)


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command(epilog=EXPLAIN, short_help="Is a path backed up, by which rule, and where is it?")(explain)
    family = typer.Typer(
        help="The list of which file is in which snapshot.",
        epilog=REBUILD,
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    family.callback()(_family)
    family.command(epilog=REBUILD, short_help="Make it anew from what a drive holds.")(rebuild)
    app.add_typer(family, name="catalogue")


def _family() -> None:
    """A family has a word of its own, even with one command."""


def rebuild(
    drive: front.Drive = None,
    passphrase_file: front.PassphraseFile = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    quiet: front.Quiet = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Make the catalogue of a drive anew: every snapshot on it is walked, and nothing believed."""

    def work(app: App) -> int:
        from flashback.app import needs_root
        from flashback.backup.rebuild import rebuild as made_anew

        needs_root("flashback catalogue rebuild")
        settings = app.config() if app.paths.config.exists() else None
        with front.teller(app) as tell, app.ledger() as ledger:
            context = app.context(tell, app.person(tell))
            candidate = front.chosen(context, app, ledger, drive)
            return made_anew(context, settings, candidate)

    front.enter(
        work, config=config, state=state, json=json, verbose=verbose, quiet=quiet, passphrase_file=passphrase_file
    )


def explain(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A path as you know it, or relative to the master.")],
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Is a path in the backup or not, which rule says so, and where was it last seen?"""

    def work(app: App) -> int:
        from flashback.catalogue import words
        from flashback.catalogue.names import paths
        from flashback.cli.search import looking
        from flashback.core.text import shown

        with looking(app, "explain") as (lookup, drives):
            masters = {master.name: master for master in app.config().masters}
            meanings = paths(path, os.getcwd(), {name: str(master.path) for name, master in masters.items()})
            chosen = _likeliest(meanings, masters, lambda name, rest: bool(lookup.candidates(rest, master=name)))
            found = _judged(masters, chosen)
            seen = lookup.candidates(chosen[1], master=chosen[0]) if chosen is not None else []
            seen = seen or _seen_once(lookup, path)
            if json:
                front.say_json("explain", _as_json(path, chosen, found, seen, drives))
                return 0
            front.say(f"{shown(path)} is {'' if found.inside else 'not '}in the backup: {found.why}.")
            for held in seen:
                label, name = drives.label(held.newest.tree.drive), held.newest.name
                front.say(f"    last seen on {label}, {words.day(name)}; {drives.what_to_do(held.newest.tree.drive)}")
            if not seen:
                front.say("    It is on no drive, as far as this machine knows.")
        return 0

    front.enter(work, config=config, state=state, json=json, verbose=verbose)


def _likeliest(meanings: list[tuple[str, bytes]], masters: dict[str, Master], on_a_drive: Any) -> Any:  # noqa: ANN401
    """The first meaning that is there; else the first that is on a drive; else the first."""
    for name, rest in meanings:
        if os.path.lexists(os.fsencode(masters[name].path) + b"/" + rest):
            return name, rest
    return next((each for each in meanings if on_a_drive(*each)), meanings[0] if meanings else None)


def _seen_once(lookup: Lookup, path: str) -> list[Held]:
    """Where a path was last seen by where its master lay then: that may be backed up no more."""
    from flashback.catalogue.names import masters_paths, paths

    meanings = paths(os.path.abspath(path), "/", masters_paths(lookup, {}))
    return next(filter(None, (lookup.candidates(rest, master=name) for name, rest in meanings)), [])


def _judged(masters: dict[str, Master], chosen: tuple[str, bytes] | None) -> Verdict:
    from flashback.walk.verdict import Verdict, verdict

    if chosen is None:
        return Verdict(inside=False, why="it lies in no directory that is backed up")
    return verdict(masters[chosen[0]], chosen[1])


def _as_json(path: str, chosen: Any, found: Verdict, seen: Any, drives: Any) -> dict[str, Any]:  # noqa: ANN401
    from flashback.catalogue import words

    rule = found.rule
    return {
        "path": path,
        "master": chosen[0] if chosen is not None else None,
        "inside": found.inside,
        "why": found.why,
        "where": os.fsdecode(found.where),
        "rule": None
        if rule is None
        else {"file": rule.file, "line": rule.line, "pattern": os.fsdecode(rule.pattern), "include": rule.include},
        "last_seen": [{**words.state_json(each.newest, drives), "file": words.seen_json(each.seen)} for each in seen],
    }
