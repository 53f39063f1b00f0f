"""Guards in whole runs over real Btrfs drives: two drives, one master, one memory."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest

from benchmarks import copying
from flashback.backup import service, trim
from flashback.backup.report import RunRequest
from flashback.config.values import Config, Guards, Keep, Master
from flashback.core.command import Programs
from flashback.core.context import Context, Doubt, NobodyDecides, Paths
from flashback.core.errors import DriveState
from flashback.core.events import Event, Finished, Planned
from flashback.core.signals import StopSignals
from flashback.drive import layout
from flashback.drive.session import OpenDrive
from flashback.rotation.ledger import Ledger
from flashback.rotation.values import RunResult
from flashback.tools import cryptsetup
from tests.conftest import mounted_btrfs

ALICE = 12345
NOBODY = 65534


class Nobody(NobodyDecides):
    known_passphrase = None

    def passphrase(self, question: str, attempt: int) -> None:
        return None


@dataclass
class Somebody:
    """Says yes or no, and remembers what was asked."""

    answer: bool
    asked: list[Doubt] = field(default_factory=list)
    listed: list[list[str]] = field(default_factory=list)
    known_passphrase = None
    decides = True

    def passphrase(self, question: str, attempt: int) -> None:
        return None

    def decide(self, doubt: Doubt) -> bool:
        self.asked.append(doubt)
        self.listed.append(list(doubt.listing()))
        return self.answer


class Machine:
    """`run` is a whole run but for opening and closing the drive."""

    def __init__(self, home: Path, drives: dict[str, OpenDrive]) -> None:
        self.master, self.state, self.drives = home / "master", home / "state", drives
        self.master.mkdir()
        self.state.mkdir(mode=0o700)
        self.now = datetime(2027, 1, 1, tzinfo=UTC)
        self.events: list[Event] = []
        self.guards, self.keep = Guards(), Keep()
        with self.ledger() as ledger:
            for drive in drives.values():
                ledger.enrol(drive.known)

    def ledger(self) -> Ledger:
        return Ledger.open(self.state / "ledger.sqlite")

    def clock(self) -> datetime:
        self.now += timedelta(seconds=5)
        return self.now

    def write(self, count: int = 60, *, text: bytes = b"the boat came back to the harbour before the rain ") -> None:
        for n in range(count):
            place = self.master / f"letters/{n % 3}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{n}.txt").write_bytes(text * 100 + b"%d" % n)
        for path in (self.master, *self.master.rglob("*")):
            os.chown(path, ALICE, ALICE)

    def files(self) -> list[Path]:
        return sorted(path for path in self.master.rglob("*") if path.is_file())

    def run(self, drive: str = "red", person=None, **asked) -> Finished:
        return self._do(service.back_up, drive, person, RunRequest(**asked))

    def prune(self, drive: str = "red", person=None, **asked) -> Finished:
        return self._do(trim.trim, drive, person, trim.TrimRequest(**asked))

    def context(self, person=None) -> Context:
        return Context(
            run=Programs(),
            signals=StopSignals(),
            clock=self.clock,
            tell=self.events.append,
            person=person or Nobody(),
            paths=Paths(config=self.state / "no.yaml", state=self.state, runtime=self.state / "run"),
            machine="here",
        )

    def _do(self, work, drive: str, person, request) -> Finished:
        opened, state = self.drives[drive], self.state
        self.events.clear()
        context = self.context(person)
        master = Master("docs", self.master)
        config = Config(
            file=state / "no.yaml",
            masters=(master,),
            guards=self.guards,
            keep=self.keep,
            scrub_every=None,
            compress="no",
        )

        class Session(copying.Opened):
            state, safe_to_remove, bytes_written, close_seconds = DriveState.CLOSED, True, 0, 0.0

            def __init__(self, *_given: object, **_more: object) -> None:
                self.drive = opened

        with (
            self.ledger() as ledger,
            patch.object(service, "Session", Session),
            patch.object(trim, "Session", Session),
            patch("flashback.backup.run.prove_destination"),
            patch("flashback.backup.prune.prove_destination"),
            patch.object(cryptsetup, "mapper_path", return_value=opened.volume.path),
        ):
            work(context, config, ledger, copying.Opened(opened).candidate, request)
        last = self.events[-1]
        assert isinstance(last, Finished)
        return last

    def snapshots(self, drive: str = "red") -> int:
        return len(list((self.drives[drive].mount_point / "docs/snapshots").iterdir()))

    def copied(self, drive: str = "red") -> int:
        return sum(path.is_file() for path in (self.drives[drive].mount_point / "docs/current").rglob("*"))

    def standing(self) -> list[str]:
        with self.ledger() as ledger:
            return [hold.hold for hold in ledger.standing_holds()]

    def journal(self, drive: str = "red") -> bytes:
        with layout.directory(self.drives[drive].root, layout.OURS) as ours:
            return layout.read_lines(ours, layout.JOURNAL)


@pytest.fixture
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="flashback-guards-") as name, contextlib.ExitStack() as opened:
        folder = Path(name)
        folder.chmod(0o755)
        drives = {}
        for each in ("red", "green"):
            mounting = mounted_btrfs(folder / each, "300M")
            mount_point = next(mounting)
            opened.callback(next, mounting, None)
            drive = opened.enter_context(copying.open_drive(mount_point))
            drives[each] = replace(drive, known=replace(drive.known, name=each))
        yield Machine(folder, drives)


def both(machine: Machine) -> None:
    machine.write()
    assert machine.run("red").exit_code == 0
    assert machine.run("green").exit_code == 0


def lose(machine: Machine, count: int = 40) -> None:
    for path in machine.files()[:count]:
        path.unlink()


def encrypt(machine: Machine) -> None:
    for path in machine.files():
        path.write_bytes(os.urandom(path.stat().st_size))


def names(last: Finished) -> list[str]:
    return [hold["name"] for hold in last.facts["holds"]]


def test_a_mass_deletion_is_held_and_nothing_is_written(machine) -> None:
    both(machine)
    before = machine.journal()
    lose(machine)
    last = machine.run()
    assert (last.result, last.exit_code, names(last)) == ("held", 13, ["mass-deletion"])
    assert (machine.copied(), machine.journal()) == (60, before)
    assert last.error is not None
    assert "40 files of 60" in last.error["findings"][0]
    assert "letters/" in last.error["findings"][0]


def test_files_that_were_encrypted_are_seen_by_their_owner_reading_them(machine) -> None:
    both(machine)
    encrypt(machine)
    for path in machine.files()[:5]:
        path.chmod(0)  # which root could read; to the owner they are unreadable, and are left alone
    assert names(machine.run()) == ["mass-change"]


def test_a_held_run_is_in_the_ledger_and_stands(machine) -> None:
    both(machine)
    lose(machine)
    machine.run()
    machine.run()
    assert machine.standing() == ["mass-deletion"]
    with machine.ledger() as ledger:
        run = ledger.runs(limit=1)[0]
    assert (run.result, run.exit_code, run.holds) == (RunResult.HELD, 13, ("mass-deletion",))


def test_while_a_hold_stands_another_drive_is_not_run_without_a_person(machine) -> None:
    machine.write()
    machine.run("red")
    lose(machine)
    machine.run("red")
    last = machine.run("green")
    assert (last.exit_code, names(last)) == (13, ["mass-deletion"])
    assert "red was held" in last.facts["holds"][0]["why"]
    assert not [event for event in machine.events if isinstance(event, Planned)], "the drive need not be opened for it"
    assert machine.standing() == ["mass-deletion"]


def test_what_was_allowed_once_is_allowed_for_the_other_drives_too(machine) -> None:
    both(machine)
    lose(machine)
    machine.run("red")
    assert machine.run("red", allowed=("mass-deletion",)).exit_code == 0
    assert machine.standing() == []
    assert machine.run("green").exit_code == 0
    assert machine.copied("green") == 20


def test_the_plan_says_which_of_its_holds_were_allowed(machine) -> None:
    both(machine)
    lose(machine)
    machine.run("red", allowed=("mass-deletion",))
    planned = [event for event in machine.events if isinstance(event, Planned)][-1]
    assert planned.plan["allowed"] == ["mass-deletion"]


def test_a_further_loss_is_held_again(machine) -> None:
    both(machine)
    lose(machine, 30)
    assert machine.run("red", allowed=("mass-deletion",)).exit_code == 0
    lose(machine, 25)
    assert names(machine.run("green")) == ["mass-deletion"]
    assert names(machine.run("red")) == ["mass-deletion"]


def test_a_decision_ends_with_the_copy_that_is_made_after_it(machine) -> None:
    both(machine)
    lose(machine)
    assert machine.run("red", allowed=("mass-deletion",)).exit_code == 0
    machine.write()
    assert machine.run("red").exit_code == 0
    lose(machine)
    assert names(machine.run("red")) == ["mass-deletion"]


def test_a_run_that_was_held_before_the_drive_was_opened_is_remembered_too(machine) -> None:
    both(machine)
    machine.master.rename(machine.master.with_name("elsewhere"))
    assert names(machine.run()) == ["missing-master"]
    with machine.ledger() as ledger:
        assert ledger.runs(limit=1)[0].holds == ("missing-master",)


def test_when_the_files_are_back_the_hold_is_gone(machine) -> None:
    both(machine)
    lose(machine)
    machine.run("red")
    machine.write()
    assert machine.run("red").exit_code == 0
    assert machine.standing() == []
    assert machine.run("green").exit_code == 0


def test_a_person_is_asked_with_the_list_and_lets_it_pass(machine) -> None:
    both(machine)
    lose(machine)
    alice = Somebody(answer=True)
    assert machine.run(person=alice).exit_code == 0
    ((doubt,), (listed,)) = alice.asked, alice.listed
    assert (doubt.drive, doubt.name, len(doubt.examples)) == ("red", "mass-deletion", 3)
    assert listed[0].startswith("delete  docs/letters/")
    assert machine.copied() == 20


def test_a_person_who_says_no_stops_the_run(machine) -> None:
    both(machine)
    lose(machine)
    assert machine.run(person=Somebody(answer=False)).exit_code == 13
    assert machine.copied() == 60
    assert machine.standing() == ["mass-deletion"]


def test_a_person_at_another_drive_is_told_of_the_hold_and_decides_for_all(machine) -> None:
    machine.write()
    machine.run("red")
    lose(machine)
    machine.run("red")
    alice = Somebody(answer=True)
    assert machine.run("green", person=alice).exit_code == 0
    assert "red was held" in alice.asked[0].why
    assert machine.run("red").exit_code == 0


def test_a_dry_run_shows_the_plan_with_its_holds_and_asks_nobody(machine) -> None:
    both(machine)
    lose(machine)
    alice = Somebody(answer=True)
    last = machine.run(person=alice, dry_run=True)
    (planned,) = [event for event in machine.events if isinstance(event, Planned)]
    assert [hold["name"] for hold in planned.plan["holds"]] == ["mass-deletion"]
    assert (last.exit_code, alice.asked, machine.standing()) == (13, [], [])


def forgetful(machine: Machine) -> None:
    """The red drive has lost what its journal says of the last run, as a copy made before that run has."""
    both(machine)
    place = machine.drives["red"].mount_point / ".flashback/runs.jsonl"
    before = place.read_bytes()
    (machine.master / "new.txt").write_text("new")
    assert machine.run().exit_code == 0
    place.write_bytes(before)


def test_a_drive_that_forgot_the_last_run_is_held_as_a_copy(machine) -> None:
    forgetful(machine)
    assert names(machine.run()) == ["clone"]
    assert machine.run(allowed=("clone",)).exit_code == 0
    assert machine.run().exit_code == 0


def test_too_soon_holds_only_a_run_without_a_person_and_leaves_no_trace(machine) -> None:
    both(machine)
    last = machine.run(unattended=True)
    assert (last.exit_code, names(last)) == (13, ["too-soon"])
    with machine.ledger() as ledger:
        assert ledger.runs(machine.drives["red"].known.uuid, limit=1)[0].result is RunResult.COMPLETE
    assert machine.run().exit_code == 0
    machine.now += timedelta(hours=1)
    assert machine.run(unattended=True).exit_code == 0


def test_a_clock_before_the_last_run_on_another_drive_is_held_before_the_drive_is_opened(machine) -> None:
    both(machine)
    machine.now -= timedelta(days=2)
    assert names(machine.run("red")) == ["clock"]
    assert not [event for event in machine.events if isinstance(event, Planned)]


def test_a_new_drive_is_filled_without_a_question(machine) -> None:
    machine.write()
    machine.run("red")
    assert machine.run("green").exit_code == 0
    assert machine.copied("green") == 60


ONE = Keep(last=1, daily=0, weekly=0, monthly=0, yearly=0, min_free=0)


def held_with_three_states(machine: Machine) -> None:
    """Three snapshots on red, two of which no rule keeps; then a hold."""
    machine.keep = ONE
    machine.write()
    for number in range(4):
        (machine.master / "diary").write_text(f"day {number}")
        assert machine.run().exit_code == 0
    assert machine.snapshots() == 3
    lose(machine)
    assert machine.run().exit_code == 13


def test_while_a_hold_stands_no_script_removes_a_state_from_any_drive(machine) -> None:
    held_with_three_states(machine)
    for drive in ("red", "green"):
        last = machine.prune(drive)
        assert (last.result, last.exit_code, names(last)) == ("held", 13, ["mass-deletion"])
        assert last.error is not None
        assert "red was held" in last.error["findings"][0]
        assert f"flashback prune {drive} --allow mass-deletion" in last.next_step
    assert machine.snapshots() == 3


def test_a_prune_that_is_only_shown_shows_the_hold_too(machine) -> None:
    held_with_three_states(machine)
    last = machine.prune(dry_run=True)
    (planned,) = [event for event in machine.events if isinstance(event, Planned)]
    assert (last.exit_code, len(planned.plan["prune"])) == (13, 2)
    assert [hold["name"] for hold in planned.plan["holds"]] == ["mass-deletion"]


def test_a_person_lets_states_go_and_the_hold_goes_on_standing(machine) -> None:
    held_with_three_states(machine)
    alice = Somebody(answer=True)
    last = machine.prune(person=alice)
    assert ("red was held" in alice.asked[0].why, last.exit_code, machine.snapshots()) == (True, 0, 1)
    assert machine.standing() == ["mass-deletion"]


def test_a_person_who_is_in_doubt_keeps_every_state(machine) -> None:
    held_with_three_states(machine)
    assert machine.prune(person=Somebody(answer=False)).exit_code == 13
    assert machine.prune(allowed=("growth",)).exit_code == 13
    assert machine.snapshots() == 3
    assert machine.prune(allowed=("mass-deletion",)).exit_code == 0
    assert machine.snapshots() == 1


def test_nothing_is_removed_from_a_copy_of_the_drive(machine) -> None:
    forgetful(machine)
    assert names(machine.prune()) == ["clone"]


def encrypt_some(machine: Machine, day: int) -> None:
    """Five of them a day."""
    for path in machine.files()[day * 5 : day * 5 + 5]:
        path.write_bytes(os.urandom(path.stat().st_size))


def test_an_encryptor_that_takes_five_files_a_day_is_held_on_the_fourth(machine) -> None:
    machine.write()
    assert machine.run().exit_code == 0
    for day in range(3):
        encrypt_some(machine, day)
        assert machine.run().exit_code == 0
    encrypt_some(machine, 3)
    last = machine.run()
    assert (last.exit_code, names(last)) == (13, ["mass-change"])
    assert "5 files of 60" in last.facts["holds"][0]["why"]
    assert "and 15 files in the runs of the last 30 days" in last.facts["holds"][0]["why"]
    assert machine.run(allowed=("mass-change",)).exit_code == 0
    encrypt_some(machine, 4)
    assert machine.run().exit_code == 0, "what a person has let pass is not added up again"


def test_a_runaway_file_and_a_sudden_size_are_held_by_what_they_really_take(machine) -> None:
    """With a limit of 10 MiB: a file with holes is as small as its content."""
    machine.guards = Guards(growth=10 << 20)
    machine.write()
    assert machine.run().exit_code == 0
    (machine.master / "core").write_bytes(os.urandom(12 << 20))
    last = machine.run()
    assert (names(last), last.facts["holds"][0]["examples"]) == (["growth"], ["core"])
    (machine.master / "core").unlink()
    for number in range(40):
        (machine.master / f"film{number}").write_bytes(os.urandom(1 << 20))
    assert names(machine.run()) == ["growth"]
    assert machine.run(allowed=("growth",)).exit_code == 0
    (machine.master / "core").write_bytes(os.urandom(12 << 20))
    assert machine.run().exit_code == 0, "twelve where forty are is nothing out of proportion"
    with (machine.master / "disk.img").open("wb") as file:
        file.truncate(1 << 30)
    assert machine.run().exit_code == 0, "it takes nothing"
