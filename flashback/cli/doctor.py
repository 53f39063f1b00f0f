"""`flashback doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from flashback.cli import front

if TYPE_CHECKING:
    from flashback.app import App
    from flashback.core.command import Runner
    from flashback.core.errors import FlashbackError
    from flashback.prepare.doctor import Finding

MARKS = {"good": "✓", "note": "·", "missing": "✗"}


EPILOG = front.examples(
    ("flashback doctor", "programs, kernel, configuration, and what brings the missing ones"),
    ("flashback doctor --json", "for scripts; exit code 6 when something is missing"),
)


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command(epilog=EPILOG, short_help="Is everything here that is needed?")(doctor)


def doctor(
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Is everything here that is needed? Programs, kernel, privileges, and the command that brings what is missing."""

    def work(app: App) -> int:
        from flashback.core.command import Programs
        from flashback.core.errors import Exit
        from flashback.prepare.doctor import Verdict, examine_machine

        found = examine_machine(Programs(), app.paths, config_problem=lambda: _problem(app))
        found += _plugging_in(Programs())
        found += _drives(app)
        missing = [each for each in found if each.verdict is Verdict.MISSING]
        if json:
            front.say_json("doctor", {"findings": [each.as_json() for each in found], "ready": not missing})
        else:
            for each in found:
                front.say(f"{MARKS[each.verdict]} {each.what:<22} {each.detail}".rstrip())
                if each.remedy:
                    front.say(f"  {'':<22} -> {each.remedy}")
            front.say("\nEverything that is needed is here." if not missing else f"\n{len(missing)} missing: see ->")
        return Exit.MISSING if missing else Exit.DONE

    front.enter(work, config=config, state=state, json=json, verbose=verbose)


def _plugging_in(run: Runner) -> list[Finding]:
    from flashback.app import own_command
    from flashback.core.errors import Missing
    from flashback.trigger.state import findings

    try:
        return findings(run, own_command())
    except Missing:  # a checkout that is not installed has nothing that a unit could start
        return []


def _drives(app: App) -> list[Finding]:
    """What is wrong with the drives that are plugged in, as far as this machine may look and remembers."""
    import os

    from flashback.core.command import Programs
    from flashback.core.errors import FlashbackError
    from flashback.prepare.doctor import without_header

    if os.geteuid() != 0 or not app.paths.ledger.exists():
        return []
    try:
        with app.ledger() as ledger:
            return without_header(Programs(), ledger.drives())
    except FlashbackError:
        return []


def _problem(app: App) -> FlashbackError | None:
    from flashback.core.errors import FlashbackError

    try:
        app.config()
    except FlashbackError as problem:
        return problem
    return None
