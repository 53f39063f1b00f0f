"""Pins: what is said here and what a drive's journal says, made one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashback.backup import pins
from flashback.core.errors import NoSpace
from flashback.drive import journal
from flashback.rotation.ledger import Ledger
from flashback.rotation.values import SnapshotRecord
from tests.unit.drives import RED

NAMES = tuple(f"2026010{day}T030405Z" for day in range(1, 5))
SNAPSHOTS = [SnapshotRecord(RED.uuid, "m", name, datetime(2026, 1, 1, tzinfo=UTC)) for name in NAMES]


def line(mark: journal.Mark, name: str, master: str = "m") -> journal.Line:
    return journal.Line(sequence=1, run="r", at="2026-01-09T00:00:00Z", mark=mark, master=master, snapshot=name)


PINNED, UNPINNED, PRUNED = journal.Mark.PINNED, journal.Mark.UNPINNED, journal.Mark.PRUNED


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], set()),
        ([line(PINNED, NAMES[0])], {("m", NAMES[0])}),
        ([line(PINNED, NAMES[0]), line(UNPINNED, NAMES[0])], set()),
        ([line(UNPINNED, NAMES[0]), line(PINNED, NAMES[0])], {("m", NAMES[0])}),
        ([line(PINNED, NAMES[0]), line(UNPINNED, NAMES[0], "other")], {("m", NAMES[0])}),
        ([line(PINNED, NAMES[0]), line(PRUNED, NAMES[0])], set()),
        ([line(PINNED, "../../etc")], set()),
        ([line(PINNED, NAMES[0], "")], set()),
    ],
)
def test_the_journal_says_what_is_pinned(lines, found) -> None:
    assert journal.pins(lines) == found


def test_the_journal_says_which_run_completed_a_state() -> None:
    lines = [
        journal.Line(sequence=4, run="r", at="2026-01-02T03:04:05Z", mark=journal.Mark.COMPLETE, master="m"),
        journal.Line(sequence=5, run="s", at="2026-01-03T03:04:05Z", mark=journal.Mark.UNCHANGED, master="m"),
    ]
    assert journal.completed_by(lines) == {("m", "20260102T030405Z"): 4}


@pytest.fixture
def ledger(tmp_path: Path):
    with Ledger.open(tmp_path / "state/ledger.sqlite") as opened:
        opened.enrol(RED)
        opened.replace_snapshots(RED.uuid, SNAPSHOTS)
        yield opened


class Drive:
    """A drive's journal, which may be full."""

    def __init__(self, *lines: journal.Line) -> None:
        self.lines = list(lines)
        self.full = False

    def write(self, mark: journal.Mark, master: str, name: str) -> None:
        if self.full:
            raise NoSpace("full")
        self.lines.append(line(mark, name, master))

    def plug_in(self, ledger: Ledger) -> frozenset[pins.Name]:
        return pins.settle(ledger, RED.uuid, self.lines, self.write)


def test_a_pin_set_with_the_drive_in_the_safe_is_on_the_drive_after_the_next_plug(ledger) -> None:
    drive = Drive()
    ledger.pin(RED.uuid, "m", NAMES[0])
    assert drive.plug_in(ledger) == journal.pins(drive.lines) == {("m", NAMES[0])}
    assert ledger.pin_wishes(RED.uuid) == {}


def test_what_the_drive_knows_is_not_written_again(ledger) -> None:
    drive = Drive(line(PINNED, NAMES[0]))
    ledger.pin(RED.uuid, "m", NAMES[0])
    drive.plug_in(ledger)
    assert len(drive.lines) == 1


def test_a_pin_of_another_machine_is_respected_and_can_be_taken_away(ledger) -> None:
    drive = Drive(line(PINNED, NAMES[1]))
    assert drive.plug_in(ledger) == {("m", NAMES[1])}
    assert ledger.snapshots(RED.uuid)[1].pinned
    ledger.unpin(RED.uuid, "m", NAMES[1])
    assert drive.plug_in(ledger) == journal.pins(drive.lines) == frozenset()


def test_looking_writes_nothing(ledger) -> None:
    ledger.pin(RED.uuid, "m", NAMES[0])
    assert pins.seen(ledger, RED.uuid, [line(PINNED, NAMES[1])]) == {("m", NAMES[0]), ("m", NAMES[1])}
    assert ledger.pin_wishes(RED.uuid) == {("m", NAMES[0]): True}


def test_on_a_full_drive_a_pin_holds_and_is_written_the_next_time(ledger) -> None:
    drive = Drive()
    drive.full = True
    ledger.pin(RED.uuid, "m", NAMES[0])
    assert drive.plug_in(ledger) == {("m", NAMES[0])}
    assert (drive.lines, ledger.snapshots(RED.uuid)[0].pinned) == ([], True)
    drive.full = False
    drive.plug_in(ledger)
    assert journal.pins(drive.lines) == {("m", NAMES[0])}


def test_pins_outlive_the_ledger(tmp_path, ledger) -> None:
    drive = Drive()
    ledger.pin(RED.uuid, "m", NAMES[2])
    drive.plug_in(ledger)
    with Ledger.open(tmp_path / "new/ledger.sqlite") as rebuilt:
        rebuilt.enrol(RED)
        drive.plug_in(rebuilt)
        rebuilt.replace_snapshots(RED.uuid, SNAPSHOTS)
        assert [each.name for each in rebuilt.snapshots(RED.uuid) if each.pinned] == [NAMES[2]]


@given(st.lists(st.tuples(st.sampled_from(["pin", "unpin", "plug", "elsewhere"]), st.sampled_from(NAMES))))
def test_the_last_word_counts_whatever_came_in_between(tmp_path_factory, words) -> None:
    """`elsewhere` is another machine that pins while the drive is with it, told there at once."""
    drive, said = Drive(), dict.fromkeys(NAMES, False)
    with Ledger.open(tmp_path_factory.mktemp("pins") / "l/ledger.sqlite") as here:
        here.enrol(RED)
        here.replace_snapshots(RED.uuid, SNAPSHOTS)
        for what, name in words:
            if what in {"pin", "unpin"}:
                (here.pin if what == "pin" else here.unpin)(RED.uuid, "m", name)
                said[name] = what == "pin"
            drive.plug_in(here)
            if what == "elsewhere":
                drive.write(PINNED, "m", name)
                said[name] = True
        assert drive.plug_in(here) == {("m", name) for name, pinned in said.items() if pinned}
