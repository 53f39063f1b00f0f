"""Searching: what is found is what somebody finds who looks at every path of every state."""

from __future__ import annotations

import fnmatch
import os
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashback.catalogue.find import find
from flashback.catalogue.lookup import Lookup
from flashback.catalogue.match import matcher
from flashback.catalogue.seen import Kind, Seen, order
from flashback.core.errors import UsageError
from tests.unit.histories import DRIVES, NAMES, World, lived, steps

texts = st.sampled_from([os.fsdecode(name) for name in NAMES] + ["", "x", "K", "é"])
wildcards = st.lists(st.one_of(texts, st.sampled_from(["*", "?", "[ab]", "[!a]", "\\*"])), min_size=1, max_size=4)


def says(pattern: str, text: str, **how) -> bool:
    wanted = matcher(pattern, **how)
    name = text.rpartition("/")[2]
    piece = os.fsencode(name).lower() if wanted.ignore_case else os.fsencode(name)
    return wanted.literal in piece and bool(wanted.name(name)) and (wanted.path is None or bool(wanted.path(text)))


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("thesis", "/h/my thesis.odt", True),
        ("thesis", "/h/thesis/other", False),
        ("*.odt", "/h/a.odt", True),
        ("*.odt", "/h/a.odt.bak", False),
        ("?", "/h/é", True),
        ("?", "/h/\udcff", True),
        ("??", "/h/é", False),
        ("[ab]x", "/h/ax", True),
        ("[!ab]x", "/h/ax", False),
        ("[]]x", "/h/]x", True),
        ("[x", "/h/[x", True),
        ("a\\*", "/h/a*", True),
        ("a\\*", "/h/ab", False),
        ("*\n*", "/h/a\nb", True),
        ("d/x", "/h/d/xyz", True),
        ("d/x", "/h/xyz", False),
        ("d/*.c", "/h/e/d/a.c", True),
        ("d/*.c", "/h/d/e/a.c", False),
        ("d/**/*.c", "/h/d/e/f/a.c", True),
        ("/h/*", "/h/a", True),
        ("/h/*", "/x/h/a", False),
        ("/h/**", "/h/a/b", True),
    ],
)
def test_a_pattern_means_what_the_reference_says(pattern, text, expected) -> None:
    assert says(pattern, text) is expected


def test_capitals_matter_unless_they_are_said_not_to() -> None:
    assert not says("THESIS", "/h/thesis")
    assert says("THESIS", "/h/thesis", ignore_case=True)
    assert says("ÉTÉ", "/h/été", ignore_case=True)
    assert says("*.JPG", "/h/a.jpg", ignore_case=True)


def test_a_regular_expression_may_match_anywhere_in_the_path() -> None:
    assert says("^/h/.*[.]odt$", "/h/x/a.odt", regex=True)
    assert not says("^a", "/h/a", regex=True)


@pytest.mark.parametrize("pattern", ["(", "[", "*a"])
def test_an_expression_that_is_none_is_said_to_be_that(pattern) -> None:
    with pytest.raises(UsageError, match="no regular expression"):
        matcher(pattern, regex=True)


@given(wildcards, texts)
def test_without_backslashes_wildcards_are_those_of_a_shell(parts, name) -> None:
    pattern = "".join(parts)
    if (
        "\\" in pattern
        or "/" in pattern
        or not any(sign in pattern for sign in "*?[")
        or "[" in re.sub(r"\[!?ab?\]", "", pattern)
    ):
        return
    assert bool(says(pattern, f"/h/{name}")) == fnmatch.fnmatchcase(name, pattern)


def brute(world: World, meant) -> dict:
    """Every path that is meant, with its drives, their newest states and the number of contents; from full listings."""
    found: dict = {}
    for (drive, master), states in world.states.items():
        for state, files in states.items():
            for path, seen in files.items():
                if meant(drive, f"/home/{master}" + ("/" if path else "") + os.fsdecode(path), seen):
                    place = found.setdefault((master, path), {}).setdefault(drive, (set(), []))
                    place[0].add(seen.content)
                    place[1].append(state)
    return {key: {drive: (len(a), max(b)) for drive, (a, b) in each.items()} for key, each in found.items()}


def answered(found) -> dict:
    return {
        (each.master, each.path): {one.tree.drive: (one.versions, one.newest.name) for one in each.drives}
        for each in found
    }


@given(steps(), wildcards, st.booleans(), st.booleans(), st.sampled_from(["", "docs/", "**/", "/home/docs/"]))
@settings(max_examples=150, deadline=None)
def test_what_is_found_is_what_a_search_of_all_states_finds(done, parts, ignore_case, regex, before) -> None:
    pattern = before + "".join(parts)
    if regex:
        pattern = re.escape("".join(parts))
    if not pattern.strip("/"):
        return
    with tempfile.TemporaryDirectory() as folder:
        world = lived(Path(folder) / "catalogue", done)
        wanted = matcher(pattern, regex=regex, ignore_case=ignore_case)

        def meant(_drive, path, seen) -> bool:
            if wanted.directories and seen.kind != Kind.DIRECTORY:
                return False
            name = path.rpartition("/")[2] if seen.path else ""
            return bool(wanted.name(name)) and (wanted.path is None or bool(wanted.path(path)))

        with world.shelves.index() as index:
            found = find(Lookup(index), wanted)
        assert answered(found) == brute(world, meant)
        assert [(each.master, order(each.path)) for each in found] == sorted(
            (each.master, order(each.path)) for each in found
        )


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        *(("[a-c]x", "bx", True), ("[c-a]x", "bx", False), ("[!c-a]x", "bx", True), ("[c-ab]x", "bx", True)),
        *(("[a-]x", "-x", True), ("[-a]x", "-x", True), ("[]x]y", "]y", True), ("[!]x]y", "]y", False)),
        *(("*[?\\-[ab]", "a", True), ("[\\-\\]", "\\", True), ("[a&&b]", "&", True), ("[[]", "[", True)),
    ],
)
def test_what_stands_in_brackets_is_meant_as_in_a_shell(pattern, name, fits) -> None:
    assert bool(matcher(pattern).name(name)) is fits


def test_a_master_itself_is_found_by_its_whole_path(tmp_path) -> None:
    world = World(tmp_path / "catalogue")
    world.run(DRIVES[0], "docs", {b"": Seen(b"", int(Kind.DIRECTORY), 0o755)})
    with world.shelves.index() as index:
        assert [each.path for each in find(Lookup(index), matcher("/home/docs/"))] == [b""]


@given(steps(), st.sampled_from([None, *DRIVES]), st.sampled_from([None, datetime(2001, 9, 9, tzinfo=UTC)]))
@settings(max_examples=60, deadline=None)
def test_a_drive_and_a_date_narrow_it_down(done, drive, since) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = lived(Path(folder) / "catalogue", done)

        def meant(where, _path, seen) -> bool:
            return drive in {None, where} and (since is None or seen.mtime_ns >= since.timestamp() * 10**9)

        with world.shelves.index() as index:
            found = find(Lookup(index), matcher("*"), since=since, drives=None if drive is None else {drive})
        assert answered(found) == brute(world, meant)


def test_names_are_found_beyond_the_first_piece(tmp_path) -> None:
    world = World(tmp_path / "catalogue")
    files = {f"{number:05d}-{'x' * 50}".encode(): Seen(b"", int(Kind.FILE), 0o644, size=1) for number in range(4000)}
    world.run(DRIVES[0], "docs", files)
    with world.shelves.index():
        pass
    world.run(DRIVES[0], "docs", files | {b"03999-and-more": Seen(b"", int(Kind.FILE), 0o644, size=1)})
    with world.shelves.index() as index:
        assert index.rows("SELECT count(*) FROM names")[0][0] > 2
        for wanted in ("00000-", "02345-", "03999-x", "03999-and"):
            found = find(Lookup(index), matcher(wanted))
            assert [each.path.startswith(wanted.encode()) for each in found] == [True]
