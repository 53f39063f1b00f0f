"""`flashback key header save|restore`: the LUKS header of a drive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flashback.cli import front

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashback.app import App

SAVE = (
    ("sudo flashback key header save red", "the copy on this machine is made anew"),
    ("sudo flashback key header save red --to /media/me/stick/red.luks", "one more copy, to be kept elsewhere"),
)
RESTORE = (
    ("sudo flashback key header restore red", "from the copy that this machine keeps"),
    ("sudo flashback key header restore red --from-drive green", "from the copy that another drive carries"),
    ("sudo flashback key header restore /dev/sdb --from red.luks", "from a copy that you kept, on any machine"),
)


def add_to(family: typer.Typer) -> None:
    """Add this family's commands to `flashback key`."""
    below = typer.Typer(
        help="The LUKS header: keep a copy, put one back.",
        epilog=front.examples(*SAVE, *RESTORE),
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    below.command(epilog=front.examples(*SAVE), short_help="Keep a copy of the header.")(save)
    below.command(epilog=front.examples(*RESTORE), short_help="Put a header back that is gone or damaged.")(restore)
    family.add_typer(below, name="header")


def save(
    drive: front.Drive = None,
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="Write it to the new FILE, too.")] = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Make a copy of the header: on this machine, and in a file of your own. It opens nothing without a key."""

    def work(app: App) -> int:
        from flashback.app import needs_root
        from flashback.prepare.save_header import save

        needs_root("flashback key header save")
        with app.ledger() as ledger:
            context = app.context(lambda _event: None)
            candidate = front.chosen(context, app, ledger, drive)
            files = save(context, candidate, to)
        if json:
            front.say_json("header", _header_json(candidate.known.name, candidate.known.uuid, "save", files))
        else:
            front.say_sentences("\n".join(f"The header of {candidate.known.name} is in {file}." for file in files))
        return 0

    front.enter(work, config=config, state=state, json=json, verbose=verbose)


def restore(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="The device, or the name of the drive that it is.")],
    from_file: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="The copy in FILE, not this machine's.")
    ] = None,
    from_drive: Annotated[
        str | None, typer.Option("--from-drive", metavar="NAME", help="The copy that another drive carries.")
    ] = None,
    drive: Annotated[
        str | None, typer.Option("--drive", metavar="NAME", help="Which drive it is, where that cannot be told.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--yes-overwrite-header", help="Yes, write it; for scripts, in place of the word.")
    ] = False,
    passphrase_file: front.PassphraseFile = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Put a header back. It is tried first: the passphrase opens the copy, and the drive's file system is seen."""

    def work(app: App) -> int:
        from flashback.app import needs_root
        from flashback.core.errors import UsageError
        from flashback.prepare.ask import Terminal
        from flashback.prepare.lost_header import RestoreOptions, restored_text
        from flashback.prepare.lost_header import restore as put_back

        needs_root("flashback key header restore")
        if from_file is not None and from_drive is not None:
            raise UsageError("--from and --from-drive name two copies", hint="choose one")
        asker = Terminal(front.say) if app.interactive else None
        options = RestoreOptions(asker, app.passphrase(), from_file, from_drive, drive, overwrite)
        with front.teller(app) as tell, app.ledger() as ledger:
            quiet = (lambda _event: None) if json else tell
            done = put_back(app.context(quiet, app.person(tell)), ledger, device, options)
        if json:
            name = done.copy.known.name if done.copy.known is not None else ""
            front.say_json("header", _header_json(name, done.copy.uuid, "restore", [Path(done.device)]))
        else:
            front.say_sentences(restored_text(done))
        return 0

    front.enter(work, config=config, state=state, json=json, verbose=verbose, passphrase_file=passphrase_file)


def _header_json(name: str, uuid: str, action: str, written: Sequence[Path]) -> dict[str, Any]:
    return {"drive": name, "uuid": uuid, "action": action, "written": [str(each) for each in written]}
