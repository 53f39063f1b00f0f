"""What goes on the paper kit of a known drive; a key is tried first where the drive is plugged in."""

from __future__ import annotations

from flashback.core.context import Context
from flashback.core.events import Note
from flashback.core.secret import Secret
from flashback.core.text import rfc3339
from flashback.drive.manage import meant
from flashback.drive.recognise import Candidate, check_identity, plugged_in
from flashback.prepare.kit import Kit
from flashback.rotation.ledger import Ledger
from flashback.rotation.values import KnownDrive
from flashback.tools import cryptsetup


def make(context: Context, ledger: Ledger, wanted: str, key: Secret | None) -> Kit:
    """The kit of a drive, plugged in or not. Raises `PassphraseRefused` for a key that does not open it."""
    drive = meant(context.run, ledger.drives(), wanted)
    if key is not None:
        here = plugged_in(context.run, [drive])
        for candidate in here:
            _try(context, candidate, key)
        if not here:
            context.tell(Note(f"{drive.name} is not plugged in, so the key was not tried. Try it when it is."))
    return kit_of(context, ledger, drive, key)


def kit_of(context: Context, ledger: Ledger, drive: KnownDrive, key: Secret | None) -> Kit:
    """The same, with a key that is known to be right."""
    masters = tuple(sorted({each.master for each in ledger.backups() if each.drive_uuid == drive.uuid}))
    made = rfc3339(context.clock())[:10]
    return Kit(drive.name, drive.uuid, made, drive.place, masters, drive.filesystem_uuid, key)


def _try(context: Context, candidate: Candidate, key: Secret) -> None:
    check_identity(candidate)
    cryptsetup.opened_slot(context.run, candidate.volume.path, secret=key)
