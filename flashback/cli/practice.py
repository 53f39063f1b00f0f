"""`flashback practice`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flashback.cli import front

if TYPE_CHECKING:
    from flashback.app import App


EPILOG = front.examples(
    ("sudo flashback practice", "takes about a minute"),
    ("sudo flashback practice /var/tmp/rehearsal --keep", "and leaves the files there to look at"),
)


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command(epilog=EPILOG, short_help="Rehearse it all on throw-away drives.")(practice)


def practice(
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Where the image files go; removed again. Default: /var/tmp.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the files of the rehearsal there to look at.")] = False,
    verbose: front.Verbose = False,
) -> None:
    """Rehearse on throw-away drives: prepare two, back up, lose a file, get it back."""

    def work(app: App) -> int:
        from flashback.app import needs_root
        from flashback.prepare.practice import rehearse

        needs_root("flashback practice")
        with front.teller(app) as tell:
            return rehearse(app.context(tell), directory, say=front.say, keep=keep)

    front.enter(work, config=None, state=None, verbose=verbose)
