"""The end of a run that plugging in began: what it is told as, and the device switched off before anybody is told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from flashback.core.context import Context
from flashback.core.errors import DriveState, Exit, FlashbackError
from flashback.core.events import Event, Finished, Step, StepDone
from flashback.core.text import shown
from flashback.drive.power_off import switch_off
from flashback.drive.recognise import Candidate
from flashback.trigger.logged import INFORMATION, WARNING, JournalTeller

_SIGNALS: Final = 128
"""Exit codes above it name a signal."""
_ENOUGH: Final = frozenset({Exit.DONE, Exit.UNREAD})
"""After these nobody needs the drive for what comes next."""


@dataclass(slots=True)
class Ending:
    """Tells a run's events on. `opened` is called when the passphrase has opened the drive.

    `last` is closed when the process has nothing more to do: from the moment when the device is switched off until then
    signals are held, since systemd stops the unit of a device that is gone.
    """

    context: Context
    candidate: Candidate
    log: JournalTeller
    power_off: bool
    last: contextlib.ExitStack
    opened: Callable[[], None]
    is_off: bool = False

    def __call__(self, event: Event) -> None:
        """Tell one event."""
        if isinstance(event, StepDone) and event.step is Step.OPEN:
            self.opened()
        if isinstance(event, Finished):
            event = self._unplugged(event)
            if self.power_off and self._is_over(event):
                event = self._switched_off(event)
        self.context.tell(event)

    def _unplugged(self, event: Finished) -> Finished:
        """The drive was pulled: the signal by which we learn it is not the cause."""
        if event.drive_state is not DriveState.GONE or event.exit_code <= _SIGNALS:
            return event
        name = self.candidate.known.name
        following = f"plug {name} in again; it carries on by itself."
        what = f"{name} was unplugged before it was finished"
        return replace(event, error={**(event.error or {}), "what": what, "next": following}, next_step=following)

    def _is_over(self, event: Finished) -> bool:
        """Whether the drive was closed and proven, and is not needed for what the person does next."""
        closed = event.safe_to_remove and event.drive_state is DriveState.CLOSED
        return closed and event.exit_code in _ENOUGH

    def _switched_off(self, event: Finished) -> Finished:
        name, disk = self.candidate.known.name, self.candidate.volume.disk
        self.last.enter_context(self.context.signals.held())
        try:
            reason, priority = switch_off(disk), INFORMATION
        except FlashbackError as problem:
            reason, priority = problem.what, WARNING
        self.is_off = not reason
        said = f"stays on: {shown(reason)}" if reason else "is switched off"
        self.log.entry(
            f"{name} {said}", priority=priority, FLASHBACK_EVENT="power", FLASHBACK_POWERED_OFF=int(self.is_off)
        )
        return replace(event, facts={**event.facts, "powered_off": self.is_off})
