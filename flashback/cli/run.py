"""`flashback run` and `flashback close`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flashback.cli import front

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashback.app import App

RUN_EPILOG = front.examples(
    ("sudo flashback run", "the drive that is plugged in; without one: wait for it"),
    ("sudo flashback run red --scrub", "and read everything back afterwards"),
    ("sudo flashback run red --dry-run", "what would be copied and deleted? Nothing is written"),
    ("sudo flashback run red --passphrase-file - --json < secret", "for scripts"),
    ("sudo flashback run red --allow empty-master", "yes, this master is meant to be empty"),
)


CLOSE_EPILOG = front.examples(
    ("sudo flashback close", "the drive that is open"),
    ("sudo flashback close red", "this one, and no other"),
)


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command(epilog=RUN_EPILOG, short_help="Back up to a drive that is plugged in.")(run)
    app.command(epilog=CLOSE_EPILOG, short_help="Put away a drive that is still open.")(close)


def run(
    drive: front.Drive = None,
    scrub: Annotated[bool, typer.Option("--scrub", help="Read everything back afterwards and check it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan; nothing is written.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Compare both sides file by file, whatever is known of the drive.")
    ] = False,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", metavar="HOLD", help="Let a guard's hold pass; may be repeated.")
    ] = None,
    unattended: Annotated[
        bool, typer.Option("--unattended", help="Nobody is here: ask nothing, and not too soon after the last run.")
    ] = False,
    passphrase_file: front.PassphraseFile = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    quiet: front.Quiet = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Back up to a drive: open, snapshot, copy, prove, close."""

    def work(app: App) -> int:
        from flashback.app import needs_root
        from flashback.backup.report import RunRequest
        from flashback.backup.service import back_up
        from flashback.compare.guard import known_holds
        from flashback.drive.choose import choose

        allowed = known_holds(allow or ())
        request = RunRequest(scrub=scrub, full=full, dry_run=dry_run, allowed=allowed, unattended=unattended)
        needs_root("flashback run")
        settings = app.config()
        with front.teller(app) as tell, app.ledger() as ledger:
            context = app.context(tell, app.person(tell, unattended=unattended))
            ask = _choice if app.interactive and not unattended else None
            candidate = choose(context, ledger.drives(), drive, ask=ask, wait=not dry_run and not unattended)
            if unattended and passphrase_file is None:
                context = context.with_person(app.unattended(context.run, candidate.known.passphrase))
            return back_up(context, settings, ledger, candidate, request)

    front.enter(
        work,
        config=config,
        state=state,
        json=json,
        verbose=verbose,
        quiet=quiet,
        passphrase_file=passphrase_file,
    )


def _choice(names: Sequence[str]) -> str:
    from flashback.prepare.ask import Terminal

    return Terminal(front.say).choose("Which drive?", names)


def close(
    drive: front.Drive = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Put a drive away that is still open: unmount, close, look that it is gone."""

    def work(app: App) -> int:
        from flashback.app import needs_root
        from flashback.drive.close import close_drive

        needs_root("flashback close")
        with front.teller(app) as tell, app.ledger() as ledger:
            return close_drive(app.context(tell), ledger.drives(), drive)

    front.enter(work, config=config, state=state, json=json, verbose=verbose)
