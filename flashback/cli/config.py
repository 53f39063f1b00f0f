"""`flashback config check` and `flashback config show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from flashback.cli import front

if TYPE_CHECKING:
    from flashback.app import App


EPILOG = front.examples(
    ("flashback config check", "every finding with its line and column"),
    ("flashback config show", "every setting as it is in force, the defaults included"),
)


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    family = typer.Typer(help="Look at the configuration.", no_args_is_help=True, rich_markup_mode=None)
    family.command(epilog=EPILOG, short_help="Is it good? Every finding with its line.")(check)
    family.command(epilog=EPILOG, short_help="Every setting as it is in force.")(show)
    app.add_typer(family, name="config")


def check(json: front.Json = False, config: front.Config = None) -> None:
    """Is the configuration good? Every finding with its line and column."""

    def work(app: App) -> int:
        from flashback.config.exclusions import doubtful_lines

        settings = app.config()
        doubts = [
            doubt
            for master in settings.masters
            for file in master.exclusion_files
            for doubt in doubtful_lines(file, file.read_bytes(), master=master.path)
        ]
        if json:
            front.say_json("config-check", {"file": str(settings.file), "good": True, "doubts": doubts})
        else:
            for doubt in doubts:
                front.say_sentences(f"! {doubt}")
            names = ", ".join(master.name for master in settings.masters)
            front.say_sentences(f"{settings.file} is good. To be backed up: {names}.")
        return 0

    front.enter(work, config=config, state=None, json=json)


def show(json: front.Json = False, config: front.Config = None) -> None:
    """Every setting as it is in force, the defaults included."""

    def work(app: App) -> int:
        from flashback.config.show import as_json, as_yaml

        settings = app.config()
        if json:
            front.say_json("config", as_json(settings))
        else:
            front.say(as_yaml(settings).rstrip())
        return 0

    front.enter(work, config=config, state=None, json=json)
