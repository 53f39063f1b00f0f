"""A ledger that was lost comes back from the journals of the drives."""

from __future__ import annotations

import random
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from flashback.core.text import rfc3339, stamp
from flashback.drive import journal
from flashback.drive.journal import Line, Mark
from flashback.rotation.ledger import Ledger
from flashback.rotation.rows import HIGHEST_SEQUENCE, scrub_facts
from flashback.rotation.values import (
    KnownDrive,
    MasterCounts,
    RunRecord,
    RunResult,
    ScrubRecord,
    SnapshotRecord,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MASTERS = ("documents", "photos")
DRIVES = tuple(KnownDrive(f"uuid-{name}", name, "digest", 1, NOW) for name in ("red", "green", "blue"))


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as opened:
        yield opened


def plain(lines):
    """As the drive room hands a journal on: written to bytes, read, taken apart."""
    content = b"\n".join(journal.encode(line) for line in lines)
    return [msgspec.to_builtins(line) for line in journal.decode(content)]


def totals(counts):
    """As `ChangeSet.totals` says them in the journal."""
    return {name: value for name, value in asdict(counts).items() if name.startswith(("files_", "bytes_"))}


class World:
    """A machine with a ledger and three drives with their journals, over some years."""

    def __init__(self, ledger, seed):
        self.chance = random.Random(seed)
        self.ledger = ledger
        self.now = NOW
        self.journals = {drive.uuid: [] for drive in DRIVES}
        self.snapshots = {drive.uuid: [] for drive in DRIVES}
        for drive in DRIVES:
            ledger.enrol(drive)

    def live(self, runs):
        for number in range(runs):
            self.now += timedelta(minutes=self.chance.randint(1, 60 * 24 * 20))
            self.run(self.chance.choice(DRIVES), f"run-{number}")
        for drive in DRIVES:
            self.plug(drive)

    def plug(self, drive):
        self.ledger.merge(drive.uuid, plain(self.journals[drive.uuid]))
        self.ledger.replace_snapshots(drive.uuid, self.snapshots[drive.uuid])

    def run(self, drive, run_id):
        lines = self.journals[drive.uuid]
        self.plug(drive)
        begun = self.now
        above = journal.last_sequence(lines)
        sequence = self.ledger.begin_run(drive.uuid, run_id=run_id, machine="laptop", begun=begun, above=above)
        masters = []
        for master in MASTERS:
            self.now += timedelta(minutes=self.chance.randint(1, 30))
            facts = {"begun": rfc3339(begun)}
            lines.append(self.line(sequence, run_id, Mark.BEGUN, master, facts=facts))
            if self.chance.random() < 0.15:
                return  # killed
            self.now += timedelta(minutes=self.chance.randint(1, 30))
            counts = self.counts(master)
            mark = self.chance.choice([Mark.COMPLETE, Mark.UNCHANGED])
            lines.append(self.line(sequence, run_id, mark, master, unread=counts.unread, facts=totals(counts)))
            masters.append(counts)
            self.snapshots[drive.uuid].append(SnapshotRecord(drive.uuid, master, stamp(self.now), self.now))
        self.scrub(drive, sequence, run_id)
        unread = sum(each.unread for each in masters)
        self.ledger.end_run(
            RunRecord(
                drive.uuid,
                sequence,
                run_id,
                "laptop",
                begun,
                self.now,
                RunResult.COMPLETE,
                0,
                tuple(masters),
                unread=unread,
            )
        )

    def scrub(self, drive, sequence, run_id):
        if self.chance.random() < 0.3:
            begun, self.now = self.now, self.now + timedelta(minutes=7)
            scrub = ScrubRecord(drive.uuid, begun, self.now, self.chance.random() < 0.8, 9, 1)
            self.ledger.record_scrub(scrub)
            self.journals[drive.uuid].append(self.line(sequence, run_id, Mark.SCRUB, "", facts=scrub_facts(scrub)))

    def line(self, sequence, run_id, mark, master, **more):
        return Line(
            sequence=sequence, run=run_id, at=rfc3339(self.now), mark=mark, machine="laptop", master=master, **more
        )

    def counts(self, master):
        some = self.chance.randint
        return MasterCounts(master, self.now, some(0, 1), some(0, 9), some(0, 9), 0, 5, 6, 7, some(0, 2**40), 9)


def known_to_drives(ledger):
    """All of a ledger that the drives know too."""
    runs = [replace(run, result=None, exit_code=None, ended=None) for run in ledger.runs(limit=10**6)]
    return {
        "drives": ledger.drives(),
        "runs": runs,
        "backups": ledger.backups(),
        "scrubs": [ledger.scrubs(drive.uuid, limit=10**6) for drive in DRIVES],
        "snapshots": [ledger.snapshots(drive.uuid) for drive in DRIVES],
    }


@pytest.mark.parametrize("seed", range(12))
def test_a_ledger_rebuilt_from_three_drives_in_any_order_is_identical(ledger, tmp_path, seed):
    world = World(ledger, seed)
    world.live(40)
    with Ledger.open(tmp_path / "rebuilt.sqlite") as rebuilt:
        for drive in world.chance.sample(DRIVES, 3):
            rebuilt.enrol(drive)
            rebuilt.merge(drive.uuid, plain(world.journals[drive.uuid]))
            rebuilt.replace_snapshots(drive.uuid, world.snapshots[drive.uuid])
        assert known_to_drives(rebuilt) == known_to_drives(ledger)
        numbers = [each.begin_run("x", run_id="next", machine="m", begun=NOW) for each in (ledger, rebuilt)]
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize("seed", range(4))
def test_merging_again_changes_nothing(ledger, seed):
    world = World(ledger, seed)
    world.live(20)
    before = known_to_drives(ledger)
    for drive in DRIVES:
        ledger.merge(drive.uuid, plain(world.journals[drive.uuid]))
    assert known_to_drives(ledger) == before


def begun(run, sequence, *, at=NOW, **more):
    return Line(sequence=sequence, run=run, at=rfc3339(at), mark=Mark.BEGUN, machine="desk", master="documents", **more)


def complete(run, sequence, *, at=NOW, **more):
    return Line(sequence=sequence, run=run, at=rfc3339(at), mark=Mark.COMPLETE, master="documents", **more)


def test_a_run_on_another_machine_is_learnt(ledger):
    ledger.merge("u", plain([begun("theirs", 5), complete("theirs", 5, at=NOW + timedelta(hours=1))]))
    found = ledger.last_complete("u", "documents")
    assert found is not None
    assert (found.sequence, found.begun, found.completed) == (5, NOW, NOW + timedelta(hours=1))
    assert ledger.runs()[0].machine == "desk"


def test_a_run_that_was_killed_after_its_last_word_is_completed_from_the_journal(ledger):
    sequence = ledger.begin_run("u", run_id="r", machine="laptop", begun=NOW)
    ledger.merge("u", plain([begun("r", sequence, at=NOW + timedelta(minutes=5)), complete("r", sequence)]))
    assert ledger.runs()[0].result is RunResult.COMPLETE
    assert ledger.runs()[0].begun == NOW


def test_what_this_machine_recorded_is_not_overwritten(ledger):
    run = RunRecord(
        "u", 3, "r", "laptop", NOW, NOW, RunResult.COMPLETE, 0, (MasterCounts("documents", NOW),), seconds=7.5
    )
    ledger.end_run(run)
    ledger.merge("u", plain([begun("r", 3)]))
    assert ledger.runs() == (run,)


def test_a_run_without_a_completion_is_no_backup(ledger):
    ledger.merge("u", plain([begun("r", 1)]))
    assert ledger.backups() == ()
    assert ledger.runs()[0].result is RunResult.INCOMPLETE


def test_a_drive_speaks_only_of_itself(ledger):
    ledger.merge("u1", plain([begun("same", 1), complete("same", 1)]))
    ledger.merge("u2", plain([begun("same", 9)]))
    assert [each.drive_uuid for each in ledger.backups()] == ["u1"]


@pytest.mark.parametrize("sequence", [0, HIGHEST_SEQUENCE + 1, 2**62])
def test_a_number_that_no_count_of_runs_reaches_is_passed_over(ledger, sequence):
    ledger.merge("u", plain([begun("r", sequence)]))
    assert ledger.begin_run("u", run_id="next", machine="m", begun=NOW) == 1


@pytest.mark.parametrize(
    "facts",
    [
        {"begun": "yesterday", "files_added": "many", "bytes_added": -1},
        {"begun": 5, "files_added": 2**70, "bytes_added": None},
        {"begun": "9999-99-99T00:00:00Z", "files_added": [1], "bytes_added": 1.5},
    ],
)
def test_facts_that_cannot_be_are_left_out(ledger, facts):
    lines = [
        {"run": "r", "sequence": 1, "at": rfc3339(NOW), "mark": mark, "master": "documents", "facts": facts}
        for mark in ("begun", "complete")
    ]
    ledger.merge("u", lines)
    assert ledger.runs()[0].begun == NOW
    assert ledger.runs()[0].masters == (MasterCounts("documents", NOW),)


@pytest.mark.parametrize("odd", [[], {}, [0], 0.0, False, "0", 2**70, None])
@pytest.mark.parametrize("key", ["exit_code", "result", "seconds", "bytes_copied", "remarks"])
def test_a_last_word_that_cannot_be_is_no_last_word(ledger, key, odd):
    facts = {"exit_code": 0, "result": "complete", "seconds": 1.5, "bytes_copied": 1, "remarks": 1}
    ended = Line(sequence=1, run="r", at=rfc3339(NOW), mark=Mark.ENDED, facts=facts | {key: odd})
    ledger.merge("u", plain([begun("r", 1), complete("r", 1), ended]))
    run = ledger.runs()[0]
    assert type(run.exit_code) in {int, type(None)}
    assert run.result is RunResult.COMPLETE
    assert isinstance(run.seconds, float)


@pytest.mark.parametrize("text", ["a\nb", "\ud800", "\x00", "\u202e"])
def test_texts_that_could_do_harm_are_left_out(ledger, text):
    for key in ("run", "machine", "master"):
        line = {"run": "r", "sequence": 1, "at": rfc3339(NOW), "mark": "begun", "master": "documents"}
        ledger.merge("u", [line | {key: text}])
    assert ledger.runs() == ()
