"""What is promised about the package: its metadata, its entry point, its data."""

from __future__ import annotations

import importlib.metadata
import re
import runpy
import sys
import tomllib
from pathlib import Path

import pytest

import flashback

TOP = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_installed_version_is_the_one_the_package_says():
    assert importlib.metadata.version("flashback-drive") == flashback.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", flashback.__version__)


def test_the_changelog_knows_this_version_or_calls_it_unreleased():
    changelog = (TOP / "CHANGELOG.md").read_text("utf-8")
    assert "## [Unreleased]" in changelog or f"## [{flashback.__version__}]" in changelog


def test_the_package_is_typed():
    assert (Path(flashback.__file__).parent / "py.typed").exists()
    assert "Typing :: Typed" in PROJECT["classifiers"]


def test_the_command_leads_to_a_function():
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="flashback")
    assert callable(command.load())


def test_python_dash_m_says_the_version(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["flashback", "--version"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("flashback", run_name="__main__")
    assert not caught.value.code
    assert flashback.__version__ in capsys.readouterr().out


def test_the_licence_is_named_and_enclosed():
    assert PROJECT["license"] == "MIT"
    assert "MIT License" in (TOP / "LICENSE").read_text("utf-8")


@pytest.mark.parametrize("minor", [11, 12, 13, 14])
def test_each_python_that_is_supported_is_named(minor):
    assert f"Programming Language :: Python :: 3.{minor}" in PROJECT["classifiers"]
    assert PROJECT["requires-python"] == ">=3.11"


def test_the_sample_of_exclusions_goes_into_the_wheel():
    wheel = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "exclusions.example.txt" in wheel["force-include"]
    assert (TOP / "exclusions.example.txt").exists()


def test_each_dependency_has_its_reason_written_down():
    reasons = (TOP / "docs/explanation/dependencies.md").read_text("utf-8")
    names = [re.split(r"[<>=!~ ;\[]", each)[0] for each in PROJECT["dependencies"]]
    assert [name for name in names if f"**{name}**" not in reasons] == []


def test_nothing_outside_the_project_is_referred_to():
    places = [
        "Makefile",
        ".ci/run",
        *(str(path) for path in Path("tests/vm").rglob("*") if path.is_file() and path.suffix != ".pyc"),
    ]
    outside = re.compile(r"\.\./shared|/tmp/v/")
    assert [place for place in places if outside.search((TOP / place).read_text("utf-8"))] == []
