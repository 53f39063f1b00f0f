"""The drive's journal says what the incumbent is worth, and it is a stranger's word."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashback.core.text import rfc3339
from flashback.drive import journal
from flashback.drive.journal import Incumbent, Line, Mark

AT = "2026-01-02T03:04:05Z"
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def line(mark: Mark = Mark.BEGUN, master: str = "documents", *, sequence: int = 1, at: str = AT, **more) -> Line:
    return Line(sequence=sequence, run="r", at=at, mark=mark, master=master, **more)


GOOD = journal.encode(line())

texts = st.text(max_size=30)
moments = st.integers(0, 7_258_118_400).map(lambda at: rfc3339(datetime.fromtimestamp(at, UTC)))
lines = st.builds(
    Line,
    sequence=st.integers(0, 2**48),
    run=texts,
    at=moments,
    mark=st.sampled_from(Mark),
    machine=texts,
    master=st.sampled_from(["documents", "photos", ""]),
    snapshot=texts,
    generation=st.integers(0, 2**63),
    unread=st.integers(0, 2**31),
    facts=st.dictionaries(texts, st.integers() | texts | st.booleans(), max_size=3),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
hostile_lines = st.fixed_dictionaries(
    {},
    optional={
        "v": json_values | st.just(1),
        "sequence": json_values | st.integers(),
        "run": json_values,
        "at": json_values | moments,
        "mark": json_values | st.sampled_from([str(mark) for mark in Mark]),
        "master": json_values,
        "generation": json_values,
        "facts": json_values,
    },
).map(lambda value: json.dumps(value).encode())


# --- whatever stands there


@given(st.binary(max_size=300))
def test_no_bytes_make_decoding_fail(content: bytes) -> None:
    assert isinstance(journal.decode(content), tuple)


@given(st.lists(hostile_lines | st.binary(max_size=40), max_size=5))
def test_no_almost_good_line_makes_decoding_fail(found: list[bytes]) -> None:
    for each in journal.decode(b"\n".join(found)):
        assert each.moment.tzinfo is UTC


@given(st.lists(hostile_lines | st.binary(max_size=40), max_size=5), lines)
def test_strange_lines_do_not_hide_a_good_one(found: list[bytes], good: Line) -> None:
    assert good in journal.decode(b"\n".join([*found, journal.encode(good)]))


@given(st.lists(lines, max_size=8))
def test_what_was_written_is_read_again(written: list[Line]) -> None:
    content = b"".join(journal.encode(each) + b"\n" for each in written)
    assert journal.decode(content) == tuple(written)


@given(lines)
def test_a_line_is_one_line_of_ascii(each: Line) -> None:
    encoded = journal.encode(each)
    assert b"\n" not in encoded
    assert encoded.isascii()


@given(st.lists(lines, min_size=1, max_size=4), st.data())
def test_a_torn_last_line_costs_that_line_only(written: list[Line], data: st.DataObject) -> None:
    content = b"".join(journal.encode(each) + b"\n" for each in written)
    last = len(journal.encode(written[-1]))
    torn = content[: -1 - data.draw(st.integers(1, last))]
    assert journal.decode(torn) == tuple(written[:-1])


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\n\n \n", id="empty lines"),
        pytest.param(b"\x00" * 4096, id="zeros, as a power cut leaves them"),
        pytest.param(b"[" * 60_000, id="deep nesting"),
        pytest.param(b'{"sequence":' + b"9" * 5000 + b"}", id="a number without end"),
        pytest.param(GOOD.replace(b'"sequence":1', b'"sequence":-1'), id="a negative sequence"),
        pytest.param(GOOD.replace(b'"sequence":1', b'"sequence":1.5'), id="half a sequence"),
        pytest.param(GOOD.replace(b'"begun"', b'"blessed"'), id="an unknown mark"),
        pytest.param(GOOD.replace(AT.encode(), b"yesterday"), id="no moment"),
        pytest.param(GOOD.replace(AT.encode(), b"2026-1-2T3:4:5Z"), id="a moment written otherwise"),
        pytest.param(GOOD.replace(AT.encode(), b"0001-01-01T00:00:00Z"), id="a year that names no snapshot"),
        pytest.param(GOOD[:-1] + b',"v":2}', id="a later version"),
        pytest.param(GOOD[:-1] + b',"machine":"' + b"x" * journal.LONGEST_LINE + b'"}', id="longer than any of ours"),
    ],
)
def test_passed_over(content: bytes) -> None:
    assert journal.decode(content + b"\n") == ()


def test_a_field_of_a_later_flashback_does_no_harm() -> None:
    assert journal.decode(GOOD[:-1] + b',"mood":"good"}') == (line(),)


def test_as_dict_is_plain_types() -> None:
    assert json.loads(json.dumps(journal.as_dict(line(Mark.SCRUB))))["mark"] == "scrub"


# --- the incumbent


def test_without_a_line_the_incumbent_is_incomplete() -> None:
    assert journal.incumbent([], "documents") == Incumbent(complete=False)


@given(st.lists(lines, max_size=12))
def test_the_incumbent_is_complete_if_and_only_if_no_copying_comes_after_the_last_complete(found: list[Line]) -> None:
    ours = [each.mark for each in found if each.master == "documents"]
    completed = [place for place, mark in enumerate(ours) if mark is Mark.COMPLETE]
    expected = bool(completed) and Mark.COPYING not in ours[completed[-1] :]
    assert journal.incumbent(found, "documents").complete is expected


def test_the_incumbent_is_what_its_last_completion_says() -> None:
    found = [
        line(Mark.COMPLETE, generation=7, unread=2, at="2026-01-01T00:00:00Z"),
        line(Mark.COPYING),
        line(Mark.COMPLETE, generation=9),
    ]
    assert journal.incumbent(found, "documents") == Incumbent(complete=True, completed=MOMENT, generation=9)


@pytest.mark.parametrize("mark", [mark for mark in Mark if mark not in {Mark.COPYING, Mark.COMPLETE}])
def test_other_marks_leave_a_complete_incumbent_complete(mark: Mark) -> None:
    assert journal.incumbent([line(Mark.COMPLETE), line(mark)], "documents").complete


def test_copying_another_master_leaves_the_incumbent_complete() -> None:
    assert journal.incumbent([line(Mark.COMPLETE), line(Mark.COPYING, "photos")], "documents").complete


def test_a_torn_completion_leaves_the_incumbent_incomplete() -> None:
    content = journal.encode(line(Mark.COPYING)) + b"\n" + journal.encode(line(Mark.COMPLETE))[:-1]
    assert not journal.incumbent(journal.decode(content), "documents").complete


# --- order


def test_the_last_sequence_is_the_highest_wherever_it_stands() -> None:
    assert journal.last_sequence([line(sequence=7), line(sequence=3)]) == 7


def test_without_a_line_the_last_sequence_is_nought() -> None:
    assert journal.last_sequence([]) == 0


@pytest.mark.parametrize("sequence", [2**48, 2**63 - 1, 2**64])
def test_a_sequence_that_no_run_can_have_uses_up_no_numbers(sequence: int) -> None:
    assert journal.last_sequence([line(sequence=7), line(sequence=sequence)]) == 7


def test_the_last_moment_is_that_of_the_highest_sequence_not_of_the_latest_date() -> None:
    found = [line(sequence=2), line(sequence=1, at="2031-01-01T00:00:00Z")]
    assert journal.last_moment(found) == MOMENT


def test_the_last_moment_is_the_latest_of_its_run() -> None:
    found = [line(sequence=2, at="2025-01-01T00:00:00Z"), line(sequence=2)]
    assert journal.last_moment(found) == MOMENT


def test_without_a_line_there_is_no_last_moment() -> None:
    assert journal.last_moment([]) is None
