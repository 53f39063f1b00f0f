"""Words in, exit code out: one file per family of commands, no decisions.

Nothing heavy is imported here: `flashback --help` starts in a blink, and each command imports what it needs.
"""

from __future__ import annotations

import os
import sys

import typer

from flashback.cli import (
    browse,
    catalogue,
    config,
    doctor,
    drive,
    front,
    health,
    init,
    key,
    kit,
    look,
    practice,
    prune,
    restore,
    run,
    search,
    snapshots,
    trigger,
)

EPILOG = front.examples(
    ("flashback doctor", "is everything here that is needed?"),
    ("sudo flashback practice", "a rehearsal on throw-away drives"),
    ("sudo flashback init /dev/sdb", "make a drive of a stick; everything on it is erased"),
    ("sudo flashback run", "back up to the drive that is plugged in"),
    ("sudo flashback restore shopping.txt", "get a file back"),
    ("sudo flashback status", "the rotation at a glance"),
    then="Exit codes, JSON and the rest: docs/",
)

app = typer.Typer(
    name="flashback",
    help="Back up to several encrypted drives that you rotate: plug in, type the passphrase, walk away.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        from flashback import __version__

        print(f"flashback {__version__}")  # noqa: T201 - the answer
        raise typer.Exit


@app.callback()
def top(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Say the version and end."),
) -> None:
    """Hold the options of the program itself."""


for family in (
    init,
    run,
    restore,
    browse,
    health,
    look,
    snapshots,
    search,
    catalogue,
    prune,
    drive,
    key,
    kit,
    config,
    doctor,
    trigger,
    practice,
):
    family.add_to(app)


def main() -> None:
    """The command `flashback`. Nothing that it makes can be written to by others, whatever the umask it was given."""
    os.umask(os.umask(0o077) | 0o022)
    app(prog_name="flashback", args=sys.argv[1:])
