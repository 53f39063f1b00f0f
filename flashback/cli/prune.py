"""`flashback prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flashback.cli import front

if TYPE_CHECKING:
    from flashback.app import App

EPILOG = front.examples(
    ("sudo flashback prune red --dry-run --explain", "what would go, what would stay, and why; nothing is removed"),
    ("sudo flashback prune red", "remove what no rule keeps"),
    ("sudo flashback prune red --dry-run --json < /dev/null --passphrase-file secret", "for scripts"),
    then="A run removes snapshots too, but only where it needs the space.",
)


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command(epilog=EPILOG, short_help="Remove the snapshots that no rule keeps.")(prune)


def prune(
    drive: front.Drive = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go; nothing is removed.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say of those that stay, too, why they do.")] = False,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", metavar="HOLD", help="Let a guard's hold pass; may be repeated.")
    ] = None,
    passphrase_file: front.PassphraseFile = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    quiet: front.Quiet = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Remove the snapshots that no rule keeps. Never the newest state, the last ones, or what is pinned."""

    def work(app: App) -> int:
        from flashback.app import needs_root
        from flashback.backup.trim import TrimRequest, trim
        from flashback.compare.guard import known_holds

        request = TrimRequest(dry_run, explain or json, known_holds(allow or ()))
        needs_root("flashback prune")
        settings = app.config()
        with front.teller(app) as tell, app.ledger() as ledger:
            context = app.context(tell, app.person(tell))
            candidate = front.chosen(context, app, ledger, drive)
            return trim(context, settings, ledger, candidate, request)

    front.enter(
        work, config=config, state=state, json=json, verbose=verbose, quiet=quiet, passphrase_file=passphrase_file
    )
