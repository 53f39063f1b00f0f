"""`flashback snapshots [list] [DRIVE]`, `snapshots pin`, `snapshots unpin`; no drive needs to be plugged in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from flashback.cli import front

if TYPE_CHECKING:
    from collections.abc import Callable

    from flashback.app import App
    from flashback.rotation.values import SnapshotRecord

LIST = (
    ("sudo flashback snapshots", "of all drives"),
    ("sudo flashback snapshots red --json", "of one, for scripts"),
)
PIN = (
    ("sudo flashback snapshots pin red 20260102T030405Z", "this state on red is never removed"),
    ("sudo flashback snapshots pin red documents/20260102T030405Z", "where several masters have one of that name"),
)
UNPIN = (("sudo flashback snapshots unpin red 20260102T030405Z", "the rules decide about it again"),)

DriveName = Annotated[str, typer.Argument(metavar="DRIVE", help="A drive's name, LUKS UUID or device.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A snapshot's name, if need be with its master before it.")]


class _ListByDefault(TyperGroup):
    """`snapshots red` and `snapshots` alone mean `snapshots list`, as they did before there was more to say."""

    by_default = "list"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - click's context; click is typer's
        """Put `list` where no command of the group stands."""
        first = next((word for word in args if not word.startswith("-")), None)
        if first not in self.commands and not {"-h", "--help"} & set(args):
            args = [self.by_default, *args]
        return super().parse_args(ctx, args)


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    family = typer.Typer(
        cls=_ListByDefault,
        help="The snapshots on each drive, as last seen; which of them stay for ever.",
        short_help="The snapshots on each drive, as last seen.",
        epilog=front.examples(*LIST, PIN[0], *UNPIN),
        rich_markup_mode=None,
    )
    family.command("list", epilog=front.examples(*LIST), short_help="The snapshots on each drive, as last seen.")(
        list_snapshots
    )
    family.command(epilog=front.examples(*PIN), short_help="Keep a snapshot for ever.")(pin)
    family.command(epilog=front.examples(*UNPIN), short_help="Let the rules decide about it again.")(unpin)
    app.add_typer(family, name="snapshots")


def list_snapshots(
    drive: front.Drive = None,
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """The snapshots of a drive, or of all, as last seen; no drive needs to be plugged in."""

    def work(app: App) -> int:
        from flashback.app import wants_colour
        from flashback.drive.recognise import known_by_name
        from flashback.tell.tables import SnapshotRow, snapshots_table

        with app.ledger() as ledger:
            drives = ledger.drives() if drive is None else (known_by_name(ledger.drives(), drive),)
            found = [(each.name, snapshot) for each in drives for snapshot in ledger.snapshots(each.uuid)]
        if json:
            front.say_json("snapshots", {"snapshots": [_as_json(name, each) for name, each in found]})
        elif found:
            table = [SnapshotRow(name, s.master, s.name, s.completed, pinned=s.pinned) for name, s in found]
            front.say(snapshots_table(table, app.clock(), colour=wants_colour(), width=front.width()).rstrip())
        else:
            front.say_sentences(
                "No snapshots yet. A run makes one of the state before it, once there is something to change."
            )
        return 0

    front.enter(work, config=config, state=state, json=json, verbose=verbose)


def _as_json(drive: str, snapshot: SnapshotRecord) -> dict[str, Any]:
    from flashback.core.text import rfc3339

    return {
        "drive": drive,
        "master": snapshot.master,
        "name": snapshot.name,
        "completed": rfc3339(snapshot.completed),
        "pinned": snapshot.pinned,
    }


def pin(
    drive: DriveName,
    name: Name,
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Keep a snapshot for ever, however short space is. The drive itself learns it when it is next plugged in."""
    front.enter(_pinning(drive, name, pinned=True), config=config, state=state, json=json, verbose=verbose)


def unpin(
    drive: DriveName,
    name: Name,
    json: front.Json = False,
    verbose: front.Verbose = False,
    config: front.Config = None,
    state: front.State = None,
) -> None:
    """Let the rules decide about a snapshot again. The drive itself learns it when it is next plugged in."""
    front.enter(_pinning(drive, name, pinned=False), config=config, state=state, json=json, verbose=verbose)


def _pinning(wanted: str, name: str, *, pinned: bool) -> Callable[[App], int]:
    def work(app: App) -> int:
        from dataclasses import replace

        from flashback.app import needs_root
        from flashback.drive.manage import meant
        from flashback.drive.snapshots import named

        needs_root(f"flashback snapshots {'pin' if pinned else 'unpin'}")
        with app.ledger() as ledger:
            drive = meant(app.context(lambda _event: None).run, ledger.drives(), wanted)
            found = named(ledger.snapshots(drive.uuid), name, drive=drive.name)
            (ledger.pin if pinned else ledger.unpin)(drive.uuid, found.master, found.name)
        if app.settings.json:
            front.say_json("snapshots", {"snapshots": [_as_json(drive.name, replace(found, pinned=pinned))]})
        else:
            words = "stays for ever" if pinned else "stays as long as the rules say"
            front.say_sentences(
                f"{found.master}/{found.name} on {drive.name} {words}. The drive learns it at its next run."
            )
        return 0

    return work
