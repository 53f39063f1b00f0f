"""Whatever a name is, it stays a name: on the terminal, in a pipe, a notice, JSON, the journal, a table, an error.

Texts with control characters, markup, format strings, options, line ends, marks of direction and lone surrogates are
put wherever a text can stand in what is told.
"""

from __future__ import annotations

import io
import json
import re
import unicodedata
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashback.catalogue.seen import Kind, Seen
from flashback.catalogue.words import ls_text, seen_json
from flashback.core import errors
from flashback.core.errors import DriveState, Exit, FlashbackError
from flashback.core.events import (
    Event,
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
from flashback.tell.explain import explain, finished
from flashback.tell.jsonlines import JsonTeller
from flashback.tell.plain import PlainTeller
from flashback.tell.tables import SnapshotRow, StatusRow, snapshots_table, status_table
from flashback.tell.terminal import TerminalTeller
from flashback.tools import journald
from flashback.trigger.logged import JournalTeller
from flashback.trigger.notices import notice_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BAD = [
    *("\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b2J", "a\rb", "a\nFlashback: safe to remove", "a\x00b", "\x7f"),
    *("\u202egnp.exe", "\u2066x", "\u200b", "\ufeff", "\u2028", "\U000e0041", "\ud800", "\udcff", "\udbff\udfff"),
    *("[red]x[/red]", "[/]", "[link=file:///x]y[/link]", ":smile:", "<b>x</b>", "<a href='x'>y</a>", "&lt;", "{0}"),
    *("%s%n", "{drive}", "{0.__class__}", "--delete", "-rf", "$(id)", "`id`", "%i", "%%", "../../etc", "ü漢字"),
]
texts = st.sampled_from(BAD) | st.text(st.characters(), max_size=20)
names = texts.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=12)
counts = st.integers(0, 2**63)
HARMFUL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
OWN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
"""What a teller itself sends to a terminal."""

facts = st.fixed_dictionaries(
    {},
    optional={
        "masters": st.dictionaries(
            texts, st.fixed_dictionaries({"files_added": counts, "bytes_added": counts, "snapshot": texts}), max_size=2
        ),
        "unread": st.lists(st.fixed_dictionaries({"master": texts, "path": texts, "why": texts}), max_size=2),
        "seconds": st.just(1.5),
    },
)
error_objects = st.fixed_dictionaries(
    {"what": texts}, optional={"findings": st.lists(texts, max_size=2), "held": st.lists(texts, max_size=2)}
)
events = st.one_of(
    st.builds(StepBegun, st.sampled_from(Step), texts),
    st.builds(StepDone, st.sampled_from(Step), st.just(1.0), texts),
    st.builds(Progress, st.sampled_from(Step), counts, counts, counts, counts, names),
    st.builds(Remarked, st.builds(Remark, st.sampled_from(RemarkKind), texts, names, texts)),
    st.builds(Note, texts),
    st.builds(
        Finished,
        result=st.sampled_from(["complete", "failed", "held"]),
        exit_code=st.sampled_from(Exit),
        drive=texts,
        drive_state=st.sampled_from(DriveState),
        safe_to_remove=st.booleans(),
        facts=facts,
        error=st.none() | error_objects,
        next_step=texts,
    ),
)


def harmful(text: str) -> set[str]:
    """Characters that do more than to be seen, line ends of our own aside."""
    return {each for each in text if each != "\n" and unicodedata.category(each) in HARMFUL}


@settings(max_examples=60, deadline=None)
@given(st.lists(events, max_size=4), st.sampled_from(Verbosity))
def test_no_event_says_more_than_its_words_in_a_pipe(told: list[Event], verbosity: Verbosity) -> None:
    out = io.TextIOWrapper(raw := io.BytesIO(), "utf-8")
    teller = PlainTeller(out, verbosity=verbosity)
    for event in told:
        before = out.tell()
        teller(event)
        out.flush()
        if not isinstance(event, Finished):
            assert raw.getvalue()[before:].count(b"\n") <= 1, "a text has begun a line of its own"
    assert not harmful(raw.getvalue().decode("utf-8"))


@settings(max_examples=60, deadline=None)
@given(st.lists(events, max_size=4), st.sampled_from(Verbosity), st.booleans(), st.sampled_from(["utf-8", "ascii"]))
def test_no_event_moves_the_cursor_of_a_terminal(
    told: list[Event], verbosity: Verbosity, colour: bool, encoding: str
) -> None:
    out = io.TextIOWrapper(raw := io.BytesIO(), encoding)
    teller = TerminalTeller(out, colour=colour, width=60, verbosity=verbosity, monotonic=iter(range(10**6)).__next__)
    for event in told:
        teller(event)
    teller.close()
    out.flush()
    said = raw.getvalue().decode(encoding)
    assert not harmful(OWN.sub("", said))
    assert "\x1b[31mred" not in said
    assert "title" not in said or "\\x1b]0;title" in said


@settings(max_examples=60, deadline=None)
@given(st.lists(events, max_size=4))
def test_every_event_is_one_line_of_json_that_can_be_read(told: list[Event]) -> None:
    out = io.StringIO()
    teller = JsonTeller(out, clock=lambda: NOW)
    for event in told:
        teller(event)
    said = out.getvalue()
    assert said.isascii()
    for line in said.splitlines():
        assert json.loads(line)["version"] == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(events, max_size=4))
def test_the_journal_takes_every_event_as_fields_that_end_where_they_should(told: list[Event]) -> None:
    entries: list[bytes] = []

    class Sent(journald.Journal):
        def send(self, message: str, *, priority: int, fields: Any) -> None:
            entry = {"MESSAGE": message, "PRIORITY": priority, **fields}
            entries.append(b"".join(journald._field(name, str(value)) for name, value in entry.items()))

    logged = JournalTeller(Sent(), {"FLASHBACK_DRIVE": "red"})
    for event in told:
        logged(event)
    for entry in entries:
        while entry:
            name, _end, entry = entry.partition(b"\n")
            assert re.fullmatch(rb"[A-Z_]+", name)
            length = int.from_bytes(entry[:8], "little")
            assert entry[8 + length : 9 + length] == b"\n"
            entry = entry[9 + length :]


@settings(max_examples=60, deadline=None)
@given(events)
def test_a_notice_is_clean(event: Event) -> None:
    notice = notice_of(event, "red")
    if notice is not None:
        assert not harmful(notice.summary + notice.body)
        assert "\n" not in notice.summary + notice.body
        (notice.summary + notice.body).encode("utf-8")


ERRORS = sorted(
    (each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, FlashbackError)),
    key=lambda each: each.__name__,
)


@pytest.mark.parametrize("kind", ERRORS)
@settings(max_examples=12, deadline=None)
@given(what=texts, hint=texts, drive=texts)
def test_an_error_says_its_words_and_no_more(kind: type[FlashbackError], what: str, hint: str, drive: str) -> None:
    more = {"holds": (what,)} if kind is errors.HeldByGuard else {}
    error = kind((what,) if kind is errors.StillHeld else what, hint=hint, **more)
    explanation = explain(error, drive=drive, state=DriveState.CLOSED)
    lines = explanation.lines()
    assert not harmful("".join(lines))
    assert not any("\n" in line for line in lines)
    out = io.StringIO()
    JsonTeller(out, clock=lambda: NOW)(finished(explanation, drive, {"action": "x"}, closed_for_sure=True))
    assert out.getvalue().isascii()


@given(texts, texts, texts, st.sampled_from([None, 30]), st.booleans())
def test_a_table_is_clean(one: str, two: str, three: str, width: int | None, colour: bool) -> None:
    said = status_table([StatusRow(one, two, NOW, place=three)], NOW, width=width, colour=colour)
    said += snapshots_table([SnapshotRow(one, two, three, NOW)], NOW, width=width, colour=colour)
    assert not harmful(OWN.sub("", said))


@given(names, names)
def test_a_listing_is_clean(path: bytes, target: bytes) -> None:
    seen = [Seen(path, Kind.FILE, 0o644), Seen(path + b"x", Kind.SYMLINK, target=target)]
    assert not harmful(ls_text(seen))
    for each in seen:
        assert json.dumps(seen_json(each), default=repr).isascii()


def test_every_kind_of_event_was_thought_of() -> None:
    kinds = {kind for kind in vars(__import__("flashback.core.events").core.events).values() if is_dataclass(kind)}
    assert kinds - {Remark, Planned} == {StepBegun, StepDone, Progress, Remarked, Note, Finished}
    assert [each.name for each in fields(Planned)] == ["plan"]  # its texts: test_tell_summary.py
