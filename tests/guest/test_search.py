"""Which file is where, asked as people ask it, of two real sticks that were put away."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.guest.machine import SCHEMAS, Machine, blank_sticks

NASTY = b"no\xff\x1b[1mte\n*.txt"


def asked(machine: Machine, *words: str) -> dict[str, Any]:
    done = machine.flashback(*words, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    Draft202012Validator(json.loads((SCHEMAS / f"{words[0]}.schema.json").read_text("utf-8"))).validate(found)
    return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_files_are_found_on_drives_in_the_safe_and_the_same_after_a_rebuild(machine: Machine) -> None:
    red, blue = (stick.device for stick in blank_sticks()[:2])
    machine.init(red)
    machine.back_up_only(machine.master)
    thesis = machine.master / "thesis/thesis.odt"
    thesis.parent.mkdir()
    thesis.write_bytes(b"first")
    (machine.master / "thesis/notes").write_bytes(b"some notes")
    (machine.master / os.fsdecode(NASTY)).write_bytes(b"odd")
    (machine.master / "x.tmp").touch()
    machine.run("red")
    machine.init(blue, "blue")
    assert machine.flashback("drive", "set", "blue", "place=offsite").returncode == 0
    machine.run("blue")
    thesis.write_bytes(b"second one")
    (machine.master / "thesis/notes").rename(machine.master / "thesis/renamed")
    machine.run("red")

    (match,) = asked(machine, "find", "thesis.odt")["matches"]
    assert match["whole"] == str(thesis)
    assert [(each["drive"], each["versions"], each["plugged_in"]) for each in match["drives"]] == [
        ("red", 2, True),
        ("blue", 1, True),
    ]
    assert [
        (each["size"], sorted({state["drive"] for state in each["states"]}))
        for each in asked(machine, "versions", str(thesis))["versions"]
    ] == [(10, ["red"]), (5, ["blue", "red"])]
    (difference,) = asked(machine, "diff", "blue:latest", "red:latest")["masters"]
    assert [each["path"] for each in difference["changed"]] == ["thesis/thesis.odt"]
    assert [each["path"] for each in difference["renamed"]] == ["thesis/renamed"]
    said = machine.flashback("find", "*.txt").stdout
    assert "no\\xff\\x1b[1mte\\n*.txt" in said
    assert "blue (offsite)" in said
    thesis.write_bytes(b"a third one, today")
    (living,) = asked(machine, "diff", "latest")["masters"]
    assert [each["path"] for each in living["changed"]] == ["thesis/thesis.odt"]
    assert asked(machine, "explain", str(thesis))["inside"] is True

    questions = (("find", "*"), ("versions", str(thesis)), ("ls", "latest"), ("ls", "blue:latest", "thesis"))
    before = [machine.flashback(*words, "--json").stdout for words in questions]
    done = machine.flashback("catalogue", "rebuild", "red", "--passphrase-file", str(machine.secret))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The catalogue of red has 2 states." in done.stdout
    assert [machine.flashback(*words, "--json").stdout for words in questions] == before
    with machine.opened(red) as drive:
        folder = drive / ".flashback/catalogue/documents"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert len(list(folder.iterdir())) == 2
