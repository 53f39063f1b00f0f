"""`flashback drive list|rename|set|retire|lost|adopt`: managing the rotation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flashback.cli import front

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flashback.app import App
    from flashback.rotation.ledger import Ledger
    from flashback.rotation.values import KnownDrive, Standing

LIST = (("sudo flashback drive list", "every drive, the lost and retired ones too"),)
RENAME = (("sudo flashback drive rename red ruby", "the drive called red is called ruby from now on"),)
SET = (
    ("sudo flashback drive set red place=pocket", "where it is kept: home, pocket, offsite, or any other words"),
    ("sudo flashback drive set red masters=documents,photos", "it carries these; masters=all: everything"),
    ("sudo flashback drive set red on_plug=always", "ask, always, never, or default (as the configuration says)"),
    (
        "sudo flashback drive set red passphrase=file:/etc/flashback/red.key",
        "for plugging in and runs with nobody there",
    ),
    ("sudo flashback drive set red standing=active", "a drive that was lost or retired is back"),
)
RETIRE = (("sudo flashback drive retire red", "it stays as it is, and is not used any more"),)
LOST = (("sudo flashback drive lost red", "what is on it does not count any more"),)
ADOPT = (
    ("sudo flashback drive adopt /dev/sdb", "a drive of another machine, or after this machine's memory was lost"),
    ("sudo flashback drive adopt /dev/sdb --name ruby", "where another drive has its name already"),
    ("sudo flashback drive adopt red", "a known drive whose keys were changed by hand"),
)

Name = Annotated[str, typer.Argument(metavar="DRIVE", help="A drive's name, LUKS UUID or device.")]


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    every = (*LIST, SET[0], *RETIRE, ADOPT[0])
    family = typer.Typer(
        help="Manage the rotation.", epilog=front.examples(*every), no_args_is_help=True, rich_markup_mode=None
    )
    family.command("list", epilog=front.examples(*LIST), short_help="Every drive, plugged in or not.")(list_drives)
    family.command(epilog=front.examples(*RENAME), short_help="Give a drive another name.")(rename)
    family.command("set", epilog=front.examples(*SET), short_help="Place, masters, what plugging in does.")(set_drive)
    family.command(epilog=front.examples(*RETIRE), short_help="Take a drive out of the rotation.")(retire)
    family.command(epilog=front.examples(*LOST), short_help="A drive is gone: it counts no more.")(lost)
    family.command(epilog=front.examples(*ADOPT), short_help="Make a drive of Flashback's known here.")(adopt)
    app.add_typer(family, name="drive")


def list_drives(
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Every drive that this machine knows: name, place, size, masters, where it is plugged in."""

    def work(app: App) -> int:
        from flashback.app import wants_colour
        from flashback.drive.manage import as_json, inventory, table

        with app.ledger() as ledger:
            entries = inventory(app.context(lambda _event: None).run, ledger.drives())
        if json:
            front.say_json("drives", as_json(entries))
        else:
            front.say(table(entries, colour=wants_colour(), width=front.width()))
        return 0

    front.enter(work, config=config, state=state, json=json, verbose=verbose)


def rename(
    old: Name,
    new: Annotated[str, typer.Argument(metavar="NEW", help="The new name.")],
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Give a drive another name. The drive itself learns it at its next run."""

    def change(_app: App, ledger: Ledger, drive: KnownDrive) -> tuple[KnownDrive, str]:
        from flashback.drive.manage import rename as renamed

        return renamed(ledger, drive, new)

    front.enter(_changing("rename", old, change), config=config, state=state, json=json, verbose=verbose)


def set_drive(
    drive: Name,
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE", help="place=, masters=, on_plug=, passphrase=, standing=; several at once."
        ),
    ],
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Set where a drive is kept, which masters it carries, what happens when it is plugged in, whether it counts."""

    def change(app: App, ledger: Ledger, known: KnownDrive) -> tuple[KnownDrive, str]:
        from flashback.drive.manage import configure

        return configure(ledger, known, settings, lambda: _masters(app))

    front.enter(_changing("set", drive, change), config=config, state=state, json=json, verbose=verbose)


def _masters(app: App) -> Sequence[str] | None:
    return [each.name for each in app.config().masters] if app.paths.config.exists() else None


def retire(
    drive: Name,
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Take a drive out of the rotation: it is not backed up to any more and does not count. Nothing on it changes."""
    from flashback.rotation.values import Standing

    work = _changing("retire", drive, _standing(Standing.RETIRED))
    front.enter(work, config=config, state=state, json=json, verbose=verbose)


def lost(
    drive: Name,
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Say that a drive is gone: what is on it does not count any more."""
    from flashback.rotation.values import Standing

    work = _changing("lost", drive, _standing(Standing.LOST))
    front.enter(work, config=config, state=state, json=json, verbose=verbose)


def _standing(standing: Standing) -> Callable[[App, Ledger, KnownDrive], tuple[KnownDrive, str]]:
    def change(_app: App, ledger: Ledger, drive: KnownDrive) -> tuple[KnownDrive, str]:
        from flashback.drive.manage import stand

        return stand(ledger, drive, standing)

    return change


def _changing(
    command: str, wanted: str, change: Callable[[App, Ledger, KnownDrive], tuple[KnownDrive, str]]
) -> Callable[[App], int]:
    """The work of a command that changes one drive in the ledger and says so in one line."""

    def work(app: App) -> int:
        from flashback.app import needs_root
        from flashback.drive.manage import as_json, inventory, meant

        needs_root(f"flashback drive {command}")
        run = app.context(lambda _event: None).run
        with app.ledger() as ledger:
            changed, said = change(app, ledger, meant(run, ledger.drives(), wanted))
        if app.settings.json:
            front.say_json("drives", as_json(inventory(run, [changed])))
        else:
            front.say_sentences(said)
        return 0

    return work


def adopt(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="The drive's device, or a known drive's name.")],
    name: Annotated[str | None, typer.Option("--name", help="What to call it; default: what it calls itself.")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Take over the drive's configuration where there is none; for scripts.")
    ] = False,
    passphrase_file: front.PassphraseFile = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    quiet: front.Quiet = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Make a drive of Flashback's known to this machine, with all that it remembers. The drive is only read."""

    def work(app: App) -> int:
        from flashback.app import needs_root
        from flashback.prepare.adopt import AdoptOptions
        from flashback.prepare.adopt import adopt as adopted
        from flashback.prepare.ask import Terminal

        needs_root("flashback drive adopt")
        options = AdoptOptions(name, Terminal(front.say) if app.interactive else None, yes)
        with front.teller(app) as tell, app.ledger() as ledger:
            return adopted(app.context(tell, app.person(tell)), ledger, device, options)

    front.enter(
        work,
        config=config,
        state=state,
        json=json,
        verbose=verbose,
        quiet=quiet,
        passphrase_file=passphrase_file,
    )
