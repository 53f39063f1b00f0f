from __future__ import annotations

import io
import os

from flashback.core.errors import DriveState
from flashback.core.events import (
    Finished,
    Note,
    Progress,
    Remark,
    Remarked,
    RemarkKind,
    Step,
    StepBegun,
    StepDone,
)
from flashback.tell import Verbosity
from flashback.tell.plain import Output, PlainTeller

LAST = Finished("complete", 0, "red", DriveState.CLOSED, safe_to_remove=True)
EVENTS = [
    Note("Waiting for a drive"),
    StepBegun(Step.OPEN, "red"),
    StepDone(Step.OPEN, 2.1, "red"),
    StepBegun(Step.SYNC),
    Progress(Step.SYNC, 5),
    StepDone(Step.SYNC, 14),
    Remarked(Remark(RemarkKind.VANISHED, "documents", b"\x1b[31m")),
    LAST,
]


def told(verbosity: Verbosity = Verbosity.NORMAL) -> list[str]:
    stream = io.StringIO()
    with PlainTeller(stream, verbosity=verbosity) as teller:
        for event in EVENTS:
            teller(event)
    return stream.getvalue().splitlines()


def test_each_event_is_one_plain_line() -> None:
    assert told() == [
        "Waiting for a drive",
        "open: red",
        "open: done in 2.1 s, red",
        "sync: begun",
        "sync: done in 14 s",
        "remark: documents/\\x1b[31m: vanished before it could be copied",
        "red: backup complete.",
        "red is closed; safe to remove.",
    ]


def test_quiet_prints_only_the_last_line() -> None:
    assert told(Verbosity.QUIET) == ["red is closed; safe to remove."]


def test_an_unread_file_is_listed_again_at_the_end() -> None:
    stream = io.StringIO()
    teller = PlainTeller(stream, verbosity=Verbosity.QUIET)
    teller(Remarked(Remark(RemarkKind.UNREADABLE, "documents", b"a")))
    teller(Finished("incomplete", 11, "red", DriveState.CLOSED, safe_to_remove=True))
    assert "  documents/a: could not be read\n" in stream.getvalue()


class Flushes(io.StringIO):
    flushed = 0

    def flush(self) -> None:
        self.flushed += 1


def test_each_line_is_flushed() -> None:
    stream = Flushes()
    PlainTeller(stream)(Note("a"))
    assert stream.flushed == 1


def test_a_reader_that_has_gone_does_not_stop_the_run() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        teller = PlainTeller(stream)
        for event in EVENTS:
            teller(event)


def test_a_closed_stream_does_not_stop_the_run() -> None:
    stream = io.StringIO()
    stream.close()
    PlainTeller(stream)(Note("a"))


def test_what_the_encoding_cannot_say_is_escaped() -> None:
    raw = io.BytesIO()
    output = Output(io.TextIOWrapper(raw, "ascii", write_through=True))
    output.line("Büro …")
    assert raw.getvalue() == b"B\\xfcro \\u2026\n"
    assert output.sayable("ü") == "\\xfc"


def test_without_utf8_the_marks_are_plain() -> None:
    raw = io.BytesIO()
    teller = PlainTeller(io.TextIOWrapper(raw, "ascii", write_through=True))
    teller(Finished("failed", 4, "red", DriveState.NOT_OPENED, safe_to_remove=True, error={"what": "no such drive"}))
    assert raw.getvalue().startswith(b"x red: no such drive\n")
