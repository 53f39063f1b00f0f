"""One plugging in, with a drive, a ledger and a person that are made up: who is asked, what runs, what is remembered."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flashback.config.values import Config, OnPlug
from flashback.core.errors import ConfigError, DriveError, DriveState, Exit, FlashbackError, UsageError
from flashback.core.events import Finished, Note, Progress, Remark, Remarked, RemarkKind, Step, StepBegun, StepDone
from flashback.core.locks import locked
from flashback.core.signals import Interrupted
from flashback.drive.recognise import Candidate
from flashback.rotation.ledger import Ledger
from flashback.rotation.plugs import PlugOutcome, PlugRecord
from flashback.rotation.values import RunRecord, RunResult, Standing
from flashback.tools import block
from flashback.tools.journald import Journal
from flashback.tools.power_supply import Power
from flashback.trigger import ending, plug, serve
from flashback.trigger.asking import Consent
from flashback.trigger.ending import Ending
from flashback.trigger.logged import JournalTeller
from flashback.trigger.plug import Plug, last_backup
from tests.unit.drives import PASSPHRASE, RED, UUID, VOLUME, a_context


class Asker:
    """Says what it was told to say, and remembers what it was asked."""

    def __init__(self) -> None:
        self.unanswered = self.declined = self.agents = self.keyring = False
        self.kept = 0
        self.says = Consent.NOW
        self.asked: list[str] = []
        self.told: list[tuple[str, str, str]] = []
        self.while_asked = lambda: None

    def consent(self, said: str, taken: Callable[[], bool]) -> Consent:
        self.asked.append(said)
        self.while_asked()
        return Consent.TAKEN if taken() else self.says

    def passphrase(self, question: str, attempt: int):
        return PASSPHRASE

    def keep(self) -> None:
        self.kept += 1

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
        self.ledger_file = folder / "ledger.sqlite"
        self.ledger = Ledger.open(self.ledger_file)
        self.ledger.enrol(RED)
        self.volumes = (VOLUME,)
        self.there = True
        self.ran = 0
        self.deed = lambda: Exit.DONE
        monkeypatch.setattr(block, "luks_volumes", lambda _run: self.volumes)
        monkeypatch.setattr(block, "presence", lambda _path: block.Presence("8:1", 7))
        monkeypatch.setattr(block, "still_there", lambda _presence: self.there)
        monkeypatch.setattr("flashback.backup.service.back_up", self._back_up)
        monkeypatch.setattr(ending, "switch_off", self._switch_off)
        monkeypatch.setattr(plug, "power", Power)
        self.off = 0
        self.switched_off = lambda: None

    def _back_up(self, context, *_given):
        self.ran += 1
        self.tell, self.person = context.tell, context.person
        return self.deed()

    def _switch_off(self, _disk: str) -> str:
        self.off += 1
        self.switched_off()
        return ""

    def ending(self, told: list, *, power_off: bool = True) -> Ending:
        context = self.context.telling(told.append)
        log, last = JournalTeller(self.log, {}), contextlib.ExitStack()
        return Ending(context, Candidate(RED, VOLUME), log, power_off, last, self.asker.keep)

    def plug(self, uuid: str = UUID, last=None, **config) -> int:
        settings = Config(self.context.paths.config, (), **config)
        teller = JournalTeller(self.log, {"FLASHBACK_UUID": uuid})
        last = last or contextlib.ExitStack()
        return Plug(self.context, settings, self.ledger, self.asker, teller, last=last).execute(uuid)

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


def test_an_unattended_run_on_a_low_battery_is_put_off_for_an_hour_where_nobody_sits(world, monkeypatch) -> None:
    monkeypatch.setattr(plug, "power", lambda: Power(on_battery=True, charge=0.1))
    assert world.plug(on_plug=OnPlug.ALWAYS) == Exit.DONE
    assert (world.ran, world.outcome) == (0, PlugOutcome.LATER)
    assert world.ledger.last_plug(UUID).until == world.context.clock() + timedelta(hours=1)
    assert "10%" in world.log.entries[-1]["MESSAGE"]


def test_a_passphrase_from_the_drives_own_source_is_given_without_asking(world, tmp_path) -> None:
    key = tmp_path / "red.key"
    key.write_bytes(b"correct horse\n")
    key.chmod(0o600)
    world.ledger.change(UUID, passphrase=f"file:{key}", on_plug=OnPlug.ALWAYS)
    world.plug()
    assert (world.person.known_passphrase, world.asker.asked) == (PASSPHRASE, [])


def test_a_passphrase_from_the_keyring_is_the_sessions_affair(world) -> None:
    world.ledger.change(UUID, passphrase="keyring")
    world.plug()
    assert (world.asker.keyring, world.person.known_passphrase) == (True, None)
    world.ledger.change(UUID, passphrase="ask")
    world.volumes = (replace(VOLUME, diskseq=8),)
    world.plug()
    assert world.asker.keyring is False


def test_what_was_typed_may_be_kept_once_it_has_opened_the_drive(world) -> None:
    ending = world.ending([])
    ending(StepBegun(Step.OPEN))
    assert world.asker.kept == 0
    ending(StepDone(Step.OPEN, 1.0))
    assert world.asker.kept == 1


def test_a_source_that_cannot_be_trusted_opens_nothing(world, tmp_path) -> None:
    world.ledger.change(UUID, passphrase=f"file:{tmp_path / 'gone'}")
    with pytest.raises(ConfigError):
        world.plug()
    assert world.ran == 0


def test_a_drive_that_somebody_at_a_terminal_has_in_hand_is_left_to_them(world) -> None:
    with locked(world.context.paths.locks / f"{UUID}.lock", purpose="run red"):
        world.plug()
    assert (world.ran, world.asker.asked, world.outcome) == (0, [], None)
    world.plug()
    assert world.ran == 1


def test_a_drive_that_a_command_takes_in_hand_while_it_is_asked_about_is_left_to_that(world) -> None:
    taken = locked(world.context.paths.locks / f"{UUID}.lock", purpose="run red")
    world.asker.while_asked = taken.__enter__
    world.plug()
    taken.__exit__(None, None, None)
    assert (world.ran, len(world.asker.asked), world.outcome) == (0, 1, PlugOutcome.ANSWERED)


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
    def pulled(_said: str, _taken: Callable[[], bool]) -> Consent:
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


def test_the_question_says_how_old_the_last_run_is() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    run = RunRecord(UUID, 1, "r", "here", now - timedelta(days=3), now - timedelta(days=3), RunResult.COMPLETE)
    assert last_backup(run, now) == "The last run ended 3 days ago: complete."
    assert last_backup(None, now) == "No backup was finished on it yet."


def test_a_pulled_drive_is_told_as_that_and_not_as_a_signal(world) -> None:
    told: list = []
    ending = world.ending(told)
    ending(Finished("failed", 143, "red", DriveState.GONE, safe_to_remove=False, error={"what": "Stopped by SIGTERM"}))
    ending(Finished("failed", 143, "red", DriveState.CLOSED, safe_to_remove=True, error={"what": "Stopped by SIGTERM"}))
    assert "unplugged" in told[0].error["what"]
    assert "carries on" in told[0].next_step
    assert told[1].error["what"] == "Stopped by SIGTERM"


# --- switching the device off


def complete(code=Exit.DONE, *, safe: bool = True, state=DriveState.CLOSED) -> Finished:
    return Finished("complete", code, "red", state, safe_to_remove=safe)


def test_the_device_is_switched_off_before_anybody_is_told_that_it_is_safe(world) -> None:
    told: list = []
    world.switched_off = lambda: told.append("off")
    world.ending(told)(complete())
    assert told[0] == "off"
    assert told[1].facts["powered_off"] is True


@pytest.mark.parametrize(
    "event",
    [
        complete(safe=False),
        complete(Exit.STILL_HELD, safe=False, state=DriveState.STILL_HELD),
        complete(Exit.PASSPHRASE, state=DriveState.NOT_OPENED),
        complete(Exit.HELD_BY_GUARD),
        complete(Exit.NOT_FINISHED),
        complete(Exit.DAMAGE),
        StepDone(Step.CLOSE, 1.0),
    ],
)
def test_a_device_that_is_not_proven_closed_or_is_needed_next_stays_on(world, event) -> None:
    told: list = []
    world.ending(told)(event)
    assert (told, world.off) == ([event], 0)


def test_a_device_stays_on_where_the_configuration_says_so(world) -> None:
    told: list = []
    world.ending(told, power_off=False)(complete())
    assert (told, world.off) == ([complete()], 0)


def test_a_device_that_cannot_be_switched_off_is_told_in_the_journal_and_is_safe_nevertheless(world) -> None:
    def fails() -> None:
        raise FlashbackError("the kernel did not take it off the bus")

    told: list = []
    world.switched_off = fails
    world.ending(told)(complete())
    assert (told[0].safe_to_remove, told[0].facts["powered_off"]) == (True, False)
    assert [entry["PRIORITY"] for entry in world.log.entries] == [4]


def test_the_unit_of_a_device_that_was_switched_off_is_not_taken_for_pulled(world) -> None:
    def deed() -> int:
        world.tell(complete())
        return Exit.DONE

    def off() -> None:
        world.there = False
        signal.raise_signal(signal.SIGTERM)  # systemd stops the unit of a device that is gone

    world.deed, world.switched_off = deed, off
    with world.context.signals, pytest.raises(Interrupted), contextlib.ExitStack() as last:
        assert world.plug(last=last) == Exit.DONE
        assert world.outcome is PlugOutcome.ANSWERED


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


def test_a_drive_on_a_machine_that_was_never_set_up_is_offered_and_no_configuration_is_missed(
    world, monkeypatch
) -> None:
    def no_configuration() -> Config:
        raise ConfigError("there is no configuration")

    other = "99999999-8888-4777-8666-000000000000"
    told: list[str] = []
    world.volumes = (replace(VOLUME, uuid=other),)
    monkeypatch.setattr(serve, "people_here", lambda _run: frozenset())
    monkeypatch.setattr(serve.Everywhere, "notice", lambda _asker, kind, *_more: told.append(kind))
    ledger = lambda: Ledger.open(world.context.paths.ledger)  # noqa: E731
    assert serve.serve(world.context.telling, no_configuration, ledger, other) == Exit.DONE
    assert told == ["offer"]
    with pytest.raises(ConfigError):
        serve.serve(world.context.telling, no_configuration, lambda: Ledger.open(world.ledger_file), UUID)


@pytest.mark.parametrize(
    ("ended", "problem", "kinds"),
    [
        (False, FlashbackError("the ledger cannot be written"), ["trouble"]),
        (True, FlashbackError("the ledger cannot be written"), ["done"]),
        (False, RuntimeError("nobody expected this"), ["trouble"]),
        (True, RuntimeError("nobody expected this"), ["done"]),
    ],
)
def test_whatever_ends_it_is_told_once_and_not_contradicted(world, monkeypatch, ended, problem, kinds) -> None:
    told: list[str] = []

    def execute(work: Plug, _uuid: str) -> int:
        if ended:
            work.context.tell(Finished("complete", 0, "red", DriveState.CLOSED, safe_to_remove=True))
        raise problem

    monkeypatch.setattr(Plug, "execute", execute)
    monkeypatch.setattr(serve.Everywhere, "notice", lambda _asker, kind, *_more: told.append(kind))
    with pytest.raises(type(problem)):
        serve.serve(
            world.context.telling,
            lambda: Config(world.context.paths.config, ()),
            lambda: Ledger.open(world.ledger_file),
            UUID,
        )
    assert told == kinds
