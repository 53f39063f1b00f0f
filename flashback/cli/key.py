"""`flashback key list|add|change|remove|recovery|header`: what opens a drive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flashback.cli import front, header

if TYPE_CHECKING:
    from collections.abc import Callable

    from flashback.app import App
    from flashback.core.context import Context
    from flashback.core.secret import Secret
    from flashback.drive.recognise import Candidate
    from flashback.prepare.keys import Changed, Given
    from flashback.rotation.ledger import Ledger

    Deed = Callable[[Context, Ledger, Candidate, Given], Changed]

LIST = (
    (
        "sudo flashback key list red",
        "which key slots there are; with the drive in the safe, from the copy of its header",
    ),
)
ADD = (
    ("sudo flashback key add red", "one more passphrase"),
    ("sudo flashback key add red --passphrase-file old --new-passphrase-file new", "for scripts"),
)
CHANGE = (
    ("sudo flashback key change red", "another passphrase in place of the one that you type first"),
    ("sudo flashback key change red --passphrase-file old --new-passphrase-file new", "for scripts"),
)
REMOVE = (
    ("sudo flashback key remove red", "asks which one"),
    (
        "sudo flashback key remove red --slot 0 --passphrase-file staying",
        "for scripts: by the number that `list` shows",
    ),
)
RECOVERY = (
    ("sudo flashback key recovery red", "a new key for paper; the old one opens the drive no more"),
    ("sudo flashback key recovery red --passphrase-file secret --recovery-key-file kit.html", "for scripts"),
)

NewPassphraseFile = Annotated[
    str | None,
    typer.Option(
        "--new-passphrase-file", metavar="FILE", help="Read the new passphrase from FILE (- is standard input)."
    ),
]
RecoveryKeyFile = Annotated[
    Path | None,
    typer.Option("--recovery-key-file", metavar="FILE", help="Write its page to a new FILE (.html: as HTML)."),
]


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    family = typer.Typer(
        help="What opens a drive: passphrases, the recovery key, the header.",
        epilog=front.examples(*LIST, CHANGE[0], RECOVERY[0]),
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    family.command("list", epilog=front.examples(*LIST), short_help="The key slots, and what each is.")(list_slots)
    family.command(epilog=front.examples(*ADD), short_help="One more passphrase.")(add)
    family.command(epilog=front.examples(*CHANGE), short_help="Another passphrase for an old one.")(change)
    family.command(epilog=front.examples(*REMOVE), short_help="A key opens the drive no more.")(remove)
    family.command(epilog=front.examples(*RECOVERY), short_help="A new recovery key, for paper.")(recovery)
    header.add_to(family)
    app.add_typer(family, name="key")


def list_slots(
    drive: front.Drive = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """The key slots of a drive: number, what it is, what opening it takes."""

    def work(app: App) -> int:
        from flashback.app import needs_root
        from flashback.prepare.slots import look

        needs_root("flashback key list")
        with app.ledger() as ledger:
            context = app.context(lambda _event: None)
            looked = look(context, ledger.drives(), drive, lambda: front.chosen(context, app, ledger, drive))
        if json:
            front.say_json("keys", looked.as_json())
        else:
            front.say(looked.text())
        return 0

    front.enter(work, config=config, state=state, json=json, verbose=verbose)


def add(
    drive: front.Drive = None,
    passphrase_file: front.PassphraseFile = None,
    new_passphrase_file: NewPassphraseFile = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Have one more passphrase open the drive. Those that there are stay."""

    def work(app: App) -> int:
        from flashback.prepare.keys import add

        return _changed(app, "add", drive, add, new=_read(app, new_passphrase_file))

    front.enter(work, config=config, state=state, json=json, verbose=verbose, passphrase_file=passphrase_file)


def change(
    drive: front.Drive = None,
    passphrase_file: front.PassphraseFile = None,
    new_passphrase_file: NewPassphraseFile = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Put another passphrase in the place of one. The new one is proven to open the drive before the old one goes."""

    def work(app: App) -> int:
        from flashback.prepare.keys import change

        return _changed(app, "change", drive, change, new=_read(app, new_passphrase_file))

    front.enter(work, config=config, state=state, json=json, verbose=verbose, passphrase_file=passphrase_file)


def remove(
    drive: front.Drive = None,
    slot: Annotated[int | None, typer.Option("--slot", metavar="N", help="Which slot, as `list` shows it.")] = None,
    removed_passphrase_file: Annotated[
        str | None,
        typer.Option("--removed-passphrase-file", metavar="FILE", help="Or the passphrase that is to go, in FILE."),
    ] = None,
    passphrase_file: front.PassphraseFile = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Remove a key slot, after another was proven to open the drive: the passphrase that is to stay is asked for."""

    def work(app: App) -> int:
        from flashback.prepare.keys import remove

        return _changed(app, "remove", drive, remove, slot=slot, doomed=_read(app, removed_passphrase_file))

    front.enter(work, config=config, state=state, json=json, verbose=verbose, passphrase_file=passphrase_file)


def recovery(
    drive: front.Drive = None,
    passphrase_file: front.PassphraseFile = None,
    recovery_key_file: RecoveryKeyFile = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Make a new recovery key, shown once. The old one is removed when the new one is proven and handed over."""

    def work(app: App) -> int:
        from flashback.core.errors import UsageError
        from flashback.prepare import kit
        from flashback.prepare.ask import Terminal
        from flashback.prepare.handover import Handover
        from flashback.prepare.keys import renew_recovery_key
        from flashback.prepare.make_kit import kit_of

        if json and recovery_key_file is None:
            raise UsageError("with --json the recovery key is not shown", hint="say where it goes: --recovery-key-file")
        asker = Terminal(front.say) if app.interactive else None
        handover = Handover(None if json else front.say, recovery_key_file, asker)
        handover.check()

        def deed(context: Context, ledger: Ledger, candidate: Candidate, given: Given) -> Changed:
            def give(key: Secret) -> None:
                paper = kit_of(context, ledger, candidate.known, key)
                handover.give(context.run, kit.text(paper), kit.page(paper))

            return renew_recovery_key(context, ledger, candidate, given, give)

        return _changed(app, "recovery", drive, deed)

    front.enter(work, config=config, state=state, json=json, verbose=verbose, passphrase_file=passphrase_file)


def _changed(
    app: App,
    command: str,
    wanted: str | None,
    deed: Deed,
    *,
    new: Secret | None = None,
    doomed: Secret | None = None,
    slot: int | None = None,
) -> int:
    """Choose the drive, do the deed, tell what there is now."""
    from flashback.app import needs_root
    from flashback.prepare.ask import Terminal
    from flashback.prepare.keys import Given
    from flashback.prepare.slots import changed_json, changed_text

    needs_root(f"flashback key {command}")
    given = Given(Terminal(front.say) if app.interactive else None, app.passphrase(), new, doomed, slot)
    with front.teller(app) as tell, app.ledger() as ledger:
        context = app.context((lambda _event: None) if app.settings.json else tell)
        candidate = front.chosen(context, app, ledger, wanted)
        changed = deed(context, ledger, candidate, given)
        others = [each for each in ledger.drives() if each.uuid != candidate.known.uuid]
    if app.settings.json:
        front.say_json("keys", changed_json(candidate.known, changed))
    else:
        front.say_sentences(changed_text(candidate.known, changed, others))
    return 0


def _read(app: App, source: str | None) -> Secret | None:
    from flashback.app import read_passphrase
    from flashback.core.errors import UsageError

    if source is None:
        return None
    if source == "-" == app.settings.passphrase_file:
        raise UsageError("two passphrases cannot both come from standard input", hint="put one into a file")
    return read_passphrase(source)
