"""`init` from the first look to the first run: what is asked of whom, in which order, and what a failure leaves."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from flashback.core.context import Doubt, NobodyDecides
from flashback.core.errors import ConfigError, DriveError, DriveGone, DriveState, Exit, UsageError
from flashback.core.events import Finished, Note, Planned
from flashback.core.secret import Secret
from flashback.core.signals import Interrupted
from flashback.drive.recognise import Candidate
from flashback.prepare import init
from flashback.prepare.examine import Examined
from flashback.prepare.format import retire_erased
from flashback.prepare.init import InitOptions, initialise
from flashback.prepare.wizard import Given
from flashback.rotation.ledger import Ledger
from flashback.rotation.values import Standing
from flashback.tools.block import BlockDevice
from tests.unit.drives import GREEN, RED, UUID, VOLUME, a_context

STICK = BlockDevice("/dev/sdx", "sdx", "disk", 1 << 30, transport="usb", removable=True)


class World:
    """What `initialise` reaches outside: each step is noted; `prepare` may be told to fail."""

    def __init__(self, tmp_path, ledger: Ledger) -> None:
        self.folder, self.ledger = tmp_path, ledger
        self.examined = Examined(STICK, (), None, carries_drive=True)
        self.steps: list[str] = []
        self.told: list = []
        self.shown: list[str] = []
        self.context = a_context(tmp_path, told=self.told)
        self.failure: Exception | None = None
        self.runs: list = []
        self.bad_config: BaseException | None = None
        self.settings = SimpleNamespace(masters=(SimpleNamespace(path=tmp_path),))

    def prepare(self, _context, _ledger, request):
        self.steps.append("prepare")
        self.request = request
        if self.failure is not None:
            raise self.failure
        return replace(RED, name=request.name)

    def config(self):
        self.steps.append("config")
        if self.bad_config is not None:
            raise self.bad_config
        return self.settings

    def back_up(self, context, config, _ledger, _candidate, request) -> int:
        self.steps.append("run")
        self.runs.append((context.person.known_passphrase, config, request))
        doubt = Doubt("red", "growth", "it grew", (), lambda: iter(()))
        self.decided = context.person.decides and context.person.decide(doubt)
        return 11

    def init(self, *, first_run=True, dry_run=False, recovery_file=None, **said) -> int:
        given = Given(**{"passphrase": Secret(b"x"), "name": "red", "master": self.folder, **said})
        options = InitOptions(given, recovery_file, first_run, dry_run)
        show = self.shown.append
        return initialise(self.context, self.ledger, "/dev/sdx", options, config=self.config, show=show)

    @property
    def last(self) -> Finished:
        return self.told[-1]


@pytest.fixture
def world(tmp_path, monkeypatch):
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        world = World(tmp_path, ledger)
        monkeypatch.setattr(init, "put_away_on", lambda _context, _device: None)
        monkeypatch.setattr(init, "examine", lambda _run, _device, _known: world.examined)
        monkeypatch.setattr(init, "prepare", world.prepare)
        monkeypatch.setattr(init, "back_up", world.back_up)
        monkeypatch.setattr(init, "by_name", lambda _run, _known, _name: Candidate(RED, VOLUME))
        yield world


@pytest.fixture
def configured(world) -> None:
    world.context.paths.config.parent.mkdir(parents=True)
    world.context.paths.config.write_text("masters: {}\n")


# --- all goes well


def test_the_exit_code_is_that_of_the_first_run(world) -> None:
    assert world.init() == 11


def test_the_first_run_knows_the_passphrase_and_scrubs(world) -> None:
    world.init()
    ((passphrase, config, request),) = world.runs
    assert (passphrase, config, request.scrub) == (Secret(b"x"), world.settings, True)


@pytest.mark.parametrize("somebody", [True, False])
def test_about_a_hold_the_first_run_asks_whoever_is_at_the_terminal(world, somebody) -> None:
    class Alice(NobodyDecides):
        decides = somebody

        def decide(self, _doubt):
            return True

    world.context = replace(world.context, person=Alice())
    world.init()
    assert world.decided is somebody


def test_the_first_run_can_be_left_out(world) -> None:
    assert world.init(first_run=False) == Exit.DONE
    assert world.runs == []
    assert (world.last.safe_to_remove, world.last.next_step) == (True, "flashback run red")


def test_where_there_is_no_configuration_a_first_one_is_written(world) -> None:
    world.init()
    assert str(world.folder) in world.context.paths.config.read_text()


def test_a_configuration_that_is_there_is_left_alone(world, configured) -> None:
    world.init()
    assert world.context.paths.config.read_text() == "masters: {}\n"


def test_a_directory_that_the_configuration_does_not_name_is_said_to_change_nothing(world, configured) -> None:
    world.init(master=world.folder / "elsewhere")
    assert "changes nothing" in world.told[0].text


def test_a_directory_that_the_configuration_names_is_no_news(world, configured) -> None:
    world.init()
    assert not [each for each in world.told if isinstance(each, Note)]


# --- nothing is erased before everything is known to be good


def test_a_bad_configuration_is_told_before_anything_is_erased(world, configured) -> None:
    world.bad_config = ConfigError("frobnicate is not a setting")
    with pytest.raises(ConfigError):
        world.init()
    assert "prepare" not in world.steps


@pytest.mark.parametrize("stopped", [ConfigError("bad"), KeyboardInterrupt(), Interrupted(2)])
def test_what_stops_it_before_anything_is_erased_says_that_the_drive_was_not_opened(world, configured, stopped) -> None:
    world.bad_config = stopped
    with pytest.raises(type(stopped)) as caught:
        world.init()
    assert caught.value.drive_state is DriveState.NOT_OPENED


def test_a_first_configuration_that_cannot_be_used_is_told_before_anything_is_erased(world) -> None:
    world.bad_config = ConfigError("it lies where others can change it")
    with pytest.raises(ConfigError):
        world.init()
    assert "prepare" not in world.steps


def test_a_first_configuration_that_cannot_be_written_is_told_before_anything_is_erased(world) -> None:
    world.context.paths.config.parent.write_text("a file where a folder should be")
    with pytest.raises(ConfigError, match="cannot be written"):
        world.init()
    assert world.steps == []


def test_the_first_configuration_has_the_name_that_was_asked_for(world) -> None:
    paths = replace(world.context.paths, config=world.folder / "etc/mine.yaml")
    world.context = replace(world.context, paths=paths)
    world.init()
    assert str(world.folder) in paths.config.read_text()


def test_a_recovery_file_that_exists_is_told_before_anything_is_erased(world) -> None:
    (world.folder / "key.txt").write_text("old")
    with pytest.raises(UsageError):
        world.init(recovery_key=True, recovery_file=world.folder / "key.txt")
    assert world.steps == []


def test_a_name_that_is_taken_is_told_before_anything_is_erased(world) -> None:
    world.ledger.enrol(GREEN)
    with pytest.raises(UsageError, match="already"):
        world.init(name="GREEN")
    assert world.steps == []


def test_the_name_of_the_drive_that_is_erased_is_free(world) -> None:
    world.ledger.enrol(RED)
    world.examined = replace(world.examined, known=RED)
    world.init(name="red", erase=True)
    assert world.request.name == "red"


# --- a dry run


def test_a_dry_run_tells_the_plan(world) -> None:
    assert world.init(dry_run=True) == Exit.DONE
    (plan,) = [event.plan for event in world.told if isinstance(event, Planned)]
    assert (plan["drive"], plan["device"]) == ("red", "/dev/sdx")


def test_a_dry_run_changes_nothing(world) -> None:
    world.init(dry_run=True)
    assert world.steps == []
    assert not world.context.paths.config.exists()


def test_after_a_dry_run_the_drive_was_not_opened(world) -> None:
    world.init(dry_run=True)
    assert (world.last.result, world.last.drive_state) == ("nothing-to-do", DriveState.NOT_OPENED)


# --- it fails


def test_a_failure_is_told_with_its_exit_code(world) -> None:
    world.failure = DriveError("/dev/sdx cannot be partitioned")
    assert world.init() == Exit.DRIVE
    assert (world.last.result, world.last.safe_to_remove) == ("failed", False)


def test_a_drive_that_was_pulled_is_not_said_to_be_ready_for_a_run(world) -> None:
    world.failure = DriveGone("/dev/sdx1 cannot be flushed")
    world.init()
    assert world.last.next_step == "start again: flashback init /dev/sdx"


def test_after_a_failure_nothing_is_backed_up(world) -> None:
    world.failure = DriveError("/dev/sdx cannot be partitioned")
    world.init()
    assert world.runs == []


def test_after_a_failure_no_recovery_key_is_shown(world) -> None:
    world.failure = DriveError("/dev/sdx cannot be partitioned")
    world.init(recovery_key=True)
    assert world.shown == []


# --- the recovery key


def test_a_recovery_key_is_shown_once(world) -> None:
    world.init(recovery_key=True)
    assert len([text for text in world.shown if "recovery key of the drive red" in text]) == 1


def test_a_recovery_key_that_goes_to_a_file_is_not_shown(world) -> None:
    world.init(recovery_key=True, recovery_file=world.folder / "key.txt")
    key = world.request.recovery_key.reveal().decode()
    assert not any(group in text for text in world.shown for group in key.split("-"))
    assert key[:35] in (world.folder / "key.txt").read_text()


def test_no_event_holds_a_secret(world) -> None:
    world.init(recovery_key=True, passphrase=Secret(b"correct horse"), first_run=False)
    said = repr(world.told)
    assert "correct horse" not in said
    assert world.request.recovery_key.reveal().decode()[:8] not in said


# --- the drive that was there before


def test_an_erased_drive_is_retired_under_another_name(world) -> None:
    world.ledger.enrol(RED)
    retire_erased(world.ledger, RED)
    (drive,) = world.ledger.drives()
    assert (drive.uuid, drive.name, drive.standing) == (UUID, "red-erased-1", Standing.RETIRED)


def test_a_second_one_of_that_name_gets_the_next_number(world) -> None:
    world.ledger.enrol(RED)
    world.ledger.enrol(replace(GREEN, name="red-erased-1"))
    retire_erased(world.ledger, RED)
    assert "red-erased-2" in {drive.name for drive in world.ledger.drives()}


def test_a_long_name_stays_a_good_one(world) -> None:
    long = replace(RED, name="a" * 32)
    world.ledger.enrol(long)
    retire_erased(world.ledger, long)
    assert world.ledger.drives()[0].name == "a" * 20 + "-erased-1"
