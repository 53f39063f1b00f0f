"""`status`: true with the drives in the safe, and with none at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flashback.config.values import Config, Master
from flashback.drive.status import Stock, take_stock
from flashback.rotation.ledger import Ledger
from flashback.rotation.values import (
    HoldRecord,
    MasterCounts,
    RunRecord,
    RunResult,
    SnapshotRecord,
    SpaceRecord,
    Standing,
)
from flashback.tools import block, cryptsetup
from tests.unit.drives import GREEN, OTHER, RED, UUID, VOLUME, a_context

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BEGUN = NOW - timedelta(days=1)


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


@pytest.fixture
def stock(monkeypatch, tmp_path, ledger):
    def stock(*, plugged=(), still_open=(), config=None) -> Stock:
        mapping = cryptsetup.OpenMapping("flashback-red", "/dev/dm-0", "/dev/sdx1")
        monkeypatch.setattr(block, "luks_volumes", lambda _run: plugged)
        monkeypatch.setattr(block, "scan", lambda _run: ())
        monkeypatch.setattr(cryptsetup, "mappings_of", lambda uuid: (mapping,) if uuid in still_open else ())
        return take_stock(a_context(tmp_path), ledger, config)

    return stock


def ran(ledger: Ledger, *, code: int = 0, result=RunResult.COMPLETE, unread: int = 0, uuid: str = UUID) -> None:
    counts = MasterCounts("documents", completed=BEGUN if not code else None, unread=unread)
    run = RunRecord(uuid, 1, f"run-{uuid}", "here", BEGUN, BEGUN, result, code, (counts,), unread=unread)
    ledger.end_run(run)


def row(found: Stock, name: str) -> dict:
    return next(drive for drive in found.as_json()["drives"] if drive["name"] == name)


def test_without_a_drive_it_says_how_to_get_one(stock) -> None:
    assert "flashback init" in stock().text(colour=False)


def test_a_drive_in_the_safe_is_shown(stock, ledger) -> None:
    ledger.enrol(RED)
    assert row(stock(), "red")["plugged_in"] is False


def test_a_drive_that_is_plugged_in_is_seen_by_its_uuid(stock, ledger) -> None:
    ledger.enrol(RED)
    ledger.enrol(GREEN)
    found = stock(plugged=(replace(VOLUME, label="flashback-green"),))
    assert (row(found, "red")["plugged_in"], row(found, "green")["plugged_in"]) == (True, False)


def test_a_complete_run_makes_a_drive_fresh(stock, ledger) -> None:
    ledger.enrol(RED)
    ran(ledger)
    assert (row(stock(), "red")["state"], row(stock(), "red")["last_complete"]) == ("fresh", "2026-01-01T03:04:05Z")


def test_a_drive_without_a_backup_comes_next(stock, ledger) -> None:
    ledger.enrol(RED)
    ledger.enrol(GREEN)
    ran(ledger)
    found = stock()
    assert found.as_json()["next"]["drive"] == "green"
    assert "Next: " in found.text(colour=False)


def test_a_drive_that_is_still_open_is_told_with_the_command(stock, ledger) -> None:
    ledger.enrol(RED)
    found = stock(still_open={UUID})
    assert "STILL OPEN: red. Put it away with: flashback close red" in found.text(colour=False)
    assert row(found, "red")["open"] is True


def test_space_and_snapshots_are_those_last_seen(stock, ledger) -> None:
    ledger.enrol(RED)
    ledger.record_space(SpaceRecord(UUID, BEGUN, 1000, 400))
    ledger.replace_snapshots(UUID, [SnapshotRecord(UUID, "documents", "20250102T030405Z", NOW - timedelta(days=365))])
    found = row(stock(), "red")
    assert (found["size"], found["free"], found["snapshots"]) == (1000, 400, 1)
    assert "1 snapshot back to 2025-01-02" in stock().text(colour=False)


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ({"code": 11, "result": RunResult.INCOMPLETE, "unread": 3}, "3 files could not be read"),
        ({"code": 10, "result": RunResult.INCOMPLETE}, "incomplete"),
        ({"code": 13, "result": RunResult.HELD}, "held"),
    ],
)
def test_a_last_run_that_was_not_complete_is_told(stock, ledger, ending, words) -> None:
    ledger.enrol(RED)
    ran(ledger, **ending)
    assert f"last run 24 hours ago: {words}" in stock().text(colour=False)


def test_a_last_run_that_was_complete_needs_no_word(stock, ledger) -> None:
    ledger.enrol(RED)
    ran(ledger)
    assert "last run" not in stock().text(colour=False)


def test_the_masters_are_those_of_the_configuration(stock, ledger) -> None:
    ledger.enrol(RED)
    ran(ledger)
    config = Config(Path("/f"), (Master("documents", Path("/d")), Master("photos", Path("/p"))))
    assert row(stock(config=config), "red")["missing"] == ["photos"]


def test_without_a_configuration_the_masters_are_those_ever_backed_up(stock, ledger) -> None:
    ledger.enrol(RED)
    ledger.enrol(GREEN)
    ran(ledger)
    assert row(stock(), "green")["missing"] == ["documents"]


def test_a_run_of_another_drive_is_not_taken_for_this_ones(stock, ledger) -> None:
    ledger.enrol(RED)
    ledger.enrol(GREEN)
    ran(ledger, uuid=OTHER)
    assert (row(stock(), "red")["last_result"], row(stock(), "green")["last_result"]) == (None, "complete")


def test_a_hold_that_stands_is_said_before_everything_else(stock, ledger) -> None:
    ledger.enrol(RED)
    ledger.stand_holds([HoldRecord(UUID, "run", "mass-deletion", "40 files would be deleted", BEGUN)])
    text = stock().text(colour=False)
    assert text.startswith("HELD: red was held 24 hours ago by the guard mass-deletion: 40 files would be deleted.")
    assert "flashback run red --allow mass-deletion" in text.splitlines()[1]
    assert stock().as_json()["holds"] == [
        {"name": "mass-deletion", "drive": "red", "why": "40 files would be deleted", "since": "2026-01-01T03:04:05Z"}
    ]


@pytest.mark.parametrize("standing", [Standing.LOST, Standing.RETIRED])
def test_a_lost_or_retired_drive_that_is_plugged_in_is_said_first(stock, ledger, standing) -> None:
    ledger.enrol(replace(RED, standing=standing))
    assert (
        stock(plugged=(VOLUME,))
        .text(colour=False)
        .startswith(f"red was {'marked lost' if standing is Standing.LOST else 'retired'}")
    )


def test_a_hold_of_a_drive_that_was_lost_is_decided_at_any_other(stock, ledger) -> None:
    ledger.enrol(replace(RED, standing=Standing.LOST))
    ledger.stand_holds([HoldRecord(UUID, "run", "growth", "it grew", BEGUN)])
    assert "flashback run DRIVE --allow growth" in stock().text(colour=False)
