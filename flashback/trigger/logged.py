"""What happens to a drive, in the system's journal: the lines a person would read, with fields a program can filter."""

from __future__ import annotations

import io
from typing import Any, Final

from flashback.core.errors import Exit
from flashback.core.events import Event, Finished, Progress, Remarked, StepBegun, StepDone
from flashback.tell import Teller
from flashback.tell.plain import PlainTeller
from flashback.tools.journald import Journal

ERROR: Final = 3
WARNING: Final = 4
NOTICE: Final = 5
INFORMATION: Final = 6
_WORSE: Final = frozenset({Exit.UNEXPECTED, Exit.MISSING, Exit.STILL_HELD, Exit.DAMAGE})


class JournalTeller(Teller):
    """Each event as one entry. `fields` go with all of them (FLASHBACK_DRIVE, FLASHBACK_UUID)."""

    def __init__(self, journal: Journal, fields: dict[str, str]) -> None:
        self._journal = journal
        self.fields = fields
        self._text = io.StringIO()
        self._plain = PlainTeller(self._text)

    def __call__(self, event: Event) -> None:
        """Tell one event."""
        if isinstance(event, Progress):
            return
        self._text.seek(0)
        self._text.truncate()
        self._plain(event)
        if lines := self._text.getvalue().rstrip("\n"):
            self.entry(lines, priority=_priority(event), **_fields(event))

    def entry(self, message: str, *, priority: int = INFORMATION, **fields: object) -> None:
        """An entry of our own."""
        self._journal.send(message, priority=priority, fields={**self.fields, **fields})


def _priority(event: Event) -> int:
    if isinstance(event, Remarked):
        return WARNING
    if not isinstance(event, Finished):
        return INFORMATION
    if event.exit_code == Exit.DONE:
        return NOTICE
    return ERROR if event.exit_code in _WORSE else WARNING


def _fields(event: Event) -> dict[str, Any]:
    match event:
        case Finished():
            return {
                "FLASHBACK_EVENT": "finished",
                "FLASHBACK_RESULT": event.result,
                "FLASHBACK_EXIT_CODE": int(event.exit_code),
                "FLASHBACK_DRIVE_STATE": event.drive_state.value,
                "FLASHBACK_SAFE_TO_REMOVE": int(event.safe_to_remove),
            }
        case StepBegun():
            return {"FLASHBACK_EVENT": "step-begun", "FLASHBACK_STEP": event.step.value}
        case StepDone():
            return {"FLASHBACK_EVENT": "step-done", "FLASHBACK_STEP": event.step.value}
        case _:
            return {"FLASHBACK_EVENT": type(event).__name__.lower()}
