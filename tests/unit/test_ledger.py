"""The ledger: its file, its drives, its runs."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flashback.config.values import OnPlug
from flashback.core.errors import DriveError, Exit, Locked, UsageError
from flashback.rotation import ledger as ledger_room
from flashback.rotation import memory, schema
from flashback.rotation.ledger import Ledger, LedgerBroken, LedgerTooNew, LedgerUnwritable
from flashback.rotation.plugs import PlugOutcome, PlugRecord
from flashback.rotation.trouble import meaning
from flashback.rotation.values import (
    ErrorCounts,
    HoldRecord,
    KnownDrive,
    MasterCounts,
    RunRecord,
    RunResult,
    ScrubRecord,
    SnapshotRecord,
    SpaceRecord,
    Standing,
    valid_name,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
RED = KnownDrive("1111-red", "red", "d1", 4096, NOW - 100 * DAY)
BLUE = KnownDrive(
    "2222-blue",
    "Blue",
    "d2",
    8192,
    NOW - 50 * DAY,
    size=10**12,
    model="T7 \u00fc",
    serial="S'1\"",
    place="offsite: parents",
    masters=("documents", "photos"),
    on_plug=OnPlug.ALWAYS,
    standing=Standing.LOST,
    filesystem_uuid="fs",
)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "state" / "ledger.sqlite"


@pytest.fixture
def ledger(file):
    with Ledger.open(file) as opened:
        yield opened


def finished(drive, sequence, *, run_id=None, begun=NOW, result=RunResult.COMPLETE, masters=None, **more):
    masters = (MasterCounts("documents", begun + timedelta(minutes=9)),) if masters is None else masters
    code = Exit.DONE if result is RunResult.COMPLETE else Exit.NOT_FINISHED
    return RunRecord(
        drive.uuid,
        sequence,
        run_id or f"run{sequence}",
        "laptop",
        begun,
        begun + timedelta(minutes=10),
        result,
        int(code),
        masters,
        **more,
    )


class TestFile:
    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
    def test_file_is_0600_in_a_0700_directory_whatever_the_umask(self, file, umask):
        before = os.umask(umask)
        try:
            Ledger.open(file).close()
        finally:
            os.umask(before)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

    def test_a_directory_that_was_there_keeps_its_mode(self, tmp_path):
        tmp_path.chmod(0o750)
        Ledger.open(tmp_path / "ledger.sqlite").close()
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750

    def test_what_was_written_is_there_when_opened_again(self, file):
        with Ledger.open(file) as first:
            first.enrol(RED)
        with Ledger.open(file) as second:
            assert second.drives() == (RED,)

    def test_a_file_that_is_no_database_is_named_broken_with_the_way_to_rebuild_it(self, file):
        file.parent.mkdir()
        file.write_bytes(b"This is not the file you are looking for. " * 50)
        with pytest.raises(LedgerBroken) as caught:
            Ledger.open(file)
        assert str(file) in caught.value.what
        assert f"mv {file} {file}.broken" in caught.value.hint
        assert "flashback drive adopt" in caught.value.hint

    def test_a_broken_file_is_left_as_it_is(self, file):
        file.parent.mkdir()
        file.write_bytes(b"x" * 5000)
        with pytest.raises(LedgerBroken):
            Ledger.open(file)
        assert file.read_bytes() == b"x" * 5000

    def test_damage_in_the_middle_is_a_clear_error(self, file):
        with Ledger.open(file) as opened:
            opened.enrol(RED)
        content = bytearray(file.read_bytes())
        content[100:] = os.urandom(len(content) - 100)
        file.write_bytes(content)
        with pytest.raises(LedgerBroken):
            Ledger.open(file).drives()

    def test_another_programs_database_is_refused_and_not_written_to(self, file):
        file.parent.mkdir()
        with sqlite3.connect(file) as other:
            other.execute("CREATE TABLE theirs (x)")
        other.close()
        before = file.read_bytes()
        with pytest.raises(LedgerBroken, match="another program"):
            Ledger.open(file)
        assert file.read_bytes() == before

    def test_a_newer_ledger_is_refused_in_words(self, file):
        Ledger.open(file, migrations=[*schema.MIGRATIONS, ("CREATE TABLE later (x)",)]).close()
        with pytest.raises(LedgerTooNew, match=f"has format {len(schema.MIGRATIONS) + 1}"):
            Ledger.open(file)

    def test_a_directory_in_its_place_is_a_clear_error(self, file):
        file.mkdir(parents=True)
        with pytest.raises(LedgerUnwritable):
            Ledger.open(file)

    def test_a_state_directory_below_a_file_is_a_clear_error(self, tmp_path):
        (tmp_path / "state").write_text("")
        with pytest.raises(LedgerUnwritable):
            Ledger.open(tmp_path / "state" / "deeper" / "ledger.sqlite")

    def test_a_ledger_that_another_process_keeps_busy_is_said_to_be(self, file, monkeypatch):
        monkeypatch.setattr(ledger_room, "BUSY_TIMEOUT", 0.0)
        with Ledger.open(file) as first, Ledger.open(file) as second:
            with first._writing(), pytest.raises(Locked):
                second.enrol(RED)
            second.enrol(RED)

    def test_a_read_only_ledger_can_be_read_and_says_so_when_written(self, file):
        with Ledger.open(file) as opened:
            opened.enrol(RED)
            opened._db.execute("PRAGMA query_only = ON")
            assert opened.drives() == (RED,)
            with pytest.raises(LedgerUnwritable):
                opened.enrol(BLUE)

    def test_a_full_disk_is_told_and_leaves_what_was_there(self, ledger):
        ledger.enrol(RED)
        pages = ledger._db.execute("PRAGMA page_count").fetchone()["page_count"]
        ledger._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(LedgerUnwritable, match="no space is left on the disk of this machine"):
            ledger.replace_snapshots(RED.uuid, [SnapshotRecord(RED.uuid, "m", f"{n:0999}", NOW) for n in range(99)])
        assert ledger.drives() == (RED,)
        assert ledger.snapshots(RED.uuid) == ()

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            ("SQLITE_BUSY_SNAPSHOT", Locked),
            ("SQLITE_FULL", LedgerUnwritable),
            ("SQLITE_READONLY_ROLLBACK", LedgerUnwritable),
            ("SQLITE_IOERR_WRITE", LedgerUnwritable),
            ("SQLITE_CANTOPEN", LedgerUnwritable),
            ("SQLITE_CORRUPT", LedgerBroken),
            ("SQLITE_NOTADB", LedgerBroken),
            ("", LedgerBroken),
        ],
    )
    def test_every_result_code_has_a_meaning_and_a_hint(self, file, code, kind):
        error = meaning(file, code, "text")
        assert type(error) is kind
        assert error.hint


def only_columns_of_its_time(ledger: Ledger) -> None:
    """Have the ledger written as the Flashback of its version would have: without what came later."""
    put = ledger._put

    def put_known(table, row, verb="INSERT"):
        columns = {each["name"] for each in ledger._rows(f"PRAGMA table_info({table})")}
        put(table, {name: value for name, value in row.items() if name in columns}, verb)

    ledger._put = put_known


class TestMigrations:
    @pytest.mark.parametrize("version", range(len(schema.MIGRATIONS)))
    def test_every_older_version_is_brought_up_to_date_with_its_content(self, file, version):
        if version:
            with Ledger.open(file, migrations=schema.MIGRATIONS[:version]) as old:
                only_columns_of_its_time(old)
                old.enrol(RED)
                old.end_run(finished(RED, 1))
        with Ledger.open(file) as new:
            if version:
                assert new.drives() == (RED,)
                assert new.runs() == (finished(RED, 1),)
            assert everything_works(new)

    def test_a_migrated_ledger_has_the_tables_of_a_new_one(self, tmp_path):
        for version in range(len(schema.MIGRATIONS)):
            Ledger.open(tmp_path / f"{version}", migrations=schema.MIGRATIONS[:version]).close()
            Ledger.open(tmp_path / f"{version}").close()
        Ledger.open(tmp_path / "new").close()
        tables = [sorted(schema_of(tmp_path / name)) for name in ("new", *map(str, range(len(schema.MIGRATIONS))))]
        assert all(each == tables[0] for each in tables)

    def test_a_migration_that_fails_changes_nothing(self, file):
        Ledger.open(file).close()
        before = schema_of(file)
        with pytest.raises(LedgerBroken):
            Ledger.open(file, migrations=[*schema.MIGRATIONS, ("CREATE TABLE good (x)", "NONSENSE")])
        assert schema_of(file) == before
        Ledger.open(file).close()


def schema_of(file):
    with sqlite3.connect(file) as db:
        found = db.execute("SELECT name, sql FROM sqlite_schema").fetchall()
    db.close()
    return [(name, sql) for name, sql in found]


def everything_works(ledger):
    ledger.record_scrub(ScrubRecord(BLUE.uuid, NOW, NOW, finished=True))
    ledger.record_errors(ErrorCounts(BLUE.uuid, NOW, {"write_io_errs": 0}))
    ledger.record_space(SpaceRecord(BLUE.uuid, NOW, 10, 5))
    ledger.replace_snapshots(BLUE.uuid, [SnapshotRecord(BLUE.uuid, "m", "n", NOW, pinned=True)])
    ledger.stand_holds([HoldRecord(BLUE.uuid, "r", "growth", "why", NOW)])
    ledger.merge(BLUE.uuid, [])
    ledger.begin_run(BLUE.uuid, run_id="x", machine="m", begun=NOW)
    return True


class TestKilledAtAnyMoment:
    """What a killed process leaves are the files as they are: they are copied at each statement and opened."""

    def test_every_change_is_there_whole_or_not_at_all(self, file, tmp_path):
        with Ledger.open(file) as opened:
            opened.enrol(RED)
            before = opened.runs()
            run = finished(RED, 1, masters=tuple(MasterCounts(f"m{n}", NOW) for n in range(20)))
            copies = self.copied_at_each_statement(opened, file.parent, tmp_path, lambda: opened.end_run(run))
            after = opened.runs()
        seen = set()
        for copy in copies:
            with Ledger.open(copy / file.name) as found:
                state = found.runs()
            assert state in (before, after)
            seen.add(state)
        assert len(copies) > 20
        assert seen == {before, after}

    def test_a_first_start_that_was_killed_is_made_good_by_the_next(self, file, tmp_path, monkeypatch):
        copies = []
        connect = sqlite3.connect

        def traced(*args, **more):
            connection = connect(*args, **more)
            connection.set_trace_callback(lambda _: copies.append(copied(file.parent, tmp_path, len(copies))))
            return connection

        monkeypatch.setattr(sqlite3, "connect", traced)
        Ledger.open(file).close()
        monkeypatch.undo()
        assert len(copies) > 10
        for copy in copies:
            with Ledger.open(copy / file.name) as found:
                assert everything_works(found)

    @staticmethod
    def copied_at_each_statement(opened, directory, tmp_path, change):
        copies = []
        opened._db.execute("PRAGMA cache_size = 1")
        opened._db.execute("PRAGMA cache_spill = 1")
        opened._db.set_trace_callback(lambda _: copies.append(copied(directory, tmp_path, len(copies))))
        change()
        opened._db.set_trace_callback(None)
        copies.append(copied(directory, tmp_path, len(copies)))
        return copies


def copied(directory, tmp_path, number):
    return shutil.copytree(directory, tmp_path / f"copy{number}")


class TestDrives:
    def test_everything_about_a_drive_comes_back_as_it_was(self, ledger):
        ledger.enrol(BLUE)
        ledger.enrol(RED)
        assert ledger.drives() == (BLUE, RED)

    @pytest.mark.parametrize("wanted", ["red", "RED", "1111-red", "1111-RED"])
    def test_a_drive_is_found_by_name_and_uuid_whatever_the_case(self, ledger, wanted):
        ledger.enrol(RED)
        assert ledger.drive(wanted) == RED

    def test_an_unknown_drive_is_none(self, ledger):
        assert ledger.drive("red") is None

    def test_a_known_uuid_is_refused_with_its_name(self, ledger):
        ledger.enrol(RED)
        with pytest.raises(DriveError, match="already known as red"):
            ledger.enrol(replace(RED, name="other"))

    def test_a_taken_name_is_refused_whatever_its_case(self, ledger):
        ledger.enrol(RED)
        with pytest.raises(UsageError, match="already called"):
            ledger.enrol(replace(BLUE, name="Red"))
        assert ledger.drives() == (RED,)

    @pytest.mark.parametrize("name", ["", "-red", "_red", "a b", "r/d", "x" * 33, "rot\n", "r\u00f6t", ".", "red."])
    def test_a_name_that_could_do_harm_is_refused(self, ledger, name):
        assert not valid_name(name)
        with pytest.raises(UsageError):
            ledger.enrol(replace(RED, name=name))

    @pytest.mark.parametrize("name", ["r", "0", "Red-1_b", "x" * 32])
    def test_plain_names_are_good(self, name):
        assert valid_name(name)

    @pytest.mark.parametrize("place", ["a\nb", " home", "x" * 81, "\x1b[31m", "a\u202eb"])
    def test_a_place_that_could_disturb_a_terminal_is_refused(self, ledger, place):
        ledger.enrol(RED)
        with pytest.raises(UsageError):
            ledger.change(RED.uuid, place=place)

    def test_a_change_concerns_only_what_it_names(self, ledger):
        ledger.enrol(RED)
        ledger.enrol(BLUE)
        changed = ledger.change(RED.uuid, place="pocket", standing=Standing.RETIRED, masters=("photos",))
        assert changed == replace(RED, place="pocket", standing=Standing.RETIRED, masters=("photos",))
        assert ledger.drives() == (BLUE, changed)

    def test_a_drive_may_be_renamed_in_case_only(self, ledger):
        ledger.enrol(RED)
        assert ledger.change(RED.uuid, name="RED").name == "RED"

    def test_a_rename_to_a_taken_name_is_refused(self, ledger):
        ledger.enrol(RED)
        ledger.enrol(BLUE)
        with pytest.raises(UsageError):
            ledger.change(RED.uuid, name="blue")
        assert ledger.drive("red") == RED

    def test_changing_an_unknown_drive_is_an_error(self, ledger):
        with pytest.raises(DriveError):
            ledger.change("nobody", place="home")


class TestRuns:
    def test_a_run_comes_back_as_it_was(self, ledger):
        counts = MasterCounts("documents", NOW, 1, 2, 3, 4, 5, 6, 7, 8, 9)
        run = finished(
            RED,
            7,
            masters=(counts,),
            bytes_copied=5,
            bytes_written=6,
            seconds=1.5,
            unread=1,
            remarks=2,
            holds=("growth",),
        )
        ledger.end_run(run)
        assert ledger.runs(RED.uuid) == (run,)

    def test_a_run_that_was_begun_and_killed_has_no_end(self, ledger):
        sequence = ledger.begin_run(RED.uuid, run_id="a", machine="laptop", begun=NOW)
        assert ledger.runs() == (RunRecord(RED.uuid, sequence, "a", "laptop", NOW),)

    def test_numbers_grow_over_all_drives_whatever_the_clock_says(self, ledger):
        times = [NOW, NOW - 9999 * DAY, NOW + 9999 * DAY, NOW]
        drives = [RED, BLUE, RED, BLUE]
        numbers = [
            ledger.begin_run(drive.uuid, run_id=f"r{at}{n}", machine="m", begun=at)
            for n, (drive, at) in enumerate(zip(drives, times, strict=True))
        ]
        assert numbers == [1, 2, 3, 4]

    def test_a_number_is_above_what_the_drives_journal_has_seen(self, ledger):
        assert ledger.begin_run(RED.uuid, run_id="a", machine="m", begun=NOW, above=41) == 42

    def test_the_last_run_is_that_with_the_highest_number_not_the_latest_date(self, ledger):
        ledger.end_run(finished(RED, 1, begun=NOW + 1000 * DAY))
        ledger.end_run(finished(BLUE, 2, begun=NOW))
        last = ledger.last_run()
        assert last is not None
        assert last.sequence == 2

    def test_runs_are_listed_newest_first_and_only_as_many_as_asked(self, ledger):
        for number in range(1, 6):
            ledger.end_run(finished(RED if number % 2 else BLUE, number))
        assert [run.sequence for run in ledger.runs(limit=3)] == [5, 4, 3]
        assert [run.sequence for run in ledger.runs(RED.uuid)] == [5, 3, 1]

    def test_a_partial_run_does_not_make_the_backup_younger(self, ledger):
        ledger.end_run(finished(RED, 1, begun=NOW - 9 * DAY))
        unfinished = (MasterCounts("documents"),)
        unread = (MasterCounts("documents", NOW, unread=1),)
        ledger.end_run(finished(RED, 2, begun=NOW - 3 * DAY, result=RunResult.INCOMPLETE, masters=unfinished))
        ledger.end_run(finished(RED, 3, begun=NOW - 2 * DAY, masters=unread, unread=1))
        last = ledger.last_complete(RED.uuid, "documents")
        assert last is not None
        assert last.begun == NOW - 9 * DAY

    def test_backups_are_the_newest_of_each_drive_and_master_by_number(self, ledger):
        ledger.end_run(finished(RED, 1, begun=NOW))
        ledger.end_run(finished(RED, 2, begun=NOW - DAY))
        both = tuple(MasterCounts(name, NOW) for name in ("documents", "photos"))
        ledger.end_run(finished(BLUE, 3, masters=both))
        found = {(each.drive_uuid, each.master): each.sequence for each in ledger.backups()}
        assert found == {(RED.uuid, "documents"): 2, (BLUE.uuid, "documents"): 3, (BLUE.uuid, "photos"): 3}

    def test_a_backup_from_the_future_gives_way_to_the_one_before(self, ledger):
        ledger.end_run(finished(RED, 1, begun=NOW - DAY))
        ledger.end_run(finished(RED, 2, begun=NOW + 900 * DAY))
        assert [each.sequence for each in ledger.backups(by=NOW)] == [1]

    def test_fractions_of_a_second_are_dropped(self, ledger):
        ledger.end_run(finished(RED, 1, begun=NOW.replace(microsecond=999_999), masters=()))
        assert ledger.runs()[0].begun == NOW


class TestHealthAndSnapshots:
    def test_scrubs_come_back_newest_first(self, ledger):
        scrubs = [ScrubRecord(RED.uuid, NOW, NOW + n * DAY, n % 2 == 0, 5, 4, 3, 2) for n in range(3)]
        for each in scrubs:
            ledger.record_scrub(each)
        assert ledger.scrubs(RED.uuid) == tuple(reversed(scrubs))
        assert ledger.scrubs(BLUE.uuid) == ()

    def test_error_counters_come_back_newest_first(self, ledger):
        counters = [ErrorCounts(RED.uuid, NOW + n * DAY, {"write_io_errs": n}) for n in range(3)]
        for each in counters:
            ledger.record_errors(each)
        assert ledger.errors(RED.uuid) == tuple(reversed(counters))

    def test_space_is_what_was_seen_last(self, ledger):
        for number in range(3):
            ledger.record_space(SpaceRecord(RED.uuid, NOW + number * DAY, 100, 50 - number))
        assert ledger.spaces() == {RED.uuid: SpaceRecord(RED.uuid, NOW + 2 * DAY, 100, 48)}

    def test_what_is_noted_at_every_run_does_not_grow_for_ever(self, ledger, file, monkeypatch):
        monkeypatch.setattr(memory, "REMEMBERED", 7)
        for number in range(10):
            for drive in (RED.uuid, BLUE.uuid):
                ledger.record_errors(ErrorCounts(drive, NOW + number * DAY, {"write_io_errs": number}))
                ledger.record_space(SpaceRecord(drive, NOW + number * DAY, 100, number))
                ledger.record_plug(PlugRecord(drive, NOW + number * DAY, str(number), PlugOutcome.LATER))
        with closing(sqlite3.connect(file)) as db:
            for table in ("errors", "spaces", "plugs"):
                assert db.execute(f"SELECT count(*), count(DISTINCT drive_uuid) FROM {table}").fetchone() == (
                    14,
                    2,
                )
        assert ledger.errors(RED.uuid, limit=1)[0].counts == {"write_io_errs": 9}
        assert ledger.spaces()[BLUE.uuid].free == 9
        assert ledger.last_plug(RED.uuid).insertion == str(9)

    def test_snapshots_are_exactly_those_of_the_last_look(self, ledger):
        one, two, three = (SnapshotRecord(RED.uuid, "m", f"n{n}", NOW + n * DAY) for n in range(3))
        ledger.replace_snapshots(RED.uuid, [one, two])
        ledger.replace_snapshots(BLUE.uuid, [replace(one, drive_uuid=BLUE.uuid)])
        ledger.replace_snapshots(RED.uuid, [two, three])
        assert ledger.snapshots(RED.uuid) == (two, three)
        spans = ledger.snapshot_spans()
        assert (spans[RED.uuid].count, spans[RED.uuid].oldest, spans[RED.uuid].newest) == (2, NOW + DAY, NOW + 2 * DAY)
        assert spans[BLUE.uuid].count == 1

    def test_a_snapshot_knows_the_number_of_the_run_that_completed_it(self, ledger):
        run = finished(RED, 12)
        ledger.end_run(run)
        snapshot = SnapshotRecord(RED.uuid, "documents", "n", run.masters[0].completed)
        ledger.replace_snapshots(RED.uuid, [snapshot])
        assert ledger.snapshots(RED.uuid) == (replace(snapshot, sequence=12),)

    def test_a_pin_set_while_the_drive_was_away_outlives_the_next_look(self, ledger):
        snapshot = SnapshotRecord(RED.uuid, "m", "n", NOW)
        ledger.replace_snapshots(RED.uuid, [snapshot])
        ledger.pin(RED.uuid, "m", "n")
        ledger.replace_snapshots(RED.uuid, [snapshot])
        assert ledger.snapshots(RED.uuid)[0].pinned

    def test_a_pin_that_a_drive_brings_is_there(self, ledger):
        snapshot = SnapshotRecord(RED.uuid, "m", "n", NOW, pinned=True)
        ledger.replace_snapshots(RED.uuid, [snapshot])
        assert ledger.snapshots(RED.uuid) == (snapshot,)

    def test_unpin_takes_the_pin_away(self, ledger):
        ledger.replace_snapshots(RED.uuid, [SnapshotRecord(RED.uuid, "m", "n", NOW, pinned=True)])
        ledger.unpin(RED.uuid, "m", "n")
        assert not ledger.snapshots(RED.uuid)[0].pinned

    def test_the_pin_of_a_snapshot_that_is_gone_goes_with_it(self, ledger):
        snapshot = SnapshotRecord(RED.uuid, "m", "n", NOW, pinned=True)
        ledger.replace_snapshots(RED.uuid, [snapshot])
        ledger.replace_snapshots(RED.uuid, [])
        ledger.replace_snapshots(RED.uuid, [replace(snapshot, pinned=False)])
        assert not ledger.snapshots(RED.uuid)[0].pinned

    def test_what_is_not_there_cannot_be_pinned(self, ledger):
        with pytest.raises(UsageError):
            ledger.pin(RED.uuid, "m", "n")


class TestHolds:
    def test_a_hold_stands_until_a_person_decides(self, ledger):
        hold = HoldRecord(RED.uuid, "r1", "mass-deletion", "9,000 of 9,100 files", NOW)
        ledger.stand_holds([hold])
        assert ledger.standing_holds() == (hold,)
        assert ledger.lift_holds(["mass-deletion"], at=NOW + DAY) == 1
        assert ledger.standing_holds() == ()

    def test_only_the_named_holds_are_lifted(self, ledger):
        holds = [HoldRecord(RED.uuid, "r1", name, "", NOW) for name in ("clock", "growth")]
        ledger.stand_holds(holds)
        ledger.lift_holds(["clock"], at=NOW)
        assert [each.hold for each in ledger.standing_holds()] == ["growth"]
