"""Looking, with the drives in the safe: `flashback status` and `flashback snapshots`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flashback.cli import front

if TYPE_CHECKING:
    from flashback.app import App
    from flashback.config.values import Config

STATUS_EPILOG = front.examples(
    ("sudo flashback status", "every drive with its age and room, the drives in the safe too"),
    ("sudo flashback status --check || echo a drive is overdue", "for scripts"),
    ("sudo flashback status --json | jq .next", "which drive comes next, and why"),
)


SNAPSHOTS_EPILOG = front.examples(
    ("sudo flashback snapshots", "of all drives"),
    ("sudo flashback snapshots red --json", "of one, for scripts"),
)


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command(epilog=STATUS_EPILOG, short_help="The rotation at a glance; which drive next.")(status)
    app.command(epilog=SNAPSHOTS_EPILOG, short_help="The snapshots on each drive, as last seen.")(snapshots)


def status(
    check: Annotated[bool, typer.Option("--check", help="Exit with 20 when a drive is overdue.")] = False,
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """The rotation at a glance: each drive's age and room, which one next and why, what would be lost if."""

    def work(app: App) -> int:
        from flashback.app import wants_colour
        from flashback.core.errors import Exit
        from flashback.drive.status import take_stock

        with app.ledger() as ledger:
            stock = take_stock(app.context(lambda _event: None), ledger, _config(app))
        if json:
            front.say_json("status", stock.as_json())
        else:
            front.say(stock.text(colour=wants_colour(), width=front.width()))
        return Exit.OVERDUE if check and stock.outlook.late else Exit.DONE

    front.enter(work, config=config, state=state, json=json, verbose=verbose)


def _config(app: App) -> Config | None:
    return app.config() if app.paths.config.exists() else None


def snapshots(
    drive: front.Drive = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """The snapshots of a drive, or of all, as last seen; no drive needs to be plugged in."""

    def work(app: App) -> int:
        from flashback.app import wants_colour
        from flashback.core.text import rfc3339
        from flashback.drive.recognise import known_by_name
        from flashback.tell.tables import SnapshotRow, snapshots_table

        with app.ledger() as ledger:
            drives = ledger.drives() if drive is None else (known_by_name(ledger.drives(), drive),)
            found = [(each.name, snapshot) for each in drives for snapshot in ledger.snapshots(each.uuid)]
        if json:
            rows = [
                {
                    "drive": name,
                    "master": s.master,
                    "name": s.name,
                    "completed": rfc3339(s.completed),
                    "pinned": s.pinned,
                }
                for name, s in found
            ]
            front.say_json("snapshots", {"snapshots": rows})
        elif found:
            table = [SnapshotRow(name, s.master, s.name, s.completed) for name, s in found]
            front.say(snapshots_table(table, app.clock(), colour=wants_colour(), width=front.width()).rstrip())
        else:
            front.say("No snapshots yet. A run makes one of the state before it, once there is something to change.")
        return 0

    front.enter(work, config=config, state=state, json=json, verbose=verbose)
