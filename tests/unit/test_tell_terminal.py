from __future__ import annotations

import io
import re
import threading

import pytest

from flashback.core.errors import DriveState
from flashback.core.events import (
    Finished,
    Note,
    Planned,
    Progress,
    Remark,
    Remarked,
    RemarkKind,
    Step,
    StepBegun,
    StepDone,
)
from flashback.tell import Verbosity
from flashback.tell.tables import cells
from flashback.tell.terminal import Pace, TerminalTeller, files_text, fitted, progress_parts, time_left

MIB = 1024**2
LAST = Finished("complete", 0, "red", DriveState.CLOSED, safe_to_remove=True)


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Moment:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def a_teller(stream: io.StringIO, **changed: object) -> TerminalTeller:
    return TerminalTeller(stream, **{"colour": False, "width": 80, "monotonic": Moment(), **changed})  # type: ignore[arg-type]


def text_of(stream: io.StringIO) -> str:
    """What a person reads, drawn lines included, control sequences not."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def test_a_finished_step_is_one_line() -> None:
    stream = Terminal()
    with a_teller(stream) as teller:
        teller(StepDone(Step.OPEN, 2.1, "red"))
    assert stream.getvalue() == "✓ open        red, 2.1 s\n"


def test_no_thread_is_started() -> None:
    before = threading.active_count()
    with a_teller(Terminal()) as teller:
        teller(StepBegun(Step.COPY))
        teller(Progress(Step.COPY, 1, 2))
        assert threading.active_count() == before


def test_the_cursor_is_shown_again_after_every_hiding() -> None:
    stream = Terminal()
    teller = a_teller(stream)
    teller(StepBegun(Step.COPY))
    assert stream.getvalue().rfind("\x1b[?25h") > stream.getvalue().rfind("\x1b[?25l")


def test_an_interruption_leaves_no_drawn_line_behind() -> None:
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt), a_teller(stream) as teller:
        teller(StepBegun(Step.COPY, "documents"))
        raise KeyboardInterrupt
    assert stream.getvalue().endswith("\x1b[2K")


def test_nothing_is_drawn_while_a_person_is_asked() -> None:
    stream, moment = Terminal(), Moment()
    teller = a_teller(stream, monotonic=moment)
    teller(StepBegun(Step.OPEN, "red"))
    with teller.asking():
        length = len(stream.getvalue())
        moment.now = 5.0
        teller(Progress(Step.OPEN, 1, 2))
        assert len(stream.getvalue()) == length
    assert len(stream.getvalue()) > length


def test_the_drawn_line_is_cleared_before_a_question() -> None:
    stream = Terminal()
    teller = a_teller(stream)
    teller(StepBegun(Step.OPEN, "red"))
    teller.pause()
    assert stream.getvalue().endswith("\x1b[2K")


def test_drawing_happens_ten_times_a_second_at_most() -> None:
    stream, moment = Terminal(), Moment()
    teller = a_teller(stream, monotonic=moment)
    teller(StepBegun(Step.COPY))
    drawn = len(stream.getvalue())
    moment.now = 0.05
    teller(Progress(Step.COPY, 1, 2))
    assert len(stream.getvalue()) == drawn
    moment.now = 0.1
    teller(Progress(Step.COPY, 1, 2))
    assert len(stream.getvalue()) > drawn


def test_the_running_step_shows_bytes_files_speed_and_time_left() -> None:
    stream, moment = Terminal(), Moment()
    teller = a_teller(stream, monotonic=moment)
    teller(StepBegun(Step.COPY))
    for second in range(11):
        moment.now = second
        teller(Progress(Step.COPY, second * 10 * MIB, 5000 * MIB, second, 1234, b"a\x1b.txt"))
    assert "· copy        100 MiB of 4.9 GiB, 2 %, 10.0 MiB/s, about 8 min left" in text_of(stream)
    assert "              10 of 1,234 files, a\\x1b.txt" in text_of(stream)


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_line_is_wider_than_the_terminal(width: int, encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding, write_through=True, newline="\n")
    teller = a_teller(stream, width=width)  # type: ignore[arg-type]
    teller(StepBegun(Step.COPY, "ü" * 200))
    teller(Progress(Step.COPY, 5 * MIB, 10 * MIB, 5, 10, "ü漢字".encode() * 50))
    teller(StepDone(Step.COPY, 5, "word " * 50))
    teller(Remarked(Remark(RemarkKind.VANISHED, "documents", "ü".encode() * 200)))
    teller(LAST)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw.getvalue().decode(encoding))
    assert max(cells(line) for line in re.split(r"[\r\n]", plain)) <= width


def test_without_colour_no_colour_is_sent() -> None:
    stream = Terminal()
    with a_teller(stream) as teller:
        teller(StepDone(Step.OPEN, 1))
        teller(Finished("failed", 4, "red", DriveState.UNKNOWN, safe_to_remove=False))
    assert "\x1b[" not in stream.getvalue()


def test_with_colour_the_mark_is_green() -> None:
    stream = Terminal()
    a_teller(stream, colour=True)(StepDone(Step.OPEN, 1))
    assert stream.getvalue().startswith("\x1b[32m✓")


def test_where_a_run_stopped_is_marked() -> None:
    stream = Terminal()
    teller = a_teller(stream)
    teller(StepBegun(Step.COPY))
    teller(Finished("failed", 15, "red", DriveState.CLOSED, safe_to_remove=True))
    assert "✗ copy        stopped after 0.0 s\n" in text_of(stream)


def test_remarks_wait_for_the_end() -> None:
    stream = Terminal()
    teller = a_teller(stream)
    teller(Remarked(Remark(RemarkKind.VANISHED, "documents", b"a")))
    assert stream.getvalue() == ""
    teller(LAST)
    assert "  1 remark:\n    documents/a: vanished before it could be copied\n" in stream.getvalue()


def test_verbose_says_remarks_at_once_and_only_once() -> None:
    stream = Terminal()
    teller = a_teller(stream, verbosity=Verbosity.VERBOSE)
    teller(Remarked(Remark(RemarkKind.VANISHED, "documents", b"a")))
    teller(LAST)
    assert stream.getvalue().count("documents/a") == 1


def test_quiet_prints_only_the_last_line() -> None:
    stream = Terminal()
    teller = a_teller(stream, verbosity=Verbosity.QUIET)
    for event in (Note("a"), StepBegun(Step.OPEN), Progress(Step.OPEN, 1), StepDone(Step.OPEN, 1), LAST):
        teller(event)
    assert stream.getvalue() == "red is closed; safe to remove.\n"


def test_rich_markup_in_a_name_is_only_a_name() -> None:
    stream = Terminal()
    a_teller(stream, colour=True)(Note("[bold]x[/bold] :smile:"))
    assert stream.getvalue() == "[bold]x[/bold] :smile:\n"


def test_a_plan_is_shown() -> None:
    stream = Terminal()
    a_teller(stream)(Planned({"drive": "red"}))
    assert stream.getvalue() == "Plan for red:\n"


def test_in_the_first_seconds_no_speed_is_claimed() -> None:
    pace = Pace()
    pace.saw(0, 0)
    pace.saw(Pace.PATIENCE - 0.1, 10**9)
    assert pace.rate() is None


def test_the_speed_is_that_of_the_last_seconds() -> None:
    pace = Pace()
    for second in range(100):
        pace.saw(second, second * 1000 if second < 50 else 50_000 + (second - 50) * 10)
    assert pace.rate() == pytest.approx(10)


def test_counting_from_zero_again_starts_a_new_measure() -> None:
    pace = Pace()
    pace.saw(0, 0)
    pace.saw(10, 1000)
    pace.saw(11, 0)
    assert pace.rate() is None


@pytest.mark.parametrize(
    ("remaining", "rate", "words"),
    [
        (100, None, ""),
        (100, 0.0, ""),
        (0, 5.0, ""),
        (10, 1.0, "less than 1 min left"),
        (240, 1.0, "about 4 min left"),
        (33 * 60, 1.0, "about 35 min left"),
        (59 * 60, 1.0, "about 1 h 00 min left"),
        (131 * 60, 1.0, "about 2 h 10 min left"),
        (10**9, 1.0, "more than a day left"),
    ],
)
def test_time_left_is_no_finer_than_can_be_known(remaining: int, rate: float | None, words: str) -> None:
    assert time_left(remaining, rate) == words


def test_when_all_is_sent_it_waits_for_the_drive() -> None:
    assert progress_parts(Progress(Step.COPY, 10, 10), 5.0)[0][1] == "finishing, waiting for the drive"


def test_nothing_is_said_of_totals_that_are_not_known() -> None:
    assert [text for _dear, text in progress_parts(Progress(Step.SYNC, 2048), None)] == ["2.0 KiB"]


def test_the_least_dear_goes_first_where_space_is_short() -> None:
    assert fitted([(1, "bbbb"), (0, "aaaa"), (2, "cccc")], 10) == "bbbb, aaaa"
    assert fitted([(1, "bbbb"), (0, "aaaa"), (2, "cccc")], 1) == "aaaa"


def test_files_are_counted_with_and_without_a_total() -> None:
    assert files_text(Progress(Step.PLAN, 0, None, 1)) == "1 file"
    assert files_text(Progress(Step.PLAN, 0, None, 1, 2000)) == "1 of 2,000 files"
    assert files_text(Progress(Step.PLAN, 0)) == ""
