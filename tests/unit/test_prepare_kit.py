"""The paper kit: everything that a stranger needs on one page, and the recovery key only if it was given."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import segno
from hypothesis import given
from hypothesis import strategies as st

from flashback.core.errors import UsageError
from flashback.core.secret import Secret
from flashback.prepare import kit
from flashback.prepare.kit import Kit, typed_key
from flashback.prepare.recovery import new_recovery_key
from tests.unit.drives import UUID

KEY = Secret(b"hdlvbuku-knhfnfik-errejbrl-btfkjjnj-gkfnklri-evifivvi-lhlrgfje-ntcchjji")
RED = Kit("red", UUID, "2026-01-02", "offsite: parents", ("documents",), "6e9695b8-a925-4a8b-84bc-8df68e75f86a", KEY)
BLANK = replace(RED, key=None)


class Visible(HTMLParser):
    """The text of a page, and whatever it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.fetched: list[str] = []

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in {"src", "href"}]


def visible(page: str) -> Visible:
    parser = Visible()
    parser.feed(page)
    return parser


@pytest.mark.parametrize("page", [kit.text(RED), " ".join(visible(kit.page(RED)).words)], ids=["text", "HTML"])
def test_the_page_has_key_uuids_place_and_the_six_commands(page: str) -> None:
    for words in ("hdlvbuku-knhfnfik-errejbrl-btfkjjnj-", "gkfnklri-evifivvi-lhlrgfje-ntcchjji", UUID, RED.filesystem,
                  "offsite: parents", *(command for command, _what in RED.commands)):  # fmt: skip
        assert words in page
    assert len(RED.commands) == 6
    assert "-o ro,rescue=nologreplay" in page


def test_the_key_stands_in_two_lines_that_joined_are_the_key() -> None:
    lines = re.findall(r"^ {4}([a-z-]{35,36})$", kit.text(RED), re.MULTILINE)
    assert "".join(lines).encode() == KEY.reveal()


def test_the_text_fits_one_page() -> None:
    lines = kit.text(RED).splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 120


def test_the_code_of_blocks_is_the_code_of_the_key() -> None:
    wanted = [list(row) for row in segno.make(KEY.reveal().decode(), error="m", micro=False).matrix_iter(border=4)]
    lines = [line for line in kit.text(RED).splitlines() if set(line) & set("█▀▄")]
    width = len(wanted[0])
    read = []
    for line in lines:
        padded = line.ljust(width)
        read += [[int(sign in "▀█") for sign in padded], [int(sign in "▄█") for sign in padded]]
    dark = [row for row in wanted if any(row)]
    assert read[: len(dark)] == dark or read[1 : len(dark) + 1] == dark


@pytest.mark.parametrize("page", [kit.text(BLANK), kit.page(BLANK)], ids=["text", "HTML"])
def test_without_a_key_there_is_a_line_to_write_it_on(page: str) -> None:
    assert kit.TO_FILL_IN in page
    assert "svg" not in page.partition("<body>")[2]
    assert not set(page) & set("█▀▄")


def test_the_html_needs_nothing_from_elsewhere() -> None:
    page = kit.page(RED)
    assert visible(page).fetched == []
    assert not re.search(r"url\(|@import|<script", page)


def test_a_place_cannot_write_html() -> None:
    page = kit.page(replace(RED, place="<script>alert(1)</script>"))
    assert "<script" not in page


def test_a_kit_does_not_show_its_key_by_itself() -> None:
    assert "hdlvbuku" not in repr(RED)


@pytest.mark.parametrize(
    "typed",
    [
        "hdlvbuku-knhfnfik-errejbrl-btfkjjnj-\ngkfnklri-evifivvi-lhlrgfje-ntcchjji\n",
        "  HDLVBUKU-KNHFNFIK-ERREJBRL-BTFKJJNJ-GKFNKLRI-EVIFIVVI-LHLRGFJE-NTCCHJJI ",
        "hdlvbuku knhfnfik errejbrl btfkjjnj gkfnklri evifivvi lhlrgfje ntcchjji",
    ],
)
def test_a_key_may_be_typed_as_it_stands_on_paper(typed: str) -> None:
    assert typed_key(typed.encode()) == KEY


@given(text=st.binary(max_size=100))
def test_what_is_no_key_is_refused_without_being_said_again(text: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        typed_key(text)
    assert "groups" in caught.value.hint


def test_every_new_key_is_one() -> None:
    key = new_recovery_key()
    assert typed_key(key.reveal()) == key
