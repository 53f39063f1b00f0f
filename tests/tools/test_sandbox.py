"""The units' sandbox is no weaker than SECURITY.md says, by systemd's own figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import run

TOP = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| `(flashback-[^`]+\.service)` \| ([0-9.]+) \|$", re.MULTILINE)
PUBLISHED = dict(ROW.findall((TOP / "SECURITY.md").read_text("utf-8")))
SYSTEM_UNITS = sorted(
    path.name
    for path in (TOP / "systemd").glob("*.service")
    if "WantedBy=default.target" not in path.read_text("utf-8")
)


def exposure(unit: str) -> float:
    """What systemd-analyze says of the unit's file, with no systemd running."""
    said = run("systemd-analyze", "security", "--offline=yes", "--no-pager", TOP / "systemd" / unit)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found, said
    return float(found[1])


def test_the_figure_of_every_system_unit_is_published() -> None:
    assert sorted(PUBLISHED) == SYSTEM_UNITS


@pytest.mark.parametrize("unit", SYSTEM_UNITS)
def test_a_unit_is_no_more_exposed_than_published(unit: str) -> None:
    is_that_version = run("systemd-analyze", "--version").startswith("systemd 252 ")
    leeway = 0.0 if is_that_version else 1.0  # each version looks at more
    assert exposure(unit) <= float(PUBLISHED[unit]) + leeway
