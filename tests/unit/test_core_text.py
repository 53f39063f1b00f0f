"""Numbers, times and untrusted names as people read them."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashback.core import text

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NAMES = st.binary(max_size=255).map(lambda name: name.replace(b"/", b"").replace(b"\0", b""))
MOMENTS = st.datetimes(
    min_value=datetime(1970, 1, 1),  # noqa: DTZ001 - hypothesis wants its bounds naive
    max_value=datetime(9998, 12, 31),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-11, minutes=-30))]),
)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (102348, "99.9 KiB"),
        (102390, "100 KiB"),
        (1023488, "1.0 MiB"),
        (12_900_000, "12.3 MiB"),
        (1_000_000_000_000, "931 GiB"),
        (-2048, "-2.0 KiB"),
    ],
)
def test_sizes(count, said):
    assert text.size(count) == said


@given(st.integers(min_value=0, max_value=999 * 1024**5))
def test_a_size_has_three_figures_at_most(count):
    assert re.fullmatch(r"\d{1,3} B|\d{1,2}\.\d [KMGTP]iB|\d{3} [KMGTP]iB", text.size(count))


@given(st.integers(min_value=1, max_value=2**60), st.integers(min_value=0, max_value=2**60))
def test_a_larger_size_never_reads_smaller(count, more):
    assert in_bytes(text.size(count)) <= in_bytes(text.size(count + more))


def in_bytes(said: str) -> float:
    value, unit = said.split()
    return float(value) * 1024 ** ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].index(unit)


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (12345, "12,345 files"), (-1, "-1 files")]
)
def test_numbers(count, said):
    assert text.number(count, "file") == said


def test_an_odd_plural_is_used_as_given():
    assert text.number(2, "copy", "copies") == "2 copies"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_durations(seconds, said):
    assert text.duration(seconds) == said


@pytest.mark.parametrize(
    ("passed", "said"),
    [
        (timedelta(minutes=-6), "in the future"),
        (timedelta(minutes=-4), "just now"),
        (timedelta(seconds=59), "just now"),
        (timedelta(minutes=5), "5 min ago"),
        (timedelta(hours=1), "1 hour ago"),
        (timedelta(hours=47), "47 hours ago"),
        (timedelta(days=2), "2 days ago"),
        (timedelta(days=400), "400 days ago"),
    ],
)
def test_ages(passed, said):
    assert text.age(NOW - passed, NOW) == said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (b"plain", "plain"),
        ("caf\u00e9 \u6f22".encode(), "caf\u00e9 \u6f22"),
        (b"new\nline\ttab\r", "new\\nline\\ttab\\r"),
        (b"\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        (b"\x7f", "\\x7f"),
        (b"caf\xe9", "caf\\xe9"),
        ("\u202egpj.exe".encode(), "\\u202egpj.exe"),
        ("\u200b\u2028\ufeff".encode(), "\\u200b\\u2028\\ufeff"),
        (b"back\\slash", "back\\slash"),
        ("\udcff", "\\xff"),
    ],
)
def test_names_are_made_safe_to_print(name, said):
    assert text.shown(name) == said


@given(NAMES)
def test_a_shown_name_moves_no_cursor_and_can_be_printed_anywhere(name):
    shown = text.shown(name)
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    shown.encode("utf-8")


@given(st.text())
def test_a_name_that_is_already_text_is_made_as_safe(name):
    assert not {unicodedata.category(character) for character in text.shown(name)} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(MOMENTS)
def test_a_stamp_is_read_back_as_the_same_second_in_utc(moment):
    read = text.parse_stamp(text.stamp(moment))
    assert read == moment.replace(microsecond=0)
    assert read.tzinfo is UTC


@given(MOMENTS, MOMENTS)
def test_stamps_sort_as_the_moments_do(one, other):
    assert (text.stamp(one) < text.stamp(other)) == (one.replace(microsecond=0) < other.replace(microsecond=0))


@given(MOMENTS)
def test_rfc3339_is_read_back(moment):
    assert text.parse_rfc3339(text.rfc3339(moment)) == moment.replace(microsecond=0)


@pytest.mark.parametrize(
    "said",
    [
        *("", "2026-01-02", "2026-01-02T03:04:05", "2026-01-02T03:04:05+00:00", "2026-01-02 03:04:05Z"),
        *("20260102T030405Z", "2026-01-02T24:00:00Z", "2026-01-02T03:04:05.5Z", "0001-01-01T00:00:00Z"),
        *("2026-02-30T00:00:00Z", "\u0662026-01-02T03:04:05Z", "2026-01-02T03:04:05Z\n"),
    ],
)
def test_a_moment_that_we_never_wrote_is_none(said):
    with pytest.raises(ValueError):
        text.parse_rfc3339(said)


FOREIGN = [
    "",
    "current",
    "20260102T030405",
    "20260102T030405z",
    "20260102T030405Z ",
    " 20260102T030405Z",
    "20260102T030405Z\n",
    "20261302T030405Z",
    "20260230T030405Z",
    "20260102T240000Z",
    "2026012T0304055Z",
    "\uff12026\u0660102T030405Z",
    "../20260102T030405Z",
    "20260102T030405Z.partial",
]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_name_that_we_never_gave_is_no_stamp(name):
    assert text.parse_stamp(name) is None


@given(st.text(alphabet="0123456789TZ ", max_size=18))
def test_whatever_is_taken_for_a_stamp_is_written_as_it_was(name):
    moment = text.parse_stamp(name)
    assert moment is None or text.stamp(moment) == name


def test_a_long_sentence_is_broken_between_words():
    assert text.folded("  Next: one two three four", 22) == "  Next: one two three\n    four"


def test_a_command_between_backticks_stays_in_one_piece():
    assert text.folded("see `flashback drive list` for more than fits", 30) == (
        "see `flashback drive list` for\n  more than fits"
    )
    assert text.folded("they are in this list: `flashback drive list`", 30) == (
        "they are in this list:\n  `flashback drive list`"
    )


def test_without_a_terminal_nothing_is_broken():
    assert text.folded("word " * 50, None) == "word " * 50
