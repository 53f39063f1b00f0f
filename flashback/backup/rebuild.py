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
from flashback.drive.recognise import Candidate
from flashback.drive.session import Session, prove_destination


def rebuild(context: Context, config: Config | None, candidate: Candidate) -> int:
    """Walk every state on the drive, and write down what is in it, on the drive and here. Raises what stops it."""
    paths = {master.name: master.path for master in config.masters} if config is not None else {}
    session = Session(context, candidate)
    states = 0
    with session.held(purpose="catalogue rebuild") as drive:
        history = History(drive, Shelves(context.paths.catalogues), lambda line: context.tell(Note(line)))
        prove_destination(drive)
        for master in masters_on(drive):
            context.tell(Note(f"Reading what is in each state of {master} on {drive.known.name}."))
            states += history.rebuild(master, paths.get(master))
        commit(drive)
    context.tell(Note(f"The catalogue of {candidate.known.name} has {number(states, 'state')}."))
    context.tell(
        Finished(
            result="complete",
            exit_code=Exit.DONE,
            drive=candidate.known.name,
            drive_state=session.state,
            safe_to_remove=session.safe_to_remove,
            facts={"action": "catalogue", "states": states},
        )
    )
    return Exit.DONE
