"""`find`, `versions`, `ls`, `diff`, `explain` as they are typed, for people and for scripts; no drive is there."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from flashback.backup import living
from flashback.backup.history import of_entry
from flashback.catalogue.file import Header
from flashback.catalogue.seen import Kind, Seen
from flashback.catalogue.shelf import Note
from flashback.cli import app
from flashback.rotation.contents import Contents, version_mark
from flashback.rotation.ledger import Ledger
from flashback.rotation.values import KnownDrive
from flashback.walk.incumbent import walk_incumbent
from flashback.walk.master import walk_master
from tests.unit.histories import DRIVES, World

SCHEMAS = Path(__file__).resolve().parents[2] / "docs/reference/schemas"
MAY_2 = int(datetime(2026, 5, 2, 14, 10, tzinfo=UTC).timestamp()) * 10**9
NASTY = b"\x1b[31mred\n\xff*.odt"


def file(size: int, mtime: int = MAY_2) -> Seen:
    return Seen(b"", int(Kind.FILE), 0o644, 1000, 1000, size, mtime)


@pytest.fixture
def world(tmp_path) -> World:
    """A thesis that changed between two states of red; OFFSITE has the first; both have an odd name."""
    world = World(tmp_path / "state/catalogue")
    tree = {
        b"thesis": {b"thesis.odt": file(1000), b"notes": file(5)},
        NASTY: file(7),
        b"link": Seen(b"", 3, target=b"x"),
    }
    world.run(DRIVES[0], "docs", tree)
    world.run(DRIVES[1], "docs", tree)
    tree[b"thesis"] = {b"thesis.odt": file(2000), b"renamed": file(5)}
    world.run(DRIVES[0], "docs", tree | {b"new": file(1)})
    with Ledger.open(tmp_path / "state/ledger.sqlite") as ledger:
        for name, uuid, place in (("red", DRIVES[0], "pocket"), ("OFFSITE", DRIVES[1], "parents' house")):
            ledger.enrol(KnownDrive(uuid, name, "digest", 1, datetime(2026, 1, 1, tzinfo=UTC), place=place))
    return world


@pytest.fixture
def flashback(tmp_path, world, monkeypatch):
    monkeypatch.setenv("FLASHBACK_CONFIG", str(tmp_path / "flashback.yaml"))
    monkeypatch.setenv("FLASHBACK_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("FLASHBACK_RUNTIME", str(tmp_path / "run"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    def flashback(line: str):
        return CliRunner().invoke(app, shlex.split(line), prog_name="flashback")

    return flashback


def answer(flashback, line: str):
    done = flashback(f"{line} --json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    schema = json.loads((SCHEMAS / f"{line.split(maxsplit=1)[0]}.schema.json").read_text("utf-8"))
    Draft202012Validator(schema).validate(found)
    return found


def test_find_names_the_drive_its_place_the_moment_and_the_versions(flashback) -> None:
    assert flashback("find thesis.odt").output.splitlines() == [
        "/home/docs/thesis/thesis.odt",
        "    red (pocket), 2026-01-01 21:00 UTC, 2 versions; plug it in",
        "    OFFSITE (parents' house), 2026-01-01 14:00 UTC, 1 version; plug it in",
    ]


def test_find_answers_a_script(flashback) -> None:
    (match,) = answer(flashback, "find thesis.odt")["matches"]
    assert [(each["drive"], each["versions"]) for each in match["drives"]] == [("red", 2), ("OFFSITE", 1)]


def test_find_can_be_narrowed_to_a_drive_and_a_date(flashback) -> None:
    assert [each["drive"] for each in answer(flashback, "find thesis.odt --drive offsite")["matches"][0]["drives"]] == [
        "OFFSITE"
    ]
    assert answer(flashback, "find thesis.odt --since 2026-05-02")["matches"]
    assert not answer(flashback, "find thesis.odt --since 2026-05-03")["matches"]


def test_a_name_with_control_characters_never_reaches_the_terminal_as_it_is(flashback) -> None:
    for line in ("find '*.odt'", "ls latest", "diff red:20260101T07 red:latest", "find red"):
        output = flashback(line).output
        assert "\x1b" not in output
        assert "\udcff" not in output
    assert "/home/docs/\\x1b[31mred\\n\\xff*.odt" in flashback("find '*.odt'").output


def test_a_state_from_the_end_of_the_calendar_is_answered_east_of_greenwich(flashback, world, monkeypatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        world.now = datetime(9999, 12, 31, 16, 59, 59, tzinfo=UTC)
        world.run(DRIVES[0], "docs", {b"thesis.odt": file(1)})
        for line in ("find thesis.odt", "versions thesis.odt", "ls latest"):
            assert flashback(line).exit_code == 0
        assert "9999-12-31 23:59 UTC" in flashback("find thesis.odt").output
    finally:
        monkeypatch.undo()
        time.tzset()


def test_nothing_found_is_said(flashback) -> None:
    done = flashback("find no-such-thing")
    assert (done.exit_code, done.output) == (0, "Nothing of that name is on any drive, as far as this machine knows.\n")


def test_versions_are_those_whose_content_differs_the_newest_first(flashback, world) -> None:
    assert flashback("versions /home/docs/thesis/thesis.odt").output.splitlines() == [
        "2026-05-02 14:10:00 UTC  2.0 KiB",
        "    red (pocket), 20260101T210000Z (current); plug it in",
        "2026-05-02 14:10:00 UTC  1.0 KiB",
        "    OFFSITE (parents' house), 20260101T140000Z (current); plug it in",
        "    red (pocket), 20260101T070000Z; plug it in",
    ]
    assert [each["size"] for each in answer(flashback, "versions thesis/thesis.odt")["versions"]] == [2000, 1000]
    assert [
        each["size"] for each in answer(flashback, "versions docs/thesis/thesis.odt --drive OFFSITE")["versions"]
    ] == [1000]


def test_a_path_may_be_said_as_restore_says_it(flashback) -> None:
    assert len(answer(flashback, "versions docs:thesis/thesis.odt")["versions"]) == 2
    assert answer(flashback, "ls latest docs:thesis")["states"][0]["files"]
    assert answer(flashback, "ls latest docs:")["states"][0]["files"]
    assert "is on no drive" in flashback("versions docs:../thesis").output


def test_versions_say_when_the_content_was_proven_and_on_which_drive(flashback, tmp_path) -> None:
    mark = version_mark("docs", b"thesis/thesis.odt", 1000, MAY_2)
    with Contents.open(tmp_path / "state/contents.sqlite", datetime(2026, 6, 1, 8, 0, tzinfo=UTC)) as contents:
        contents.note(mark, DRIVES[1], b"x" * 16, 1)
    lines = flashback("versions thesis/thesis.odt").output.splitlines()
    assert (
        "    OFFSITE (parents' house), 20260101T140000Z (current); content proven 2026-06-01 08:00 UTC; plug it in"
        in lines
    )
    assert sum("proven" in line for line in lines) == 1
    states = [state for each in answer(flashback, "versions thesis/thesis.odt")["versions"] for state in each["states"]]
    assert [each["content_proven"] for each in states if each["drive"] == "OFFSITE"] == ["2026-06-01T08:00:00Z"]


def test_a_path_that_no_drive_has_is_a_usage_error(flashback) -> None:
    done = flashback("versions /home/docs/never")
    assert done.exit_code == 2
    assert "is on no drive" in done.output


@pytest.mark.parametrize(
    "spec", ["latest", "red:latest", "20260101T210000Z", "20260101T21", "2026-01-01", "red:current"]
)
def test_a_state_can_be_named_in_many_ways(flashback, spec) -> None:
    (state,) = answer(flashback, f"ls {spec}")["states"]
    assert (state["drive"], state["name"], state["current"]) == ("red", "20260101T210000Z", True)
    assert [each["path"] for each in state["files"]] == [os.fsdecode(NASTY), "link", "new", "thesis"]


def test_an_earlier_moment_means_the_state_that_there_was_then(flashback) -> None:
    assert answer(flashback, "ls '2026-01-01 20:00'")["states"][0]["drive"] == "OFFSITE"
    assert answer(flashback, "ls 'red:2026-01-01 20:00'")["states"][0]["name"] == "20260101T070000Z"


def test_moments_are_told_and_typed_in_the_time_of_the_machine_and_in_utc_for_scripts(flashback, monkeypatch) -> None:
    monkeypatch.setenv("TZ", "EAST-2")
    time.tzset()
    assert "    red (pocket), 2026-01-01 23:00 EAST, 2 versions; plug it in" in flashback("find thesis.odt").output
    assert "2026-05-02 16:10:00 EAST  2.0 KiB" in flashback("versions thesis/thesis.odt").output
    assert "2026-05-02 16:10:00 EAST" in flashback("ls red:latest thesis").output
    assert answer(flashback, "ls 'red:2026-01-01 22:59'")["states"][0]["name"] == "20260101T070000Z"
    for spec in ("2026-01-01 23:00", "2026-01-01 21:00Z", "2026-01-01 21:00 UTC"):
        (state,) = answer(flashback, f"ls 'red:{spec}'")["states"]
        assert (state["name"], state["completed"]) == ("20260101T210000Z", "2026-01-01T21:00:00Z")


@pytest.mark.parametrize("spec", ["nonsense", "green:latest", "2020-01-01", "20260101", "2026-13-01"])
def test_what_names_no_state_or_several_is_a_usage_error(flashback, spec) -> None:
    assert flashback(f"ls {spec}").exit_code == 2


def test_a_folder_and_a_file_of_a_state_are_listed(flashback) -> None:
    (state,) = answer(flashback, "ls latest /home/docs/thesis")["states"]
    assert [each["path"] for each in state["files"]] == ["thesis/renamed", "thesis/thesis.odt"]
    (state,) = answer(flashback, "ls latest thesis/thesis.odt")["states"]
    assert [each["size"] for each in state["files"]] == [2000]


def test_diff_shows_what_was_added_changed_deleted_and_renamed(flashback) -> None:
    assert flashback("diff OFFSITE:latest red:latest").output.splitlines() == [
        "+ /home/docs/new",
        "> /home/docs/thesis/notes -> /home/docs/thesis/renamed",
        "~ /home/docs/thesis/thesis.odt  (content 1.0 KiB -> 2.0 KiB)",
        "docs: 1 added, 1 changed, 1 renamed.",
    ]
    (master,) = answer(flashback, "diff red:20260101T07 red:latest")["masters"]
    assert [each["path"] for each in master["added"]] == ["new"]


def test_diff_names_the_masters_that_one_of_the_two_does_not_have(flashback, world) -> None:
    world.run(DRIVES[0], "photos", {b"1.jpg": file(1)})
    world.run(DRIVES[1], "music", {b"a": file(1)})
    assert flashback("diff OFFSITE:latest red:latest").output.splitlines()[-3:] == [
        "docs: 1 added, 1 changed, 1 renamed.",
        "music: B names no state of it, so it is not compared.",
        "photos: A names no state of it, so it is not compared.",
    ]
    left_out = answer(flashback, "diff OFFSITE:latest red:latest")["left_out"]
    assert [each["master"] for each in left_out] == ["music", "photos"]


def test_diff_with_nothing_to_compare_says_so(flashback, tmp_path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "flashback.yaml").write_text(f"masters: {{other: {{path: {tmp_path}/other}}}}\n")
    (tmp_path / "flashback.yaml").chmod(0o600)
    done = flashback("diff latest")
    assert done.exit_code == 2
    assert "docs: the configuration has no such master" in done.output


@pytest.fixture
def master(tmp_path, world) -> Path:
    """The third state of red is what this folder holds; a rule leaves out `*.tmp`."""
    place = tmp_path / "master"
    (place / "kept").mkdir(parents=True)
    (place / "kept/a").write_text("one")
    (place / "kept/b").write_text("two")
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    listing = {entry.path: of_entry(entry) for entry in walk_incumbent(fd)}
    os.close(fd)
    shutil.rmtree(world.root)
    world.states.clear()
    world.run(DRIVES[0], "docs", {})
    with world.shelves.shelf(DRIVES[0], "docs") as shelf:
        shelf.cut((), 0)
        shelf.write(Header(master="docs", state="20260102T000000Z", mark="a" * 16), listing.values())
        shelf.keep_note(Note(("20260102T000000Z",), "20260102T000000Z", str(place)))
    (tmp_path / "rules.txt").write_text("# no temporary files\n*.tmp\n")
    (tmp_path / "flashback.yaml").write_text(
        f"masters: {{docs: {{path: {place}, exclusions: [{tmp_path}/rules.txt]}}}}\n"
    )
    (tmp_path / "flashback.yaml").chmod(0o600)
    return place


def test_diff_with_the_living_master_shows_what_changed_since(flashback, master, monkeypatch) -> None:
    @contextmanager
    def in_this_process(path, _owner, *, filter, symlinks, avoid, remark, with_xattrs):  # noqa: A002
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        yield walk_master(root, filter=filter, symlinks=symlinks, remark=remark, with_xattrs=with_xattrs)
        os.close(root)

    monkeypatch.setattr(living, "reading_master", in_this_process)
    assert flashback("diff latest").output == "docs: no difference.\n"
    (master / "kept/a").write_text("longer")
    (master / "kept/b").rename(master / "kept/c")
    (master / "x.tmp").touch()
    (master / "kept/d").touch()
    (found,) = answer(flashback, "diff latest")["masters"]
    assert found["new"] is None
    assert {what: [each["path"] for each in found[what]] for what in ("added", "changed", "deleted", "renamed")} == {
        "added": ["kept/d"],
        "changed": ["kept/a"],
        "deleted": [],
        "renamed": ["kept/c"],
    }


def test_explain_names_the_rule_with_file_and_line_and_where_it_was_last_seen(flashback, master, tmp_path) -> None:
    (master / "x.tmp").touch()
    found = answer(flashback, f"explain {master}/x.tmp")
    assert (found["inside"], found["rule"]["file"], found["rule"]["line"]) == (False, f"{tmp_path}/rules.txt", 2)
    assert f"{tmp_path}/rules.txt:2: *.tmp" in flashback(f"explain {master}/x.tmp").output
    assert answer(flashback, f"explain {master}/kept/a")["last_seen"][0]["drive"] == "red"
    assert flashback("explain kept/a").output.splitlines() == [
        "kept/a is in the backup: it lies in the master docs, and no rule says otherwise.",
        "    last seen on red (pocket), 2026-01-02 00:00 UTC; plug it in",
    ]


def test_explain_of_a_path_outside_says_so(flashback, master) -> None:
    assert "not in the backup: it lies in no directory" in flashback("explain /nowhere/x").output
    assert answer(flashback, "explain /nowhere/x")["master"] is None


def test_explain_says_where_a_path_is_whose_master_is_backed_up_no_more(flashback, master, world) -> None:
    world.run(DRIVES[1], "docs", {b"old": file(5)})
    assert flashback("explain /home/docs/old").output.splitlines() == [
        "/home/docs/old is not in the backup: it lies in no directory that is backed up.",
        "    last seen on OFFSITE (parents' house), 2026-01-02 11:00 UTC; plug it in",
    ]
    assert answer(flashback, "explain /home/docs/old")["last_seen"][0]["drive"] == "OFFSITE"


@pytest.mark.parametrize("line", ["find x", "versions x", "ls latest", "diff latest", "explain x", "catalogue rebuild"])
def test_without_root_sudo_is_offered(flashback, monkeypatch, line) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    done = flashback(line)
    assert done.exit_code == 6
    assert "sudo" in done.output


def test_the_catalogue_is_roots_alone(flashback, world) -> None:
    flashback("find x")
    for each in world.root.rglob("*"):
        assert each.stat().st_mode & 0o077 == 0


def test_a_snapshot_that_the_catalogue_does_not_know_is_said(flashback, world) -> None:
    names = sorted(world.states[DRIVES[0], "docs"])
    with world.shelves.shelf(DRIVES[0], "docs") as shelf:
        shelf.keep_note(Note((*names, "20260105T000000Z"), "20260105T000000Z", "/home/docs"))
    assert flashback("find thesis.odt").output.splitlines()[-1] == (
        "1 snapshot of docs on red is not in the catalogue: sudo flashback catalogue rebuild red"
    )


def test_the_same_answers_come_from_an_index_that_was_made_anew(flashback, world) -> None:
    lines = [
        "find '*' --json",
        "versions thesis/thesis.odt --json",
        "ls latest --json",
        "diff 20260101T07 latest --json",
    ]
    before = [flashback(line).output for line in lines]
    (world.root / "index.sqlite").unlink()
    assert [flashback(line).output for line in lines] == before
