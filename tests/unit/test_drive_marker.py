"""The drive's own word on which drive it is: read as what it is, a stranger's text."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flashback.core.errors import DriveError
from flashback.drive import marker
from flashback.drive.marker import Marker
from tests.unit.drives import UUID

RED = Marker("red", UUID, "2026-01-01T00:00:00Z", "here")
GOOD = marker.encode(RED).decode()
texts = st.text(max_size=60)


@given(st.builds(Marker, texts, texts, texts, texts))
def test_what_was_written_is_read_again(written: Marker) -> None:
    assert marker.decode(marker.encode(written)) == written


def test_any_reader_of_yaml_understands_it() -> None:
    assert yaml.safe_load(GOOD) == {
        "name": "red",
        "uuid": UUID,
        "created": "2026-01-01T00:00:00Z",
        "machine": "here",
        "format": 1,
    }


@given(st.binary(max_size=300))
def test_bytes_that_are_no_marker_are_refused_and_nothing_worse(content: bytes) -> None:
    with pytest.raises(DriveError):
        marker.decode(content)


keys = st.sampled_from(["name", "uuid", "created", "machine", "format", "x"])
values = st.sampled_from(
    ['"a"', "1", "2", "null", "[", "[" * 4000, "9" * 4000, "true", '"\\ud800"', "{}", "!!python/x"]
)


@given(st.lists(st.builds("{}: {}".format, keys, values), max_size=8))
def test_almost_a_marker_is_read_or_refused_and_nothing_worse(lines: list[str]) -> None:
    try:
        said = marker.decode("\n".join(lines).encode())
    except DriveError:
        return
    assert said.format == 1


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param(GOOD.replace("uuid", "Uuid"), id="no uuid"),
        pytest.param(GOOD.replace('"red"', "7"), id="a name that is no text"),
        pytest.param(GOOD.replace("format: 1", "format: one"), id="a format that is no number"),
        pytest.param(GOOD.replace("format: 1", "format: true"), id="a format that is a truth"),
        pytest.param(GOOD.replace("format: 1", "format: 0"), id="a format before the first"),
        pytest.param("\n" * 200 + GOOD, id="beyond the first hundred lines"),
        pytest.param(GOOD.replace("\n", " "), id="all in one line"),
    ],
)
def test_refused(content: str) -> None:
    with pytest.raises(DriveError, match="cannot be read"):
        marker.decode(content.encode())


def test_a_later_format_asks_for_a_newer_flashback() -> None:
    with pytest.raises(DriveError, match="format 2") as caught:
        marker.decode(GOOD.replace("format: 1", "format: 2").encode())
    assert "newer Flashback" in caught.value.hint


def test_lines_that_nobody_knows_are_passed_over() -> None:
    assert marker.decode((GOOD + "colour: blue\nhook: /bin/sh\n").encode()) == RED
