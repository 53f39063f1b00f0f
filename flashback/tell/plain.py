"""Without a terminal: one plain line per event, written at once; and the stream that all tellers write to."""

from __future__ import annotations

import contextlib
import os
from typing import TextIO

from flashback.core.events import (
    UNREAD,
    Event,
    Finished,
    Note,
    Planned,
    Progress,
    Remark,
    Remarked,
    StepBegun,
    StepDone,
)
from flashback.core.text import duration, shown
from flashback.tell import Teller, Verbosity
from flashback.tell.summary import Line, closing, plan_lines, remark_text


class Output:
    r"""A text stream that never stops a run: once its reader has gone, what is written is dropped.

    What the stream's encoding cannot say appears as `\u2026`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = stream.encoding or "utf-8"
        self.utf8 = self.encoding.lower().replace("-", "").replace("_", "") == "utf8"
        self._gone = False

    def sayable(self, text: str) -> str:
        """`text` as the encoding can say it; it may become longer, so whoever counts columns asks first."""
        return text if self.utf8 else text.encode(self.encoding, "backslashreplace").decode(self.encoding)

    def write(self, text: str) -> int:
        """Write `text`; return its length, as a stream does."""
        if not self._gone:
            try:
                self._stream.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))
            except (OSError, ValueError):
                self._give_up()
        return len(text)

    def flush(self) -> None:
        """Send it on its way."""
        if not self._gone:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._give_up()

    def line(self, text: str) -> None:
        """Write a line and flush it."""
        self.write(f"{text}\n")
        self.flush()

    def isatty(self) -> bool:
        """As the stream itself."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """As the stream itself."""
        return self._stream.fileno()

    def _give_up(self) -> None:
        """What is left in the buffer goes to /dev/null, or Python would complain again at its end.

        From https://docs.python.org/3/library/signal.html#note-on-sigpipe.
        """
        self._gone = True
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


class PlainTeller(Teller):
    """For a pipe, a log, the journal. No control characters, no progress; quiet: only problems and the last line."""

    def __init__(self, stream: TextIO, *, verbosity: Verbosity = Verbosity.NORMAL) -> None:
        self._out = Output(stream)
        self._verbosity = verbosity
        self._remarks: list[Remark] = []

    def __call__(self, event: Event) -> None:
        """Tell one event."""
        if isinstance(event, Finished):
            self._lines(closing(event, self._remarks, verbosity=self._verbosity))
            self._remarks.clear()
        elif isinstance(event, Remarked):
            self._remark(event.remark)
        elif isinstance(event, Planned):
            if self._verbosity is not Verbosity.QUIET:
                self._lines(plan_lines(event.plan, details=self._verbosity is Verbosity.VERBOSE))
        elif self._verbosity is not Verbosity.QUIET and not isinstance(event, Progress):
            self._out.line(_line(event))

    def _remark(self, remark: Remark) -> None:
        """Said as it comes; at the end only those that count as unread are listed once more."""
        if remark.kind in UNREAD:
            self._remarks.append(remark)
        if self._verbosity is not Verbosity.QUIET:
            self._out.line(Line(f"remark: {remark_text(remark)}").plain(utf8=self._out.utf8))

    def _lines(self, lines: tuple[Line, ...]) -> None:
        for line in lines:
            self._out.line(line.plain(utf8=self._out.utf8))


def _line(event: StepBegun | StepDone | Note) -> str:
    if isinstance(event, Note):
        return shown(event.text)
    detail = shown(event.detail)
    if isinstance(event, StepBegun):
        return f"{event.step}: {detail or 'begun'}"
    return f"{event.step}: done in {duration(event.seconds)}{f', {detail}' if detail else ''}"
