"""Deleting subvolumes by descriptor, on a real Btrfs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flashback.core.command import Programs
from flashback.core.errors import DriveError
from flashback.tools import btrfs, btrfs_delete
from tests.conftest import run


@pytest.fixture
def top(btrfs_image: Path) -> Iterator[int]:
    descriptor = os.open(btrfs_image, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def number(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return btrfs.subvolume(descriptor).id
    finally:
        os.close(descriptor)


def test_a_deleted_subvolume_is_gone_and_gives_back_what_it_held(
    btrfs_image: Path, programs: Programs, top: int
) -> None:
    btrfs.create_subvolume(programs, btrfs_image / "old")
    (btrfs_image / "old/f").write_bytes(os.urandom(1 << 20))
    old = number(btrfs_image / "old")
    assert not btrfs_delete.is_deleted(top, old)
    btrfs_delete.delete(top, "old")
    assert not (btrfs_image / "old").exists()
    assert btrfs_delete.pending(top) == (old,)
    btrfs.sync(top)
    btrfs_delete.clean_up(top)
    until = time.monotonic() + 20
    while not btrfs_delete.is_deleted(top, old):
        assert time.monotonic() < until
        time.sleep(0.02)
    btrfs.sync(top)
    assert btrfs_delete.pending(top) == ()
    assert run("btrfs", "subvolume", "list", "-d", btrfs_image) == ""
    assert btrfs.space(btrfs_image, btrfs.filesystem_uuid(top)).data_used < 1 << 20


def test_a_link_to_a_subvolume_is_left_alone_with_what_it_leads_to(
    btrfs_image: Path, programs: Programs, top: int
) -> None:
    btrfs.create_subvolume(programs, btrfs_image / "real")
    (btrfs_image / "link").symlink_to("real")
    with pytest.raises(DriveError, match="it is no subvolume"):
        btrfs_delete.delete(top, "link")
    assert (btrfs_image / "link").is_symlink()
    assert (btrfs_image / "real").is_dir()


def test_a_directory_a_file_and_nothing_are_refused(btrfs_image: Path, top: int) -> None:
    (btrfs_image / "folder").mkdir()
    (btrfs_image / "file").touch()
    for name, why in {"folder": "no subvolume", "file": "no subvolume", "nothing": "No such file"}.items():
        with pytest.raises(DriveError, match=why):
            btrfs_delete.delete(top, name)
    assert (btrfs_image / "folder").is_dir()
