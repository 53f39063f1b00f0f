"""`catalogue rebuild`: the catalogue of a drive made anew from what the drive holds, nothing believed."""

from __future__ import annotations

from flashback.backup.history import History, masters_on
from flashback.catalogue.shelves import Shelves
from flashback.config.values import Config
from flashback.core.context import Context
from flashback.core.errors import Exit
from flashback.core.events import Finished, Note
from flashback.core.text import number
from flashback.drive.commit import commit
from flashback.drive.reading import Reading, open_elsewhere
from flashback.drive.recognise import Candidate
from flashback.drive.session import prove_destination
from flashback.rotation.values import Standing
from flashback.tools import block


def rebuild(context: Context, config: Config | None, candidate: Candidate) -> int:
    """Walk every state on the drive, and write down what is in it, on the drive and here. Raises what stops it.

    A drive that is write-protected, retired or lost, or that somebody has open, is only read: what is in it is then
    noted here alone.
    """
    paths = {master.name: master.path for master in config.masters} if config is not None else {}
    name = candidate.known.name
    unwanted = candidate.known.standing is not Standing.ACTIVE
    only_read = unwanted or open_elsewhere(candidate) is not None or block.read_only(candidate.volume.path)
    reading = Reading(context, candidate)
    states = 0
    purpose = "catalogue rebuild"
    with reading.held(purpose=purpose) if only_read else reading.session.held(purpose=purpose) as drive:
        history = History(drive, Shelves(context.paths.catalogues), lambda line: context.tell(Note(line)))
        prove_destination(drive)
        for master in masters_on(drive):
            context.tell(Note(f"Reading what is in each state of {master} on {name}."))
            states += history.rebuild(master, paths.get(master))
        if not only_read:
            commit(drive)
    if only_read:
        context.tell(Note(f"{name} was only read; what it has of a catalogue itself is as it was."))
    context.tell(Note(f"The catalogue of {name} has {number(states, 'state')}."))
    context.tell(
        Finished(
            result="complete",
            exit_code=Exit.DONE,
            drive=name,
            drive_state=reading.state,
            safe_to_remove=reading.safe_to_remove,
            facts={"action": "catalogue", "states": states},
        )
    )
    return Exit.DONE
