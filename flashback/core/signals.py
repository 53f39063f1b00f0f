"""INT, TERM and HUP become one exception, raised once, and never in the middle of taking or giving back."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any, Final, Self

GIVING_BACK: Final[set[CodeType]] = set()
"""Functions in which, and below which, nothing is ever raised: `ResourceStack.__exit__` puts itself here."""


class Interrupted(BaseException):
    """A signal asked to stop; a `BaseException`, so that no broad handler eats it. `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.held: tuple[str, ...] = ()


class StopSignals:
    """While entered, the first INT, TERM or HUP raises `Interrupted` in the main thread; later ones are noted only.

    `held()` postpones the exception to the end of its block. While a `ResourceStack` unwinds there is none: everything
    is given back first, and whoever chooses the exit code looks at `first`. A process that was told to ignore SIGHUP
    or SIGINT (nohup, a shell's background job) goes on ignoring it.
    """

    NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.first: int | None = None
        self._holds = 0
        self._raised = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in self.NUMBERS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        self.first = self.first or number
        if _is_giving_back(frame):
            self._raised = True
        self._raise_once()

    def _raise_once(self) -> None:
        if self.first is not None and not self._holds and not self._raised:
            self._raised = True
            raise Interrupted(self.first)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Postpone the exception until the outermost block of this kind ends without an error of its own."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
        self._raise_once()


def _is_giving_back(frame: FrameType | None) -> bool:
    """Whether the signal found us unwinding. The frames say it from the first bytecode of `__exit__` on; a counter set
    by its first statement would come too late for a signal that is seen on the way in.
    """
    while frame is not None:
        if frame.f_code in GIVING_BACK:
            return True
        frame = frame.f_back
    return False
