"""Which units the polkit rule lets a person start: the rule's own expression, held against names that are hostile."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flashback.trigger.watch import unit_of
from tests.unit.drives import UUID

RULE = (Path(__file__).resolve().parents[2] / "polkit/50-flashback.rules").read_text("ascii")
(EXPRESSION,) = re.findall(r"/(\^.*\$)/\.test\(action\.lookup\(\"unit\"\)\)", RULE)
"""JavaScript's `$` without the flag m is the end alone, as `\\Z` is here."""
ALLOWED = re.compile(EXPRESSION.removesuffix("$") + r"\Z")
OURS = unit_of(UUID)


def test_the_unit_of_a_drive_may_be_started() -> None:
    assert ALLOWED.search(OURS)


@pytest.mark.parametrize(
    "unit",
    [
        "flashback-plug@.service",
        "flashback-plug@red.service",
        f"flashback-plug@{UUID}.service",
        OURS.replace(".service", ".socket"),
        OURS + "\n",
        "\n" + OURS,
        OURS + " ssh.service",
        OURS.replace("plug", "remind"),
        OURS.upper(),
        OURS.replace("1", "g", 1),
        OURS.replace("@", "@../"),
        "x" + OURS,
        OURS.replace(r"\x2d", r"\x2f"),
        "ssh.service",
        "undefined",
        "",
    ],
)
def test_no_other_unit_may_be_started(unit) -> None:
    assert not ALLOWED.search(unit)


@pytest.mark.parametrize(
    "condition",
    [
        'action.id == "org.freedesktop.systemd1.manage-units"',
        'action.lookup("verb") == "start"',
        "subject.active",
        "subject.local",
    ],
)
def test_the_rule_asks_for_all_of_it(condition) -> None:
    ((conditions,),) = [re.findall(r"if \((.*?)\) \{", RULE, re.DOTALL)]
    assert condition in conditions
    assert "||" not in conditions
    assert RULE.count("polkit.Result.YES") == 1
