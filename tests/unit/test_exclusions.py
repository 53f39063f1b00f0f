"""Exclusion files: what each line means and which lines cannot be used (what rsync does is held in tests/tools)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashback.config.exclusions import doubtful_lines, read_rules
from flashback.config.sample import first_exclusions
from flashback.config.values import Rule
from flashback.core.errors import ConfigError

FILE = Path("/e.txt")


def rules(text: bytes) -> list[tuple[bytes, bool]]:
    return [(rule.pattern, rule.include) for rule in read_rules(FILE, text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", []),
        (b"\n\n", []),
        (b"# comment\n; comment\n", []),
        (b" # no comment\n", [(b" # no comment", False)]),
        (b"a\nb", [(b"a", False), (b"b", False)]),
        (b"a\r\nb\r\n", [(b"a", False), (b"b", False)]),
        (b"a\rb", [(b"a", False), (b"b", False)]),
        (b"- a\n+ b\n", [(b"a", False), (b"b", True)]),
        (b"-  a \n", [(b" a ", False)]),
        (b"-a\n+b\n-\n+\n-\ta\n", [(b"-a", False), (b"+b", False), (b"-", False), (b"+", False), (b"-\ta", False)]),
        (b"- - a\n- #a\n- !\n", [(b"- a", False), (b"#a", False), (b"!", False)]),
        (b"a\n!\nb\n", [(b"b", False)]),
        (b"a\n!b\n! \n", [(b"a", False), (b"!b", False), (b"! ", False)]),
        (b"[]]\n[!]]\n\\[a\n[\\]]\n[[:alpha:]]\n[[:]\n[a[:digit:]-]\n", [
            (b"[]]", False), (b"[!]]", False), (b"\\[a", False), (b"[\\]]", False), (b"[[:alpha:]]", False), (b"[[:]", False),
            (b"[a[:digit:]-]", False),
        ]),
        (b"show notes.txt\nmerge results\nrisk\nhide-and-seek/*\nP x\n. x\n", [
            (b"show notes.txt", False), (b"merge results", False), (b"risk", False), (b"hide-and-seek/*", False), (b"P x", False),
            (b". x", False),
        ]),
        (b"- include *.c\n", [(b"include *.c", False)]),
        (b"\xff\xfe*\n", [(b"\xff\xfe*", False)]),
    ],
)  # fmt: skip
def test_a_line_means_what_it_means_to_rsync(text: bytes, expected: list[tuple[bytes, bool]]) -> None:
    assert rules(text) == expected


def test_a_rule_knows_where_it_comes_from() -> None:
    assert read_rules(FILE, b"# c\r\n\r\n+ a\r\n")[0] == Rule(b"a", include=True, file="/e.txt", line=3)


def test_rules_follow_those_of_the_files_before_until_an_exclamation_mark() -> None:
    above = read_rules(Path("/one"), b"a\n")
    assert [rule.origin for rule in read_rules(FILE, b"b\n", above)] == ["/one:1", "/e.txt:1"]
    assert [rule.origin for rule in read_rules(FILE, b"!\nb\n", above)] == ["/e.txt:2"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"a\n- \n", "/e.txt:2:3: a pattern is missing after '- '"),
        (b"+ \n", "/e.txt:1:3: a pattern is missing"),
        (b"ab\0c\n", "/e.txt:1:3: a NUL byte"),
        (b"\xef\xbb\xbfa\n", "/e.txt:1:1: a byte order mark"),
        (b"x" * 4096 + b"\n", "/e.txt:1:1: the pattern is longer than any path (4096 bytes)"),
        (b"a[b\n", "/e.txt:1:2: '[' is never closed"),
        (b"- a[b\n", "/e.txt:1:4: '[' is never closed"),
        (b"[]a\n", "/e.txt:1:1: '[' is never closed"),
        (b"[!]\n", "/e.txt:1:1: '[' is never closed"),
        (b"[a\\]\n", "/e.txt:1:1: '[' is never closed"),
        (b"[[:alpha:]\n", "/e.txt:1:1: '[' is never closed"),
        (b"[a]/[b\n", "/e.txt:1:5: '[' is never closed"),
        (b"[[:foo:]]\n", "/e.txt:1:1: there is no class [:foo:]"),
        (b"include *.c\n", "/e.txt:1:1: rsync takes the filter rule 'include' literally"),
        (b"merge /etc/rules\n", "/e.txt:1:1: rsync takes the filter rule 'merge' literally"),
        (b"dir-merge .rules\n", "/e.txt:1:1: rsync takes the filter rule 'dir-merge' literally"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(text: bytes, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_rules(FILE, text)
    (line,) = caught.value.findings
    assert line.startswith(expected)


def test_all_bad_lines_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        read_rules(FILE, b"[a\nfine\n- \n\0\n")
    assert [line.split(": ")[0] for line in caught.value.findings] == ["/e.txt:1:1", "/e.txt:3:3", "/e.txt:4:1"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"a \n", "1:2: blanks at the end"),
        (b"\ta\n", "1:1: blanks at the beginning"),
        (b"*.o  # objects\n", "1:4: a comment stands on a line of its own"),
        (b"~/Downloads\n", "1:1: '~' and '$NAME' are not replaced"),
        (b"$HOME/x\n", "1:1: '~' and '$NAME' are not replaced"),
        (b"*.{o,a}\n", "1:3: rsync has no '{a,b}'"),
        (b"./a\n", "1:1: matches nothing"),
        (b"a//b\n", "1:2: matches nothing"),
        (b"a/../b\n", "1:2: matches nothing"),
        (b"/\n", "1:1: matches nothing"),
        (b"*\\\n", "1:1: matches nothing: a backslash"),
        (b"[a/]b\n", "1:1: a set in"),
        (b"\\#a\n", "1:1: without a wildcard a backslash"),
        (b"*\n", "1:1: this is every file"),
        (b"show notes.txt\n", "1:1: rsync takes this as a name"),
        (b"P x\n", "1:1: rsync takes this as a name"),
        (b"-\ta\n", "1:1: a rule needs a blank"),
        (b"!a\n", "1:1: '!' does not turn a pattern round"),
        (b"/home/alice/Documents/x\n", "1:1: a leading '/' means the master, /home/alice/Documents"),
    ],
)
def test_a_doubtful_line_is_kept_and_named(text: bytes, expected: str) -> None:
    assert len(rules(text)) == 1
    lines = doubtful_lines(FILE, text, master=Path("/home/alice/Documents"))
    assert [line.removeprefix("/e.txt:")[: len(expected)] for line in lines] == [expected]


@pytest.mark.parametrize(
    "text",
    [
        b"*.o\n",
        b"/a/b\n",
        b"a/**\n",
        b"\\[a\n",
        b"- show notes.txt\n",
        b"a b\n",
        b".config/*/Cache/\n",
        b"!\n",
        b"...\n",
        b"..a/b..\n",
        b"*\\\\\n",
    ],
)
def test_an_ordinary_line_is_not_doubtful(text: bytes) -> None:
    assert doubtful_lines(FILE, text, master=Path("/home/alice")) == ()


def test_the_example_has_no_bad_and_no_doubtful_line() -> None:
    text = first_exclusions().encode()
    assert len(read_rules(FILE, text)) > 100
    assert doubtful_lines(FILE, text) == ()


def test_what_the_example_offers_can_be_switched_on_by_deleting_a_sign() -> None:
    lines = first_exclusions().splitlines()
    offered = [line[1:] for line in lines if line.startswith("#") and line[1:2] not in {" ", ""}]
    assert "*.qcow2" in offered
    assert [rule.pattern.decode() for rule in read_rules(FILE, "\n".join(offered).encode())] == offered


@given(st.binary(max_size=80) | st.text("[]!^\\:-ab/*#;+ \n\r\0", max_size=30).map(str.encode))
def test_no_bytes_do_anything_but_give_rules_or_findings(text: bytes) -> None:
    doubtful_lines(FILE, text)
    found: tuple[str, ...] | None = None
    try:
        read_rules(FILE, text)
    except ConfigError as error:
        found = error.findings
    assert found is None or found


@given(st.lists(st.binary(min_size=1, max_size=20).filter(lambda name: not set(name) & set(b"[\0\r\n")), max_size=8))
def test_any_pattern_with_a_sign_in_front_is_read_as_it_stands(patterns: list[bytes]) -> None:
    text = b"".join(b"- " + pattern + b"\n" for pattern in patterns if not pattern.startswith(b"\xef\xbb\xbf"))
    assert [pattern for pattern, _ in rules(text)] == [
        pattern for pattern in patterns if not pattern.startswith(b"\xef\xbb\xbf")
    ]
