"""`flashback init`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flashback.cli import front

if TYPE_CHECKING:
    from flashback.app import App

EPILOG = front.examples(
    ("lsblk", "which device is it?"),
    ("sudo flashback init /dev/sdb", "asks what it needs to know"),
    ("sudo flashback init /dev/sdb --dry-run", "what would be done?"),
    (
        "sudo flashback init /dev/sdb --erase --passphrase-file secret --no-recovery-key",
        "for scripts; with --master DIRECTORY where there is no configuration yet",
    ),
)


Device = Annotated[str, typer.Argument(metavar="DEVICE", help="The disk or partition; EVERYTHING on it is erased.")]
Name = Annotated[str | None, typer.Option("--name", help="What to call the drive (red, green ...).")]
Master = Annotated[Path | None, typer.Option("--master", help="The directory to back up, for a first configuration.")]
Erase = Annotated[bool, typer.Option("--erase", help="Yes, erase what is on it. Never a device in use.")]
RecoveryKey = Annotated[
    bool | None,
    typer.Option("--recovery-key/--no-recovery-key", help="A second key slot with a key to keep on paper."),
]
RecoveryKeyFile = Annotated[
    Path | None,
    typer.Option("--recovery-key-file", metavar="FILE", help="Write its page to a new FILE (.html: as HTML)."),
]
WholeDevice = Annotated[bool, typer.Option("--whole-device", help="No partition table: LUKS on the disk.")]
NoFirstRun = Annotated[bool, typer.Option("--no-first-run", help="Prepare the drive, do not back up yet.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command(epilog=EPILOG, short_help="Make a drive of a stick or disk; back up to it.")(init)


def init(
    device: Device,
    name: Name = None,
    master: Master = None,
    erase: Erase = False,
    recovery_key: RecoveryKey = None,
    recovery_key_file: RecoveryKeyFile = None,
    whole_device: WholeDevice = False,
    no_first_run: NoFirstRun = False,
    dry_run: DryRun = False,
    passphrase_file: front.PassphraseFile = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    quiet: front.Quiet = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Prepare a drive: LUKS2, Btrfs with blake2 checksums, the first backup."""

    def work(app: App) -> int:
        from flashback.app import AtTerminal, likely_master, needs_root
        from flashback.core.errors import UsageError
        from flashback.prepare.ask import Terminal
        from flashback.prepare.init import InitOptions, initialise
        from flashback.prepare.wizard import Given

        needs_root("flashback init")
        if json and recovery_key and recovery_key_file is None:
            raise UsageError("with --json the recovery key is not shown", hint="say where it goes: --recovery-key-file")
        asker = Terminal(front.say) if app.interactive else None
        wants_key = True if recovery_key_file is not None else recovery_key
        given = Given(name, master, erase, app.passphrase(), wants_key, whole_device, asker, likely_master())
        options = InitOptions(given, recovery_key_file, not no_first_run, dry_run)
        with front.teller(app) as tell, app.ledger() as ledger:
            person = AtTerminal(None, tell, decides=True) if app.interactive else None
            context = app.context(tell, person)
            show = None if json else front.say
            return initialise(context, ledger, device, options, config=app.config, show=show)

    front.enter(
        work,
        config=config,
        state=state,
        json=json,
        verbose=verbose,
        quiet=quiet,
        passphrase_file=passphrase_file,
    )
