"""The catalogue after runs over a real Btrfs: what it says of every state is what a walk of that state finds."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from flashback.backup import history as histories
from flashback.backup.history import History, of_entry
from flashback.catalogue.lookup import Lookup
from flashback.catalogue.seen import Seen, order
from flashback.catalogue.shelves import Shelves
from flashback.walk.incumbent import walk_incumbent
from tests.conftest import run
from tests.tools.test_catalogue_runs import Meddler, Rig, before_copying, rig, rsync_that_leaves_out

__all__ = ["rig"]


def shelves(rig: Rig) -> Shelves:
    return Shelves(rig.state / "catalogue")


def on_the_drive(rig: Rig) -> dict[str, list[Seen]]:
    """Every state of the copy, walked."""
    master = rig.drive.mount_point / "docs"
    folders = {each.name: each for each in (master / "snapshots").glob("*")}
    living = histories.Living.seen_on(rig.drive, "docs")
    if living.current:
        folders[living.current] = master / "current"
    found = {}
    for name, folder in sorted(folders.items()):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        found[name] = [of_entry(entry) for entry in walk_incumbent(fd)]
        os.close(fd)
    return found


def in_the_catalogue(rig: Rig) -> dict[str, list[Seen]]:
    """Every state as the catalogue of this machine has it."""
    with shelves(rig).index() as index:
        lookup = Lookup(index)
        found: dict[str, list[Seen]] = {state.name: [] for state in lookup.states()}
        for (node,) in index.rows("SELECT id FROM nodes"):
            for held in lookup.versions(node):
                for state in held.states:
                    found[state.name].append(held.seen)
        assert sum(tree.unknown for tree in lookup.trees) == 0
    return {name: sorted(files, key=lambda seen: order(seen.path)) for name, files in sorted(found.items())}


def assert_true(rig: Rig) -> None:
    truth, said = on_the_drive(rig), in_the_catalogue(rig)
    assert list(said) == list(truth)
    for state, files in truth.items():
        assert said[state] == files, state
    ours = rig.drive.mount_point / ".flashback/catalogue/docs"
    here = shelves(rig).place(rig.drive.known.uuid, "docs").folder
    assert {each.name: each.read_bytes() for each in ours.iterdir()} == {
        each.name: each.read_bytes() for each in here.glob("*.delta")
    }


@contextmanager
def no_walks() -> Iterator[None]:
    """Nothing but what was touched is looked at."""

    def walked(*_args, **_more):
        raise AssertionError("a whole state was walked")

    with patch.object(histories, "walk_incumbent", walked):
        yield


def prune(rig: Rig, *names: str) -> None:
    for name in names:
        run("btrfs", "subvolume", "delete", "--commit-after", rig.drive.mount_point / "docs/snapshots" / name)


def snapshots(rig: Rig) -> list[str]:
    return sorted(each.name for each in (rig.drive.mount_point / "docs/snapshots").glob("*"))


@pytest.mark.parametrize("seed", range(4))
def test_after_any_work_the_catalogue_holds_every_state_as_it_is(rig: Rig, seed: int) -> None:
    meddler = Meddler(rig.master, seed)
    meddler.work(40)
    rig.back_up()
    for turn in range(6):
        meddler.work(meddler.random.choice([0, 1, 5, 30]))
        with no_walks() if turn % 2 else contextmanager(lambda: iter([None]))():
            rig.back_up(full=turn == 3)
        if turn > 2 and snapshots(rig):
            prune(rig, meddler.random.choice(snapshots(rig)))
            rig.back_up()
        assert_true(rig)


def test_files_that_could_not_be_copied_are_in_the_catalogue_as_they_are_on_the_drive(rig: Rig) -> None:
    for name in ("one", "two", "three"):
        (rig.master / name).write_text(name)
    rig.back_up()
    (rig.master / "two").write_text("longer now")
    (rig.master / "four").write_text("new")
    with rsync_that_leaves_out(b"two", b"four"), before_copying((rig.master / "three").unlink):
        rig.back_up()
    assert_true(rig)


def test_a_state_that_another_hand_changed_is_in_the_catalogue_as_it_was_found(rig: Rig) -> None:
    (rig.master / "one").write_text("one")
    rig.back_up()
    (rig.current() / "by hand").write_text("foreign")
    (rig.master / "two").write_text("two")
    rig.back_up(full=True)
    assert_true(rig)
    assert any(seen.path == b"by hand" for seen in in_the_catalogue(rig)[snapshots(rig)[0]])


def test_what_another_hand_put_back_is_found_by_a_full_run(rig: Rig) -> None:
    (rig.master / "one").write_text("one")
    rig.back_up()
    (rig.current() / "one").chmod(0o600)
    (rig.current() / "one").chmod(0o644)
    rig.back_up(full=True)
    assert_true(rig)


def test_nothing_is_indexed_while_the_drive_is_held_and_whoever_asks_finds_it(rig: Rig) -> None:
    (rig.master / "one").write_text("one")
    rig.back_up()
    assert not (rig.state / "catalogue/index.sqlite").exists()
    assert_true(rig)


def test_a_run_that_was_killed_before_the_catalogue_is_made_up_for_by_the_next(rig: Rig) -> None:
    (rig.master / "one").write_text("one")
    rig.back_up()
    (rig.master / "two").write_text("two")
    with patch("flashback.backup.run.keep_history", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        rig.back_up()
    (rig.master / "three").write_text("three")
    rig.back_up()
    assert len(snapshots(rig)) == 2
    assert_true(rig)


@pytest.mark.parametrize("lost", ["drive", "machine", "index"])
def test_a_catalogue_that_was_lost_on_one_side_comes_back_from_the_other(rig: Rig, lost: str) -> None:
    for name in ("one", "two"):
        (rig.master / name).write_text(name)
        rig.back_up()
    before = in_the_catalogue(rig)
    if lost == "index":
        (rig.state / "catalogue/index.sqlite").write_bytes(b"no database")
    else:
        shutil.rmtree(rig.drive.mount_point / ".flashback/catalogue" if lost == "drive" else rig.state / "catalogue")
    with no_walks():
        rig.back_up()
    assert in_the_catalogue(rig) == before
    assert_true(rig)


def test_lost_on_both_sides_it_is_read_from_the_snapshots(rig: Rig) -> None:
    for name in ("one", "two", "three"):
        (rig.master / name).write_text(name)
        rig.back_up()
    shutil.rmtree(rig.drive.mount_point / ".flashback/catalogue")
    shutil.rmtree(rig.state / "catalogue")
    rig.back_up()
    assert_true(rig)


@pytest.mark.parametrize("harm", ["garble", "cut", "remove", "link"])
def test_a_file_on_the_drive_that_is_not_what_was_written_is_not_believed(rig: Rig, harm: str) -> None:
    for name in ("one", "two", "three"):
        (rig.master / name).write_text(name)
        rig.back_up()
    shutil.rmtree(rig.state / "catalogue")
    file = sorted((rig.drive.mount_point / ".flashback/catalogue/docs").glob("*.delta"))[1]
    content = file.read_bytes()
    file.unlink()
    if harm == "garble":
        file.write_bytes(content[:-40] + bytes([content[-40] ^ 1]) + content[-39:])
    elif harm == "cut":
        file.write_bytes(content[:-10])
    elif harm == "link":
        file.symlink_to("/etc/passwd")
    (rig.master / "four").write_text("four")
    rig.back_up()
    truth, said = on_the_drive(rig), in_the_catalogue_as_far(rig)
    assert all(files == truth[state] for state, files in said.items())
    History(rig.drive, shelves(rig), print).rebuild("docs", rig.master)
    assert_true(rig)


def in_the_catalogue_as_far(rig: Rig) -> dict[str, list[Seen]]:
    with shelves(rig).index() as index:
        lookup = Lookup(index)
        found: dict[str, list[Seen]] = {state.name: [] for state in lookup.states()}
        for (node,) in index.rows("SELECT id FROM nodes"):
            for held in lookup.versions(node):
                for state in held.states:
                    found[state.name].append(held.seen)
    return {name: sorted(files, key=lambda seen: order(seen.path)) for name, files in found.items()}


def test_another_machine_learns_what_this_one_wrote_at_its_next_run(rig: Rig) -> None:
    (rig.master / "one").write_text("one")
    rig.back_up()
    (rig.master / "two").write_text("two")
    rig.back_up()
    here, rig.state = rig.state, rig.state.with_name("other")
    rig.state.mkdir()
    rig.back_up()
    (rig.master / "three").write_text("three")
    rig.back_up()
    assert_true(rig)
    rig.state = here
    with no_walks():
        rig.back_up()
    assert_true(rig)


def test_a_full_state_folder_ends_no_backup_and_is_made_up_for(rig: Rig) -> None:
    (rig.master / "one").write_text("one")
    rig.back_up()
    (rig.master / "two").write_text("two")
    with patch.object(Shelves, "shelf", side_effect=OSError(28, "No space left on device")):
        rig.back_up()
    rig.back_up()
    assert_true(rig)


def test_made_anew_from_the_drive_it_says_the_same(rig: Rig) -> None:
    meddler = Meddler(rig.master, 7)
    for _turn in range(5):
        meddler.work(20)
        rig.back_up()
    before = in_the_catalogue(rig)
    shutil.rmtree(rig.state / "catalogue")
    History(rig.drive, shelves(rig), print).rebuild("docs", Path("/elsewhere"))
    assert in_the_catalogue(rig) == before
    assert_true(rig)


def test_of_a_drive_that_is_only_read_it_is_made_here_and_the_drive_is_left_as_it_is(rig: Rig) -> None:
    meddler = Meddler(rig.master, 7)
    for _turn in range(3):
        meddler.work(20)
        rig.back_up()
    before = in_the_catalogue(rig)
    shutil.rmtree(rig.state / "catalogue")
    theirs = rig.drive.mount_point / ".flashback/catalogue/docs"
    (theirs / min(os.listdir(theirs))).write_bytes(b"garbled")
    was = {path.name: path.read_bytes() for path in theirs.iterdir()}
    drive = replace(rig.drive, read_only=True)
    assert History(drive, shelves(rig), print).rebuild("docs", Path("/elsewhere")) == 3
    assert in_the_catalogue(rig) == before
    assert {path.name: path.read_bytes() for path in theirs.iterdir()} == was
    assert [each for each in os.listdir(rig.state / "catalogue") if each.startswith("passing")] == []


def test_a_state_that_another_run_left_than_the_journal_names_is_walked_anew(rig: Rig) -> None:
    """As on a drive that was set back to an older state of itself, and backed up to since."""
    for name in ("one", "two"):
        (rig.master / name).write_text(name)
        rig.back_up()
    journal = rig.drive.mount_point / ".flashback/runs.jsonl"
    run_id = json.loads(journal.read_text("utf-8").splitlines()[-1])["run"]
    journal.write_text(journal.read_text("utf-8").replace(run_id, "another-run"), "utf-8")
    before = {each.name for each in shelves(rig).place(rig.drive.known.uuid, "docs").folder.glob("*.delta")}
    History(rig.drive, shelves(rig), print).keep("docs", rig.master)
    after = {each.name for each in shelves(rig).place(rig.drive.known.uuid, "docs").folder.glob("*.delta")}
    assert len(before & after) == 1
    assert len(after) == 2
    assert_true(rig)
