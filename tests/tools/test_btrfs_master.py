"""A master on Btrfs: read from a snapshot, and only where Btrfs says that something was written.

Each sequence backs the same master up twice onto one drive: as `docs`, resting on what is known, and as `oracle`, which
walks and compares everything. Both must come to the same, and, where everything can be read, to the master itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flashback.backup.markers import OURS
from flashback.backup.source import memory
from flashback.config.values import Btrfs, Rule, Symlinks
from flashback.tools import btrfs, btrfs_changes, btrfs_delete, mount
from tests.conftest import mounted_btrfs, run
from tests.tools.test_catalogue_runs import Meddler, Rig, settings_of, tree_of
from tests.tools.test_copy_random import Gardener

NEW_MOUNTS = 0x20000


@contextlib.contextmanager
def own_namespace() -> Iterator[None]:
    here, before = os.getcwd(), os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    mount.private_namespace()
    try:
        yield
    finally:
        assert ctypes.CDLL(None).setns(before, NEW_MOUNTS) == 0
        os.close(before)
        os.chdir(here)


@pytest.fixture
def rig() -> Iterator[Rig]:
    with (
        tempfile.TemporaryDirectory(prefix="flashback-btrfs-") as name,
        own_namespace(),
        contextlib.ExitStack() as opened,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        mounts = [mounted_btrfs(folder / each, "600M") for each in ("home", "drive")]
        for each in mounts:
            opened.callback(next, each, None)
        home, mount_point = map(next, mounts)
        rig = Rig(folder, home, mount_point)
        opened.callback(rig.held.close)
        yield rig


def reading(rig: Rig, **how) -> dict[str, object]:
    """How a run read the master."""
    (plan,) = rig.back_up(**how).plan.masters
    return plan.reading


NARROW = {"snapshot": True, "changes_only": True, "why": None}


@pytest.mark.parametrize("seed", range(6))
def test_after_every_run_the_copy_equals_the_master(rig: Rig, seed: int) -> None:
    gardener = Gardener(rig.master, seed)
    gardener.work(60)
    rig.back_up()
    narrow = 0
    for _turn in range(12):
        gardener.work(gardener.random.choice([0, 1, 3, 15]))
        report = rig.back_up()
        assert not report.remarks
        narrow += report.plan.masters[0].reading == NARROW
        assert rig.wrong() == ""
    assert narrow >= 8
    assert rig.still_to_do() == {}


def across(rig: Rig, meddler: Meddler, outside: Meddler) -> None:
    """Something moves into the master or out of it, within its subvolume, or is linked to from there."""
    one, other = (meddler, outside) if meddler.random.random() < 0.5 else (outside, meddler)
    what, place = one.one("fdl"), other.place()
    if os.path.lexists(place):
        return
    way = meddler.random.choice(["move", "move", "hard", "absolute", "relative"])
    if way == "move":
        os.rename(what, place)
    elif way == "hard" and not os.path.isdir(what):
        os.link(what, place, follow_symlinks=False)
    elif way == "absolute":
        os.symlink(outside.one("fd"), meddler.place() + b"~")
    elif way == "relative":
        link = meddler.place() + b"~"
        os.symlink(os.path.relpath(outside.one("fd"), os.path.dirname(link)), link)


@pytest.mark.parametrize(
    ("seed", "owner", "symlinks", "rules"),
    [
        *((seed, "root", True, False) for seed in range(20, 23)),
        *((seed, "nobody", False, False) for seed in range(30, 33)),
        *((seed, "nobody", True, True) for seed in range(40, 43)),
    ],
)
def test_what_is_left_out_of_a_walk_is_as_the_copy_has_it(rig: Rig, seed, owner, symlinks, rules) -> None:
    rig.settings = replace(rig.settings, owner=owner, symlinks=random.Random(seed).choice(list(Symlinks)))
    (rig.master.parent / "elsewhere").mkdir()
    meddler, outside = Meddler(rig.master, seed, hides=True), Meddler(rig.master.parent / "elsewhere", seed + 1)
    meddler.work(80)
    outside.work(20)
    for turn in range(10):
        rig.back_up()
        rig.back_up("oracle", full=True)
        assert tree_of(rig) == [], turn
        assert rig.still_to_do() == {}, turn
        meddler.work(meddler.random.choice([0, 1, 3, 15]))
        outside.work(2)
        with contextlib.suppress(FileExistsError):
            across(rig, meddler, outside)
        if meddler.random.random() < 0.3:
            settings_of(rig, meddler.random, symlinks=symlinks, rules=rules)
