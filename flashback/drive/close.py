"""Put a drive away that was left open: by an earlier crash, by hand, by the desktop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from flashback.core.context import Context
from flashback.core.errors import DriveError, DriveState, Exit
from flashback.core.events import Finished, Note
from flashback.core.locks import locked
from flashback.drive.browse import put_away_shells
from flashback.drive.gone import used_otherwise, wait_until_gone
from flashback.drive.recognise import by_name, named, plugged_in
from flashback.drive.session import put_away
from flashback.rotation.values import KnownDrive
from flashback.tools import block, cryptsetup


def close_drive(context: Context, known: Sequence[KnownDrive], wanted: str | None) -> int:
    """Unmount and close whatever is open of the drive, also to look around in; tell whether it may be unplugged.

    A mapping of which the device is gone is put away, too. Raises `StillHeld` naming who is in the way, `Locked`
    while a run is at work, `DriveError`.
    """
    drive = _meant(context, known, wanted)
    with locked(context.paths.locks / "run.lock", purpose=f"close {drive.name}"):
        was_open = cryptsetup.mappings_of(drive.uuid)
        below = _devices_below(was_open)
        put_away_shells(context, drive)
        for mapping in was_open:
            put_away(context, mapping.name)
        wait_until_gone(drive)
        here = [volume for volume in block.luks_volumes(context.run) if volume.uuid == drive.uuid]
        for volume in here:
            block.flush(volume.path)
        shared = [volume for volume in here if used_otherwise(context, drive, volume.disk)]
        unread = [] if here else [path for path, presence in below if block.still_there(presence)]
    for path in unread:
        context.tell(Note(f"{path} is still plugged in, but it cannot be read any more that {drive.name} is on it."))
    context.tell(
        Finished(
            result="complete" if was_open else "nothing-to-do",
            exit_code=Exit.DONE,
            drive=drive.name,
            drive_state=DriveState.CLOSED if here or unread else DriveState.GONE,
            safe_to_remove=bool(here) and not shared,
            facts={"action": "close"},
        )
    )
    return Exit.DONE


def _devices_below(mappings: Sequence[cryptsetup.OpenMapping]) -> list[tuple[str, block.Presence]]:
    """The devices of open mappings, by which each is known again when its header cannot be read any more."""
    found = []
    for each in mappings:
        with suppress(DriveError):  # pulled just now
            if each.backing is not None:
                found.append((each.backing, block.presence(each.backing)))
    return found


def _meant(context: Context, known: Sequence[KnownDrive], wanted: str | None) -> KnownDrive:
    if wanted is not None:
        return named(known, wanted) or by_name(context.run, known, wanted).known
    still_open = [drive for drive in known if cryptsetup.mappings_of(drive.uuid)]
    here = still_open or [candidate.known for candidate in plugged_in(context.run, known)]
    if len(here) == 1:
        return here[0]
    if not here:
        raise DriveError("no drive of the rotation is open or plugged in")
    raise DriveError(
        f"several drives are here ({', '.join(drive.name for drive in here)})",
        hint="say which one: flashback close NAME",
    )
