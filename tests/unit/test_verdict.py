"""Why a path is in the backup: what is said of every path of a tree is what the walk did with it."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from flashback.config.values import Master, Rule, Symlinks
from flashback.walk.filter import Filter
from flashback.walk.listing import Entry
from flashback.walk.master import walk_master
from flashback.walk.verdict import verdict

NAMES = ["a", "b", "c.tmp", "build", "*odd?", "n\nl", "\udcff", ".nobackup", "CACHEDIR.TAG"]
RULES = ["*.tmp", "/a", "build/", "+ b", "a/b", "**/b/*", "/b/***", "[a]", "*odd*", "+ /a/build/", "*"]
SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"


def grow(folder: Path, chance: random.Random, depth: int = 0) -> None:
    for name in chance.sample(NAMES, chance.randrange(1, 5)):
        place = folder / name
        way = chance.random()
        if way < 0.45 and depth < 3:
            place.mkdir()
            grow(place, chance, depth + 1)
        elif way < 0.6:
            place.symlink_to(chance.choice(["a", "../b", "nowhere", "build", "/etc/hostname"]))
        elif way < 0.65:
            os.mkfifo(place)
        else:
            place.write_bytes(SIGNATURE if name == "CACHEDIR.TAG" and chance.random() < 0.7 else b"x")


def rules(chance: random.Random) -> tuple[Rule, ...]:
    chosen = chance.sample(RULES, chance.randrange(0, 5))
    return tuple(
        Rule(text.removeprefix("+ ").encode(), text.startswith("+ "), "/etc/x.txt", line)
        for line, text in enumerate(chosen, 1)
    )


@pytest.mark.parametrize("seed", range(60))
def test_the_verdict_on_every_path_is_what_the_walk_does(tmp_path, seed) -> None:
    chance = random.Random(seed)
    top = tmp_path / "master"
    top.mkdir()
    grow(top, chance)
    master = Master("docs", top, symlinks=chance.choice(list(Symlinks)), rules=rules(chance))
    root = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    items = list(walk_master(root, filter=Filter(master.rules), symlinks=master.symlinks, remark=lambda _each: None))
    os.close(root)
    inside = {item.path for item in items if isinstance(item, Entry)}
    every = {
        os.fsencode(os.path.relpath(os.path.join(where, name), top))
        for where, folders, files in os.walk(top)
        for name in (*folders, *files)
    }
    said = {path: verdict(master, path) for path in every}
    assert {path for path, each in said.items() if each.inside} == inside & every, {
        path: each.why for path, each in said.items() if each.inside is not (path in inside)
    }
    assert all(verdict(master, path).inside for path in inside)


def test_the_rule_is_named_with_its_file_and_line(tmp_path) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build/x.o").touch()
    master = Master("docs", tmp_path, rules=(Rule(b"build/", file="/etc/x.txt", line=7),))
    found = verdict(master, b"build/x.o")
    assert (found.inside, found.why, found.where) == (False, "build is excluded by /etc/x.txt:7: build/", b"build")


def test_a_marker_file_is_named(tmp_path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch/.nobackup").touch()
    (tmp_path / "scratch/x").touch()
    assert verdict(Master("docs", tmp_path), b"scratch/x").why == (
        "scratch/.nobackup keeps what else is in its directory out"
    )


def test_of_what_is_not_there_it_is_said_whether_a_rule_would_leave_it_out(tmp_path) -> None:
    master = Master("docs", tmp_path, rules=(Rule(b"*.tmp", file="/etc/x.txt", line=1),))
    assert "excluded by /etc/x.txt:1" in verdict(master, b"gone.tmp").why
    assert verdict(master, b"gone.txt").why == (
        "gone.txt is not there now; no rule of the master docs would leave it out"
    )
