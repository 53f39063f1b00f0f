"""The rules of a run that need no drive: what is snapshotted, when a scrub is due, which masters, what came of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from flashback.backup import outcome
from flashback.backup.masters import carried, look_at, refuse_vanished
from flashback.backup.plan import Plan, scrub_due, snapshot_due
from flashback.backup.report import Report
from flashback.config.values import Config, Master
from flashback.core.errors import ConfigError, DriveState, Exit, NotFinished
from flashback.core.events import UNREAD, Remark, RemarkKind
from flashback.core.text import parse_stamp
from flashback.drive.journal import Incumbent
from flashback.drive.recognise import Candidate
from flashback.rotation.values import RunResult
from flashback.tools.btrfs import Space
from tests.unit.drives import RED, VOLUME

NOW = datetime(2026, 3, 1, tzinfo=UTC)
COMPLETED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
COMPLETE = Incumbent(complete=True, completed=COMPLETED)
MONTH = timedelta(days=30)

# --- snapshots


def test_a_complete_state_that_is_about_to_change_is_kept_under_the_moment_of_its_completion() -> None:
    assert snapshot_due(COMPLETE, (), changed=True) == "20260102T030405Z"


def test_an_incomplete_state_is_never_kept() -> None:
    assert snapshot_due(Incumbent(complete=False), (), changed=True) is None


def test_a_state_that_stays_is_not_kept() -> None:
    assert snapshot_due(COMPLETE, (), changed=False) is None


def test_a_state_is_kept_once_only() -> None:
    assert snapshot_due(COMPLETE, ("20250101T000000Z", "20260102T030405Z"), changed=True) is None


def test_the_name_is_one_of_ours() -> None:
    name = snapshot_due(COMPLETE, (), changed=True)
    assert name is not None
    assert parse_stamp(name) == COMPLETED


# --- scrubs


def due(*, asked=False, every: timedelta | None = MONTH, last: datetime | None = None, since=NOW) -> str | None:
    return scrub_due(asked=asked, every=every, last=last, since=since, now=NOW)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param({"asked": True}, "asked for", id="asked for"),
        pytest.param({"asked": True, "every": None}, "asked for", id="asked for though never due"),
        pytest.param({}, None, id="a new drive"),
        pytest.param({"since": NOW - MONTH}, "the last one was 30 days ago, due every 30", id="never scrubbed"),
        pytest.param({"last": NOW - timedelta(days=29, hours=23), "since": NOW - 9 * MONTH}, None, id="not yet"),
        pytest.param({"last": NOW - MONTH}, "the last one was 30 days ago, due every 30", id="to the second"),
        pytest.param({"every": None, "since": NOW - 99 * MONTH}, None, id="never due"),
        pytest.param({"last": NOW + MONTH}, None, id="the last one lies in the future"),
    ],
)
def test_a_scrub_is_due(told, expected) -> None:
    assert due(**told) == expected


# --- masters


def master(name: str, path: Path) -> Master:
    return Master(name, path)


def config(*masters: Master) -> Config:
    return Config(Path("/etc/flashback/flashback.yaml"), masters)


DOCUMENTS, PHOTOS = master("documents", Path("/d")), master("photos", Path("/p"))


def test_a_drive_carries_every_master_unless_told_otherwise() -> None:
    assert carried(config(DOCUMENTS, PHOTOS), RED) == (DOCUMENTS, PHOTOS)


def test_a_drive_may_carry_some_only() -> None:
    some = replace(RED, masters=("photos",))
    assert carried(config(DOCUMENTS, PHOTOS), some) == (PHOTOS,)


def test_a_drive_that_carries_none_of_the_masters_is_an_error() -> None:
    none = replace(RED, masters=("music",))
    with pytest.raises(ConfigError, match="red is to carry music"):
        carried(config(DOCUMENTS, PHOTOS), none)


def test_a_master_that_is_not_there_is_returned(tmp_path) -> None:
    gone, here = master("gone", tmp_path / "gone"), master("here", tmp_path)
    assert look_at([gone, here], mounts=Path("/run/flashback/mnt")) == {gone: "is not there"}


def test_a_master_that_vanished_since_is_told_as_that(tmp_path) -> None:
    refuse_vanished(master("here", tmp_path))
    with pytest.raises(NotFinished, match="gone is not there now; it was there when the run began"):
        refuse_vanished(master("gone", tmp_path / "gone"))


def test_a_master_that_is_a_file_is_an_error(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as caught:
        look_at([master("file", tmp_path / "file")], mounts=Path("/run/flashback/mnt"))
    assert caught.value.findings == (f"file: {tmp_path / 'file'} is not a directory",)


@pytest.mark.parametrize("path", ["mnt", "mnt/red", "mnt/red/documents/current", "link"])
def test_a_backup_of_the_backup_is_an_error(tmp_path, path) -> None:
    (tmp_path / "mnt/red/documents/current").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "mnt/red")
    with pytest.raises(ConfigError) as caught:
        look_at([master("x", tmp_path / path)], mounts=tmp_path / "mnt")
    assert "where drives are mounted" in caught.value.findings[0]


def test_every_finding_is_told_at_once(tmp_path) -> None:
    (tmp_path / "file").touch()
    bad = [master("a", tmp_path / "file"), master("b", tmp_path / "file")]
    with pytest.raises(ConfigError) as caught:
        look_at(bad, mounts=Path("/run/flashback/mnt"))
    assert len(caught.value.findings) == 2


# --- what came of it

DAMAGED = SimpleNamespace(found_damage=True, as_json=dict)
SOUND = SimpleNamespace(found_damage=False, as_json=dict)
UNREADABLE = Remark(RemarkKind.UNREADABLE, "documents", b"a\xff", "permission denied")
DANGLING = Remark(RemarkKind.DANGLING_LINK, "documents", b"link")
SPACE = Space(1000, 500, 0, 0, 0, 0, 0)
EMPTY_PLAN = Plan((), (), None, SPACE)


def report(*remarks: Remark, scrub=None, plan: Plan | None = None) -> Report:
    return Report(remarks=list(remarks), scrub=scrub, plan=plan)


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (report(), Exit.DONE),
        (report(DANGLING), Exit.DONE),
        (report(UNREADABLE), Exit.UNREAD),
        (report(scrub=SOUND), Exit.DONE),
        (report(UNREADABLE, scrub=SOUND), Exit.UNREAD),
        (report(scrub=DAMAGED), Exit.DAMAGE),
        (report(UNREADABLE, scrub=DAMAGED), Exit.DAMAGE),
    ],
    ids=["all well", "a remark", "unread", "scrubbed", "unread and scrubbed", "damage", "damage before unread"],
)
def test_exit_code(found, code) -> None:
    assert outcome.exit_code(found) is code


@pytest.mark.parametrize("kind", RemarkKind)
def test_a_kind_of_remark_counts_as_unread_or_not(kind) -> None:
    assert (outcome.exit_code(report(Remark(kind))) is Exit.UNREAD) is (kind in UNREAD)


@pytest.mark.parametrize(
    ("found", "nothing", "result"),
    [
        (report(), False, RunResult.COMPLETE),
        (report(), True, RunResult.NOTHING_TO_DO),
        (report(UNREADABLE), False, RunResult.INCOMPLETE),
        (report(UNREADABLE), True, RunResult.INCOMPLETE),
    ],
)
def test_result(found, nothing, result) -> None:
    assert outcome.result(found, nothing=nothing) is result


def session(state: DriveState = DriveState.CLOSED) -> SimpleNamespace:
    return SimpleNamespace(
        candidate=Candidate(RED, VOLUME),
        state=state,
        safe_to_remove=state is DriveState.CLOSED,
        bytes_written=7,
        close_seconds=0.5,
    )


def last(found: Report, state: DriveState = DriveState.CLOSED):
    return outcome.finished(found, session(state), begun=NOW, ended=NOW, dry_run=False)


@pytest.mark.parametrize("state", DriveState)
def test_only_a_closed_drive_is_safe_to_remove(state) -> None:
    assert last(report(), state).safe_to_remove is (state is DriveState.CLOSED)


def test_after_damage_the_next_step_is_another_drive() -> None:
    assert last(report(scrub=DAMAGED)).next_step.startswith("back up to another drive now")


def test_after_unread_files_the_next_step_is_to_make_them_readable() -> None:
    assert "readable" in last(report(UNREADABLE)).next_step


def test_unread_files_are_listed_with_their_names_whatever_their_bytes() -> None:
    assert last(report(UNREADABLE)).facts["unread"] == [
        {"master": "documents", "path": "a\udcff", "why": "permission denied"}
    ]


def test_a_run_that_got_nowhere_has_facts_too() -> None:
    facts = outcome.facts(report(), session(), begun=NOW, ended=NOW)
    assert (facts["masters"], facts["bytes_copied"], facts["scrub"]) == ({}, 0, None)


def test_the_space_is_told_once_it_is_known() -> None:
    facts = outcome.facts(report(plan=EMPTY_PLAN), session(), begun=NOW, ended=NOW)
    assert facts["space"] == {"size": 1000, "free": 500}


def test_a_run_that_never_planned_counts_no_master() -> None:
    assert outcome.master_counts(report()) == ()


def test_a_plan_without_changes_is_empty() -> None:
    assert EMPTY_PLAN.is_empty
