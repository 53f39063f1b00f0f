"""Words in, exit code out: help, bad command lines, privileges, answers for people and for scripts."""

from __future__ import annotations

import json
import os
import shlex
import signal
from datetime import UTC, datetime

import pytest
import typer
from typer.testing import CliRunner

from flashback import __version__, cli
from flashback.cli import app, front
from flashback.core.errors import DriveError, Exit
from flashback.core.signals import Interrupted
from flashback.rotation.ledger import Ledger
from flashback.rotation.values import HoldRecord, SnapshotRecord
from flashback.tools import block, cryptsetup
from tests.unit.drives import RED, UUID

ROOT = typer.main.get_command(app)


def commands(group=ROOT, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command and group as it is typed."""
    found = [path]
    for name, command in getattr(group, "commands", {}).items():
        found += commands(command, (*path, name))
    return found


COMMANDS = commands()
LEAVES = [path for path in COMMANDS if path not in {(), ("config",)}]


@pytest.fixture
def flashback(tmp_path, monkeypatch):
    """`flashback("status --json")`: the command in this process, its state and configuration below tmp_path."""
    monkeypatch.setenv("FLASHBACK_CONFIG", str(tmp_path / "flashback.yaml"))
    monkeypatch.setenv("FLASHBACK_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("FLASHBACK_RUNTIME", str(tmp_path / "run"))
    monkeypatch.setattr(block, "luks_volumes", lambda _run: ())
    monkeypatch.setattr(block, "scan", lambda _run: ())
    monkeypatch.setattr(cryptsetup, "mappings_of", lambda _uuid: ())

    def flashback(line: str, stdin: bytes | None = None):
        return CliRunner().invoke(app, shlex.split(line), prog_name="flashback", input=stdin)

    return flashback


@pytest.fixture
def ordinary_user(monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


# --- help


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help(flashback, path) -> None:
    done = flashback(shlex.join([*path, "--help"]))
    assert done.exit_code == 0
    assert "Usage: flashback" in done.output


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_the_help_of_every_command_has_examples_that_begin_with_its_name(flashback, path) -> None:
    said = flashback(shlex.join([*path, "--help"])).output
    assert f"flashback {' '.join(path[:1])}" in said.partition("Examples:")[2]


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_option_is_explained(path) -> None:
    command = ROOT
    for name in path:
        command = command.commands[name]
    assert [each.name for each in command.params if each.param_type_name == "option" and not each.help] == []


def test_what_may_be_left_out_stands_in_one_pair_of_brackets(flashback) -> None:
    for command in ("run", "restore", "ls documents", "diff a", "mount", "practice"):
        assert "[[" not in flashback(f"{command} --help").output


def test_the_line_of_every_command_fits_into_eighty_columns(flashback) -> None:
    assert not [line for line in flashback("--help").output.splitlines() if line.endswith("...") and "ARGS" not in line]


def test_the_help_lists_every_family(flashback) -> None:
    said = flashback("--help").output
    assert all(name in said for name in ("init", "run", "close", "status", "snapshots", "config", "doctor", "practice"))


def test_the_short_form_of_help_works_too(flashback) -> None:
    assert flashback("-h").output == flashback("--help").output


def test_the_version(flashback) -> None:
    assert flashback("--version").output == f"flashback {__version__}\n"


# --- command lines that cannot be meant


@pytest.mark.parametrize(
    "line",
    [
        "frobnicate",
        "--frobnicate",
        "status --frobnicate",
        "config frobnicate",
        "init",
        "init /dev/sdx --name",
        "status red green",
        "run --allow",
        "run red --allow everything",
        "run red green",
        "status --json=yes",
    ],
)
def test_a_bad_command_line_ends_with_2(flashback, line) -> None:
    assert flashback(line).exit_code == Exit.USAGE


def test_an_unknown_command_is_named(flashback) -> None:
    assert "frobnicate" in flashback("frobnicate").output


def test_an_unknown_guard_is_answered_with_those_that_exist(flashback) -> None:
    assert "missing-master, empty-master, mass-deletion" in flashback("run --allow everything").output


# --- privileges


@pytest.mark.parametrize("line", ["run", "run red --dry-run", "close", "init /dev/sdx", "practice"])
def test_without_root_it_ends_with_6(flashback, ordinary_user, line) -> None:
    assert flashback(line).exit_code == Exit.MISSING


def test_without_root_sudo_is_offered(flashback, ordinary_user) -> None:
    assert "needs root" in (said := flashback("run").output)
    assert "sudo" in said


def test_without_root_a_script_is_told_in_json(flashback, ordinary_user) -> None:
    last = json.loads(flashback("run --json").stdout.splitlines()[-1])
    assert (last["event"], last["result"], last["exit_code"]) == ("finished", "failed", 6)


# --- answers


@pytest.fixture
def known(tmp_path) -> None:
    """The ledger knows red with one snapshot."""
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    with Ledger.open(tmp_path / "state/ledger.sqlite") as ledger:
        ledger.enrol(RED)
        ledger.replace_snapshots(UUID, [SnapshotRecord(UUID, "documents", "20260102T030405Z", moment)])


def test_status_without_a_drive_says_what_to_do(flashback) -> None:
    done = flashback("status")
    assert done.exit_code == 0
    assert "flashback init" in done.output


def test_status_names_the_drives(flashback, known) -> None:
    assert "red" in flashback("status").output


def test_status_in_json_is_one_object_with_a_version(flashback, known) -> None:
    answer = json.loads(flashback("status --json").stdout)
    assert (answer["version"], [drive["name"] for drive in answer["drives"]]) == (1, ["red"])


def test_an_overdue_drive_has_an_exit_code_of_its_own(flashback, known) -> None:
    assert flashback("status --check").exit_code == Exit.OVERDUE


def test_a_hold_that_stands_fails_the_check_with_the_code_of_a_hold(flashback, known, tmp_path) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    with Ledger.open(tmp_path / "state/ledger.sqlite") as ledger:
        ledger.stand_holds([HoldRecord(UUID, "run", "mass-deletion", "40 files would go", moment)])
    assert flashback("status --check").exit_code == Exit.HELD_BY_GUARD
    assert flashback("status").exit_code == 0


def test_without_a_drive_nothing_is_overdue(flashback) -> None:
    assert flashback("status --check").exit_code == 0


def test_snapshots_are_listed(flashback, known) -> None:
    assert "20260102T030405Z" in flashback("snapshots").output


def test_snapshots_of_one_drive_in_json(flashback, known) -> None:
    answer = json.loads(flashback("snapshots red --json").stdout)
    assert answer["snapshots"] == [
        {
            "drive": "red",
            "master": "documents",
            "name": "20260102T030405Z",
            "completed": "2026-01-02T03:04:05Z",
            "pinned": False,
        }
    ]


def test_snapshots_of_a_drive_that_nobody_knows_end_with_4(flashback, known) -> None:
    assert flashback("snapshots violet").exit_code == Exit.DRIVE


def test_a_good_configuration_is_called_good(flashback, tmp_path, ordinary_user) -> None:
    (tmp_path / "flashback.yaml").write_text(f"masters: {{documents: {{path: {tmp_path / 'Documents'}}}}}\n")
    done = flashback("config check")
    assert (done.exit_code, "is good" in done.output) == (0, True)


def test_a_bad_configuration_ends_with_2_and_names_the_line(flashback, tmp_path, ordinary_user) -> None:
    (tmp_path / "flashback.yaml").write_text("masters: {}\nfrobnicate: 1\n")
    done = flashback("config check")
    assert done.exit_code == Exit.USAGE
    assert "flashback.yaml:2:1:" in done.output


def test_a_configuration_that_is_not_there_ends_with_2(flashback, ordinary_user) -> None:
    assert flashback("config show").exit_code == Exit.USAGE


def test_an_option_for_the_configuration_comes_before_the_environment(flashback, tmp_path, ordinary_user) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(f"masters: {{documents: {{path: {tmp_path / 'Documents'}}}}}\n")
    assert str(other) in flashback(f"config check --config {other}").output


# --- passphrase files


def test_a_passphrase_file_that_others_can_read_ends_with_2(flashback, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (secret := tmp_path / "secret").write_text("hunter2")
    secret.chmod(0o644)
    done = flashback(f"init /dev/sdx --passphrase-file {secret}")
    assert done.exit_code == Exit.USAGE
    assert f"chmod 600 {secret}" in done.output
    assert "hunter2" not in done.output


def test_an_empty_passphrase_on_standard_input_ends_with_2(flashback, monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "standard input is empty" in flashback("init /dev/sdx --passphrase-file -", stdin=b"\n").output


# --- the front door


def enter(error: BaseException | None, **options) -> int:
    def work(_app) -> int:
        if error is not None:
            raise error
        return 0

    with pytest.raises(typer.Exit) as caught:
        front.enter(work, config=None, state=None, **options)
    return caught.value.exit_code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (DriveError("it is not there"), Exit.DRIVE),
        (Interrupted(signal.SIGTERM), 128 + signal.SIGTERM),
        (KeyboardInterrupt(), 128 + signal.SIGINT),
        (RuntimeError("nobody thought of this"), Exit.UNEXPECTED),
    ],
    ids=["nothing", "of ours", "a signal", "Ctrl-C", "unexpected"],
)
def test_every_ending_has_its_exit_code(error, code) -> None:
    assert enter(error) == code


def test_people_are_told_on_standard_error(capsys) -> None:
    enter(DriveError("it is not there", hint="plug it in"))
    said = capsys.readouterr()
    assert said.out == ""
    assert "it is not there" in said.err
    assert "plug it in" in said.err


def test_scripts_are_told_on_standard_output(capsys) -> None:
    enter(DriveError("it is not there"), json=True)
    said = capsys.readouterr()
    assert json.loads(said.out)["error"]["what"] == "it is not there"
    assert said.err == ""


def test_the_trace_of_an_unexpected_error_is_shown_only_on_demand(capsys) -> None:
    enter(RuntimeError("x"))
    assert "Traceback" not in capsys.readouterr().err
    enter(RuntimeError("x"), verbose=True)
    assert "Traceback" in capsys.readouterr().err


def test_signals_are_left_as_they_were() -> None:
    before = signal.getsignal(signal.SIGTERM)
    enter(None)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("words", [[], ["--json"], ["red"], ["list", "red"]])
def test_snapshots_lists_whether_the_word_is_said_or_not(monkeypatch, words) -> None:
    entered: list[bool] = []
    monkeypatch.setattr(front, "enter", lambda _work, **how: entered.append(how["json"]))
    assert CliRunner().invoke(app, ["snapshots", *words]).exit_code == 0
    assert entered == ["--json" in words]


@pytest.mark.parametrize(("given", "kept"), [(0o000, 0o022), (0o002, 0o022), (0o077, 0o077)])
def test_nothing_that_the_program_makes_can_be_written_to_by_others_whatever_the_umask(monkeypatch, given, kept):
    monkeypatch.setattr(cli, "app", lambda **_more: None)
    before = os.umask(given)
    try:
        cli.main()
        assert os.umask(before) == kept
    finally:
        os.umask(before)
