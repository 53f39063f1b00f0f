"""lsblk, LUKS headers, O_EXCL and /sys on real loop devices."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flashback.core.command import Programs
from flashback.core.errors import DriveError
from flashback.tools import block
from tests.conftest import run
from tests.tools.conftest import UUID, with_luks


def found(programs: Programs, path: str) -> block.BlockDevice:
    device = block.find(block.scan(programs), path)
    assert device is not None
    return device


def test_a_loop_device_is_seen_with_its_size(loop: str, programs: Programs) -> None:
    device = found(programs, loop)
    assert (device.kind, device.size, device.fstype, device.parent) == ("loop", 64 << 20, "", None)


def test_a_luks_volume_is_recognised_without_udev(loop: str, programs: Programs) -> None:
    with_luks(loop)
    assert found(programs, loop).fstype == "crypto_LUKS"
    (volume,) = [each for each in block.luks_volumes(programs) if each.path == loop]
    assert (volume.uuid, volume.label, volume.version, volume.disk) == (UUID, "flashback-red", 2, loop)
    assert volume.diskseq > 0


def test_a_blank_device_is_not_in_use(loop: str) -> None:
    assert not block.in_use(loop)


def test_a_mounted_device_is_in_use_until_it_is_unmounted(mounted: Path, loop: str) -> None:
    assert block.in_use(loop)
    run("umount", mounted)
    assert not block.in_use(loop)


def test_a_blank_device_is_not_write_protected(loop: str) -> None:
    assert not block.read_only(loop)


def test_a_write_protected_device_is_seen_as_such(write_protected: str) -> None:
    assert block.read_only(write_protected)


def test_another_image_on_the_same_loop_device_is_another_presence(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, 1 << 20)
    loop = run("losetup", "--find", "--show", tmp_path / "a").strip()
    try:
        seen = block.presence(loop)
        assert block.still_there(seen)
        run("losetup", "--detach", loop)
        run("losetup", loop, tmp_path / "b")
        assert not block.still_there(seen)
    finally:
        run("losetup", "--detach", loop)


def test_what_was_written_is_in_the_image_after_a_flush(loop: str, tmp_path: Path) -> None:
    with open(loop, "r+b", buffering=0) as device:
        device.write(b"flushed".ljust(4096, b"."))
        block.flush(loop)
        assert (tmp_path / "disk.img").read_bytes()[:7] == b"flushed"


@pytest.mark.parametrize("ask", [block.in_use, block.presence])
def test_what_is_no_device_is_an_error(ask: Callable[[str], object]) -> None:
    with pytest.raises(DriveError):
        ask("/dev/does-not-exist")
