"""The copy and the master are compared by content, and versions are read out of snapshots, on a real Btrfs."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from flashback.config.values import Master
from flashback.core.errors import DriveState
from flashback.core.events import Event, Finished
from flashback.drive import journal
from flashback.drive.proofs import TWO
from flashback.drive.states import states_of
from flashback.health.drill import Drill, drill
from flashback.proof import prove
from flashback.proof.verify import Compared, compare_content
from flashback.rotation.ledger import Ledger
from flashback.rotation.proven import share
from flashback.rotation.soundness import Soundness, health
from flashback.tell.summary import closing
from tests.conftest import run
from tests.tools.test_restore import OLD, Rig, rot
from tests.unit.drives import RED, UUID, a_context

ALICE = 1234


@pytest.fixture
def rig(btrfs_image: Path, tmp_path: Path) -> Iterator[Rig]:
    """A copy of three files that belong to Alice."""
    closed = {path: path.stat().st_mode for path in (tmp_path, *tmp_path.parents)}
    before = {path: mode for path, mode in closed.items() if not mode & 0o001}  # no way in for Alice
    for path, mode in before.items():
        path.chmod(mode | 0o011)
    (tmp_path / "home").mkdir()
    rig = Rig(btrfs_image, tmp_path / "home")
    for name in ("a", "b", "c"):
        (rig.master / name).write_bytes(os.urandom(100_000))
    shutil.copytree(rig.master, rig.copy, dirs_exist_ok=True)
    for path in (rig.master, *rig.master.iterdir()):
        os.chown(path, ALICE, ALICE)
    yield rig
    for path, mode in before.items():
        path.chmod(mode)


def compared(rig: Rig, *, sample: int | None = None, drive: str = "red") -> Compared:
    root = os.open(rig.drive, os.O_RDONLY)
    try:
        with rig.proofs(drive) as proven:
            return compare_content(
                root,
                Master("documents", rig.master),
                states_of(root, "documents")[0],
                sample=sample,
                rng=random.Random(1),
                proofs=proven,
                watch=lambda: None,
                told=lambda _so_far, _total: None,
            )
    finally:
        os.close(root)


def drilled(rig: Rig, *, sample: int | None) -> Drill:
    root = os.open(rig.drive, os.O_RDONLY)
    try:
        with rig.proofs() as proven:
            return drill(
                root,
                sample=sample,
                rng=random.Random(1),
                proofs=proven,
                watch=lambda: None,
                told=lambda _so_far: None,
            )
    finally:
        os.close(root)


def keeping_time(file: Path, content: bytes) -> None:
    at = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(at.st_atime_ns, at.st_mtime_ns))


def test_what_is_equal_is_counted_and_a_sample_is_as_large_as_it_was_asked_for(rig: Rig) -> None:
    whole = compared(rig)
    assert (whole.equal_files, whole.equal_bytes, whole.bytes) == (3, 300_000, 300_000)
    assert compared(rig, sample=2).equal_files == 2


@pytest.mark.parametrize("side", ["master", "copy"])
def test_a_content_that_changed_while_its_time_stayed_is_named(rig: Rig, side: str) -> None:
    keeping_time(getattr(rig, side) / "b", os.urandom(100_000))
    found = compared(rig)
    assert ([(each.path, each.why) for each in found.differing], found.equal_files) == ([(b"b", TWO)], 2)


def test_what_the_master_has_changed_or_removed_since_is_passed_over(rig: Rig) -> None:
    (rig.master / "a").write_bytes(b"newer")
    (rig.master / "b").unlink()
    found = compared(rig)
    assert (found.newer, found.gone, found.differing, found.equal_files) == (1, 1, [], 1)


def test_the_master_is_read_as_its_owner_and_through_links_of_theirs(rig: Rig) -> None:
    os.chown(rig.master / "a", 0, 0)
    (rig.master / "a").chmod(0o600)
    (rig.master / "b").rename(rig.home / "elsewhere")
    (rig.master / "b").symlink_to(rig.home / "elsewhere")
    found = compared(rig)
    assert [each.path for each in found.unread] == [b"a"]
    assert (found.equal_files, found.gone) == (2, 0)


def test_what_the_drive_does_not_give_is_damage_in_the_copy_and_in_the_drill(rig: Rig) -> None:
    rig.snapshot(OLD)
    rot(rig, rig.copy / "c")
    assert [each.path for each in compared(rig).damaged] == [b"c"]
    found = drilled(rig, sample=None)
    assert {trouble.path.rpartition(b"/")[2] for _state, trouble in found.damaged} == {b"c"}
    assert found.differing == 0
    assert drilled(rig, sample=40).damaged


def test_a_drill_reads_no_file_of_a_snapshot_twice_and_says_no_more_than_it_read(rig: Rig) -> None:
    rig.snapshot(OLD)
    found = drilled(rig, sample=40)
    assert (found.files, found.bytes) == (3, 300_000)


def test_a_full_drill_reads_each_version_of_a_file_once(rig: Rig) -> None:
    rig.snapshot(OLD)
    rig.snapshot("20260102T000000Z")
    (rig.copy / "a").write_bytes(os.urandom(50_000))
    found = drilled(rig, sample=None)
    assert (found.files, found.bytes, found.damaged) == (4, 350_000, [])


def test_a_drill_of_a_drive_without_snapshots_reads_nothing(rig: Rig) -> None:
    assert drilled(rig, sample=5).files == 0


# --- what was read before


def altered(file: Path) -> bytes:
    """Flip a bit of a file through the file system, so that its checksum is right, and set its time back."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    keeping_time(file, bytes(content))
    return bytes(content)


def snapshot_of(rig: Rig) -> Path:
    rig.snapshot(OLD)
    return rig.drive / "documents/snapshots" / OLD


def test_a_bit_that_flipped_in_an_old_snapshot_is_found_the_next_time_it_is_read(rig: Rig) -> None:
    snapshot = snapshot_of(rig)
    (rig.copy / "b").unlink()
    assert drilled(rig, sample=None).damaged == []
    run("btrfs", "property", "set", snapshot, "ro", "false")
    altered(snapshot / "b")
    run("btrfs", "property", "set", snapshot, "ro", "true")
    for sample in (None, 40):
        done = drilled(rig, sample=sample)
        ((state, found),) = done.damaged
        assert done.differing == 1
        assert (state.name, found.path) == (OLD, f"{OLD}/b".encode())
        assert found.why.startswith("its content is not what was read here on 2026-05-02")


def test_a_bit_that_flipped_in_a_snapshot_is_found_at_once_where_another_has_the_version(rig: Rig) -> None:
    snapshot = snapshot_of(rig)
    run("btrfs", "property", "set", snapshot, "ro", "false")
    altered(snapshot / "b")
    ((_state, found),) = drilled(rig, sample=None).damaged
    assert found.why == "its content is not what was read in another state just now, with the same size and date"


def test_of_two_contents_the_one_that_was_read_before_is_named(rig: Rig) -> None:
    compared(rig)
    before = (rig.copy / "b").read_bytes()
    changed = altered(rig.copy / "b")
    (found,) = compared(rig).differing
    assert found.why.startswith("the master is as it was read on 2026-05-02")
    assert found.why.endswith("; the copy is not")
    keeping_time(rig.copy / "b", before)
    keeping_time(rig.master / "b", changed)
    (found,) = compared(rig).differing
    assert found.why.startswith("the copy is as it was read on 2026-05-02")
    assert found.why.endswith("; the master has changed since, and kept its size and date")


def test_a_master_whose_disk_rots_is_told_from_one_that_was_written_to(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared(rig)
    at = (rig.master / "b").stat()
    altered(rig.master / "b")
    fstat = os.fstat

    def as_before(descriptor: int) -> os.stat_result:
        """Rot renews no time of change."""
        found = fstat(descriptor)
        return at if found.st_ino == at.st_ino else found

    monkeypatch.setattr(os, "fstat", as_before)
    (found,) = compared(rig).differing
    assert found.why.endswith("though nothing wrote to the file: look at its disk")


def test_a_copy_on_another_drive_is_held_against_what_the_first_one_gave(rig: Rig) -> None:
    compared(rig)
    shutil.copyfile(rig.copy / "c", rig.home / "other")
    for file in (rig.copy / "b", rig.master / "b"):
        at = (rig.copy / "b").stat()
        file.write_bytes(b"x" * 100_000)
        os.utime(file, ns=(at.st_mtime_ns, at.st_mtime_ns))
    (found,) = compared(rig, drive="green").differing
    assert found.why.startswith("copy and master are equal, but its content is not what was read on red on 2026-05-02")


def test_what_was_changed_and_has_another_time_is_another_version(rig: Rig) -> None:
    rig.snapshot(OLD)
    compared(rig)
    for side in (rig.copy, rig.master):
        (side / "b").write_bytes(b"y" * 100_000)
        os.utime(side / "b", ns=(1, 1))
    assert compared(rig).differing == drilled(rig, sample=None).damaged == []


# --- the command


class Lying:
    """A drive that lies open, in the place of `drive.reading.Reading`."""

    state, safe_to_remove = DriveState.CLOSED, True

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    @contextmanager
    def held(self, *, purpose: str) -> Iterator[SimpleNamespace]:
        assert purpose == "verify"
        root = os.open(self.rig.drive, os.O_RDONLY)
        try:
            yield SimpleNamespace(root=root, known=RED, watch=lambda: None)
        finally:
            os.close(root)


def finished(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *masters: Master) -> Finished:
    """The whole command, of a sample."""
    told: list[Event] = []
    context = replace(a_context(tmp_path), tell=told.append)
    monkeypatch.setattr(prove, "Reading", lambda _context, _candidate: Lying(rig))
    with Ledger.open(tmp_path / "state/ledger.sqlite") as ledger:
        ledger.enrol(RED)
        code = prove.verify_drive(context, ledger, SimpleNamespace(known=RED), masters, sample=5)
    last = told[-1]
    assert isinstance(last, Finished)
    assert code == last.exit_code
    return last


def said(last: Finished) -> list[str]:
    return [line.text for line in closing(last)]


def test_a_master_that_is_not_there_is_not_said_to_be_equal(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.snapshot(OLD)
    rig.master.rename(rig.home / "away")
    last = finished(rig, tmp_path, monkeypatch, Master("documents", rig.master))
    assert (last.result, last.exit_code) == ("incomplete", 11)
    assert [each["why"] for each in last.facts["not_compared"]] == [f"{rig.master} is not there"]
    first, proven, why, *_rest = said(last)
    assert first == "red: documents was not compared with the master."
    assert proven.startswith("3 files (293 KiB) read out of the snapshots")
    assert why == f"documents: {rig.master} is not there"


def test_a_copy_that_is_not_complete_is_compared_with_nothing_and_a_run_is_what_it_needs(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.complete("2026-01-04T00:00:00Z", journal.Mark.COPYING)
    other = Master("music", rig.master)
    last = finished(rig, tmp_path, monkeypatch, Master("documents", rig.master), other)
    assert (last.result, last.exit_code, last.next_step) == ("incomplete", 11, "flashback run red")
    assert [each["why"] for each in last.facts["not_compared"]] == [
        "its copy is not complete",
        "there is no copy of it on the drive yet",
    ]


def test_where_there_is_nothing_to_be_compared_or_read_that_is_said(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = finished(rig, tmp_path, monkeypatch)
    assert (last.result, last.exit_code) == ("nothing-to-do", 0)
    assert said(last)[0] == "red: there is nothing on it to be compared or read."


def test_verify_remembers_what_it_read_and_says_so_until_all_is_right_again(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Event] = []
    context = replace(a_context(tmp_path), tell=told.append)
    monkeypatch.setattr(prove, "Reading", lambda _context, _candidate: Lying(rig))

    def verify(ledger: Ledger) -> tuple[int, list[str], Soundness]:
        code = prove.verify_drive(
            context, ledger, SimpleNamespace(known=RED), [Master("documents", rig.master)], sample=None
        )
        (last,) = [each for each in told if isinstance(each, Finished)][-1:]
        proofs = ledger.proofs(UUID, since=context.clock() - timedelta(days=90))
        return code, [row["why"] for row in last.facts["unread"]], health(None, None, proofs, now=context.clock()).state

    snapshot = snapshot_of(rig)
    with Ledger.open(tmp_path / "state/ledger.sqlite") as ledger:
        ledger.enrol(RED)
        assert verify(ledger) == (0, [], Soundness.UNKNOWN)
        assert share(ledger.proofs(UUID, since=context.clock() - timedelta(days=90))) == 1.0
        run("btrfs", "property", "set", snapshot, "ro", "false")
        right = (snapshot / "b").read_bytes()
        altered(snapshot / "b")
        code, (why,), state = verify(ledger)
        assert (code, state) == (14, Soundness.DAMAGED)
        assert why.startswith("its content is not what was read")
        keeping_time(snapshot / "b", right)
        assert verify(ledger)[::2] == (0, Soundness.UNKNOWN)
