"""Managing the rotation: what a person decides is in the ledger afterwards, or nothing is, with every finding."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from flashback.cli import app
from flashback.config.values import OnPlug
from flashback.core.errors import DriveError, Exit, UsageError
from flashback.drive import manage
from flashback.drive.choose import choose
from flashback.drive.status import take_stock
from flashback.rotation.ledger import Ledger
from flashback.rotation.values import Standing
from flashback.tools import block, cryptsetup
from tests.unit.drives import GREEN, RED, UUID, VOLUME, a_context

HERE = Path(__file__).parents[2]
MASTERS = ("documents", "photos")
CONFIG = "masters:\n  documents: {path: /nowhere/d}\n  photos: {path: /nowhere/p}\n"


@pytest.fixture
def ledger(tmp_path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "state/ledger.sqlite") as opened:
        opened.enrol(RED)
        opened.enrol(GREEN)
        yield opened


@pytest.fixture
def plugged(monkeypatch) -> list[block.LuksVolume]:
    """What is plugged in: change the list."""
    volumes: list[block.LuksVolume] = []
    monkeypatch.setattr(block, "luks_volumes", lambda _run: tuple(volumes))
    monkeypatch.setattr(block, "scan", lambda _run: ())
    monkeypatch.setattr(cryptsetup, "mappings_of", lambda _uuid: ())
    return volumes


@pytest.fixture
def flashback(ledger, plugged, tmp_path, monkeypatch):
    """The command, as root, with red and green known."""
    monkeypatch.setenv("FLASHBACK_CONFIG", str(tmp_path / "flashback.yaml"))
    monkeypatch.setenv("FLASHBACK_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("FLASHBACK_RUNTIME", str(tmp_path / "run"))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return lambda line: CliRunner().invoke(app, shlex.split(line), prog_name="flashback")


def configured(ledger: Ledger, *words: str, masters=MASTERS):
    return manage.configure(ledger, RED, words, lambda: masters)


def findings(ledger: Ledger, *words: str, masters=MASTERS) -> tuple[str, ...]:
    with pytest.raises(UsageError) as caught:
        configured(ledger, *words, masters=masters)
    return caught.value.findings


# --- set


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("place=pocket", "place", "pocket"),
        ("place=home: top = drawer", "place", "home: top = drawer"),
        ("place=", "place", ""),
        ("masters=documents", "masters", ("documents",)),
        ("masters=photos,documents", "masters", ("photos", "documents")),
        ("masters=[photos, documents]", "masters", ("photos", "documents")),
        ("masters=photos,photos", "masters", ("photos",)),
        ("masters=all", "masters", None),
        ("on_plug=always", "on_plug", OnPlug.ALWAYS),
        ("on_plug=default", "on_plug", None),
        ("standing=lost", "standing", Standing.LOST),
    ],
)
def test_a_setting_is_in_the_ledger_afterwards(ledger, word, key, value) -> None:
    ledger.change(UUID, masters=("documents",), on_plug=OnPlug.NEVER, place="elsewhere")
    configured(ledger, word)
    assert getattr(ledger.drive("red"), key) == value


def test_several_settings_are_said_in_one_line(ledger) -> None:
    _drive, said = configured(ledger, "place=pocket", "masters=photos", "on_plug=never")
    assert said == "red: place is pocket; it carries photos; on_plug is never."


def test_a_lost_drive_comes_back(ledger) -> None:
    ledger.change(UUID, standing=Standing.LOST)
    _drive, said = configured(ledger, "standing=active")
    assert ledger.drive("red").standing is Standing.ACTIVE
    assert said.startswith("red is active")


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("plase=pocket", "there is no setting 'plase'; did you mean place?"),
        ("colour=red", "there is no setting 'colour'; there are place, masters, on_plug, passphrase, standing"),
        ("place", "the form is place=VALUE"),
        ("place=a\nb", "a place is one short line"),
        ("masters=documnts", "no master 'documnts'; did you mean documents?"),
        ("masters=xyz", "no master 'xyz' (it has documents, photos)"),
        ("masters=", "which masters?"),
        ("masters=[]", "which masters?"),
        ("on_plug=allways", "expected ask, always, never or default; did you mean always?"),
        ("standing=gone", "expected active, retired or lost"),
    ],
)
def test_a_bad_setting_is_found(ledger, word, words) -> None:
    assert words in findings(ledger, word)[0]


def test_all_findings_come_at_once_and_nothing_is_changed(ledger) -> None:
    found = findings(ledger, "place=pocket", "plase=x", "on_plug=x", "masters=x,y")
    assert len(found) == 3
    assert ledger.drive("red") == RED


def test_a_setting_given_twice_is_a_finding(ledger) -> None:
    assert "given twice" in findings(ledger, "place=a", "place=b")[0]


def test_without_a_configuration_any_possible_master_is_taken(ledger) -> None:
    configured(ledger, "masters=music", masters=None)
    assert ledger.drive("red").masters == ("music",)


def test_without_a_configuration_an_impossible_master_is_a_finding(ledger) -> None:
    assert "cannot be a master's name" in findings(ledger, "masters=../x", masters=None)[0]


def test_the_configuration_is_read_only_where_masters_are_named(ledger) -> None:
    def broken():
        raise AssertionError("not asked for")

    manage.configure(ledger, RED, ["place=pocket"], broken)


# --- rename, retire, lost


def test_a_renamed_drive_has_its_new_name(ledger) -> None:
    _drive, said = manage.rename(ledger, RED, "ruby")
    assert ledger.drive("ruby").uuid == UUID
    assert "label" in said


@pytest.mark.parametrize("name", ["green", "GREEN", "", "a b", "../x", "-x"])
def test_a_bad_or_taken_name_is_refused(ledger, name) -> None:
    with pytest.raises(UsageError):
        manage.rename(ledger, RED, name)


def test_a_name_may_change_its_case(ledger) -> None:
    manage.rename(ledger, RED, "Red")
    assert ledger.drive(UUID).name == "Red"


@pytest.mark.parametrize("standing", Standing)
def test_a_standing_is_kept_and_its_meaning_said(ledger, standing) -> None:
    drive, said = manage.stand(ledger, RED, standing)
    assert ledger.drive("red").standing is drive.standing is standing
    assert said.startswith(f"red is {standing.value}")


# --- the commands


def test_the_list_shows_drives_that_are_not_plugged_in(flashback) -> None:
    assert all(name in flashback("drive list").output for name in ("red", "green"))


def test_the_list_says_where_a_drive_is_plugged_in(flashback, plugged) -> None:
    plugged.append(VOLUME)
    assert "/dev/sdx1" in flashback("drive list").output


def test_the_list_is_as_its_schema_says(flashback, plugged) -> None:
    plugged.append(VOLUME)
    answer = json.loads(flashback("drive list --json").output)
    schema = json.loads((HERE / "docs/reference/schemas/drives.schema.json").read_text())
    Draft202012Validator(schema).validate(answer)
    here = {each["name"]: each["devices"] for each in answer["drives"]}
    assert here == {"red": ["/dev/sdx1"], "green": []}


def test_a_copy_of_a_drive_is_seen_in_the_list(flashback, plugged) -> None:
    plugged += [VOLUME, replace(VOLUME, path="/dev/sdy1", disk="/dev/sdy")]
    assert "/dev/sdx1 and /dev/sdy1" in flashback("drive list").output


def test_a_model_from_a_device_cannot_paint_the_terminal(flashback, ledger) -> None:
    ledger.change(UUID, model="\x1b[31mred")
    assert "\x1b" not in flashback("drive list").output


@pytest.mark.parametrize(
    "line",
    ["drive rename red ruby", "drive set red place=pocket", "drive retire red", "drive lost red"],
)
def test_a_change_is_told_in_one_line(flashback, line) -> None:
    done = flashback(line)
    assert (done.exit_code, done.output.count("\n")) == (0, 1)


@pytest.mark.parametrize("line", ["drive set red place=pocket --json", "drive lost red --json"])
def test_a_script_is_answered_with_the_changed_drive(flashback, line) -> None:
    (drive,) = json.loads(flashback(line).output)["drives"]
    assert drive["place"] == "pocket" or drive["standing"] == "lost"


@pytest.mark.parametrize(
    "line",
    ["rename red ruby", "set red place=x", "retire red", "lost red", "adopt /dev/sdx"],
)
def test_without_root_nothing_is_changed(flashback, ledger, monkeypatch, line) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert flashback(f"drive {line}").exit_code == Exit.MISSING
    assert ledger.drives() == (GREEN, RED)


def test_a_drive_nobody_knows_is_answered_with_the_nearest(flashback) -> None:
    done = flashback("drive retire rad")
    assert done.exit_code == Exit.DRIVE
    assert "did you mean red?" in done.output


def test_unknown_masters_are_held_against_the_configuration(flashback, tmp_path) -> None:
    (tmp_path / "flashback.yaml").write_text(CONFIG)
    done = flashback("drive set red masters=photo")
    assert done.exit_code == Exit.USAGE
    assert "did you mean photos?" in done.output


# --- a lost drive that turns up


def test_a_lost_drive_that_is_plugged_in_is_said_first_in_status(ledger, plugged, tmp_path) -> None:
    plugged.append(VOLUME)
    ledger.change(UUID, standing=Standing.LOST)
    text = take_stock(a_context(tmp_path), ledger, None).text(colour=False)
    assert text.startswith("red was marked lost, and is plugged in here")


def test_a_lost_drive_that_is_plugged_in_is_said_before_a_run_chooses(ledger, plugged, tmp_path) -> None:
    plugged.append(VOLUME)
    ledger.change(UUID, standing=Standing.LOST)
    told = []
    with pytest.raises(DriveError):
        choose(a_context(tmp_path, told=told), ledger.drives(), None, ask=None, wait=False)
    assert "red was marked lost" in told[0].text


# --- every command that is named somewhere exists

ROOT = typer.main.get_command(app)
COMMAND = re.compile(r"(?<![\w./-])flashback((?: +(?:--?)?[\w{}=…,./\[\]-]+)+)")


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Every string of a file that is no docstring, what is filled into it as `{}`."""
    tree = ast.parse(source)
    silent = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            silent.add(node.value)
        if isinstance(node, ast.JoinedStr):
            silent.update(node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in silent:
            yield node.lineno, node.value
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            yield node.lineno, "".join(parts)


def not_a_command(words: list[str]) -> str:
    """What of `drive set red place=pocket` the program does not know; empty when it knows it all."""
    command = ROOT
    for word in (re.sub(r"{\w*}", "", each) for each in words):  # what is filled in may be anything
        if not word:
            continue
        if hasattr(command, "commands") and word not in command.commands and hasattr(command, "by_default"):
            command = command.commands[command.by_default]
        if hasattr(command, "commands") and not word.startswith("-"):
            if word not in command.commands:
                return word
            command = command.commands[word]
        elif word.startswith("--") and word != "--help":
            options = [option for each in command.params for option in [*each.opts, *each.secondary_opts]]
            if word.partition("=")[0] not in options:
                return word
    return ""


def unknown_commands(source: str) -> list[str]:
    return [
        f"{line}: {match[0]} ({wrong})"
        for line, text in texts(source)
        for match in COMMAND.finditer(text)
        if (wrong := not_a_command(match[1].split()))
    ]


FILES = sorted((HERE / "flashback").rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(HERE)))
def test_every_command_that_a_text_names_exists(file) -> None:
    assert unknown_commands(file.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "x = 'run `flashback key hoard`'",
        "x = f'flashback drive adpot {device}'",
        "x = f'flashback frobnicate {device}'",
        "x = f'flashback run {name} --srub'",
    ],
)
def test_a_command_that_does_not_exist_is_found(source) -> None:
    assert len(unknown_commands(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "x = f'flashback run {name} --scrub'",
        "x = 'sudo flashback drive set red place=pocket'",
        "x = f'flashback {purpose} (process)'",
        "x = 'see `flashback run{drive} --dry-run`'",
        "x = 'in /var/lib/flashback or .flashback holds'",
        "def f():\n    'flashback in a docstring'",
    ],
)
def test_a_command_that_exists_is_not_reported(source) -> None:
    assert unknown_commands(source) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [("ask", "is asked for"), ("keyring", "desktop's keyring"), ("file:/etc/red.key", "comes from file:/etc/red.key")],
)
def test_where_a_passphrase_comes_from_is_said_in_words(given, said) -> None:
    assert said in manage.passphrase_text(replace(RED, passphrase=given))
