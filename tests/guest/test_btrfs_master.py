"""A master on Btrfs with the real command: read from a snapshot that nobody else sees, and nothing of it is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import mounted_btrfs, run
from tests.guest.conftest import Stick
from tests.guest.machine import Machine, equal, until


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield from mounted_btrfs(tmp_path / "home", "300M")


def reading(machine: Machine) -> dict[str, object]:
    (plan,) = (event["plan"] for event in machine.events() if event["event"] == "planned")
    return plan["masters"]["documents"]["reading"]


def test_a_master_on_btrfs_is_backed_up_from_snapshots_of_which_nothing_is_left(
    tmp_path: Path, home: Path, stick: Stick
) -> None:
    machine = Machine(tmp_path / "machine")
    machine.init(stick.device)
    master = home / "documents"
    (master / "folder/deep").mkdir(parents=True)
    (master / "folder/file").write_bytes(b"one")
    machine.back_up_only(master)
    assert reading(machine) == {
        "snapshot": True,
        "changes_only": False,
        "why": None,
    }
    (master / "folder/deep/new").write_bytes(b"new")
    (master / "folder/file").rename(master / "folder/renamed")
    assert reading(machine) == {"snapshot": True, "changes_only": True, "why": None}
    with machine.opened(stick.device) as drive:
        assert equal(master, drive / "documents/current") == ""

    (master / "big").write_bytes(os.urandom(20 << 20))
    running = machine.start("run", "--json", "--passphrase-file", str(machine.secret))
    until(running, '"copy"')
    running.send_signal(signal.SIGKILL)
    running.communicate()
    folder = home / ".flashback-snapshots"
    assert len(list(folder.glob("run-*"))) == 1
    assert str(master) not in run("findmnt", "--noheadings", "--output", "TARGET")
    machine.run()
    assert len(list(folder.iterdir())) == 1
    with machine.opened(stick.device) as drive:
        assert equal(master, drive / "documents/current") == ""
