"""A ledger that is deleted and made anew from three drives says what it said: real runs, real Btrfs, `drive adopt`."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from benchmarks import copying
from flashback.config.values import Config, Master
from flashback.core.errors import DriveState
from flashback.drive import identity
from flashback.drive.status import take_stock
from flashback.prepare import adopt
from flashback.prepare.contents import contents_of
from flashback.prepare.foreign import Case, Found
from flashback.rotation.ledger import Ledger
from flashback.tools import block, cryptsetup
from tests.conftest import mounted_btrfs
from tests.tools.test_guard_runs import Machine, lose

ONLY_HERE = {
    "drives": {"on_plug", "passphrase", "standing"},
}
"""What the drives know nothing of (docs/how-to/manage-the-rotation.md)."""
TABLES_ONLY_HERE = {"holds", "decisions", "reminders", "plugs", "proofs", "pin_wishes", "header_changes"}
MEASURED = {"spaces", "errors"}
"""What is read from the drive whenever somebody looks: nobody's memory."""


def tables(ledger: Path) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table that the drives know too."""
    connection = sqlite3.connect(ledger)
    connection.row_factory = sqlite3.Row
    names = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    found = {}
    for name in sorted(names - TABLES_ONLY_HERE - MEASURED):
        rows = [dict(row) for row in connection.execute(f"SELECT * FROM {name}")]
        kept = [{key: row[key] for key in row if key not in ONLY_HERE.get(name, set())} for row in rows]
        found[name] = sorted(kept, key=repr)
    connection.close()
    return found


@pytest.fixture
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="flashback-rebuilt-") as name, contextlib.ExitStack() as opened:
        folder = Path(name)
        folder.chmod(0o755)
        drives = {}
        for each in ("red", "green", "blue"):
            mounting = mounted_btrfs(folder / each, "150M")
            mount_point = next(mounting)
            opened.callback(next, mounting, None)
            drive = opened.enter_context(copying.open_drive(mount_point))
            drives[each] = replace(drive, known=replace(drive.known, name=each))
        machine = Machine(folder, drives)
        for each, place in (("red", "pocket"), ("green", "home: drawer"), ("blue", "offsite")):
            known = replace(drives[each].known, filesystem_uuid=drives[each].filesystem, place=place)
            machine.drives[each] = replace(drives[each], known=known)
            with machine.ledger() as ledger:
                ledger.change(known.uuid, place=place, filesystem_uuid=known.filesystem_uuid)
        yield machine


def life(machine: Machine) -> None:
    """Runs on all three, one of them with a scrub, one held, one with a pin, one with nothing to do."""
    machine.write(30)
    for day in range(3):
        for drive in ("red", "green", "blue"):
            (machine.master / "diary").write_text(f"day {day} on {drive}")
            assert machine.run(drive, scrub=drive == "green" and day == 1).exit_code == 0
    with machine.ledger() as ledger:
        red = machine.drives["red"].known.uuid
        ledger.pin(red, "docs", ledger.snapshots(red)[0].name)
    assert machine.run("red").exit_code == 0
    assert machine.run("blue").result == "nothing-to-do"
    lose(machine, 25)
    assert machine.run("green").exit_code == 13
    assert machine.run("green", allowed=("mass-deletion",)).exit_code == 0
    assert machine.run("blue").exit_code == 0
    assert machine.run("red").exit_code == 0


def adopted(machine: Machine, name: str) -> None:
    """What `drive adopt` does once the drive is open."""
    drive = machine.drives[name]
    known = replace(drive.known, name="?", place="", filesystem_uuid="")
    found = Found(drive.volume, Case.UNKNOWN, known, slots=1, memory_kib=0)

    class Session:
        state, safe_to_remove = DriveState.CLOSED, True

    with (
        machine.ledger() as ledger,
        patch.object(adopt, "keep_header"),
        patch.object(adopt, "check_identity"),
    ):
        root = os.open(drive.mount_point, os.O_RDONLY | os.O_DIRECTORY)  # plugged in anew: see `layout.snapshot_names`
        contents = contents_of(replace(drive, root=root))
        os.close(root)
        adopt._take_in(machine.context(), ledger, Session(), found, contents, adopt.AdoptOptions())


def status(machine: Machine) -> dict[str, Any]:
    config = Config(machine.state / "no.yaml", (Master("docs", machine.master),))
    with (
        machine.ledger() as ledger,
        patch.object(block, "luks_volumes", return_value=()),
        patch.object(block, "scan", return_value=()),
        patch.object(cryptsetup, "mappings_of", return_value=()),
    ):
        return take_stock(machine.context(), ledger, config).as_json()


@pytest.mark.parametrize("order", [("red", "green", "blue"), ("blue", "green", "red")])
def test_a_ledger_that_was_deleted_comes_back_identical_from_three_drives(machine: Machine, order) -> None:
    life(machine)
    now = machine.now
    before, said = tables(machine.state / "ledger.sqlite"), status(machine)
    held = [row["run_id"] for row in before["runs"] if row["result"] == "held"]
    assert len(held) == 1
    assert before["pins"]
    (machine.state / "ledger.sqlite").unlink()
    Ledger.open(machine.state / "ledger.sqlite").close()
    for name in order:
        adopted(machine, name)
    machine.now = now
    after, says = tables(machine.state / "ledger.sqlite"), status(machine)
    for name in ("runs", "run_masters"):  # a run that was held wrote nothing to any drive
        before[name] = [row for row in before[name] if row["run_id"] not in held]
    assert set(after) == set(before)
    for name in before:
        assert after[name] == before[name], name
    free = [[drive.pop("free") for drive in each["drives"]] for each in (said, says)]
    assert says == said
    assert free[1] == pytest.approx(free[0], rel=0.01)


def test_what_a_drive_says_of_itself_is_what_the_ledger_said_at_its_last_run(machine: Machine) -> None:
    machine.write(3)
    machine.run("blue")
    with machine.ledger() as ledger:
        known = ledger.drive("blue")
    assert known is not None
    identity.keep(replace(machine.drives["blue"], known=known), machine="here")
    assert contents_of(machine.drives["blue"]).marker.place == "offsite"
