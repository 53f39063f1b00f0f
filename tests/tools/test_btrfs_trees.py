"""What deleting snapshots frees, as predicted from the trees, against what Btrfs then really frees."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from flashback.core.command import Programs
from flashback.core.errors import DriveError
from flashback.tools import btrfs, btrfs_delete, btrfs_trees
from tests.conftest import run

MIB = 1 << 20


def device_of(mounted: Path) -> str:
    return run("findmnt", "-n", "-o", "SOURCE", mounted).strip()


def number(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return btrfs.subvolume(descriptor).id
    finally:
        os.close(descriptor)


def used(mounted: Path) -> tuple[int, int]:
    """Bytes of data and of metadata, on the medium."""
    run("btrfs", "filesystem", "sync", mounted)
    descriptor = os.open(mounted, os.O_RDONLY)
    try:
        space = btrfs.space(mounted, btrfs.filesystem_uuid(descriptor))
    finally:
        os.close(descriptor)
    return space.data_used, space.metadata_used


def delete(*paths: Path) -> None:
    top = os.open(paths[0].parent, os.O_RDONLY)
    try:
        numbers = [number(path) for path in paths]
        for path in paths:
            btrfs_delete.delete(top, path.name)
        btrfs.sync(top)
        btrfs_delete.clean_up(top)
        until = time.monotonic() + 20
        while not all(btrfs_delete.is_deleted(top, each) for each in numbers):
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        os.close(top)


def predicted(mounted: Path, *paths: Path) -> tuple[btrfs_trees.Freed, ...]:
    run("btrfs", "filesystem", "sync", mounted)
    return btrfs_trees.freed(device_of(mounted), [number(path) for path in paths]).freed


@pytest.fixture
def history(btrfs_image: Path, programs: Programs) -> tuple[Path, list[Path]]:
    """Eight snapshots of a copy in which files come, change in place, grow, are renamed and go; with a reflink."""
    dice = random.Random(7)
    current, snapshots = btrfs_image / "current", []
    btrfs.create_subvolume(programs, current)
    for state in range(8):
        for _ in range(12):
            (current / f"big{dice.randrange(30)}").write_bytes(dice.randbytes(dice.randrange(4096, 2 * MIB)))
        for _ in range(100):
            (current / f"small{dice.randrange(600)}").write_bytes(dice.randbytes(dice.randrange(0, 9000)))
        for path in sorted(current.glob("big*"))[:3]:
            with path.open("r+b") as file:
                file.seek(dice.randrange(4096))
                file.write(dice.randbytes(20000))
        for path in dice.sample(sorted(current.iterdir()), 12):
            path.unlink()
        if snapshots:
            old = min(snapshots[0].glob("big*"))
            run("cp", "--reflink=always", old, current / f"mended{state}")
        snapshots.append(btrfs_image / f"s{state}")
        btrfs.snapshot(programs, current, snapshots[-1])
    return btrfs_image, snapshots


@pytest.mark.parametrize("which", [(0,), (3,), (7,), (0, 1, 2), (5, 2, 4), (6, 0), tuple(range(8))])
def test_what_was_predicted_comes_free(
    history: tuple[Path, list[Path]], programs: Programs, which: tuple[int, ...]
) -> None:
    mounted, snapshots = history
    paths = [snapshots[each] for each in which]
    expected = predicted(mounted, *paths)
    data, metadata = used(mounted)
    delete(*paths)
    data_after, metadata_after = used(mounted)
    assert sum(each.data for each in expected) == data - data_after
    # The trees of extents and of checksums shrink too, by what only the kernel decides.
    assert abs(sum(each.metadata for each in expected) - (metadata - metadata_after)) < 0.01 * data + 256 * 1024


def test_each_of_several_is_set_down_what_it_frees_after_those_before_it(
    history: tuple[Path, list[Path]], programs: Programs
) -> None:
    mounted, snapshots = history
    order = [snapshots[each] for each in (2, 0, 1, 5)]
    for path, expected in zip(order, predicted(mounted, *order), strict=True):
        before = used(mounted)[0]
        delete(path)
        assert before - used(mounted)[0] == expected.data


def test_compressed_and_sparse_files_count_what_they_take(make_btrfs, programs: Programs) -> None:
    mounted = make_btrfs("300M")
    run("mount", "-o", "remount,compress=zstd:3", mounted)
    btrfs.create_subvolume(programs, mounted / "current")
    (mounted / "current/text").write_bytes(b"all work and no play " * 400_000)
    with (mounted / "current/holes").open("wb") as file:
        file.truncate(50 * MIB)
        file.seek(30 * MIB)
        file.write(os.urandom(MIB))
    btrfs.snapshot(programs, mounted / "current", mounted / "s")
    for path in (mounted / "current").iterdir():
        path.unlink()
    expected = predicted(mounted, mounted / "s")
    before = used(mounted)[0]
    delete(mounted / "s")
    assert expected[0].data == before - used(mounted)[0] < 4 * MIB


def test_how_far_data_is_compressed_is_seen_even_where_nothing_comes_free(make_btrfs, programs: Programs) -> None:
    mounted = make_btrfs("300M")
    run("mount", "-o", "remount,compress=zstd:3", mounted)
    btrfs.create_subvolume(programs, mounted / "current")
    (mounted / "current/text").write_bytes(b"all work and no play " * 400_000)
    btrfs.snapshot(programs, mounted / "current", mounted / "s")
    run("btrfs", "filesystem", "sync", mounted)
    measured = btrfs_trees.freed(device_of(mounted), [number(mounted / "s")])
    assert measured.freed[0].data == 0
    assert measured.ratio is not None
    assert measured.ratio < 0.1


def test_a_snapshot_that_shares_everything_frees_no_data(btrfs_image: Path, programs: Programs) -> None:
    btrfs.create_subvolume(programs, btrfs_image / "current")
    (btrfs_image / "current/f").write_bytes(os.urandom(MIB))
    btrfs.snapshot(programs, btrfs_image / "current", btrfs_image / "s")
    assert predicted(btrfs_image, btrfs_image / "s")[0].data == 0


def test_a_file_system_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    image = tmp_path / "none"
    image.touch()
    os.truncate(image, MIB)
    with pytest.raises(DriveError, match="there is no Btrfs"):
        btrfs_trees.freed(str(image), [256])
    with pytest.raises(DriveError, match="No such file"):
        btrfs_trees.freed(str(tmp_path / "absent"), [256])
