"""Looking, with the drives in the safe: `flashback status` and `flashback remind`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flashback.cli import front

if TYPE_CHECKING:
    from flashback.app import App
    from flashback.config.values import Config

STATUS_EPILOG = front.examples(
    ("sudo flashback status", "every drive with its age and room, the drives in the safe too"),
    ("sudo flashback status --check || echo a drive is overdue, or a run is held", "for scripts"),
    ("sudo flashback status --json | jq .next", "which drive comes next, and why"),
)


REMIND_EPILOG = front.examples(
    ("sudo flashback remind", "say which drives are due; what was said before is not said again at once"),
    ("sudo flashback remind --json | jq -r .reminders[].what", "for a timer that shows notices"),
)


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command(epilog=STATUS_EPILOG, short_help="The rotation at a glance; which drive next.")(status)
    app.command(epilog=REMIND_EPILOG, short_help="Say what is due, if it was not said already.")(remind)


def status(
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 13 when a hold stands, with 20 when a drive is overdue.")
    ] = False,
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
            front.say_sentences(stock.text(colour=wants_colour(), width=front.width()))
        if not check:
            return Exit.DONE
        return Exit.HELD_BY_GUARD if stock.holds else Exit.OVERDUE if stock.outlook.late else Exit.DONE

    front.enter(work, config=config, state=state, json=json, verbose=verbose)


def remind(
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Say which drives are due or overdue and which holds stand: once, then at most once per `rotation.due_after`."""

    def work(app: App) -> int:
        from flashback.config.values import Rotation
        from flashback.drive.status import take_stock
        from flashback.rotation.reminders import reminders

        settings = _config(app)
        every = (settings.rotation if settings is not None else Rotation()).due_after
        with app.ledger() as ledger:
            stock = take_stock(app.context(lambda _event: None), ledger, settings)
            found = reminders(stock.outlook, stock.holds, ledger.reminded(), every=every, now=stock.now)
            if json:
                front.say_json("reminders", {"reminders": [each.as_json() for each in found]})
            else:
                front.say_sentences(
                    "\n".join(f"{each.what}. Next: {each.next_step}." for each in found) or "Nothing to say."
                )
            for each in found:
                ledger.remind(each.about, each.state, at=stock.now)
        return 0

    front.enter(work, config=config, state=state, json=json, verbose=verbose)


def _config(app: App) -> Config | None:
    return app.config() if app.paths.config.exists() else None
