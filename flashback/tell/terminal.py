"""For a person at a terminal: a line per finished step, one that changes for the step at work.

Drawn with rich, without its thread: the process forks elsewhere, and a fork beside a thread that holds a lock hangs.
The cursor is never hidden, so that not even SIGKILL leaves a terminal without one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Final, TextIO, cast

from flashback.core.events import (
    Event,
    Finished,
    Note,
    Planned,
    Progress,
    Remark,
    Remarked,
    Step,
    StepBegun,
    StepDone,
)
from flashback.core.text import duration, number, shown, size
from flashback.tell import Teller, Verbosity
from flashback.tell.plain import Output
from flashback.tell.summary import MARKS, Line, Tone, closing, plan_lines, remark_text

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

REDRAW: Final = 0.1
"""Seconds between two drawings of the line that changes."""
COLUMN: Final = 14
"""Where the text of a step begins."""
STYLES: Final = {Tone.PLAIN: "", Tone.GOOD: "bold green", Tone.WARN: "yellow", Tone.BAD: "bold red", Tone.FAINT: "dim"}


class Pace:
    """How fast it goes, from what was done within the last `WINDOW` seconds."""

    WINDOW: Final = 20.0
    PATIENCE: Final = 4.0
    """Seconds of looking before anything is said."""
    GRAIN: Final = 0.25

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()
        self._latest = (0.0, 0)

    def saw(self, now: float, done: int) -> None:
        """At the time `now` (monotonic seconds) `done` bytes or files were done in all."""
        if self._samples and done < self._latest[1]:
            self._samples.clear()
        self._latest = (now, done)
        if not self._samples or now - self._samples[-1][0] >= self.GRAIN:
            self._samples.append(self._latest)
        while len(self._samples) > 1 and self._samples[1][0] <= now - self.WINDOW:
            self._samples.popleft()

    def rate(self) -> float | None:
        """Per second; `None` in the first seconds."""
        if not self._samples:
            return None
        passed = self._latest[0] - self._samples[0][0]
        return None if passed < self.PATIENCE else (self._latest[1] - self._samples[0][1]) / passed


def time_left(remaining: int, rate: float | None) -> str:
    """`about 4 min left`, no finer than can be known; nothing where it is not known."""
    if not rate or remaining <= 0:
        return ""
    minutes = remaining / rate / 60
    if minutes < 1:
        return "less than 1 min left"
    if minutes < 10:
        return f"about {round(minutes)} min left"
    if minutes < 57:
        return f"about {round(minutes / 5) * 5} min left"
    tens = round(minutes / 10) * 10
    return f"about {tens // 60} h {tens % 60:02d} min left" if tens < 24 * 60 else "more than a day left"


def progress_parts(event: Progress, rate: float | None) -> list[tuple[int, str]]:
    """What the changing line says of `event`, each with how dear it is where space is short (0 is dearest)."""
    total, done = event.bytes_total, event.bytes_done
    if total is not None and 0 < total <= done and event.step in {Step.COPY, Step.SYNC}:
        return [(0, "finishing, waiting for the drive"), (1, size(done))]
    parts: list[tuple[int, str]] = []
    if total:
        parts = [(1, f"{size(done)} of {size(total)}"), (0, f"{min(100 * done // total, 100)} %")]
    elif done:
        parts = [(1, size(done))]
    if rate is not None and done:
        parts.append((3, f"{size(round(rate))}/s"))
    if total and (left := time_left(total - done, rate)):
        parts.append((2, left))
    return parts


def fitted(parts: list[tuple[int, str]], width: int) -> str:
    """Joined with commas, leaving out the least dear until it fits into `width` columns."""
    parts = list(parts)
    while len(parts) > 1 and len(", ".join(text for _dear, text in parts)) > width:
        parts.remove(max(parts))
    return ", ".join(text for _dear, text in parts)


def files_text(event: Progress) -> str:
    """`123 of 1,234 files`; nothing where no files are counted."""
    if event.files_total is not None:
        return f"{event.files_done:,} of {number(event.files_total, 'file')}"
    return number(event.files_done, "file") if event.files_done else ""


class TerminalTeller(Teller):
    """Draws on `stream`, which is a terminal. `width` in columns, `None`: as wide as the terminal is."""

    def __init__(
        self,
        stream: TextIO,
        *,
        colour: bool,
        width: int | None = None,
        verbosity: Verbosity = Verbosity.NORMAL,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        from rich.console import Console

        self._out = Output(stream)
        self._console = Console(
            file=cast("IO[str]", self._out),
            force_terminal=True,
            color_system="standard" if colour else None,
            width=width,
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
            _environ={},  # what the environment says was decided by who called
        )
        self._verbosity = verbosity
        self._monotonic = monotonic
        self._remarks: list[Remark] = []
        self._live: Live | None = None
        self._step: StepBegun | None = None
        self._begun = self._drawn = 0.0
        self._progress: Progress | None = None
        self._pace = Pace()
        self._paused = False

    def __call__(self, event: Event) -> None:
        """Tell one event."""
        match event:
            case Progress():
                self._progressed(event)
            case StepBegun():
                self._step_begins(event)
            case StepDone():
                self._step_ends(event)
            case Remarked(remark):
                self._remarked(remark)
            case Note():
                if self._verbosity is not Verbosity.QUIET:
                    self._print(Line(shown(event.text)))
            case Planned():
                if self._verbosity is not Verbosity.QUIET:
                    self._print(*plan_lines(event.plan, details=self._verbosity is Verbosity.VERBOSE))
            case Finished():
                self._finished(event)

    def pause(self) -> None:
        """See `Teller`."""
        self._paused = True
        self._clear()

    def resume(self) -> None:
        """See `Teller`."""
        self._paused = False
        self._draw()

    def close(self) -> None:
        """See `Teller`."""
        self._step = None
        self._clear()

    def _step_begins(self, event: StepBegun) -> None:
        self._step, self._progress, self._pace = event, None, Pace()
        self._begun = self._monotonic()
        self._draw()

    def _step_ends(self, event: StepDone) -> None:
        self._step = None
        self._clear()
        if self._verbosity is not Verbosity.QUIET:
            detail = ", ".join(part for part in (shown(event.detail), duration(event.seconds)) if part)
            self._step_line("✓" if self._out.utf8 else "+", "green", event.step, detail)

    def _progressed(self, event: Progress) -> None:
        now = self._monotonic()
        if self._step is None or self._step.step is not event.step:
            self._step, self._begun, self._pace = StepBegun(event.step), now, Pace()
        self._progress = event
        self._pace.saw(now, event.bytes_done)
        if now - self._drawn >= REDRAW:
            self._draw()

    def _remarked(self, remark: Remark) -> None:
        self._remarks.append(remark)
        if self._verbosity is Verbosity.VERBOSE:
            self._print(Line(f"! {remark_text(remark)}", Tone.WARN, 1))

    def _finished(self, event: Finished) -> None:
        stopped, self._step = self._step, None
        self._clear()
        if stopped is not None and self._verbosity is not Verbosity.QUIET and event.exit_code:
            after = f"stopped after {duration(self._monotonic() - self._begun)}"
            self._step_line("✗" if self._out.utf8 else "x", "bold red", stopped.step, after)
        self._print(*closing(event, self._remarks, verbosity=self._verbosity))
        self._remarks.clear()

    def _draw(self) -> None:
        """Draw the step at work, if there is one and nobody is being asked something."""
        if self._step is None or self._paused or self._verbosity is Verbosity.QUIET:
            return
        from rich.live import Live

        self._drawn = self._monotonic()
        if self._live is None:
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self._live.start()
            self._console.show_cursor(show=True)
        self._live.update(self._running(self._step), refresh=True)

    def _clear(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def _running(self, step: StepBegun) -> Text:
        """One line, with a second one for the files where there are any; cut to the terminal's width."""
        from rich.text import Text

        text = Text(no_wrap=True, overflow="ellipsis" if self._out.utf8 else "crop")
        text.append("· " if self._out.utf8 else "- ", "bold").append(f"{step.step:<{COLUMN - 2}}")
        if self._progress is None:
            return text.append(self._shown(step.detail))
        width = self._console.width - COLUMN
        text.append(fitted(progress_parts(self._progress, self._pace.rate()), width) or self._shown(step.detail))
        files = ", ".join(part for part in (files_text(self._progress), self._shown(self._progress.current)) if part)
        return text.append(f"\n{' ' * COLUMN}{files}", "dim") if files else text

    def _shown(self, name: bytes | str) -> str:
        return self._out.sayable(shown(name))

    def _step_line(self, mark: str, style: str, step: Step, words: str) -> None:
        from rich.text import Text

        self._wrapped(
            Text.assemble((f"{mark} ", style), f"{step:<{COLUMN - 2}}"), Text(self._out.sayable(words)), COLUMN
        )

    def _print(self, *lines: Line) -> None:
        from rich.text import Text

        for line in lines:
            mark = "" if line.depth else MARKS.get(line.tone, ("", ""))[0 if self._out.utf8 else 1]
            lead = Text(" " * 2 * line.depth + mark, STYLES[line.tone])
            body = Text(self._out.sayable(Line(line.text).plain(utf8=self._out.utf8)), STYLES[line.tone])
            self._wrapped(lead, body, 2 * (line.depth + 1))

    def _wrapped(self, lead: Text, body: Text, hang: int) -> None:
        """Print `lead` and `body`, its further lines `hang` columns in."""
        from rich.text import Text

        hang = hang if hang < self._console.width // 2 else 2
        parts = body.wrap(self._console, max(self._console.width - max(hang, len(lead)), 10))
        for position, part in enumerate(parts):
            part.rstrip()
            self._console.print(Text.assemble(lead if position == 0 else " " * hang, part), soft_wrap=True)
