"""Where a passphrase comes from when nobody types it: what is understood, what is trusted, what is never said."""

from __future__ import annotations

import pytest

from flashback.core.command import Command, CommandFailed, Result
from flashback.core.errors import ConfigError, FlashbackError, UsageError
from flashback.core.secret import Secret
from flashback.drive.source import Source, Way, parse, passphrase_from


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("ask", Source(Way.ASK)),
        ("file:/etc/flashback/red key", Source(Way.FILE, ("/etc/flashback/red key",))),
        ("credential:red", Source(Way.CREDENTIAL, ("red",))),
        ("command:/usr/bin/pass show 'my drives/red'", Source(Way.COMMAND, ("/usr/bin/pass", "show", "my drives/red"))),
    ],
)
def test_what_is_written_is_understood(text, source) -> None:
    assert parse(text) == source


@pytest.mark.parametrize(
    "text",
    [
        *("", "ask:me", "file:", "file:key", "file:/a\nb", "command:", "command:pass show", "command:/bin/a 'b"),
        *("credential:", "credential:../x", "credential:/etc/shadow", "secret", "hunter2", "File:/x"),
    ],
)
def test_anything_else_is_refused(text) -> None:
    with pytest.raises(ValueError):
        parse(text)


class Runner:
    """Says `out`, with `code`."""

    def __init__(self, out: bytes = b"", code: int = 0) -> None:
        self.out, self.code = out, code
        self.ran: list[Command] = []

    def __call__(self, command: Command) -> Result:
        self.ran.append(command)
        result = Result(command, self.code, self.out)
        if self.code:
            raise CommandFailed(result)
        return result


@pytest.fixture
def key(tmp_path):
    file = tmp_path / "red.key"
    file.write_bytes(b"correct horse\n")
    file.chmod(0o600)
    return file


@pytest.fixture
def program(tmp_path):
    file = tmp_path / "give"
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return file


def test_to_ask_gives_none() -> None:
    assert passphrase_from(parse("ask"), Runner()) is None


def test_a_file_gives_what_stands_in_it_without_one_newline(key) -> None:
    assert passphrase_from(parse(f"file:{key}"), Runner()) == Secret(b"correct horse")
    key.write_bytes(b" two\n\n")
    assert passphrase_from(parse(f"file:{key}"), Runner()) == Secret(b" two\n")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_that_others_can_read_is_refused(key, mode) -> None:
    key.chmod(mode)
    with pytest.raises(UsageError, match="others can read"):
        passphrase_from(parse(f"file:{key}"), Runner())


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_can_change_is_refused(key, mode) -> None:
    key.chmod(mode)
    with pytest.raises(ConfigError, match="changed by other users"):
        passphrase_from(parse(f"file:{key}"), Runner())


def test_a_file_in_a_directory_that_others_can_change_is_refused(key) -> None:
    key.parent.chmod(0o777)
    with pytest.raises(ConfigError, match="replace"):
        passphrase_from(parse(f"file:{key}"), Runner())


def test_a_file_that_is_empty_or_gone_is_refused(key) -> None:
    key.write_bytes(b"\n")
    with pytest.raises(ConfigError, match="no passphrase"):
        passphrase_from(parse(f"file:{key}"), Runner())
    key.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        passphrase_from(parse(f"file:{key}"), Runner())


def test_a_command_gives_what_it_prints(program) -> None:
    run = Runner(b"correct horse\n")
    assert passphrase_from(parse(f"command:{program} show red"), run) == Secret(b"correct horse")
    assert [command.argv for command in run.ran] == [(str(program), "show", "red")]


def test_a_command_that_others_can_change_is_not_started(program) -> None:
    program.chmod(0o757)
    run = Runner(b"x")
    with pytest.raises(ConfigError):
        passphrase_from(parse(f"command:{program}"), run)
    assert run.ran == []


def test_what_a_failing_command_said_is_not_repeated(program) -> None:
    with pytest.raises(UsageError) as caught:
        passphrase_from(parse(f"command:{program}"), Runner(b"correct horse", 1))
    error: BaseException | None = caught.value
    while error is not None:
        assert "correct" not in f"{error} {getattr(error, 'hint', '')}"
        error = error.__cause__


def test_a_credential_is_read_where_systemd_put_it(tmp_path) -> None:
    (tmp_path / "red").write_bytes(b"correct horse")
    assert passphrase_from(parse("credential:red"), Runner(), credentials=str(tmp_path)) == Secret(b"correct horse")


@pytest.mark.parametrize("directory", ["", "/nonexistent"])
def test_a_credential_that_is_not_there_says_how_to_give_it(directory) -> None:
    with pytest.raises(FlashbackError) as caught:
        passphrase_from(parse("credential:red"), Runner(), credentials=directory)
    assert "LoadCredentialEncrypted" in caught.value.hint
