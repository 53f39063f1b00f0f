"""`flashback kit`: what belongs on paper, beside no drive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flashback.cli import front

if TYPE_CHECKING:
    from flashback.app import App
    from flashback.core.secret import Secret

EPILOG = front.examples(
    ("sudo flashback kit red", "on the terminal; asks for the recovery key, which may be left out"),
    ("sudo flashback kit red --html red.html", "to be printed from a browser"),
    ("sudo flashback key recovery red --recovery-key-file red.html", "a new recovery key, and its page at once"),
)


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command(epilog=EPILOG, short_help="A page for paper: how to open and read a drive.")(kit)


def kit(
    drive: Annotated[str, typer.Argument(metavar="DRIVE", help="A drive's name, LUKS UUID or device.")],
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the new FILE, as HTML.")] = None,
    recovery_key_file: Annotated[
        str | None,
        typer.Option(
            "--recovery-key-file", metavar="FILE", help="Read the recovery key from FILE (- is standard input)."
        ),
    ] = None,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """One page for paper: the recovery key as text and QR code, UUIDs, the six commands that read the drive."""

    def work(app: App) -> int:
        from flashback.app import needs_root
        from flashback.prepare import recovery
        from flashback.prepare.kit import page, text
        from flashback.prepare.make_kit import make

        needs_root("flashback kit")
        if html is not None:
            recovery.refuse_existing(html)
        with app.ledger() as ledger:
            made = make(app.context(front.notes(app)), ledger, drive, _key(app, recovery_key_file))
        if html is None:
            front.say(text(made))
            return 0
        recovery.save(html, page(made))
        front.say_sentences(
            f"The kit of {made.name} is in {html}, which only you can read. Print it, then delete the file."
        )
        return 0

    front.enter(work, config=config, state=state, verbose=verbose)


def _key(app: App, source: str | None) -> Secret | None:
    """The recovery key that was given in a file or typed; nothing, where a line for it will do."""
    from flashback.app import read_passphrase
    from flashback.prepare.ask import Terminal
    from flashback.prepare.kit import typed_key

    if source is not None:
        return typed_key(read_passphrase(source).reveal())
    if not app.interactive:
        return None
    typed = Terminal(front.say).secret("Recovery key, to have it on the page (just Enter: a line to write it on):")
    return typed_key(typed.reveal()) if typed else None
