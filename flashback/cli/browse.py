"""`flashback mount`: look around in the states of a drive. (`close`, which puts it away, is in `run`.)"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flashback.cli import front

if TYPE_CHECKING:
    from flashback.app import App

MOUNT_EPILOG = front.examples(
    ("sudo flashback mount red", "every snapshot as a dated folder; it says where"),
    ("sudo flashback mount red ~/old", "there"),
    ("sudo flashback close red", "put it away"),
)

Where = Annotated[Path | None, typer.Argument(metavar="DIR", help="Where to; an empty directory of your own.")]


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command(epilog=MOUNT_EPILOG, short_help="Look around in the states of a drive.")(mount)


def mount(
    drive: front.Drive = None,
    where: Where = None,
    passphrase_file: front.PassphraseFile = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    quiet: front.Quiet = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Show every state of a drive as a dated folder, read-only; it stays until `flashback close`."""

    def work(app: App) -> int:
        from flashback.app import caller, needs_root
        from flashback.drive.browse import browse

        needs_root("flashback mount")
        with front.teller(app) as tell, app.ledger() as ledger:
            context = app.context(tell, app.person(tell))
            candidate = front.chosen(context, app, ledger, drive)
            return browse(context, candidate, Path.cwd() / where if where is not None else None, caller=caller())

    front.enter(
        work,
        config=config,
        state=state,
        json=json,
        verbose=verbose,
        quiet=quiet,
        passphrase_file=passphrase_file,
    )
