"""The copies of LUKS headers that this machine keeps, and the memory of what each drive's header is.

Whoever changes a header notes that first and settles it afterwards. Killed in between, the next command mends it: the
header differs from the known one, but it is of the same volume as the copy kept before, and the change was ours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from flashback.core.context import Context
from flashback.core.errors import DriveError, FlashbackError, Locked, Missing
from flashback.core.events import Note
from flashback.core.locks import locked
from flashback.core.text import shown
from flashback.drive import header
from flashback.drive.recognise import the_only
from flashback.rotation.ledger import Ledger
from flashback.tools import block, cryptsetup


def kept_file(context: Context, uuid: str) -> Path:
    """Where the copy of the header of the drive with this LUKS UUID lies, if there is one."""
    return context.paths.headers / f"{uuid}.luks"


def keep_header(context: Context, volume: str, uuid: str) -> Path:
    """Keep a copy of the LUKS header in the state directory; a damaged key slot looks like a wrong passphrase.

    Raises `Missing` where that cannot be written to, else as `cryptsetup.backup_header`.
    """
    file = kept_file(context, uuid)
    with writing_to(file):
        for place in (context.paths.state, context.paths.headers):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            place.chmod(0o700)
        cryptsetup.backup_header(context.run, volume, file)
    return file


@contextlib.contextmanager
def writing_to(file: Path) -> Iterator[None]:
    """What the system says when the copy of a header cannot be written there, in words."""
    try:
        yield
    except OSError as problem:
        raise Missing(
            f"no copy of the LUKS header can be written to {shown(str(file))}: {problem.strerror}",
            hint="look at the disk that holds it (full, read-only?), then give the same command again",
        ) from problem


def not_as_kept(context: Context, volume: str, uuid: str) -> tuple[str, ...] | None:
    """What of the volume's identity differs from the kept copy: UUID, volume key, encryption. `None`: no copy is kept.

    Key slots may differ. Raises `DriveError` where a header cannot be read.
    """
    file = kept_file(context, uuid)
    if not file.is_file():
        return None
    return unlike(context, str(file), volume)


def unlike(context: Context, one: str, other: str) -> tuple[str, ...]:
    """The same for any two headers, each on a device or in a file."""
    first, second = block.luks_header(one), block.luks_header(other)
    uuids = ("UUID",) if first is None or second is None or first[1] != second[1] else ()
    metadata = cryptsetup.metadata(context.run, one), cryptsetup.metadata(context.run, other)
    return (*uuids, *header.differences(*metadata))


@contextlib.contextmanager
def changing(context: Context, ledger: Ledger, uuid: str, volume: str, what: str) -> Iterator[None]:
    """Around whatever changes the header of a known drive: noted before, settled on every way out."""
    ledger.begin_header_change(uuid, what, since=context.clock())
    try:
        yield
    except BaseException:
        with context.signals.held(), contextlib.suppress(FlashbackError, OSError):
            settle(context, ledger, uuid, volume)
        raise
    with context.signals.held():
        settle(context, ledger, uuid, volume)


def settle(context: Context, ledger: Ledger, uuid: str, volume: str) -> None:
    """The header as it is now is the known one, and the kept copy is of it. Raises `DriveError` for another volume's.

    The older copy is there until the new one is whole, and the ledger believes in the new one last.
    """
    if differs := not_as_kept(context, volume, uuid):
        raise DriveError(f"the {' and the '.join(differs)} of {volume} are not those of the kept copy of its header")
    length = header.header_length(cryptsetup.metadata(context.run, volume))
    file = keep_header(context, volume, uuid)
    digest = cryptsetup.header_digest(volume, length)
    if cryptsetup.header_digest(str(file), length) != digest:
        raise DriveError(f"the header of {volume} changed while it was copied")
    ledger.end_header_change(uuid, digest=digest, length=length)


def mend(context: Context, ledger: Ledger) -> None:
    """Settle what an earlier command began and could not bring to its end, for every drive that is plugged in.

    What is not plugged in, in use by another command, or not the same volume stays as it is: opening it is refused as
    for any changed header.
    """
    for uuid, what in ledger.header_changes().items():
        with contextlib.suppress(FlashbackError, OSError):
            _mend_one(context, ledger, uuid, what)


def _mend_one(context: Context, ledger: Ledger, uuid: str, what: str) -> None:
    drive, volume = ledger.drive(uuid), the_only(block.luks_volumes(context.run), uuid)
    if drive is None or volume is None or not kept_file(context, uuid).is_file():
        return
    with contextlib.suppress(Locked), locked(context.paths.locks / "run.lock", purpose=f"mend {drive.name}"):
        before = drive.header_digest
        settle(context, ledger, uuid, volume.path)
        known = ledger.drive(uuid)
        if known is not None and known.header_digest != before:
            said = f"{drive.name}: {what} was cut off. Its header is of the same volume as before, and is known again."
            context.tell(Note(f"{said} Which keys open it: flashback key list {drive.name}"))
