"""What is said of a drive's key slots: of a drive that is plugged in, or from the copy of its header."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flashback.core.context import Context
from flashback.core.errors import DriveError
from flashback.core.text import shown
from flashback.drive.header import Slot
from flashback.drive.kept import kept_file
from flashback.drive.recognise import Candidate, check_identity, named, the_only
from flashback.prepare.keys import Changed, slots_on
from flashback.rotation.values import KnownDrive, Standing
from flashback.tools import block


@dataclass(frozen=True, slots=True)
class Looked:
    """The slots of a drive; `copy`: as the kept copy of the header has them."""

    drive: KnownDrive
    slots: tuple[Slot, ...]
    copy: bool

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return {**_drive(self.drive), "from_copy": self.copy, **Changed(self.slots).as_json()}

    def text(self) -> str:
        """For a person."""
        where = " (it is not plugged in: from the copy of its header)" if self.copy else ""
        return "\n".join([f"Key slots of {shown(self.drive.name)}{where}:", *lines(self.slots)])


def look(context: Context, known: Sequence[KnownDrive], wanted: str | None, chosen: Callable[[], Candidate]) -> Looked:
    """The key slots of a drive, plugged in (then `chosen` says which) or not.

    Raises `DriveError` for one with a header that is not the known.
    """
    drive = named(known, wanted) if wanted is not None else None
    if drive is not None and the_only(block.luks_volumes(context.run), drive.uuid) is None:
        file = kept_file(context, drive.uuid)
        if not file.is_file():
            raise DriveError(f"{drive.name} is not plugged in, and there is no copy of its header here")
        return Looked(drive, slots_on(context, str(file)), copy=True)
    candidate = chosen()
    check_identity(candidate)
    return Looked(candidate.known, slots_on(context, candidate.volume.path), copy=False)


def lines(slots: Sequence[Slot]) -> list[str]:
    """One line for each slot."""
    return [f"  slot {slot.number}: {slot.words}" for slot in slots]


def changed_text(drive: KnownDrive, changed: Changed, others: Sequence[KnownDrive]) -> str:
    """What was done, what there is now, and where old keys still open something."""
    name = shown(drive.name)
    done = [f"Key slot {each} was added." for each in changed.added]
    done += [f"Key slot {each} was removed." for each in changed.removed]
    text = [" ".join(done), f"Key slots of {name} now:", *lines(changed.slots)]
    carriers = [shown(each.name) for each in others if each.standing is Standing.ACTIVE]
    if changed.removed and carriers:
        text.append(
            f"Copies of {name}'s header from before may lie on {', '.join(carriers)}; what was removed still opens "
            "those. Each gets the new copy at its next run."
        )
    return "\n".join(text)


def changed_json(drive: KnownDrive, changed: Changed) -> dict[str, Any]:
    """The same for scripts."""
    return {**_drive(drive), "from_copy": False, **changed.as_json()}


def _drive(drive: KnownDrive) -> dict[str, Any]:
    return {"drive": drive.name, "uuid": drive.uuid}
