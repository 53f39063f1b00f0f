"""`flashback enable|disable`, and what the units start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flashback.cli import front

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashback.app import App
    from flashback.trigger.installation import Step

ENABLE = (
    ("sudo flashback enable", "from now on a drive that is plugged in asks for its backup"),
    ("flashback enable --dry-run", "the files that would be written, and what is in them"),
)
DISABLE = (("sudo flashback disable", "plugging in does nothing any more; every file of enable is removed"),)
PLUGGED = (("sudo flashback plugged 11111111-2222-4333-8444-555555555555", "what the unit of this drive starts"),)

WATCH = (("flashback watch", "in a session where enable has not started it"),)
REMINDED = (("sudo flashback reminded", "what the timer starts once an hour"),)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done; nothing is written.")]


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command(epilog=front.examples(*ENABLE), short_help="Plugging a drive in asks for its backup.")(enable)
    app.command(epilog=front.examples(*DISABLE), short_help="Plugging a drive in does nothing.")(disable)
    app.command(epilog=front.examples(*WATCH), short_help="Ask and tell in this session, as enable sets it up.")(watch)
    app.command(epilog=front.examples(*REMINDED), hidden=True)(reminded)
    app.command(epilog=front.examples(*PLUGGED), hidden=True)(plugged)


def enable(
    dry_run: DryRun = False,
    json: front.Json = False,
    verbose: front.Verbose = False,
) -> None:
    """Install the udev rule and the units: from now on a drive that is plugged in asks for its backup."""

    def work(app: App) -> int:
        from flashback.app import needs_root, own_command
        from flashback.core.command import Programs
        from flashback.trigger import installation
        from flashback.trigger.pieces import changeable_by

        command = own_command()
        steps = installation.plan_enable(command)
        weak = sorted(set(changeable_by(command)))
        notes = [_WEAK.format(place=weak[0])] if weak else []
        if not dry_run:
            needs_root("flashback enable")
            notes += installation.enable(Programs(), steps)
        _answer(app, "enable", steps, notes, dry_run=dry_run)
        if not json and not dry_run:
            front.say_sentences(
                "Plug a drive in: you are asked for its passphrase, and told when it is safe to remove."
            )
        return 0

    front.enter(work, config=None, state=None, json=json, verbose=verbose)


_WEAK = (
    "Others than root can change {place}. What is installed there runs as root when a drive is plugged in, so whoever "
    "can change it can become root. Flashback installed as root (pipx install --global, or a package) avoids that."
)


def disable(
    dry_run: DryRun = False,
    json: front.Json = False,
    verbose: front.Verbose = False,
) -> None:
    """Remove what `enable` installed, by whichever installation: plugging in does nothing any more."""

    def work(app: App) -> int:
        from flashback.app import needs_root
        from flashback.core.command import Programs
        from flashback.trigger import installation

        steps = installation.plan_disable()
        notes: list[str] = []
        if not dry_run:
            needs_root("flashback disable")
            notes = installation.disable(Programs(), steps)
        _answer(app, "disable", steps, notes, dry_run=dry_run)
        return 0

    front.enter(work, config=None, state=None, json=json, verbose=verbose)


def _answer(app: App, kind: str, steps: Sequence[Step], notes: Sequence[str], *, dry_run: bool) -> None:
    from flashback.trigger.installation import Change

    if app.settings.json:
        files = [each.as_json() for each in steps]
        front.say_json(kind, {"dry_run": dry_run, "files": files, "notes": list(notes)})
        return
    for step in steps:
        front.say(f"{step.change.value + ':':<11}{step.path}" if not dry_run else f"{_would(step.change)}{step.path}")
        if dry_run and step.text and step.change is not Change.NONE:
            front.say("\n".join(f"    {line}".rstrip() for line in step.text.splitlines()))
    for note in notes:
        front.say_sentences(f"! {note}")


def _would(change: str) -> str:
    words = {"written": "would write ", "updated": "would update ", "removed": "would remove "}
    return words.get(change, "stays as it is: ")


def plugged(
    uuid: Annotated[str, typer.Argument(metavar="UUID", help="The LUKS UUID of the drive.")],
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """A drive was plugged in: decide, ask, back up. It is what the unit starts; a person says `flashback run`."""

    def work(app: App) -> int:
        import os

        from flashback.app import needs_root
        from flashback.trigger.serve import serve

        needs_root("flashback plugged")
        credentials = os.environ.get("CREDENTIALS_DIRECTORY", "")
        return serve(app.context, app.config, app.ledger, uuid, credentials)

    front.enter(work, config=config, state=state, verbose=verbose)


def watch(verbose: front.Verbose = False) -> None:
    """Wait in this session: show notices, ask for passphrases. Needs no root; `enable` starts it at every log-in."""

    def work(_app: App) -> int:
        import os

        from flashback.trigger.watch import Watch

        Watch(dict(os.environ)).wait()
        return 0

    front.enter(work, config=None, state=None, verbose=verbose)


def reminded(verbose: front.Verbose = False, config: front.Config = None, state: front.State = None) -> None:
    """Tell whoever sits at this machine which drives are due. It is what the timer starts; see `flashback remind`."""

    def work(app: App) -> int:
        from flashback.app import needs_root
        from flashback.tools.journald import Journal
        from flashback.tools.loginctl import people_here
        from flashback.trigger.again import ask_again
        from flashback.trigger.links import Links
        from flashback.trigger.remind import remind

        needs_root("flashback reminded")
        if not app.paths.ledger.exists():  # no drive was ever known here, so none is due
            return 0
        settings = app.config() if app.paths.config.exists() else None
        with app.ledger() as ledger:
            context = app.context(lambda _event: None)
            ask_again(context.run, ledger, context.clock())
            links = Links(lambda: people_here(context.run), {"uuid": "", "drive": ""})
            return remind(context, settings, ledger, links, Journal())

    front.enter(work, config=config, state=state, verbose=verbose)
