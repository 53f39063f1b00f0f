"""`flashback scrub` and `flashback verify`: is what is on a drive good, and is it what it should be?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flashback.cli import front

if TYPE_CHECKING:
    from flashback.app import App

SCRUB_EPILOG = front.examples(
    ("sudo flashback scrub red", "read everything back; damage is named, exit code 14"),
    ("sudo flashback scrub red --json --passphrase-file - < secret", "for scripts"),
)
VERIFY_EPILOG = front.examples(
    ("sudo flashback verify red", "a sample: 200 files of the copy, 200 of the snapshots"),
    ("sudo flashback verify red --sample 1000", "a larger one"),
    ("sudo flashback verify red --full", "every file"),
)

Sample = Annotated[
    int, typer.Option("--sample", metavar="N", min=1, help="So many files of the copy, and of the snapshots.")
]
Full = Annotated[bool, typer.Option("--full", help="Every file of the copy, every version in the snapshots.")]


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command(epilog=SCRUB_EPILOG, short_help="Read everything on a drive back: is it damaged?")(scrub)
    app.command(epilog=VERIFY_EPILOG, short_help="Does the copy equal the master, by content?")(verify)


def scrub(
    drive: front.Drive = None,
    passphrase_file: front.PassphraseFile = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    quiet: front.Quiet = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Read back everything that is on a drive and hold it against its checksums."""

    def work(app: App) -> int:
        from flashback.app import needs_root
        from flashback.health.service import scrub_drive

        needs_root("flashback scrub")
        with front.teller(app) as tell, app.ledger() as ledger:
            context = app.context(tell, app.person(tell))
            return scrub_drive(context, ledger, front.chosen(context, app, ledger, drive))

    front.enter(
        work,
        config=config,
        state=state,
        json=json,
        verbose=verbose,
        quiet=quiet,
        passphrase_file=passphrase_file,
    )


def verify(
    drive: front.Drive = None,
    sample: Sample = 200,
    full: Full = False,
    passphrase_file: front.PassphraseFile = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    quiet: front.Quiet = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Compare the copy on a drive with the master, by content, and read versions of files from its snapshots."""

    def work(app: App) -> int:
        from flashback.app import needs_root
        from flashback.proof.prove import verify_drive

        needs_root("flashback verify")
        configured = app.config().masters
        with front.teller(app) as tell, app.ledger() as ledger:
            context = app.context(tell, app.person(tell))
            candidate = front.chosen(context, app, ledger, drive)
            masters = [each for each in configured if candidate.known.carries(each.name)]
            return verify_drive(context, ledger, candidate, masters, sample=None if full else sample)

    front.enter(
        work,
        config=config,
        state=state,
        json=json,
        verbose=verbose,
        quiet=quiet,
        passphrase_file=passphrase_file,
    )
