"""The exclusion rules are compared with the real rsync over random trees and random rules.

FLASHBACK_EXAMPLES says how many trees (150 unless told); one tree holds some thirty paths, each of which is a case.
"""

import os
import re
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flashback.config.values import Rule
from flashback.walk.filter import Filter

pytestmark = pytest.mark.tools

EXAMPLES = int(os.environ.get("FLASHBACK_EXAMPLES", "150"))
ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}

letters = st.sampled_from([b"a", b"b", b"a", b"b", b"c", b"A", b"7"])
oddities = st.sampled_from(
    [
        b"*",
        b"?",
        b"[",
        b"]",
        b"\\",
        b"!",
        b"^",
        b"-",
        b"\n",
        b" ",
        b"#",
        b"+",
        b".",
        b"\xff",
        b"\xc3\xa9",
        b":",
        b";",
        b"~",
    ]
)
names = st.lists(st.one_of(letters, letters, oddities), min_size=1, max_size=4).map(b"".join)
names = names.filter(lambda name: name not in {b".", b".."})
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)
trees = st.sets(paths, min_size=8, max_size=30)

brackets = st.builds(
    lambda sign, members: b"[" + sign + b"".join(members) + b"]",
    st.sampled_from([b"", b"", b"!", b"^"]),
    st.lists(
        st.one_of(
            letters,
            oddities,
            st.sampled_from(
                [b"a-c", b"[:alpha:]", b"[:upper:]", b"[:punct:]", b"[:space:]", b"[:bad:]", b"[:", b":]", b"/"]
            ),
            st.sampled_from([b"\\]", b"\\-", b"+--", b"[-a", b"\\a-\\c", b"[:digit:]", b"[:cntrl:]", b"[:print:]"]),
        ),
        min_size=0,
        max_size=4,
    ),
)
wildcards = st.sampled_from(
    [b"*", b"*", b"**", b"***", b"?", b"/", b"/", b"/**", b"**/", b"/***", b"//", b"\\*", b"\\[", b"\\"]
)
fragments = st.one_of(letters, letters, wildcards, wildcards, oddities, brackets)
invented = st.lists(fragments, min_size=1, max_size=7).map(b"".join)


@st.composite
def taken_from(draw, tree):
    """A path of the tree, or its end, with something in it replaced by a fragment."""
    path = draw(st.sampled_from(sorted(tree)))
    parts = path.split(b"/")
    text = b"/".join(parts[draw(st.integers(0, len(parts) - 1)) :])
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 3)))
        text = text[:start] + draw(fragments) + text[end:]
    return (
        draw(st.sampled_from([b"", b"", b"/", b"**/"]))
        + text
        + draw(st.sampled_from([b"", b"", b"", b"/", b"/***", b"/**", b"*"]))
    )


@st.composite
def cases(draw):
    tree = draw(trees)
    patterns = draw(st.lists(st.one_of(taken_from(tree), taken_from(tree), invented), min_size=1, max_size=5))
    return tree, [
        Rule(pattern, include=draw(st.sampled_from([False, False, False, True]))) for pattern in patterns if pattern
    ]


def planted(root, tree):
    """Make the tree; a path that another one continues is a directory, as is every third. Return path → directory?"""
    shutil.rmtree(root, ignore_errors=True)
    made = {}
    for number, path in enumerate(sorted(tree)):
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            made[b"/".join(parts[:depth])] = True
        made.setdefault(path, number % 3 == 0)
    os.mkdir(root)
    for path, is_directory in sorted(made.items()):
        full = os.fsencode(root) + b"/" + path
        if is_directory:
            os.mkdir(full)
        else:
            os.close(os.open(full, os.O_CREAT | os.O_WRONLY))
    return made


def transferred(root, nowhere, rules):
    """The paths that rsync would copy."""
    listed = b"".join((b"+ " if rule.include else b"- ") + rule.pattern + b"\0" for rule in rules)
    argv = ["rsync", "-rn", "--out-format=%n", "-0", "--exclude-from=-", "--", f"{root}/", f"{nowhere}/"]
    answer = subprocess.run(argv, input=listed, capture_output=True, env=ENVIRONMENT, check=True)
    lines = [
        re.sub(rb"\\#([0-3][0-7]{2})", lambda m: bytes([int(m[1], 8)]), line) for line in answer.stdout.split(b"\n")
    ]
    return {line.removesuffix(b"/") for line in lines} - {b"", b"."}


def left_by(rules, made):
    """The paths that our filter leaves, where nothing below an excluded directory is looked at."""
    filter_ = Filter(rules)
    kept = {b""}
    for path, is_directory in sorted(made.items()):
        if path.rpartition(b"/")[0] in kept and not filter_.excluded(path, is_directory=is_directory):
            kept.add(path)
    return kept - {b""}


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    room = tmp_path_factory.mktemp("filter")
    (room / "nowhere").mkdir()
    return room


@settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(case=cases())
@example(case=({b"a/b", b"b", b"c/d/b"}, [Rule(b"*/b")]))
@example(case=({b"a/x/b", b"x/b", b"x"}, [Rule(b"x/***")]))
@example(case=({b"a\\b", b"a\\\\b"}, [Rule(b"a\\\\b")]))
@example(case=({b"a/b", b"a[/]b"}, [Rule(b"a[/]b")]))
@example(case=({b"aab", b"xaab"}, [Rule(b"/**a**b/")]))
@example(case=({b"a*b", b"a*/b"}, [Rule(b"a\\**b")]))
def test_rsync_and_the_filter_leave_out_the_same_paths(room, case):
    tree, rules = case
    made = planted(room / "tree", tree)
    assert left_by(rules, made) == transferred(room / "tree", room / "nowhere", rules)
