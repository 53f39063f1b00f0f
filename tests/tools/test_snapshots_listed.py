"""The newest snapshot is seen although the folder was opened before it was made: a real Btrfs hides it."""

from __future__ import annotations

import os
from pathlib import Path

from flashback.core.command import Programs
from flashback.drive import layout
from flashback.tools import btrfs


def test_a_snapshot_made_since_the_folder_was_opened_is_listed(btrfs_image: Path, programs: Programs) -> None:
    btrfs.create_subvolume(programs, btrfs_image / "current")
    folder = btrfs_image / "snapshots"
    folder.mkdir()
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in ("20260102T030405Z", "20260103T030405Z"):
            btrfs.snapshot(programs, btrfs_image / "current", folder / name)
            assert layout.snapshot_names(opened)[-1] == name
    finally:
        os.close(opened)
