"""A copy on the drive that a run cannot go on with: it is said what to do, nothing is written, and that helps."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import run
from tests.tools.test_guard_runs import Machine, machine  # noqa: F401 - a fixture


def plain(current: Path) -> None:
    current.rename(current.parent / "aside")
    shutil.copytree(current.parent / "aside", current)


def link(current: Path) -> None:
    current.rename(current.parent / "aside")
    current.symlink_to("aside")


def file(current: Path) -> None:
    current.rename(current.parent / "aside")
    current.write_text("no copy")


def read_only(current: Path) -> None:
    run("btrfs", "property", "set", current, "ro", "true")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (plain, "an ordinary directory and no Btrfs subvolume"),
        (link, "a link or a file"),
        (file, "a link or a file"),
        (read_only, "made read-only"),
    ],
)
def test_the_run_ends_before_its_first_write_and_says_what_to_do(
    machine: Machine,  # noqa: F811
    spoil: Callable[[Path], None],
    said: str,
) -> None:
    machine.write()
    assert machine.run().exit_code == 0
    current = machine.drives["red"].mount_point / "docs/current"
    spoil(current)
    machine.write(text=b"other words ")
    before = machine.journal()
    last = machine.run()
    assert (last.exit_code, last.result) == (10, "incomplete")
    assert last.error is not None
    assert said in last.error["what"]
    assert "rename docs/current to docs/aside" in last.next_step
    assert machine.journal() == before


def test_once_the_copy_was_put_aside_the_next_run_makes_a_new_one(machine: Machine) -> None:  # noqa: F811
    machine.write()
    assert machine.run().exit_code == 0
    machine.write(text=b"other words ")
    assert machine.run().exit_code == 0
    current = machine.drives["red"].mount_point / "docs/current"
    current.rename(current.parent / "aside")
    last = machine.run()
    assert (last.exit_code, last.result, machine.snapshots()) == (0, "complete", 1)
    assert machine.copied() == len(machine.files())
    machine.write(text=b"the third ")
    assert (machine.run().exit_code, machine.snapshots()) == (0, 2)
    assert os.path.isdir(current.parent / "aside")  # what somebody put there is not ours to remove
