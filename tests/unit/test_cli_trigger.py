"""`flashback enable` and `disable` as they are called: what people and scripts are told."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from flashback import app as application
from flashback.cli import app
from flashback.core.errors import Exit
from flashback.trigger import installation
from flashback.trigger.installation import plan_disable, plan_enable

SCHEMA = Path(__file__).resolve().parents[2] / "docs/reference/schemas/enable.schema.json"


@pytest.fixture
def flashback(tmp_path, monkeypatch):
    """The command, with tmp_path as the machine's root, called by root."""
    monkeypatch.setattr(application, "own_command", lambda: "/opt/flashback/bin/flashback")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(installation, "plan_enable", lambda command: plan_enable(command, tmp_path))
    monkeypatch.setattr(installation, "plan_disable", lambda: plan_disable(tmp_path))
    for name in ("enable", "disable"):
        deed = getattr(installation, name)
        monkeypatch.setattr(installation, name, lambda run, steps, deed=deed: deed(run, steps, tmp_path))
    monkeypatch.setattr(installation, "take_effect", lambda _run: [])
    return lambda *words: CliRunner().invoke(app, words, prog_name="flashback")


@pytest.mark.parametrize("words", [["enable", "--json"], ["disable", "--json"], ["enable", "--json", "--dry-run"]])
def test_the_answer_is_as_its_schema_says(flashback, words) -> None:
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(json.loads(flashback(*words).stdout))


def test_a_dry_run_prints_the_files_and_writes_nothing(flashback, tmp_path) -> None:
    said = flashback("enable", "--dry-run").stdout
    assert "would write /etc/udev/rules.d/90-flashback.rules" in said
    assert "ExecStart=/opt/flashback/bin/flashback plugged %I" in said
    assert not (tmp_path / "etc").exists()


def test_enable_says_what_it_wrote_and_disable_what_it_removed(flashback, tmp_path) -> None:
    assert "written:   /etc/udev/rules.d/90-flashback.rules" in flashback("enable").stdout
    assert "unchanged: /etc/udev/rules.d/90-flashback.rules" in flashback("enable").stdout
    assert "removed:   /etc/udev/rules.d/90-flashback.rules" in flashback("disable").stdout
    assert [path for path in tmp_path.rglob("*") if path.is_file() or path.is_symlink()] == []


@pytest.mark.parametrize("command", ["enable", "disable"])
def test_an_ordinary_user_is_offered_sudo_and_may_look(flashback, monkeypatch, command) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    refused = flashback(command)
    assert refused.exit_code == Exit.MISSING
    assert "sudo" in refused.stderr
    assert flashback(command, "--dry-run").exit_code == Exit.DONE


def test_the_timer_on_a_machine_that_knows_no_drive_says_and_makes_nothing(flashback, tmp_path) -> None:
    done = flashback("reminded", "--state", str(tmp_path / "state"))
    assert (done.exit_code, done.output) == (Exit.DONE, "")
    assert not (tmp_path / "state").exists()
