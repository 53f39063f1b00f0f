"""The exclusion rules' language, case by case; tests/tools/test_filter_against_rsync.py asks rsync itself."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flashback.config.values import Rule
from flashback.core.errors import ConfigError
from flashback.walk.filter import Filter, says_the_same_of_a_file

MATCHES = [
    (b"name", b"name"),
    (b"name", b"deep/er/name"),
    (b"*.o", b"a/b.o"),
    (b"*.o", b".o"),
    (b"lib*", b"x/library"),
    (b"*", b"anything"),
    (b"/top", b"top"),
    (b"a/b", b"x/a/b"),
    (b"a/b", b"a/b"),
    (b"/a/b", b"a/b"),
    (b"a/*.c", b"x/a/y.c"),
    (b"?", b"\xff"),
    (b"?", b"\n"),
    (b"[a-c]x", b"bx"),
    (b"[!a]", b"b"),
    (b"[^a]", b"b"),
    (b"[]]", b"]"),
    (b"[!]]", b"x"),
    (b"[a-]", b"-"),
    (b"[[:digit:]]", b"7"),
    (b"[[:]", b"["),
    (b"[\\]]", b"]"),
    (b"[+--]", b","),
    (b"\\*", b"*"),
    (b"back\\slash", b"back\\slash"),
    (b"back\\\\slash*", b"back\\slash"),
    (b"**/x", b"x"),
    (b"**/x", b"a/b/x"),
    (b"**/a/*", b"q/a/b"),
    (b"x/**", b"y/x/z/u"),
    (b"a**c", b"z/a/b/c"),
    (b"/a/**/c", b"a/b/b/c"),
    (b"**c", b"a/b/c"),
    (b"dir/***", b"x/dir/y"),
    (b"a*b*c", b"aXbXbXc"),
    (b"a*a*a*b", b"aaaaaaab"),
    (b"[**]", b"*"),
]
MISSES = [
    (b"name", b"names"),
    (b"name", b"name/x"),
    (b"/top", b"x/top"),
    (b"a/b", b"ba/b"),
    (b"/a/b", b"x/a/b"),
    (b"a*", b"a/b"),
    (b"*/b", b"b"),
    (b"/*/b", b"b"),
    (b"*/**", b"b"),
    (b"?", b"ab"),
    (b"[a", b"a"),
    (b"[[:unknown:]]", b"u"),
    (b"a*\\", b"a\\"),
    (b"back\\\\slash", b"back\\slash"),
    (b"/a/**/c", b"a/c"),
    (b"x/**", b"x"),
    (b"a//b", b"a/b"),
    (b"/", b"a"),
    (b"a[/]b", b"a/b"),
    (b"a[/c]b", b"x/acb"),
    (b"[!a]", b"a"),
    (b"[[:digit:]]", b"\xb2"),
    (b"a[!x]b**", b"a/bc"),
    (b"**a[/]b", b"a/b"),
]

PATTERNS = st.lists(st.text("ab*?/[]!", min_size=1, max_size=6).map(str.encode), min_size=1, max_size=4)
PATHS = st.lists(st.sampled_from([b"a", b"b", b"ab"]), min_size=1, max_size=3).map(b"/".join)


@pytest.mark.parametrize(("pattern", "path"), MATCHES)
def test_a_pattern_matches(pattern, path):
    assert Filter([Rule(pattern)]).excluded(path, is_directory=False)


@pytest.mark.parametrize(("pattern", "path"), MISSES)
def test_a_pattern_does_not_match(pattern, path):
    assert not Filter([Rule(pattern)]).excluded(path, is_directory=False)


@pytest.mark.parametrize("pattern", [b"build/", b"*/", b"b*d/", b"/build/", b"**/build/", b"**build/", b"build/***"])
def test_a_pattern_for_directories_matches_no_file(pattern):
    rules = Filter([Rule(pattern)])
    assert rules.excluded(b"build", is_directory=True)
    assert not rules.excluded(b"build", is_directory=False)


@given(patterns=PATTERNS, path=PATHS)
@example(patterns=[b"a/***"], path=b"a")
@example(patterns=[b"a/", b"a"], path=b"a")
def test_a_rule_that_is_said_to_say_the_same_of_a_file_does(patterns, path):
    filter_ = Filter([Rule(pattern) for pattern in patterns])
    rule = filter_.verdict(path, is_directory=True)
    if rule is not None and says_the_same_of_a_file(rule):
        assert filter_.verdict(path, is_directory=False) is rule


@given(patterns=PATTERNS, path=PATHS)
def test_what_no_rule_meets_as_a_directory_none_meets_as_a_file(patterns, path):
    filter_ = Filter([Rule(pattern) for pattern in patterns])
    if filter_.verdict(path, is_directory=True) is None:
        assert filter_.verdict(path, is_directory=False) is None


def test_the_first_rule_that_matches_decides_whatever_its_form():
    rules = [Rule(b"keep.o", include=True), Rule(b"*.o"), Rule(b"**e**o", include=True), Rule(b"/a/keep.o"), Rule(b"*")]
    filter_ = Filter(rules)
    assert filter_.verdict(b"a/keep.o", is_directory=False) is rules[0]
    assert filter_.verdict(b"a/other.o", is_directory=False) is rules[1]
    assert filter_.verdict(b"e/foo", is_directory=False) is rules[2]
    assert filter_.verdict(b"x", is_directory=False) is rules[4]


def test_an_include_rule_that_decides_excludes_nothing():
    assert not Filter([Rule(b"a", include=True), Rule(b"a")]).excluded(b"x/a", is_directory=False)


def test_no_rules_exclude_nothing():
    assert Filter([]).verdict(b"a/b", is_directory=True) is None


def test_what_is_said_within_a_directory_is_what_is_said_of_the_whole_path():
    filter_ = Filter([Rule(b"/a/b/c*d"), Rule(b"b/e/"), Rule(b"a/**z")])
    place = filter_.within(b"a/b")
    assert place.file(b"cd") is filter_.rules[0]
    assert place.directory(b"e") is filter_.rules[1]
    assert place.file(b"e") is None
    assert place.file(b"yz") is filter_.rules[2]


@pytest.mark.parametrize("pattern", [b"", b"a\0b", b"x" * 4096])
def test_a_pattern_that_rsync_would_not_take_is_refused_with_its_line(pattern):
    with pytest.raises(ConfigError, match=r"rules\.txt:7"):
        Filter([Rule(pattern, file="rules.txt", line=7)])


def test_a_hostile_pattern_is_answered_without_trying_every_division():
    many = Filter([Rule(b"a*" * 60 + b"b"), Rule(b"**a" * 40 + b"**b")])
    assert not many.excluded(b"a" * 255, is_directory=False)
