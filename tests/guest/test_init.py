"""`flashback init` with the real command: what it makes of a stick, what it asks, and what an interruption leaves."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.conftest import run
from tests.guest.conftest import PASSPHRASE, Stick
from tests.guest.machine import (
    CHEAP_COMMAND,
    PATIENCE,
    Machine,
    blank_sticks,
    equal,
    invalid,
    is_held,
    luks_on,
    until,
)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    (machine.master / "file").write_bytes(b"file")
    return machine


def is_blank(device: Path) -> bool:
    with device.open("rb") as source:
        return not any(source.read(4 << 20))


# --- as it is shipped: argon2id, a recovery key, the first run


@dataclass
class Made:
    """One drive made by the command as a script gives it, opened by hand; the tests below look at it."""

    machine: Machine
    device: Path
    events: list[dict[str, Any]]
    said: str
    metadata: dict[str, Any]
    held: list[str]
    drive: Path = Path()

    @property
    def key_file(self) -> Path:
        return self.machine.home / "paper.txt"

    @property
    def recovery_key(self) -> bytes:
        """Typed off the page: both lines as one, with the dashes."""
        return "".join(re.findall(r"^ {4}([a-z-]{35,36})$", self.key_file.read_text(), re.MULTILINE)).encode()


@pytest.fixture(scope="class")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    stick = blank_sticks()[0]
    run("mkfs.ext4", "-q", "-L", "holidays", stick.device)
    machine = Machine(tmp_path_factory.mktemp("made"))
    (machine.master / "file").write_bytes(b"file")
    (machine.master / "folder").mkdir()
    argv = ("init", str(stick.device), "--name", "red", "--master", str(machine.master), "--erase", "--json")
    secrets = ("--passphrase-file", str(machine.secret), "--recovery-key-file", str(machine.home / "paper.txt"))
    done = machine.flashback(*argv, *secrets)
    assert done.returncode == 0, done.stdout + done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    metadata = json.loads(run("cryptsetup", "luksDump", "--dump-json-metadata", luks_on(stick.device)))
    found = Made(machine, stick.device, events, done.stdout + done.stderr, metadata, is_held())
    with machine.opened(stick.device) as found.drive:
        yield found


@pytest.mark.timeout(600)
class TestDrive:
    """What DESIGN part 4 says of a drive."""

    def test_it_ends_with_a_first_run_and_the_drive_closed(self, made: Made) -> None:
        last = made.events[-1]
        assert (last["event"], last["action"], last["result"]) == ("finished", "run", "complete")
        assert (last["safe_to_remove"], last["drive_state"], made.held) == (True, "closed", [])
        assert last["scrub"]["csum_errors"] == 0
        assert equal(made.machine.master, made.drive / "documents/current") == ""

    def test_its_events_are_as_their_schemas_say(self, made: Made) -> None:
        assert invalid(made.events, "run-events.schema.json") == []
        assert invalid(made.events[-1:], "init.schema.json") == []

    def test_there_is_a_gpt_with_one_partition(self, made: Made) -> None:
        table = json.loads(run("sfdisk", "--json", made.device))["partitiontable"]
        assert (table["label"], len(table["partitions"])) == ("gpt", 1)

    def test_every_key_slot_is_argon2id_with_capped_memory(self, made: Made) -> None:
        slots = made.metadata["keyslots"].values()
        assert len(slots) == 2
        assert {slot["kdf"]["type"] for slot in slots} == {"argon2id"}
        assert all(32 * 1024 < slot["kdf"]["memory"] <= 262144 for slot in slots)

    def test_the_volume_has_sectors_of_4096_bytes(self, made: Made) -> None:
        (segment,) = made.metadata["segments"].values()
        assert (segment["sector_size"], segment["encryption"]) == (4096, "aes-xts-plain64")

    def test_label_and_subsystem_are_ours(self, made: Made) -> None:
        dump = run("cryptsetup", "luksDump", luks_on(made.device))
        assert re.search(r"^Label:\s+flashback-red$", dump, re.MULTILINE)
        assert re.search(r"^Subsystem:\s+flashback$", dump, re.MULTILINE)

    def test_a_public_token_names_the_version_of_the_layout(self, made: Made) -> None:
        (token,) = made.metadata["tokens"].values()
        assert token == {"type": "flashback", "keyslots": ["1"], "v": 1}  # which holds the recovery key

    def test_the_file_system_has_blake2_and_doubled_metadata(self, made: Made) -> None:
        dump = run("btrfs", "inspect-internal", "dump-super", "/dev/mapper/by-hand")
        assert re.search(r"^csum_type\s+\S+ \(blake2", dump, re.MULTILINE)
        assert re.search(r"^label\s+Backup$", dump, re.MULTILINE)
        assert "Metadata, DUP" in run("btrfs", "filesystem", "df", made.drive)

    def test_the_drive_says_what_it_is(self, made: Made) -> None:
        marker = (made.drive / ".flashback/drive.yaml").read_text("utf-8")
        uuid = run("cryptsetup", "luksUUID", luks_on(made.device)).strip()
        assert uuid in marker
        assert "red" in marker
        assert uuid in (made.drive / "README.txt").read_text("utf-8")

    def test_only_root_can_reach_what_is_not_for_everybody(self, made: Made) -> None:
        for folder in (made.drive / ".flashback", made.drive / "documents/snapshots", made.machine.state):
            assert (folder.stat().st_mode & 0o7777, folder.stat().st_uid) == (0o700, 0)

    def test_the_header_backup_is_kept_for_its_owner_alone(self, made: Made) -> None:
        (backup,) = (made.machine.state / "headers").iterdir()
        assert backup.stat().st_mode & 0o7777 == 0o400
        of_drive = run("cryptsetup", "luksUUID", luks_on(made.device))
        assert run("cryptsetup", "luksUUID", backup) == of_drive
        assert backup.name == f"{of_drive.strip()}.luks"

    def test_the_ledger_knows_the_drive_and_its_first_run(self, made: Made) -> None:
        with sqlite3.connect(f"file:{made.machine.state}/ledger.sqlite?mode=ro", uri=True) as ledger:
            words = "\n".join(ledger.iterdump())
        assert run("cryptsetup", "luksUUID", luks_on(made.device)).strip() in words
        done = made.machine.flashback("status", "--json")
        (drive,) = json.loads(done.stdout)["drives"]
        lines = map(json.loads, (made.drive / ".flashback/runs.jsonl").read_text("utf-8").splitlines())
        completed = [line["at"] for line in lines if line["mark"] == "complete"]
        assert (drive["name"], drive["last_complete"]) == ("red", completed[-1])

    def test_the_recovery_key_opens_the_drive(self, made: Made) -> None:
        done = subprocess.run(
            ["cryptsetup", "open", "--test-passphrase", "--key-file=-", luks_on(made.device)],
            input=made.recovery_key,
            check=False,
        )
        assert (done.returncode, len(made.recovery_key)) == (0, 71)

    def test_the_recovery_key_is_in_its_file_alone(self, made: Made) -> None:
        assert made.key_file.stat().st_mode & 0o7777 == 0o600
        assert made.recovery_key.decode()[:35] not in made.said

    def test_a_first_configuration_is_written_that_is_good(self, made: Made) -> None:
        done = made.machine.flashback("config", "show", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["masters"]["documents"]["path"] == str(made.machine.master)
        assert made.machine.config.read_text("utf-8").startswith("# ")
        assert (made.machine.config.parent / "exclusions.txt").exists()


# --- the questions


CLEAR_LINE = "\x15"


class Questions:
    """Answers what `init` asks, and counts it."""

    def __init__(self, child: pexpect.spawn) -> None:
        self.child = child
        self.asked: list[str] = []

    def answer(self, question: str, given: str, *, secret: bool = False) -> None:
        self.child.expect(re.escape(question))
        self.asked.append(question)
        if secret:
            self.child.waitnoecho()
        self.child.send(given + "\r" if secret else CLEAR_LINE + given + "\r")

    def end(self) -> int:
        self.child.expect(pexpect.EOF)
        self.child.wait()
        return int(self.child.exitstatus)


WORDS = PASSPHRASE.decode()


def test_a_first_drive_takes_six_questions_at_most_and_a_second_two(machine: Machine, sticks: list[Stick]) -> None:
    with machine.at_terminal("init", str(sticks[0].device), command=CHEAP_COMMAND) as child:
        first = Questions(child)
        child.expect("scsi_debug")
        first.answer("Which directory shall be backed up?", str(machine.master))
        first.answer("What shall this drive be called?", "red")
        first.answer("type the word erase", "erase")
        first.answer("Passphrase for the drive", WORDS, secret=True)
        first.answer("The same once more", WORDS, secret=True)
        child.expect("recovery key of the drive red")
        child.expect("[a-z-]{35,}")
        first.answer("Keep it elsewhere as well?", str(machine.home / "paper.txt"))
        child.expect("red is closed; safe to remove")
        assert first.end() == 0
        assert len(first.asked) == 6
    assert "recovery key of the drive red" in (machine.home / "paper.txt").read_text("utf-8")
    configuration = machine.config.read_bytes()
    with machine.at_terminal("init", str(sticks[1].device), command=CHEAP_COMMAND) as child:
        second = Questions(child)
        second.answer("type the word erase", "erase")
        second.answer("Passphrase for the drive", WORDS, secret=True)
        second.answer("The same once more", WORDS, secret=True)
        child.expect("recovery key of the drive green")
        child.expect("green is closed; safe to remove")
        assert second.end() == 0
        assert len(second.asked) == 3, "two questions, of which one is repeated"
    assert machine.config.read_bytes() == configuration
    drives = json.loads(machine.flashback("status", "--json").stdout)["drives"]
    assert {drive["name"] for drive in drives} == {"red", "green"}
    assert is_held() == []


def test_nothing_is_erased_unless_the_word_is_typed(machine: Machine, stick: Stick) -> None:
    run("mkfs.ext4", "-q", "-L", "holidays", stick.device)
    with machine.at_terminal("init", str(stick.device), "--name", "red", "--master", str(machine.master)) as child:
        child.expect("holidays|ext4")
        questions = Questions(child)
        questions.answer("EVERYTHING on it will be lost", "yes")
        assert questions.end() == 2
        assert "nothing was changed" in str(child.before)
    assert run("blkid", "-o", "value", "-s", "LABEL", stick.device).strip() == "holidays"


def test_a_weak_passphrase_is_questioned_and_no_passphrase_is_shown(machine: Machine, stick: Stick) -> None:
    given = ("--name", "red", "--master", str(machine.master), "--no-first-run", "--no-recovery-key")
    argv = ("init", str(stick.device), *given)
    with machine.at_terminal(*argv, command=CHEAP_COMMAND) as child:
        child.logfile_read = (machine.home / "seen").open("w", encoding="utf-8")
        questions = Questions(child)
        questions.answer("type the word erase", "erase")
        questions.answer("Passphrase for the drive", "hunter2", secret=True)
        child.expect("That is weak")
        questions.answer("Another one", WORDS, secret=True)
        questions.answer("The same once more", WORDS, secret=True)
        assert questions.end() == 0
        child.logfile_read.close()
    seen = (machine.home / "seen").read_text("utf-8")
    assert WORDS not in seen
    assert "hunter2" not in seen


def test_ctrl_c_at_the_passphrase_changes_nothing(machine: Machine, stick: Stick) -> None:
    with machine.at_terminal("init", str(stick.device), "--name", "red", "--master", str(machine.master)) as child:
        questions = Questions(child)
        questions.answer("type the word erase", "erase")
        child.expect("Passphrase for the drive")
        child.waitnoecho()
        child.sendintr()
        assert questions.end() == 130
    assert is_blank(stick.device)
    assert not machine.config.exists()
    assert is_held() == []


# --- scripts


def script(machine: Machine, device: Path, *more: str) -> tuple[str, ...]:
    given = ("--name", "red", "--master", str(machine.master), "--passphrase-file", str(machine.secret))
    return ("init", str(device), *given, "--no-recovery-key", *more)


def test_a_script_must_say_erase_where_there_is_data(machine: Machine, stick: Stick) -> None:
    run("mkfs.ext4", "-q", "-L", "holidays", stick.device)
    done = machine.flashback(*script(machine, stick.device))
    assert done.returncode == 2
    assert "--erase" in done.stderr
    assert run("blkid", "-o", "value", "-s", "LABEL", stick.device).strip() == "holidays"


def test_a_dry_run_says_what_would_be_done_and_does_nothing(machine: Machine, stick: Stick) -> None:
    done = machine.flashback(*script(machine, stick.device, "--dry-run"))
    assert done.returncode == 0, done.stderr
    assert "GPT" in done.stdout
    assert "argon2id" in done.stdout
    assert is_blank(stick.device)
    assert not machine.config.exists()


def test_a_whole_device_carries_luks_at_its_beginning(machine: Machine, stick: Stick) -> None:
    machine.init(stick.device, "red", "--whole-device")
    assert luks_on(stick.device) == stick.device
    assert (
        "LUKS2" in run("blkid", "-p", stick.device)
        or run("cryptsetup", "isLuks", "--type", "luks2", stick.device) == ""
    )
    assert machine.run()["safe_to_remove"] is True


def test_a_partition_is_used_as_it_is(machine: Machine, stick: Stick) -> None:
    run("sh", "-c", f"printf 'label: dos\\n,300M\\n,50M\\n' | sfdisk -q {stick.device}")
    run("udevadm", "settle")
    machine.init(Path(f"{stick.device}1"))
    assert Path(f"{stick.device}2").exists()
    assert '"label": "dos"' in run("sfdisk", "--json", stick.device)
    assert machine.run()["safe_to_remove"] is True


def test_a_drive_of_the_rotation_can_be_made_anew(machine: Machine, stick: Stick) -> None:
    machine.init(stick.device)
    before = run("cryptsetup", "luksUUID", luks_on(stick.device))
    machine.init(stick.device)
    assert run("cryptsetup", "luksUUID", luks_on(stick.device)) != before
    assert machine.run("red")["safe_to_remove"] is True


# --- interrupted


@pytest.mark.parametrize("moment", ['"step":"partition"', "LUKS2 on", "Btrfs with blake2", '"step":"copy"'])
def test_terminated_in_the_middle_it_leaves_nothing_open_and_can_be_run_again(
    machine: Machine, stick: Stick, moment: str
) -> None:
    (machine.master / "big").write_bytes(b"\0" * (8 << 20))
    with machine.start(*script(machine, stick.device, "--json"), command=CHEAP_COMMAND) as child:
        said = until(child, moment)
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=PATIENCE)
    events = [json.loads(line) for line in [*said, *out.splitlines()]]
    assert child.returncode == 143, err
    assert (events[-1]["event"], events[-1]["exit_code"]) == ("finished", 143)
    assert invalid(events, "run-events.schema.json") == []
    assert is_held() == []
    machine.init(stick.device, first_run=True)
    with machine.opened(stick.device) as drive:
        assert equal(machine.master, drive / "documents/current") == ""
