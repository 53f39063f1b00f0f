"""What cryptsetup is asked, what it gets on its standard input, and what its exit codes mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flashback.core.command import ProgramMissing
from flashback.core.errors import DriveError, FlashbackError, Missing, PassphraseRefused, StillHeld
from flashback.core.secret import Secret
from flashback.tools import cryptsetup
from tests.contract.conftest import FakePrograms

OLD, NEW = b"p\xc3\xa4ss\n word", b"recovery"


@pytest.fixture(autouse=True)
def _shell(fake_programs: FakePrograms) -> None:
    """What `dies_with_us` needs."""
    for name in ("setpriv", "sh"):
        fake_programs.let_through(name)


@pytest.fixture
def device(tmp_path: Path) -> str:
    (tmp_path / "sdx1").touch()
    return str(tmp_path / "sdx1")


def test_formatting_caps_the_memory_and_marks_the_volume_as_ours(fake_programs: FakePrograms, device: str) -> None:
    fake_programs.write("cryptsetup")
    cryptsetup.format_volume(fake_programs.programs, device, label="flashback-red", passphrase=Secret(OLD))
    (call,) = fake_programs.calls()
    assert " ".join(call["argv"]) == (
        "luksFormat --batch-mode --type luks2 --sector-size 4096 --pbkdf argon2id --pbkdf-memory 262144 "
        "--pbkdf-parallel 2 --iter-time 2000 --label flashback-red --subsystem flashback --key-file=- " + device
    )


def test_a_passphrase_goes_to_standard_input_byte_for_byte_and_nowhere_else(
    fake_programs: FakePrograms, device: str
) -> None:
    fake_programs.write("cryptsetup")
    cryptsetup.format_volume(fake_programs.programs, device, label="x", passphrase=Secret(OLD))
    (call,) = fake_programs.calls()
    assert call["stdin"].encode("latin-1") == OLD
    assert "word" not in json.dumps([call["argv"], call["env"]])


def test_a_second_key_gets_the_same_ceiling_and_comes_by_a_descriptor(fake_programs: FakePrograms, device: str) -> None:
    fake_programs.write("cryptsetup", "out.write(open(argv[-1], 'rb').read()); assert open(argv[-2])", code=9)
    with pytest.raises(DriveError, match="recovery"):  # the fake's way of showing what it read
        cryptsetup.add_key(fake_programs.programs, device, passphrase=Secret(OLD), new=Secret(NEW))
    (call,) = fake_programs.calls()
    assert "/fd/" in call["argv"][-1]
    assert call["argv"][call["argv"].index("--pbkdf-memory") + 1] == "262144"
    assert call["stdin"].encode("latin-1") == OLD


def test_a_token_is_given_as_json_on_standard_input(fake_programs: FakePrograms, device: str) -> None:
    fake_programs.write("cryptsetup")
    cryptsetup.import_token(fake_programs.programs, device, '{"type":"flashback"}')
    (call,) = fake_programs.calls()
    assert (call["argv"], call["stdin"]) == (["token", "import", "--json-file=-", device], '{"type":"flashback"}')


@pytest.mark.parametrize(
    ("code", "words", "kind", "sentence"),
    [
        (1, b"Device x is not a valid LUKS device.", DriveError, "is not a valid LUKS device"),
        (1, b"Cannot initialize device-mapper. Is dm_mod kernel module loaded?", Missing, "no device mapper"),
        (2, b"No key available with this passphrase.", PassphraseRefused, "not opened by this passphrase"),
        (3, b"Not enough available memory to open a keyslot.", Missing, "the memory of this machine"),
        (4, b"Device x does not exist or access denied.", DriveError, "not there"),
        (5, b"Device x already exists.", DriveError, "in use, or open already"),
    ],
)
def test_each_exit_code_of_opening_has_a_meaning(
    code: int, words: bytes, kind: type[FlashbackError], sentence: str, fake_programs: FakePrograms, device: str
) -> None:
    fake_programs.write("cryptsetup", err=words, code=code)
    with pytest.raises(kind, match=sentence) as caught:
        cryptsetup.open_with(fake_programs.programs, device, "m", secret=Secret(OLD))
    assert type(caught.value) is kind
    assert "word" not in str(caught.value).replace("this passphrase", "")


def test_a_drive_that_vanished_while_it_was_asked_for_is_not_called_busy(fake_programs: FakePrograms) -> None:
    fake_programs.write("cryptsetup", err=b"Failed to acquire read lock on device.", code=5)
    with pytest.raises(DriveError, match="not there"):
        cryptsetup.open_with(fake_programs.programs, "/dev/does-not-exist", "m", secret=Secret(OLD))


@pytest.mark.parametrize(("read_only", "more"), [(False, []), (True, ["--readonly"])])
def test_a_volume_is_opened_with_the_flags_for_flash(
    read_only: bool, more: list[str], fake_programs: FakePrograms, device: str
) -> None:
    fake_programs.write("cryptsetup")
    cryptsetup.open_with(fake_programs.programs, device, "m", secret=Secret(OLD), read_only=read_only)
    flags = ["--allow-discards", "--perf-no_read_workqueue", "--perf-no_write_workqueue"]
    assert fake_programs.argvs() == [["open", "--type", "luks2", *flags, *more, device, "m", "--key-file=-"]]


ASKING = """
import termios
fd = os.open("/dev/tty", os.O_RDWR)
def ask(prompt):
    mode = termios.tcgetattr(fd)
    os.write(fd, prompt)
    mode[3] &= ~termios.ECHO
    termios.tcsetattr(fd, termios.TCSAFLUSH, mode)
    got = os.read(fd, 500).rstrip(b"\\n")
    mode[3] |= termios.ECHO
    termios.tcsetattr(fd, termios.TCSAFLUSH, mode)
    os.write(fd, b"\\n")
    return got
os.write(fd, b"Please touch the key.\\n")
if ask(b"Enter passphrase for x: ") == b"right":
    sys.exit(0)
os.write(fd, b"No key available with this passphrase.\\n")
"""


def open_by_asking(
    fakes: FakePrograms, device: str, given: bytes | None
) -> tuple[list[str], list[str], FlashbackError | None]:
    """The questions asked, the lines heard, and what came of it."""
    asked: list[str] = []
    heard: list[str] = []

    def answer(question: str) -> Secret | None:
        asked.append(question)
        return None if given is None else Secret(given)

    try:
        cryptsetup.open_by_asking(fakes.programs.environment, device, "m", answer=answer, hear=heard.append)
    except FlashbackError as error:
        return asked, heard, error
    return asked, heard, None


def test_what_cryptsetup_asks_reaches_the_person_and_the_answer_cryptsetup(
    fake_programs: FakePrograms, device: str
) -> None:
    fake_programs.write("cryptsetup", ASKING, code=2)
    asked, heard, error = open_by_asking(fake_programs, device, b"right")
    assert (asked, heard, error) == (["Enter passphrase for x:"], ["Please touch the key."], None)


def test_asking_tries_once_so_that_the_caller_counts_the_tries(fake_programs: FakePrograms, device: str) -> None:
    fake_programs.write("cryptsetup", ASKING, code=2)
    open_by_asking(fake_programs, device, b"right")
    assert fake_programs.argvs()[0][-4:] == [device, "m", "--tries", "1"]


def test_a_wrong_answer_is_refused_and_not_said_twice(fake_programs: FakePrograms, device: str) -> None:
    fake_programs.write("cryptsetup", ASKING, code=2)
    _asked, heard, error = open_by_asking(fake_programs, device, b"wrong")
    assert isinstance(error, PassphraseRefused)
    assert heard == ["Please touch the key."]


def test_giving_up_is_told_apart_from_a_wrong_answer(fake_programs: FakePrograms, device: str) -> None:
    fake_programs.write("cryptsetup", ASKING, code=2)
    _asked, _heard, error = open_by_asking(fake_programs, device, None)
    assert isinstance(error, PassphraseRefused)
    assert str(error) == "no passphrase was given"
    assert "--passphrase-file" in error.hint


def test_without_cryptsetup_the_program_is_named(fake_programs: FakePrograms, device: str) -> None:
    with pytest.raises(ProgramMissing, match="cryptsetup"):
        cryptsetup.open_with(fake_programs.programs, device, "m", secret=Secret(OLD))


# --- closing: the kernel is asked, not the exit code


@pytest.fixture
def mapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cryptsetup, "SYS_BLOCK", tmp_path)
    (tmp_path / "dm-0/dm").mkdir(parents=True)
    (tmp_path / "dm-0/dm/name").write_text("m\n")
    return tmp_path / "dm-0/dm/name"


def test_closing_what_is_not_open_asks_nobody(fake_programs: FakePrograms, mapping: Path) -> None:
    fake_programs.write("cryptsetup", code=1)
    cryptsetup.close(fake_programs.programs, "other")
    cryptsetup.close_deferred(fake_programs.programs, "other")
    assert fake_programs.calls() == []


def test_a_mapping_that_is_gone_afterwards_is_closed(fake_programs: FakePrograms, mapping: Path) -> None:
    fake_programs.write("cryptsetup", f"os.unlink({str(mapping)!r})", code=4)
    cryptsetup.close(fake_programs.programs, "m")
    assert fake_programs.argvs() == [["close", "m"]]


@pytest.mark.parametrize("code", [0, 4, 5])
def test_a_mapping_that_is_still_there_is_still_held_whatever_the_exit_code(
    code: int, fake_programs: FakePrograms, mapping: Path
) -> None:
    fake_programs.write("cryptsetup", err=b"Device m is still in use.", code=code)
    with pytest.raises(StillHeld, match="the mapping m is open"):
        cryptsetup.close(fake_programs.programs, "m")


def test_a_deferred_close_is_refused_loudly(fake_programs: FakePrograms, mapping: Path) -> None:
    fake_programs.write("cryptsetup", err=b"no", code=5)
    with pytest.raises(DriveError, match="cannot be told to close by itself: no"):
        cryptsetup.close_deferred(fake_programs.programs, "m")


# --- header backup


def test_a_failed_header_backup_leaves_the_older_one(fake_programs: FakePrograms, device: str, tmp_path: Path) -> None:
    fake_programs.write("cryptsetup", "open(argv[2], 'w').write('half')", err=b"broken", code=1)
    kept = tmp_path / "red.header"
    kept.write_text("whole")
    with pytest.raises(DriveError, match="cannot be saved"):
        cryptsetup.backup_header(fake_programs.programs, device, kept)
    assert kept.read_text() == "whole"
    assert sorted(each.name for each in tmp_path.glob("*header*")) == ["red.header"]
    assert list(tmp_path.glob(".red*")) == []


@pytest.mark.parametrize("answer", [b"", b"[]", b"not json"])
def test_metadata_that_are_no_object_are_an_error(answer: bytes, fake_programs: FakePrograms, device: str) -> None:
    fake_programs.write("cryptsetup", out=answer)
    with pytest.raises(DriveError, match="no LUKS2 header"):
        cryptsetup.metadata(fake_programs.programs, device)
