"""Which file of the configuration was which: a name for each on the drive, and an index that is believed in nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashback.drive.configuration import FILE_NAME, Index, decode, encode, names_for

MAIN = Path("/etc/flashback/flashback.yaml")
PATHS = st.lists(
    st.text(min_size=1, max_size=80).filter(lambda t: "\0" not in t).map(lambda t: Path("/x") / t.strip("/"))
)


def test_files_keep_their_names() -> None:
    names = names_for(MAIN, [Path("/etc/flashback/exclusions.txt")])
    assert list(names) == ["flashback.yaml", "exclusions.txt"]


def test_two_files_of_one_name_are_both_kept() -> None:
    names = names_for(MAIN, [Path("/a/exclusions.txt"), Path("/b/exclusions.txt"), Path("/a/exclusions.txt")])
    assert names == {
        "flashback.yaml": MAIN,
        "exclusions.txt": Path("/a/exclusions.txt"),
        "exclusions-2.txt": Path("/b/exclusions.txt"),
    }


def test_an_exclusion_file_called_like_the_configuration_does_not_take_its_place() -> None:
    assert names_for(MAIN, [Path("/b/flashback.yaml")])["flashback.yaml"] == MAIN


@given(others=PATHS)
def test_every_file_has_a_name_of_its_own_that_is_read_again(others: list[Path]) -> None:
    names = names_for(MAIN, others)
    assert set(names.values()) == {MAIN, *others}
    assert all(FILE_NAME.fullmatch(name) for name in names)
    assert len({name.casefold() for name in names}) == len(names)
    assert "index.json" not in names


def test_what_was_said_is_read_again() -> None:
    names = names_for(MAIN, [Path("/b/\udcff.txt")])
    assert decode(encode(names)) == Index("flashback.yaml", {name: str(path) for name, path in names.items()})


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b'{"configuration": "x", "files": {}}', b'{"configuration": 1, "files": {"a": "/a"}}',
     b'{"configuration": "a", "files": {"a": "relative"}}', b'{"configuration": "../a", "files": {"../a": "/a"}}',
     b"[" * 100000],
)  # fmt: skip
def test_what_is_no_index_is_passed_over(content: bytes) -> None:
    assert decode(content) is None


@given(said=st.recursive(st.none() | st.integers() | st.text(), lambda i: st.lists(i) | st.dictionaries(st.text(), i)))
def test_no_index_stops_us(said: object) -> None:
    decode(json.dumps({"configuration": said, "files": said}).encode())
