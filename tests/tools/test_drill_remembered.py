"""After real runs the drill holds what a drive gives against what the catalogue says it should hold."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime
from pathlib import Path

from flashback.drive.proofs import Proofs
from flashback.health.drill import Drill, drill
from flashback.proof.remembered import remembered
from flashback.rotation.contents import Contents
from tests.conftest import run
from tests.tools.test_catalogue_runs import Rig, rig

__all__ = ["rig"]


def drilled(rig: Rig, *, sample: int | None) -> Drill:
    with (
        remembered(rig.state / "catalogue", rig.drive.known.uuid) as memory,
        Contents.open(rig.state / "contents.sqlite", datetime(2026, 5, 2, tzinfo=UTC)) as contents,
    ):
        return drill(
            rig.drive.root,
            sample=sample,
            rng=random.Random(1),
            proofs=Proofs(contents, rig.drive.known.uuid, str),
            watch=lambda: None,
            told=lambda _so_far: None,
            memory=memory,
        )


def two_states(rig: Rig) -> Path:
    """Two runs; the folder of the snapshot, which can be written to."""
    for name in ("a", "deep/b", "deep/c"):
        (rig.master / name).parent.mkdir(exist_ok=True)
        (rig.master / name).write_bytes(name.encode())
    rig.back_up()
    (rig.master / "a").write_bytes(b"longer than it was")
    rig.back_up()
    (snapshot,) = (rig.drive.mount_point / "docs/snapshots").iterdir()
    run("btrfs", "property", "set", snapshot, "ro", "false")
    return snapshot


def test_a_drive_that_holds_what_the_catalogue_says_is_good(rig: Rig) -> None:
    two_states(rig)
    some, all_of_it = drilled(rig, sample=20), drilled(rig, sample=None)
    assert (some.damaged, some.files, some.remembered) == ([], 3, 3)
    assert (all_of_it.damaged, all_of_it.files, all_of_it.remembered) == ([], 4, 4)


def test_a_file_that_is_missing_in_a_snapshot_is_missed(rig: Rig) -> None:
    (two_states(rig) / "deep/b").unlink()
    found = drilled(rig, sample=20).damaged
    assert {(trouble.path.partition(b"/")[2], trouble.why) for _state, trouble in found} == {
        (b"deep/b", "the catalogue has it in this state, and it is not there")
    }


def test_a_file_of_another_size_or_date_or_that_nobody_put_there_is_named(rig: Rig) -> None:
    snapshot = two_states(rig)
    (snapshot / "deep/b").write_bytes(b"tampered with")
    os.utime(snapshot / "deep/c", ns=(1, 1))
    (snapshot / "planted").write_bytes(b"new")
    found = {trouble.path.partition(b"/")[2]: trouble.why for _state, trouble in drilled(rig, sample=None).damaged}
    assert found == {
        b"deep/b": "it is 13 B long, and 6 B in the catalogue",
        b"deep/c": "it has another date than in the catalogue",
        b"planted": "the catalogue has no such file in this state",
    }


def test_without_a_catalogue_files_are_read_all_the_same(rig: Rig) -> None:
    two_states(rig)
    run("rm", "-r", rig.state / "catalogue")
    found = drilled(rig, sample=5)
    assert (found.files, found.remembered, found.damaged) == (3, 0, [])
