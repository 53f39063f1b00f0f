"""Whole trees with everything in them, backed up over days and held against plain rsync's copy by other people's tools.

The trees and the comparison are those of benchmarks/copying.py --check, which does the same with 100,000 files.
"""

import tempfile
from pathlib import Path

import pytest

from benchmarks import copying, trees
from flashback.compare import spool
from flashback.config.values import Symlinks
from tests.conftest import mounted_btrfs

pytestmark = pytest.mark.tools


@pytest.fixture(autouse=True)
def many_pieces(monkeypatch):
    """So that several rsyncs work on the same directories at the same time."""
    monkeypatch.setattr(spool, "PIECE", 100)


@pytest.fixture
def place():
    """A directory that everybody may pass through, with two file systems in it: for the master and for the drive."""
    with tempfile.TemporaryDirectory(prefix="flashback-trees-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        mounts = [mounted_btrfs(folder / each, "1500M") for each in ("home", "drive")]
        try:
            yield folder, *map(next, mounts)
        finally:
            for each in mounts:
                next(each, None)


@pytest.mark.parametrize(
    ("symlinks", "owner"), [(Symlinks.FOLLOW, "nobody"), (Symlinks.EXTERNAL, "root"), (Symlinks.KEEP, "nobody")]
)
def test_after_every_day_the_copy_is_what_plain_rsync_makes_of_the_master(place, symlinks, owner):
    folder, home, mount_point = place
    root = bytes(home)
    tree = trees.plant(root + b"/master", root + b"/outside", files=1000, seed=len(symlinks), bytes_in_all=8_000_000)
    with copying.open_drive(mount_point) as drive:
        phases = copying.check_phases(tree, drive, folder, symlinks=symlinks, owner=owner, days=2, share=0.1)
        assert [(phase, wrong) for phase, wrong in phases if wrong] == []


def test_a_mebibyte_changed_in_a_large_file_takes_two_at_most(place):
    folder, home, mount_point = place
    figures = copying.mebibyte_changed(home, mount_point, folder, mebibytes=100)
    assert figures["allocated"] < 2 << 20
