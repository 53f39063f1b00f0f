"""Durations, sizes, shares and counts: what is written reads back as the same value, traps are refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashback.config.units import read_count, read_duration, read_space, write_duration, write_space


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("30min", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(days=14)),
    ],
)
def test_a_duration_has_a_number_and_a_unit(text: str, value: timedelta) -> None:
    assert read_duration(text) == value


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [("7", "7d"), ("7 days", "7d"), ("07d", None), ("30m", "30min"), ("2 weeks", "2w"), ("1.5d", None), ("0d", None),
     ("-7d", None), ("12:30", None), ("99999999w", None), ("٣d", None), ("", None)],
)  # fmt: skip
def test_what_is_not_a_duration_is_refused_with_the_nearest_one(text: str, suggestion: str | None) -> None:
    with pytest.raises(ValueError, match="expected a duration") as caught:
        read_duration(text)
    assert suggestion is None or f"did you mean {suggestion}?" in str(caught.value)


@given(st.integers(min_value=1, max_value=36_525 * 1440))
def test_every_duration_that_is_written_reads_back(minutes: int) -> None:
    value = timedelta(minutes=minutes)
    assert read_duration(write_duration(value)) == value


def test_a_week_is_written_in_days_and_a_fortnight_in_weeks() -> None:
    assert (write_duration(timedelta(days=7)), write_duration(timedelta(days=14))) == ("7d", "2w")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5%", 0.05),
        ("0%", 0.0),
        ("2.5%", 0.025),
        ("10GiB", 10 << 30),
        ("1TiB", 1 << 40),
        ("0B", 0),
        ("512MiB", 512 << 20),
    ],
)
def test_a_share_is_a_fraction_and_a_size_is_bytes(text: str, value: float) -> None:
    read = read_space(text)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [("5", "5%"), ("10G", "10GiB"), ("10 GB", "10GiB"), ("10gib", "10GiB"), ("100%", None), ("-5%", None), ("1e3%", None),
     ("5 %", None), ("1.5GiB", None), ("99999999TiB", None), ("0x10B", None)],
)  # fmt: skip
def test_what_is_neither_share_nor_size_is_refused(text: str, suggestion: str | None) -> None:
    with pytest.raises(ValueError) as caught:
        read_space(text)
    assert suggestion is None or f"did you mean {suggestion}?" in str(caught.value)


@pytest.mark.parametrize("text", ["100", "500", "0500"])
def test_a_share_that_cannot_be_is_not_proposed(text: str) -> None:
    with pytest.raises(ValueError, match="expected a share") as caught:
        read_space(text)
    assert "did you mean" not in str(caught.value)


@given(st.integers(min_value=0, max_value=1 << 50) | st.floats(min_value=0, max_value=0.999999))
def test_every_space_that_is_written_reads_back(value: float) -> None:
    read = read_space(write_space(value))
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    "text", ["010", "1_000", "0x10", "12:30", "+3", "3.0", "1e3", "-1", "", "9999999999", "three", "٣"]
)
def test_yaml_1_1_numbers_and_other_traps_are_no_counts(text: str) -> None:
    with pytest.raises(ValueError):
        read_count(text)


@given(st.integers(min_value=0, max_value=1_000_000))
def test_plain_digits_are_a_count(count: int) -> None:
    assert read_count(str(count)) == count


@given(st.text(max_size=40), st.sampled_from([read_count, read_duration, read_space]))
def test_no_text_makes_a_reader_fail_otherwise_than_with_a_sentence(text: str, reader: Callable[[str], object]) -> None:
    sentence = "read"
    try:
        reader(text)
    except ValueError as problem:
        sentence = str(problem)
    assert sentence.isprintable()
