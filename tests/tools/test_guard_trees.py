"""The encryptors, wipers and normal days of tests/unit/test_guard_days.py on real trees, judged by whole runs."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import copying
from tests.conftest import mounted_btrfs
from tests.tools.test_guard_runs import ALICE, Machine, names
from tests.unit.test_guard_days import ATTACKS, DAYS, HOME, Tree

BEGAN = 1_700_000_000 * 10**9
HERE: Tree = dict(list(HOME.items())[::4])
"""Every fourth file of that home: 515 of all its kinds."""
FOUND = {
    attack: after for attack, change in ATTACKS.items() if "tiny" not in attack and len(after := change(HERE)) < 1500
}
ALLOWED = {day: after for day, (before, change) in DAYS.items() if before is HOME and len(after := change(HERE)) < 1500}


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """With `HERE` on red."""
    with tempfile.TemporaryDirectory(prefix="flashback-trees-") as name, contextlib.ExitStack() as opened:
        folder = Path(name)
        folder.chmod(0o755)
        mounting = mounted_btrfs(folder / "red", "400M")
        mount_point = next(mounting)
        opened.callback(next, mounting, None)
        drive = opened.enter_context(copying.open_drive(mount_point))
        machine = Machine(folder, {"red": replace(drive, known=replace(drive.known, name="red"))})
        become(machine.master, {}, HERE)
        assert machine.run().exit_code == 0
        yield machine


def become(master: Path, old: Tree, new: Tree) -> None:
    """From one tree to another, as little as is needed; everything is Alice's."""
    for path in old.keys() - new.keys():
        (master / path).unlink()
    for path, file in new.items():
        place = master / path
        if old.get(path) != file:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.content)
            os.utime(place, ns=(BEGAN + file.mtime, BEGAN + file.mtime))
            os.chown(place, ALICE, ALICE)
    for folder, folders, files in os.walk(master, topdown=False):
        if not folders and not files and Path(folder) != master:
            Path(folder).rmdir()
        else:
            os.chown(folder, ALICE, ALICE)


def judged(machine: Machine, after: Tree) -> set[str]:
    """By which guards a run over that tree would be held; the tree is then `HERE` again."""
    become(machine.master, HERE, after)
    last = machine.run(dry_run=True)
    become(machine.master, after, HERE)
    return set(names(last))


def test_every_encryptor_and_wiper_is_held(machine: Machine) -> None:
    held = {attack: judged(machine, after) for attack, after in FOUND.items()}
    assert [attack for attack, guards in held.items() if not guards & {"mass-change", "mass-deletion"}] == []


def test_no_normal_day_is_held(machine: Machine) -> None:
    held = {day: found for day, after in ALLOWED.items() if (found := judged(machine, after))}
    assert held == {}
