"""Looking, with the drives in the safe: `flashback status`."""

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


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command(epilog=STATUS_EPILOG, short_help="The rotation at a glance; which drive next.")(status)


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
