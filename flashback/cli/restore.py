"""`flashback restore`: the way back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flashback.cli import front

if TYPE_CHECKING:
    from collections.abc import Callable

    from flashback.app import App
    from flashback.config.values import Master
    from flashback.recover.errand import RestoreRequest
    from flashback.recover.parts import Owner
    from flashback.recover.wanted import Wanted, When
    from flashback.tell import Teller

RESTORE_EPILOG = front.examples(
    (
        "sudo flashback restore ~/Documents/shopping.txt",
        "the newest version that a plugged-in drive has, to where it was",
    ),
    ("sudo flashback restore photos/2.jpg --at 2026-01-31", "as it was at the end of that day"),
    ("sudo flashback restore photos/2.jpg --at 7d", "as it was a week ago"),
    ("sudo flashback restore photos --snapshot red:latest", "from the newest state on this drive, and no older one"),
    ("sudo flashback restore documents:photos --to ~/restored", "a directory, into another one"),
    ("sudo flashback restore photos --in-place", "over what is there, once you have seen what would change"),
    ("sudo flashback restore photos --dry-run", "what would be restored, from where to where?"),
    ("sudo flashback restore --all --to /home/alice/restored", "everything that the drive holds"),
    ("flashback restore documents:photos --to ~/restored", "without root, from a drive that `flashback mount` opened"),
)


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command(epilog=RESTORE_EPILOG, short_help="Get files back from a drive.")(restore)


Paths = Annotated[
    list[str] | None, typer.Argument(metavar="PATH", help="As you know it: absolute, from here, or MASTER:PATH.")
]
Snapshot = Annotated[
    str | None,
    typer.Option("--snapshot", metavar="NAME", help="latest, a name or its beginning, DRIVE:NAME, or a date."),
]
At = Annotated[
    str | None, typer.Option("--at", metavar="DATE", help="As of 2026-01-31 ['2026-01-31 14:00'], or 7d ago.")
]
To = Annotated[Path | None, typer.Option("--to", metavar="DIR", help="Into this directory; made if it is not there.")]
FromDrive = Annotated[str | None, typer.Option("--drive", metavar="DRIVE", help="From this drive.")]
All = Annotated[bool, typer.Option("--all", help="Everything on the drive, or all of one --master.")]
Masters = Annotated[
    list[str] | None, typer.Option("--master", metavar="NAME", help="With --all: only this master; may be repeated.")
]
NewOwner = Annotated[
    str | None, typer.Option("--owner", metavar="UID:GID", help="To whom all of it is to belong, by number.")
]
Over = Annotated[bool, typer.Option("--in-place", help="Over what is there; shows what would change, and asks.")]
Yes = Annotated[bool, typer.Option("--yes", help="With --in-place: do not ask; for scripts.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show the plan; nothing is written.")]


def restore(
    paths: Paths = None,
    snapshot: Snapshot = None,
    at: At = None,
    to: To = None,
    drive: FromDrive = None,
    everything: All = False,
    master: Masters = None,
    owner: NewOwner = None,
    in_place: Over = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    passphrase_file: front.PassphraseFile = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    quiet: front.Quiet = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Get files back: beside what is there, never over it, each compared with the drive afterwards."""

    def work(app: App) -> int:
        from dataclasses import replace

        from flashback.app import is_root
        from flashback.recover import service

        found = app.readable_config()
        masters = found.masters if found is not None else ()
        when, on = _when(app, snapshot, at, drive)
        asked = _wanted(app, paths or [], masters, master or [], everything=everything)
        request = _request(asked, when, to, _owner(owner), everything=everything, dry_run=dry_run)
        with front.teller(app) as tell:
            if in_place:
                request = replace(request, in_place=True, agreed=_agreeing(app, tell, yes=yes, to=to))
            if not is_root():
                return _as_user(app, tell, on, masters, request)
            context = app.context(tell, app.person(tell))
            with app.ledger() as ledger:
                return service.restore(context, ledger, on, masters, request)

    front.enter(
        work,
        config=config,
        state=state,
        json=json,
        verbose=verbose,
        quiet=quiet,
        passphrase_file=passphrase_file,
    )


def _as_user(app: App, tell: Teller, drive: str | None, masters: tuple[Master, ...], request: RestoreRequest) -> int:
    from flashback.app import with_sudo
    from flashback.drive.visible import visible
    from flashback.recover.ordinary import restore_as_user

    return restore_as_user(app.context(tell), visible(), drive, masters, request, again=with_sudo())


def _wanted(
    app: App, paths: list[str], masters: tuple[Master, ...], names: list[str], *, everything: bool
) -> tuple[Wanted, ...]:
    from flashback.core.errors import UsageError
    from flashback.recover.wanted import Wanted, wanted

    if everything == bool(paths):
        raise UsageError("say what is to be restored: a PATH, or --all", hint="flashback restore --help has examples")
    if names and not everything:
        raise UsageError("--master goes with --all", hint="of one path: flashback restore MASTER:PATH")
    homes = {each.name: each.path for each in masters}
    others = _others(app) if any(":" in each for each in paths) else frozenset()
    asked = [wanted(each, masters, cwd=Path.cwd(), others=others) for each in paths]
    asked += [Wanted(name, home=homes.get(name)) for name in names]
    return tuple(dict.fromkeys(asked))


def _request(
    wanted: tuple[Wanted, ...], when: When, to: Path | None, owner: Owner | None, *, everything: bool, dry_run: bool
) -> RestoreRequest:
    from flashback.app import caller
    from flashback.recover.errand import RestoreRequest

    return RestoreRequest(
        wanted=wanted,
        when=when,
        to=Path.cwd() / to if to is not None else None,
        owner=owner,
        everything=everything,
        dry_run=dry_run,
        trusted=frozenset({caller()}),
    )


def _agreeing(app: App, tell: Teller, *, yes: bool, to: Path | None) -> Callable[[], bool] | None:
    """Who agrees to what is going to change: whoever said --yes, the person at the terminal, or nobody."""
    from flashback.core.errors import UsageError

    if to is not None:
        raise UsageError("--in-place and --to exclude each other", hint="use one of them")
    if yes:
        return lambda: True
    if not app.interactive:
        return None

    def asked() -> bool:
        from flashback.prepare.ask import Terminal

        with tell.asking():
            return Terminal(front.say).choose("Is it to be changed like this?", ("no", "yes")) == "yes"

    return asked


def _when(app: App, snapshot: str | None, at: str | None, drive: str | None) -> tuple[When, str | None]:
    """Which state is meant, and on which drive, if that is said before it (`red:latest`)."""
    from flashback.config.moments import drive_before
    from flashback.core.errors import UsageError
    from flashback.recover.wanted import when

    before, state = drive_before(snapshot, _drives(app)) if snapshot else ("", "")
    if before and drive is not None and before != drive.lower():
        raise UsageError("--snapshot and --drive name two drives", hint="use one of them")
    return when(state, at or "", app.clock()), drive or before or None


def _drives(app: App) -> frozenset[str]:
    """The names of the drives that may be meant, in small letters."""
    from flashback.app import is_root
    from flashback.drive.visible import visible

    if not is_root():
        return frozenset(each.name.lower() for each in visible())
    with app.ledger() as ledger:
        return frozenset(each.name.lower() for each in ledger.drives())


def _others(app: App) -> frozenset[str]:
    """The masters of which a drive holds something, whatever is configured."""
    from flashback.app import is_root
    from flashback.drive.visible import visible

    if not is_root():
        return frozenset(each.state.master for drive in visible() for each in drive.folders)
    with app.ledger() as ledger:
        return frozenset(each.master for each in ledger.backups())


def _owner(text: str | None) -> Owner | None:
    import re

    from flashback.core.errors import UsageError
    from flashback.core.text import shown
    from flashback.recover.parts import Owner

    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,10}):(\d{1,10})", text, re.ASCII)
    if found is None or max(int(found[1]), int(found[2])) >= 2**32 - 1:
        raise UsageError(f"{shown(text)} is no owner", hint="two numbers, as `id` shows them, for instance 1000:1000")
    return Owner(int(found[1]), int(found[2]))
