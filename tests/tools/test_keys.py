"""`flashback key` with the real command on real LUKS2 headers; nothing is opened, so no device mapper is needed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pexpect
import pytest
from jsonschema import Draft202012Validator

from flashback.core.command import Programs
from flashback.core.secret import Secret
from flashback.drive import header
from flashback.rotation.ledger import Ledger
from flashback.rotation.values import KnownDrive
from flashback.tools import cryptsetup
from tests.conftest import run

HERE = Path(__file__).parents[2]
KEYS = Draft202012Validator(json.loads((HERE / "docs/reference/schemas/keys.schema.json").read_text("utf-8")))
OLD, NEW = b"old words that opened it", b"other words, typed today"
CHEAP = """
import sys
import flashback.tools.cryptsetup as cryptsetup
cryptsetup.STANDARD = cryptsetup.PRACTICE
{more}
from flashback.cli import main
sys.argv[0] = "flashback"
main()
"""
"""The real command with a key derivation that costs nothing."""
KILLED = """
import os, signal
real = cryptsetup.{function}
def killed(*asked, **more):
    real(*asked, **more)
    os.kill(os.getpid(), signal.SIGKILL)
cryptsetup.{function} = killed
"""


class Drive:
    """A drive on a loop device that this machine knows; there is no file system in it."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder, self.device = folder, device
        self.state = folder / "state"
        programs = Programs()
        cryptsetup.format_volume(
            programs, device, label="flashback-red", passphrase=Secret(OLD), kdf=cryptsetup.PRACTICE
        )
        cryptsetup.import_token(programs, device, header.token_for([]))
        length = header.header_length(cryptsetup.metadata(programs, device))
        self.uuid = run("cryptsetup", "luksUUID", device).strip()
        (self.state / "headers").mkdir(parents=True)
        cryptsetup.backup_header(programs, device, self.kept)
        digest = cryptsetup.header_digest(device, length)
        with Ledger.open(self.state / "ledger.sqlite") as ledger:
            ledger.enrol(KnownDrive(self.uuid, "red", digest, length, datetime(2026, 1, 1, tzinfo=UTC)))

    @property
    def kept(self) -> Path:
        return self.state / "headers" / f"{self.uuid}.luks"

    def file(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.touch(0o600)
        path.write_bytes(content)
        return str(path)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(HERE),
            "LC_ALL": "C.UTF-8",
            "FLASHBACK_CONFIG": str(self.folder / "etc/flashback.yaml"),
            "FLASHBACK_STATE": str(self.state),
            "FLASHBACK_RUNTIME": str(self.folder / "run"),
        }

    def flashback(self, *argv: str, more: str = "", code: int | None = 0) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", CHEAP.replace("{more}", more), *argv]
        done = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, check=False, input="", timeout=120
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done

    def key(self, *argv: str, more: str = "", code: int | None = 0) -> subprocess.CompletedProcess[str]:
        return self.flashback("key", *argv, more=more, code=code)

    def json(self, *argv: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.key(*argv, "--json").stdout)
        assert list(KEYS.iter_errors(answer)) == []
        return answer

    def change(self, **how: Any) -> subprocess.CompletedProcess[str]:
        old, new = self.file("old", OLD), self.file("new", NEW)
        return self.key("change", "red", "--passphrase-file", old, "--new-passphrase-file", new, **how)

    def add(self, new: bytes = NEW, *, present: bytes = OLD) -> int:
        words = ("--passphrase-file", self.file("present", present), "--new-passphrase-file", self.file("new", new))
        (added,) = self.json("add", "red", *words)["added"]
        return int(added)

    def recovery(self, present: bytes = OLD) -> bytes:
        """A new recovery key, as it is typed off its page."""
        page = self.folder / "paper.txt"
        page.unlink(missing_ok=True)
        words = ("--passphrase-file", self.file("present", present), "--recovery-key-file", str(page))
        self.key("recovery", "red", *words, "--json")
        return "".join(re.findall(r"^ {4}([a-z-]{35,36})$", page.read_text(), re.MULTILINE)).encode()

    def kinds(self) -> dict[int, str]:
        """What `key list` says, which it only does of a header that is the known one."""
        return {slot["slot"]: slot["kind"] for slot in self.json("list", "red")["slots"]}

    def opens(self, secret: bytes, *, file: Path | None = None) -> bool:
        words = ["cryptsetup", "open", "--test-passphrase", "--key-file=-", str(file or self.device)]
        return subprocess.run(words, input=secret, capture_output=True, check=False).returncode == 0

    def kept_is_current(self) -> bool:
        with open(self.device, "rb") as device:
            return self.kept.read_bytes() == device.read(self.kept.stat().st_size)


@pytest.fixture
def drive(loop: str, tmp_path: Path) -> Drive:
    return Drive(tmp_path, loop)


# --- changing


def test_a_changed_passphrase_opens_and_the_old_one_does_not(drive: Drive) -> None:
    drive.change()
    assert (drive.opens(NEW), drive.opens(OLD)) == (True, False)


def test_after_a_change_the_header_is_the_known_one_and_its_copy_is_of_today(drive: Drive) -> None:
    drive.change()
    assert drive.kinds() == {1: "passphrase"}
    assert drive.kept_is_current()
    with Ledger.open(drive.state / "ledger.sqlite") as ledger:
        assert ledger.header_changes() == {}


def test_a_wrong_old_passphrase_changes_nothing(drive: Drive) -> None:
    before = drive.kept.read_bytes()
    wrong, new = drive.file("wrong", b"wrong"), drive.file("new", NEW)
    drive.key("change", "red", "--passphrase-file", wrong, "--new-passphrase-file", new, code=5)
    assert drive.kept.read_bytes() == before
    assert drive.kept_is_current()


def test_the_same_passphrase_once_more_is_refused(drive: Drive) -> None:
    old = drive.file("old", OLD)
    drive.key("change", "red", "--passphrase-file", old, "--new-passphrase-file", old, code=2)


def test_the_recovery_key_is_not_changed_into_a_passphrase(drive: Drive) -> None:
    key = drive.file("key", drive.recovery())
    drive.key("change", "red", "--passphrase-file", key, "--new-passphrase-file", drive.file("new", NEW), code=2)
    assert drive.kinds() == {0: "passphrase", 1: "recovery-key"}


# --- adding and removing


def test_an_added_passphrase_opens_beside_the_old_one(drive: Drive) -> None:
    slot = drive.add()
    assert (drive.opens(NEW), drive.opens(OLD)) == (True, True)
    assert drive.kinds() == {0: "passphrase", slot: "passphrase"}


def test_a_forgotten_passphrase_is_replaced_by_way_of_the_recovery_key(drive: Drive) -> None:
    key = drive.recovery()
    drive.add(present=key)
    drive.key("remove", "red", "--slot", "0", "--passphrase-file", drive.file("staying", NEW))
    assert (drive.opens(NEW), drive.opens(OLD), drive.opens(key)) == (True, False, True)


def test_a_slot_is_removed_by_its_own_passphrase(drive: Drive) -> None:
    drive.add()
    words = ("--removed-passphrase-file", drive.file("gone", OLD), "--passphrase-file", drive.file("staying", NEW))
    assert drive.json("remove", "red", *words)["removed"] == [0]


def test_the_last_slot_is_not_removed(drive: Drive) -> None:
    done = drive.key("remove", "red", "--slot", "0", "--passphrase-file", drive.file("old", OLD), code=2)
    assert "one key slot" in done.stderr
    assert drive.opens(OLD)


def test_a_slot_is_not_removed_on_the_word_of_the_passphrase_in_it(drive: Drive) -> None:
    drive.add()
    drive.key("remove", "red", "--slot", "0", "--passphrase-file", drive.file("old", OLD), code=2)
    assert drive.opens(OLD)


def test_of_two_slots_with_one_passphrase_either_may_go(drive: Drive) -> None:
    drive.add(OLD)
    drive.key("remove", "red", "--slot", "0", "--passphrase-file", drive.file("old", OLD))
    assert (list(drive.kinds()), drive.opens(OLD)) == ([1], True)


# --- the recovery key


def test_a_new_recovery_key_opens_and_the_old_one_does_not(drive: Drive) -> None:
    first = drive.recovery()
    second = drive.recovery(present=first)
    assert (drive.opens(second), drive.opens(first), drive.opens(OLD)) == (True, False, True)
    assert sorted(drive.kinds().values()) == ["passphrase", "recovery-key"]


def test_a_recovery_key_that_nobody_got_opens_nothing(drive: Drive) -> None:
    fails = "import flashback.prepare.recovery as r\ndef no(*a): raise OSError('full')\nr.save = no\n"
    words = ("--passphrase-file", drive.file("old", OLD), "--recovery-key-file", str(drive.folder / "key"), "--json")
    drive.key("recovery", "red", *words, more=fails, code=1)
    assert drive.kinds() == {0: "passphrase"}
    assert drive.opens(OLD)


# --- killed in the middle


@pytest.mark.parametrize("point", ["add_key", "remove_slot", "backup_header"])
def test_killed_at_any_point_of_a_change_a_key_opens_and_the_drive_is_known_again(drive: Drive, point: str) -> None:
    killed = drive.change(more=KILLED.format(function=point), code=None)
    assert killed.returncode == -9
    assert drive.opens(OLD) or drive.opens(NEW)
    assert "passphrase" in drive.kinds().values()
    assert drive.kept_is_current()


def test_a_change_that_was_cut_off_is_told_once(drive: Drive) -> None:
    drive.change(more=KILLED.format(function="add_key"), code=None)
    assert "was cut off" in drive.key("list", "red").stderr
    assert drive.key("list", "red").stderr == ""


def test_a_change_that_was_cut_off_can_be_made_again(drive: Drive) -> None:
    drive.change(more=KILLED.format(function="add_key"), code=None)
    drive.change()
    assert (drive.opens(NEW), drive.opens(OLD)) == (True, False)


def test_another_volume_in_the_place_of_a_change_that_was_cut_off_is_not_believed(drive: Drive) -> None:
    drive.change(more=KILLED.format(function="add_key"), code=None)
    cheap = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--uuid", drive.uuid)
    run("cryptsetup", "luksFormat", "-q", "--type", "luks2", *cheap, "--key-file=-", drive.device, given=b"thief")
    assert "is not the one that red had" in drive.key("list", "red", code=4).stderr


def test_a_header_that_somebody_else_changed_is_refused_before_a_passphrase_is_read(drive: Drive) -> None:
    cryptsetup.add_key(Programs(), drive.device, passphrase=Secret(OLD), new=Secret(NEW), kdf=cryptsetup.PRACTICE)
    assert "is not the one that red had" in drive.change(code=4).stderr


# --- what is said


def test_with_the_drive_away_the_slots_come_from_the_copy_of_its_header(drive: Drive) -> None:
    drive.recovery()
    run("dd", "if=/dev/zero", f"of={drive.device}", "bs=1M", "count=16", "conv=notrunc", "status=none")
    answer = drive.json("list", "red")
    assert answer["from_copy"] is True
    assert [slot["kind"] for slot in answer["slots"]] == ["passphrase", "recovery-key"]


def test_no_secret_shows_itself(drive: Drive) -> None:
    done = drive.change()
    assert not any(secret.decode() in done.stdout + done.stderr for secret in (OLD, NEW))


# --- a person at the terminal


def at_terminal(drive: Drive, *argv: str) -> pexpect.spawn:
    environment = drive.environment | {"TERM": "xterm"}
    words = ["-c", CHEAP.replace("{more}", ""), "key", *argv]
    return pexpect.spawn(sys.executable, words, env=environment, timeout=60, encoding="utf-8", dimensions=(40, 200))


def answer(terminal: pexpect.spawn, question: str, secret: bytes) -> None:
    terminal.expect(question)
    terminal.waitnoecho()
    terminal.sendline(secret.decode())


def test_a_person_changes_a_passphrase_and_may_mistype_the_old_one(drive: Drive) -> None:
    terminal = at_terminal(drive, "change", "red")
    answer(terminal, "Passphrase or recovery key of red:", b"mistyped")
    answer(terminal, "opens no key slot; try again", OLD)
    answer(terminal, "The new passphrase", NEW)
    answer(terminal, "The same once more", NEW)
    terminal.expect("Key slots of red now:")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert (terminal.exitstatus, drive.opens(NEW), drive.opens(OLD)) == (0, True, False)


def test_a_person_sees_a_new_recovery_key_with_its_code(drive: Drive) -> None:
    terminal = at_terminal(drive, "recovery", "red")
    answer(terminal, "Passphrase or recovery key of red:", OLD)
    terminal.expect(r"\n {4}([a-z-]{36})\r\n {4}([a-z-]{35})\r\n")
    assert terminal.match is not None
    key = f"{terminal.match[1]}{terminal.match[2]}".encode()
    terminal.expect("█▀▀▀▀▀█")
    terminal.expect("Keep it elsewhere as well")
    terminal.send("\r")
    terminal.expect("Key slot 1 was added")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert (terminal.exitstatus, drive.opens(key)) == (0, True)


def test_a_kit_holds_a_key_that_was_tried(drive: Drive) -> None:
    key = drive.file("key", drive.recovery())
    page = drive.folder / "red.html"
    drive.flashback("kit", "red", "--html", str(page), "--recovery-key-file", key)
    assert "<svg" in page.read_text()
    assert page.stat().st_mode & 0o777 == 0o600
    other = drive.file("other", b"-".join([b"cbdefghi"] * 8))
    drive.flashback("kit", "red", "--recovery-key-file", other, code=5)
