"""What the other tests of this floor stand on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.conftest import Held, run


def test_a_btrfs_image_is_an_empty_btrfs(btrfs_image: Path) -> None:
    assert run("stat", "-f", "-c", "%T", btrfs_image).strip() == "btrfs"
    assert list(btrfs_image.iterdir()) == []


def test_several_images_lie_side_by_side(make_btrfs: Callable[[str], Path]) -> None:
    assert make_btrfs("120M") != make_btrfs("120M")


def test_a_mount_that_is_left_behind_is_seen_and_released(
    btrfs_image: Path, tmp_path: Path, held: Callable[[], Held]
) -> None:
    before = held()
    (tmp_path / "left").mkdir()
    run("mount", "--bind", btrfs_image, tmp_path / "left")
    assert held().more_than(before) == [f"mount {tmp_path}/left"]
    held().release(before)
    assert held().more_than(before) == []
