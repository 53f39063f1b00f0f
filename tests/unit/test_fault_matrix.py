"""The fault matrix has every step and every command of the program: a new one without faults fails here."""

from __future__ import annotations

import contextlib
import json

import pytest

from flashback.core.events import Step
from tests.fault_matrix import COMMANDS, KINDS, PAGE, page, read, rows_of
from tests.guest.faults import DRIVE_MOUNTED, Ended, Kind
from tests.guest.matrix import KINDS as TRIED_KINDS
from tests.guest.matrix import judge_without_flush, where
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


def test_every_step_of_every_command_was_tried() -> None:
    rows = read(PAGE.read_text("utf-8"))
    steps = {(command, str(step)) for command in STEPS for step in STEPS[command]}
    assert steps <= set(rows), "make faults writes the page anew"


def test_every_command_was_killed_and_lost_its_drive() -> None:
    met = {(command, kind) for (command, _step), row in read(PAGE.read_text("utf-8")).items() for kind in row}
    assert {(each, kind) for each in COMMANDS for kind in ("SIGKILL", "unplug")} <= met


POINTS = (
    *("before lsblk", "during lsblk", "after lsblk", "before ledger enrol", "after ledger enrol"),
    *("before mount", "during mount", "after mount", "told StepBegun copy", "before lsblk #2", "during lsblk #2"),
    *("after lsblk #2", "before umount", "during umount", "after umount"),
)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            Kind.FAIL,
            {f"{when} {what}" for when in ("before", "after") for what in ("lsblk", "lsblk #2", "mount", "umount")},
        ),
        (Kind.MISSING, {"before lsblk", "before mount", "before umount"}),
        (Kind.CRASH, {"during lsblk", "during lsblk #2", "during mount", "during umount"}),
        (Kind.FULL, {"after mount", "before lsblk #2", "after lsblk #2"}),
        (Kind.LEDGER_FULL, {"before lsblk", "before lsblk #2", "before ledger enrol", "told StepBegun copy"}),
        (Kind.KILL, set(POINTS)),
        (Kind.METADATA_FULL, {"after mount", "after lsblk #2"}),
        (Kind.LEDGER_READ_ONLY, {"before lsblk", "before lsblk #2", "before ledger enrol", "told StepBegun copy"}),
        (Kind.NO_FLUSH, {"before lsblk", "before lsblk #2", "before ledger enrol", "told StepBegun copy"}),
        (Kind.MASTER_UNREADABLE, {"before lsblk", "before lsblk #2", "told StepBegun copy"}),
    ],
)
def test_a_fault_comes_where_it_can_come(kind: Kind, expected: set[str]) -> None:
    assert set(where(kind, list(POINTS))) == expected


def test_a_full_drive_is_no_fault_where_none_is_mounted() -> None:
    assert where(Kind.FULL, ["before lsblk", "after lsblk", "before umount"]) == []


@pytest.mark.parametrize("named", ["/dev/dm-0", "/dev/mapper/flashback-red"])
def test_a_mount_is_seen_whatever_the_kernel_calls_its_device(named: str) -> None:
    line = f"44 33 0:27 / /srv/run/mnt/red rw,noatime shared:1 - btrfs {named} rw,ssd"
    assert DRIVE_MOUNTED.findall(f"33 1 0:2 / / rw - hostfs / rw\n{line}\n") == ["/srv/run/mnt/red"]


FLUSHED = (
    "before syncfs",
    "after syncfs",
    "before line complete",
    "after line complete",
    "before flush",
    "after flush",
)


def said(code: int, result: str, *, safe: bool) -> Ended:
    return Ended(code, json.dumps({"result": result, "safe_to_remove": safe}), "", FLUSHED)


@pytest.mark.parametrize(
    ("point", "ended", "is_true"),
    [
        ("before syncfs", said(10, "incomplete", safe=False), True),
        ("before syncfs", said(10, "incomplete", safe=True), False),
        ("before syncfs", said(0, "complete", safe=True), False),
        ("before line complete", said(10, "complete", safe=False), False),
        ("before flush", said(10, "complete", safe=False), True),
        ("before flush", said(10, "complete", safe=True), False),
        ("after flush", said(0, "complete", safe=True), True),
    ],
)
def test_what_was_not_flushed_is_neither_complete_nor_safe_to_remove(
    point: str, ended: Ended, *, is_true: bool
) -> None:
    with contextlib.nullcontext() if is_true else pytest.raises(AssertionError):
        judge_without_flush(point, ended)
