"""The fault matrix has every step and every command of the program: a new one without faults fails here."""

from __future__ import annotations

from flashback.core.events import Step
from tests.fault_matrix import COMMANDS, KINDS, page, read, rows_of
from tests.guest.matrix import KINDS as TRIED_KINDS
from tests.guest.tried import STEPS
from tests.unit.test_docs import LEAVES

NEVER_BEGUN = {Step.SEE}
"""Said by none."""
LIKE_ANOTHER = {
    "key add": "key change",
    "key remove": "key change",
    "key recovery": "key change",
    "key header save": "key change",
    "key header restore": "key change",
    "plugged": "run",
    "catalogue rebuild": "run",
    "practice": "init",
    "mount": "verify",
    "diff": "verify",
}
"""Commands that open a drive or change a header by the same parts of the program as one that is tried."""
HOLD_NO_DRIVE = {
    *(
        "status",
        "remind",
        "reminded",
        "find",
        "versions",
        "ls",
        "explain",
        "kit",
        "doctor",
        "enable",
        "disable",
        "watch",
    ),
    *("snapshots list", "snapshots pin", "snapshots unpin", "drive list", "drive rename", "drive set", "drive retire"),
    *("drive lost", "key list", "config check", "config show"),
}


def test_every_step_is_one_of_a_command_that_is_tried() -> None:
    assert set().union(*STEPS.values()) == set(Step) - NEVER_BEGUN


def test_every_command_is_tried_or_it_is_said_why_not() -> None:
    known = {*STEPS, *LIKE_ANOTHER, *HOLD_NO_DRIVE}
    assert {" ".join(words) for words in LEAVES} == known


def test_the_matrix_and_its_page_are_about_the_same_commands() -> None:
    assert set(COMMANDS) == set(STEPS)


TRIAL = {"command": "run", "step": "copy", "kind": "SIGKILL", "code": -9, "point": "p", "wrong": ""}


def test_what_was_written_is_read_again() -> None:
    rows = rows_of([TRIAL, {**TRIAL, "kind": "unplug", "code": 10}, {**TRIAL, "kind": "unplug", "code": 4}])
    assert read(page(rows, "today")) == rows


def test_a_trial_that_went_wrong_is_no_row() -> None:
    assert rows_of([TRIAL, {**TRIAL, "code": 1, "wrong": "lost"}]) == {
        ("run", "copy"): {"SIGKILL": (1, frozenset({"killed"}))}
    }


def test_every_kind_has_its_line_in_the_order_in_which_they_are_tried() -> None:
    assert tuple(map(str, TRIED_KINDS)) == KINDS
