"""One plugging in, with a drive, a ledger and a person that are made up: who is asked, what runs, what is remembered."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flashback.config.values import Config, OnPlug
from flashback.core.errors import ConfigError, DriveError, DriveState, Exit, UsageError
from flashback.core.events import Finished, Note, Progress, Remark, Remarked, RemarkKind, Step, StepBegun, StepDone
from flashback.core.locks import locked
from flashback.core.signals import Interrupted
from flashback.rotation.ledger import Ledger
from flashback.rotation.plugs import PlugOutcome, PlugRecord
from flashback.rotation.values import RunRecord, RunResult, Standing
from flashback.tools import block
from flashback.tools.journald import Journal
from flashback.trigger import plug, serve
from flashback.trigger.asking import Consent
from flashback.trigger.logged import JournalTeller
from flashback.trigger.plug import Plug, last_backup, unplugged_said
from tests.unit.drives import PASSPHRASE, RED, UUID, VOLUME, a_context


class Asker:
    """Says what it was told to say, and remembers what it was asked."""

    def __init__(self) -> None:
        self.unanswered = self.declined = self.agents = False
        self.says = Consent.NOW
        self.asked: list[str] = []
        self.told: list[tuple[str, str, str]] = []

    def consent(self, said: str) -> Consent:
        self.asked.append(said)
        return self.says

    def passphrase(self, question: str, attempt: int):
        return PASSPHRASE

    def notice(self, kind: str, summary: str, body: str) -> None:
        self.told.append((kind, summary, body))


class Log(Journal):
    def __init__(self) -> None:
        self.entries: list[dict] = []

    def send(self, message, *, priority, fields) -> None:
        self.entries.append({"MESSAGE": message, "PRIORITY": priority, **fields})


class World:
    def __init__(self, folder, monkeypatch) -> None:
        self.log, self.asker = Log(), Asker()
        self.context = a_context(folder)
        self.ledger = Ledger.open(folder / "ledger.sqlite")
        self.ledger.enrol(RED)
        self.volumes = (VOLUME,)
        self.there = True
        self.ran = 0
        self.deed = lambda: Exit.DONE
        monkeypatch.setattr(block, "luks_volumes", lambda _run: self.volumes)
        monkeypatch.setattr(block, "presence", lambda _path: block.Presence("8:1", 7))
        monkeypatch.setattr(block, "still_there", lambda _presence: self.there)
        monkeypatch.setattr(plug, "back_up", self._back_up)
        monkeypatch.setattr(plug.Inhibitor, "take", lambda _self, _why: "")

    def _back_up(self, context, *_given):
        self.ran += 1
        self.tell, self.person = context.tell, context.person
        return self.deed()

    def plug(self, uuid: str = UUID, **config) -> int:
        settings = Config(self.context.paths.config, (), **config)
        teller = JournalTeller(self.log, {"FLASHBACK_UUID": uuid})
        return Plug(self.context, settings, self.ledger, self.asker, teller).execute(uuid)

    @property
    def outcome(self) -> PlugOutcome | None:
        last = self.ledger.last_plug(UUID)
        return last.outcome if last else None


@pytest.fixture
def world(tmp_path, monkeypatch):
    world = World(tmp_path, monkeypatch)
    yield world
    world.ledger.close()


def test_a_yes_backs_up_and_is_remembered(world) -> None:
    assert world.plug() == Exit.DONE
    assert (world.ran, world.outcome) == (1, PlugOutcome.ANSWERED)


@pytest.mark.parametrize(
    ("says", "outcome"),
    [
        (Consent.LATER, PlugOutcome.LATER),
        (Consent.NO, PlugOutcome.DECLINED),
        (Consent.NOBODY, PlugOutcome.UNANSWERED),
    ],
)
def test_any_other_answer_opens_nothing_and_is_remembered(world, says, outcome) -> None:
    world.asker.says = says
    assert world.plug() == Exit.DONE
    assert (world.ran, world.outcome) == (0, outcome)


def test_later_is_an_hour(world) -> None:
    world.asker.says = Consent.LATER
    world.plug()
    assert world.ledger.last_plug(UUID).until == world.context.clock() + timedelta(hours=1)


def test_whoever_said_no_is_not_asked_again_before_the_next_plug(world) -> None:
    world.asker.says = Consent.NO
    world.plug()
    world.plug()
    assert len(world.asker.asked) == 1
    world.volumes = (replace(VOLUME, diskseq=8),)
    world.plug()
    assert len(world.asker.asked) == 2


def test_always_asks_for_no_consent(world) -> None:
    world.plug(on_plug=OnPlug.ALWAYS)
    assert (world.ran, world.asker.asked) == (1, [])


def test_a_passphrase_from_the_drives_own_source_is_given_without_asking(world, tmp_path) -> None:
    key = tmp_path / "red.key"
    key.write_bytes(b"correct horse\n")
    key.chmod(0o600)
    world.ledger.change(UUID, passphrase=f"file:{key}", on_plug=OnPlug.ALWAYS)
    world.plug()
    assert (world.person.known_passphrase, world.asker.asked) == (PASSPHRASE, [])


def test_a_source_that_cannot_be_trusted_opens_nothing(world, tmp_path) -> None:
    world.ledger.change(UUID, passphrase=f"file:{tmp_path / 'gone'}")
    with pytest.raises(ConfigError):
        world.plug()
    assert world.ran == 0


def test_never_asks_nobody(world) -> None:
    world.plug(on_plug=OnPlug.NEVER)
    assert (world.ran, world.asker.asked, world.outcome) == (0, [], None)


@pytest.mark.parametrize(("standing", "kind"), [(Standing.LOST, "warning"), (Standing.RETIRED, "warning")])
def test_a_lost_or_retired_drive_is_told_and_left_alone(world, standing, kind) -> None:
    world.ledger.change(UUID, standing=standing)
    world.plug()
    assert (world.ran, [each[0] for each in world.asker.told]) == (0, [kind])
    assert any(entry["PRIORITY"] == 4 for entry in world.log.entries)


def test_a_drive_of_another_machine_is_offered_for_adoption(world) -> None:
    other = "99999999-8888-4777-8666-000000000000"
    world.volumes = (replace(VOLUME, uuid=other),)
    world.plug(other)
    ((kind, _summary, body),) = world.asker.told
    assert (world.ran, kind) == (0, "offer")
    assert "sudo flashback drive adopt /dev/sdx1" in body


def test_two_devices_with_one_uuid_are_refused(world) -> None:
    world.volumes = (VOLUME, replace(VOLUME, path="/dev/sdy1", disk="/dev/sdy"))
    with pytest.raises(DriveError, match="copy"):
        world.plug()
    assert world.ran == 0


def test_a_drive_that_is_gone_again_is_no_failure(world) -> None:
    world.volumes = ()
    assert world.plug() == Exit.DONE
    assert world.asker.asked == []


def test_a_volume_without_our_label_is_nothing_of_ours(world) -> None:
    world.volumes = (replace(VOLUME, label="backup"),)
    world.plug()
    assert world.asker.asked == []


def test_a_drive_that_is_pulled_while_the_question_stands_is_remembered_as_unplugged(world, monkeypatch) -> None:
    def pulled(_said: str) -> Consent:
        raise Interrupted(15)

    world.asker.consent = pulled
    with pytest.raises(Interrupted):
        world.plug()
    assert world.outcome is PlugOutcome.UNPLUGGED


def test_a_drive_that_is_pulled_while_it_is_backed_up_is_told_and_remembered_as_unplugged(world) -> None:
    told: list[Finished] = []
    world.context = world.context.telling(told.append)

    def pulled() -> int:
        world.there = False
        world.tell(Finished("failed", 143, "red", DriveState.GONE, safe_to_remove=False, error={"what": "Stopped"}))
        return 143

    world.deed = pulled
    assert world.plug() == 143
    assert "unplugged" in told[0].error["what"]
    assert world.outcome is PlugOutcome.UNPLUGGED


@pytest.mark.parametrize(
    ("flag", "outcome"), [("unanswered", PlugOutcome.UNANSWERED), ("declined", PlugOutcome.DECLINED)]
)
def test_a_passphrase_that_nobody_typed_counts_as_not_backed_up(world, flag, outcome) -> None:
    def deed() -> int:
        setattr(world.asker, flag, True)
        return Exit.PASSPHRASE

    world.deed = deed
    world.plug()
    assert world.outcome is outcome


def test_a_second_drive_waits_until_the_first_is_done(world, monkeypatch) -> None:
    held = locked(world.context.paths.locks / "run.lock", purpose="run blue")
    held.__enter__()
    monkeypatch.setattr(plug.time, "sleep", lambda _seconds: held.__exit__(None, None, None))
    world.plug()
    assert world.ran == 1
    assert any("red waits" in entry["MESSAGE"] for entry in world.log.entries)


def test_a_waiting_drive_that_is_pulled_stops_waiting(world) -> None:
    world.there = False
    with (
        locked(world.context.paths.locks / "run.lock", purpose="run blue"),
        pytest.raises(DriveError, match="unplugged"),
    ):
        world.plug()


def test_the_question_says_how_old_the_last_run_is() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    run = RunRecord(UUID, 1, "r", "here", now - timedelta(days=3), now - timedelta(days=3), RunResult.COMPLETE)
    assert last_backup(run, now) == "The last run ended 3 days ago: complete."
    assert last_backup(None, now) == "No backup was finished on it yet."


def test_a_pulled_drive_is_told_as_that_and_not_as_a_signal() -> None:
    told: list = []
    tell = unplugged_said(told.append, RED)
    tell(Finished("failed", 143, "red", DriveState.GONE, safe_to_remove=False, error={"what": "Stopped by SIGTERM"}))
    tell(Finished("failed", 143, "red", DriveState.CLOSED, safe_to_remove=True, error={"what": "Stopped by SIGTERM"}))
    assert "unplugged" in told[0].error["what"]
    assert "carries on" in told[0].next_step
    assert told[1].error["what"] == "Stopped by SIGTERM"


# --- the ledger and the journal


def test_the_newest_answer_is_the_one_that_counts(world) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    first = PlugRecord(UUID, at, "a:1", PlugOutcome.ASKED)
    second = PlugRecord(UUID, at - timedelta(days=1), "b:1", PlugOutcome.LATER, at, agents=True)
    world.ledger.record_plug(first)
    world.ledger.record_plug(second)
    assert world.ledger.last_plug(UUID) == second


def test_an_answer_replaces_its_question(world) -> None:
    record = PlugRecord(UUID, datetime(2026, 1, 1, tzinfo=UTC), "a:1", PlugOutcome.ASKED)
    world.ledger.record_plug(record)
    world.ledger.record_plug(replace(record, outcome=PlugOutcome.ANSWERED))
    assert world.outcome is PlugOutcome.ANSWERED


def test_every_entry_of_the_journal_names_the_drive(world) -> None:
    world.plug()
    assert {entry["FLASHBACK_UUID"] for entry in world.log.entries} == {UUID}
    assert world.log.entries[0]["FLASHBACK_DRIVE"] == "red"
    assert world.log.entries[0]["FLASHBACK_DECISION"] == "ask"


@pytest.mark.parametrize(
    ("event", "priority"),
    [
        (StepBegun(Step.COPY, "1 file"), 6),
        (StepDone(Step.COPY, 1.0), 6),
        (Note("touch your key"), 6),
        (Remarked(Remark(RemarkKind.VANISHED, "documents", b"a")), 4),
        (Finished("complete", Exit.DONE, "red", DriveState.CLOSED, safe_to_remove=True), 5),
        (Finished("incomplete", Exit.NOT_FINISHED, "red", DriveState.GONE, safe_to_remove=False), 4),
        (Finished("failed", Exit.STILL_HELD, "red", DriveState.STILL_HELD, safe_to_remove=False), 3),
    ],
)
def test_each_event_is_one_entry_of_its_weight(event, priority) -> None:
    log = Log()
    JournalTeller(log, {})(event)
    assert [entry["PRIORITY"] for entry in log.entries] == [priority]


def test_progress_is_not_logged() -> None:
    log = Log()
    JournalTeller(log, {})(Progress(Step.COPY, 1))
    assert log.entries == []


def test_the_last_entry_says_whether_the_drive_can_be_removed() -> None:
    log = Log()
    JournalTeller(log, {})(Finished("complete", Exit.DONE, "red", DriveState.CLOSED, safe_to_remove=True))
    fields = {name: value for name, value in log.entries[0].items() if name.startswith("FLASHBACK")}
    assert json.dumps(fields) == json.dumps(
        {
            "FLASHBACK_EVENT": "finished",
            "FLASHBACK_RESULT": "complete",
            "FLASHBACK_EXIT_CODE": 0,
            "FLASHBACK_DRIVE_STATE": "closed",
            "FLASHBACK_SAFE_TO_REMOVE": 1,
        }
    )


def test_a_message_cannot_smuggle_a_field_into_the_journal(tmp_path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        Journal(path).send("red\nFLASHBACK_SAFE_TO_REMOVE=1", priority=6, fields={"FLASHBACK_DRIVE": "red"})
        entry = receiver.recv(10000)
    message = b"red\nFLASHBACK_SAFE_TO_REMOVE=1"
    assert entry.startswith(b"MESSAGE\n" + len(message).to_bytes(8, "little") + message + b"\nPRIORITY\n")
    assert entry.endswith(b"FLASHBACK_DRIVE\n" + (3).to_bytes(8, "little") + b"red\n")


def test_a_journal_that_is_not_there_stops_nothing(tmp_path) -> None:
    Journal(str(tmp_path / "nowhere")).send("red", priority=6, fields={})


@pytest.mark.parametrize("uuid", ["", "red", "../../etc", f"{UUID}x", f"{UUID[:-1]}F", "$(reboot)"])
def test_what_is_no_uuid_is_refused_before_anything_else(uuid) -> None:
    with pytest.raises(UsageError):
        serve.serve(None, None, None, uuid)  # type: ignore[arg-type]
