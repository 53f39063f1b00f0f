"""The outside world, wired once: what comes from the command line, the environment, a file, standard input."""

from __future__ import annotations

import io
import os
import sys
from contextlib import nullcontext
from datetime import UTC
from pathlib import Path
from types import SimpleNamespace

import pytest

from flashback import app
from flashback.app import App, AtTerminal, Settings, Unattended, needs_root, paths, read_passphrase
from flashback.core.context import Paths
from flashback.core.errors import Exit, Missing, UsageError
from flashback.core.secret import LONGEST, Secret
from flashback.prepare.ask import unseen
from flashback.rotation import ledger


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch) -> None:
    for name in ("FLASHBACK_CONFIG", "FLASHBACK_STATE", "FLASHBACK_RUNTIME", "NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)


# --- paths


def test_the_defaults_are_those_of_the_design() -> None:
    assert paths(Settings()) == Paths(
        Path("/etc/flashback/flashback.yaml"), Path("/var/lib/flashback"), Path("/run/flashback")
    )


def test_the_environment_comes_before_the_defaults(monkeypatch) -> None:
    for name in ("CONFIG", "STATE", "RUNTIME"):
        monkeypatch.setenv(f"FLASHBACK_{name}", f"/env/{name.lower()}")
    assert paths(Settings()) == Paths(Path("/env/config"), Path("/env/state"), Path("/env/runtime"))


def test_an_option_comes_before_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("FLASHBACK_CONFIG", "/env/config")
    monkeypatch.setenv("FLASHBACK_STATE", "/env/state")
    found = paths(Settings(config=Path("/option/config"), state=Path("/option/state")))
    assert (found.config, found.state) == (Path("/option/config"), Path("/option/state"))


def test_an_empty_variable_is_as_good_as_none(monkeypatch) -> None:
    monkeypatch.setenv("FLASHBACK_STATE", "")
    assert paths(Settings()).state == Path("/var/lib/flashback")


def test_the_clock_is_in_utc_and_whole_seconds() -> None:
    assert app.now().tzinfo is UTC
    assert app.now().microsecond == 0


# --- root


def test_root_needs_nothing(monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    needs_root("flashback run")


@pytest.fixture
def refused(monkeypatch) -> Missing:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["/opt/flashback", "run", "my drive", "--dry-run"])
    with pytest.raises(Missing) as caught:
        needs_root("flashback run")
    return caught.value


def test_who_may_not_look_into_the_ledger_is_given_the_same_command_with_sudo(tmp_path, monkeypatch) -> None:
    def refused(*_words: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(ledger, "_make", refused)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["/opt/flashback", "status", "--check"])
    with pytest.raises(Missing) as caught:
        App(Settings(state=tmp_path)).ledger()
    assert "sudo /opt/flashback status --check" in (caught.value.hint or "")


def test_without_root_the_exit_code_is_that_of_a_missing_privilege(refused) -> None:
    assert refused.exit_code is Exit.MISSING


def test_without_root_the_same_command_with_sudo_is_offered(refused) -> None:
    assert refused.hint.endswith("sudo /opt/flashback run 'my drive' --dry-run")


# --- passphrases


def secret_file(folder: Path, content: bytes, mode: int = 0o600) -> str:
    file = folder / "secret"
    file.write_bytes(content)
    file.chmod(mode)
    return str(file)


def standard_input(monkeypatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))


CONTENTS = [
    pytest.param(b"x", b"x", id="no newline"),
    pytest.param(b"x\n", b"x", id="one newline"),
    pytest.param(b"x\n\n", b"x\n", id="two newlines"),
    pytest.param(b"x\r\n", b"x\r", id="a carriage return stays"),
    pytest.param(b" x \n", b" x ", id="blanks stay"),
    pytest.param(b"\xff\x00\n", b"\xff\x00", id="any byte"),
    pytest.param(b"a\nb", b"a\nb", id="a newline within"),
]


@pytest.mark.parametrize(("content", "secret"), CONTENTS)
def test_a_passphrase_from_a_file(tmp_path, content, secret) -> None:
    assert read_passphrase(secret_file(tmp_path, content)).reveal() == secret


@pytest.mark.parametrize(("content", "secret"), CONTENTS)
def test_a_passphrase_from_standard_input(monkeypatch, content, secret) -> None:
    standard_input(monkeypatch, content)
    assert read_passphrase("-").reveal() == secret


@pytest.mark.parametrize("content", [b"", b"\n"])
def test_an_empty_file_is_refused(tmp_path, content) -> None:
    with pytest.raises(UsageError, match="is empty"):
        read_passphrase(secret_file(tmp_path, content))


def test_an_empty_standard_input_is_refused_by_its_name(monkeypatch) -> None:
    standard_input(monkeypatch, b"")
    with pytest.raises(UsageError, match="standard input is empty"):
        read_passphrase("-")


def test_a_file_longer_than_any_passphrase_is_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match="too long"):
        read_passphrase(secret_file(tmp_path, b"x" * (LONGEST + 1)))


def test_a_standard_input_without_end_is_refused_by_its_name(monkeypatch) -> None:
    standard_input(monkeypatch, b"x" * (LONGEST + 1))
    with pytest.raises(UsageError, match="standard input is too long"):
        read_passphrase("-")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604, 0o601, 0o660])
def test_a_file_that_others_can_reach_is_refused_with_the_command(tmp_path, mode) -> None:
    with pytest.raises(UsageError, match="others can read") as caught:
        read_passphrase(secret_file(tmp_path, b"x", mode))
    assert caught.value.hint == f"chmod 600 {tmp_path / 'secret'}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_a_passphrase_of_somebody_else_is_refused_without_waiting_for_it(tmp_path, monkeypatch, kind) -> None:
    """Whoever chooses the passphrase of a new drive can open it; and nobody ever writes into this pipe."""
    file = secret_file(tmp_path, b"x")
    if kind == "pipe":
        os.unlink(file)
        os.mkfifo(file, 0o600)
    os.chown(file, 12345, 12345)
    with pytest.raises(UsageError, match=r"belongs to another user \(uid 12345\)"):
        read_passphrase(file)
    monkeypatch.setenv("SUDO_UID", "12345")
    if kind == "file":
        assert read_passphrase(file)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_its_owner_alone_is_taken(tmp_path, mode) -> None:
    assert read_passphrase(secret_file(tmp_path, b"x", mode))


def test_a_file_that_is_not_there_is_told(tmp_path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_passphrase(str(tmp_path / "nowhere"))


def test_a_directory_is_told(tmp_path) -> None:
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_passphrase(str(tmp_path))


def test_a_pipe_is_taken_whatever_its_mode() -> None:
    reading, writing = os.pipe()
    os.fchmod(reading, 0o666)
    with open(writing, "wb") as pipe:
        pipe.write(b"x\n")
    assert read_passphrase(f"/dev/fd/{reading}").reveal() == b"x"
    os.close(reading)


def test_an_error_never_holds_the_passphrase(tmp_path) -> None:
    with pytest.raises(UsageError) as caught:
        read_passphrase(secret_file(tmp_path, b"hunter2", 0o644))
    assert "hunter2" not in str(caught.value) + caught.value.hint


# --- who is asked


def test_nobody_answers_where_nobody_sits() -> None:
    assert Unattended(None).passphrase("Enter passphrase:", 1) is None


def test_a_passphrase_from_the_command_line_is_known() -> None:
    assert Unattended(Secret(b"x")).known_passphrase == Secret(b"x")


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """The questions that getpass was given; it answers `x`."""
    questions: list[str] = []
    monkeypatch.setattr("getpass.getpass", lambda question: questions.append(question) or "x")
    return questions


@pytest.fixture
def person() -> AtTerminal:
    return AtTerminal(None, SimpleNamespace(asking=nullcontext))


def test_a_person_is_asked_in_cryptsetups_own_words(person, asked) -> None:
    assert person.passphrase("Enter PIN for token 2:", 1) == Secret(b"x")
    assert asked == ["Enter PIN for token 2: "]


def test_a_question_reaches_the_terminal_without_control_characters(person, asked) -> None:
    person.passphrase("Enter \x1b[2Jpassphrase:", 1)
    assert "\x1b" not in asked[0]


def test_a_person_who_closes_the_input_gives_up(person, monkeypatch) -> None:
    def end(_question: str) -> str:
        raise EOFError

    monkeypatch.setattr("getpass.getpass", end)
    assert person.passphrase("Enter passphrase:", 1) is None


@pytest.mark.parametrize("end", [KeyboardInterrupt, EOFError])
def test_a_question_that_is_broken_off_leaves_its_line(monkeypatch, capsys, end) -> None:
    def stop(_question: str) -> str:
        raise end

    monkeypatch.setattr("getpass.getpass", stop)
    with pytest.raises(end):
        unseen("Passphrase:")
    assert capsys.readouterr().err == "\n"


def test_what_is_no_utf8_reaches_the_drive_byte_for_byte(person, monkeypatch) -> None:
    monkeypatch.setattr("getpass.getpass", lambda _question: "\udcff")
    assert person.passphrase("Enter passphrase:", 1) == Secret(b"\xff")


class Stream(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(("stdin", "stderr", "expected"), [(1, 1, True), (0, 1, False), (1, 0, False)])
def test_a_person_sits_where_both_ends_are_a_terminal(monkeypatch, stdin, stderr, expected) -> None:
    monkeypatch.setattr(sys, "stdin", Stream(terminal=bool(stdin)))
    monkeypatch.setattr(sys, "stderr", Stream(terminal=bool(stderr)))
    assert app.at_terminal() is expected


@pytest.mark.parametrize(
    ("terminal", "environment", "expected"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colours(monkeypatch, terminal, environment, expected) -> None:
    monkeypatch.setattr(sys, "stdout", Stream(terminal=terminal))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert app.wants_colour() is expected


def test_with_json_nobody_is_asked(monkeypatch) -> None:
    monkeypatch.setattr(app, "at_terminal", lambda: True)
    assert not App(Settings(json=True)).interactive


def test_with_json_nobody_is_asked_for_a_passphrase_either(monkeypatch) -> None:
    monkeypatch.setattr(app, "at_terminal", lambda: False)
    assert not isinstance(App(Settings(json=True)).person(SimpleNamespace()), AtTerminal)


def test_without_an_option_no_passphrase_is_known() -> None:
    assert App(Settings()).passphrase() is None


def test_the_context_carries_the_paths_of_the_command_line(tmp_path) -> None:
    context = App(Settings(state=tmp_path)).context(lambda _event: None)
    assert context.paths.ledger == tmp_path / "ledger.sqlite"
