"""lsblk, wipefs and O_EXCL on real loop devices."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flashback.core.command import Programs
from flashback.core.errors import DriveError
from flashback.tools import block
from tests.conftest import run

UUID = "6e9695b8-a925-4a8b-84bc-8df68e75f86a"


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[str]:
    """A blank loop device of 64 MiB."""
    (tmp_path / "disk.img").touch()
    os.truncate(tmp_path / "disk.img", 64 << 20)
    device = run("losetup", "--find", "--show", tmp_path / "disk.img").strip()
    yield device
    run("losetup", "--detach", device)


def with_luks(device: str) -> None:
    run(
        *("cryptsetup", "luksFormat", "-q", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"),
        *("--label", "flashback-red", "--uuid", UUID, "--key-file=-", device),
        given=b"x",
    )


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


def test_a_blank_device_is_free(loop: str, programs: Programs) -> None:
    devices = block.scan(programs)
    assert not block.in_use(loop)
    assert block.why_not(found(programs, loop), devices) == ()
    assert block.contents(programs, loop) == ()


def test_a_mounted_device_is_in_use_and_says_where(loop: str, programs: Programs, tmp_path: Path) -> None:
    run("mkfs.ext4", "-q", loop)
    (tmp_path / "mnt").mkdir()
    run("mount", loop, tmp_path / "mnt")
    try:
        assert block.in_use(loop)
        assert block.why_not(found(programs, loop), block.scan(programs)) == (f"it is mounted on {tmp_path}/mnt",)
    finally:
        run("umount", tmp_path / "mnt")
    assert not block.in_use(loop)


def test_swap_is_refused(loop: str, programs: Programs) -> None:
    run("mkswap", loop)
    assert block.why_not(found(programs, loop), block.scan(programs)) == ("it is swap space",)


def test_contents_name_every_signature(loop: str, programs: Programs) -> None:
    with_luks(loop)
    assert {(each.kind, each.label, each.uuid, each.offset) for each in block.contents(programs, loop)} == {
        ("crypto_LUKS", "flashback-red", UUID, 0),
        ("crypto_LUKS", "flashback-red", UUID, 0x4000),
    }


def test_the_gpt_that_is_written_is_what_other_tools_read(tmp_path: Path, programs: Programs) -> None:
    """On an image file: this kernel may not know partitions, so the waiting is left to the guest floor."""
    image = tmp_path / "disk.img"
    image.touch()
    os.truncate(image, 64 << 20)
    block.APPEARS_WITHIN, before = 0.0, block.APPEARS_WITHIN
    try:
        with pytest.raises(DriveError, match="did not show itself"):
            block.partition(programs, str(image), name="flashback-red")
    finally:
        block.APPEARS_WITHIN = before
    dumped = run("sfdisk", "--dump", image)
    assert "label: gpt" in dumped
    assert "start=        8192" in dumped
    assert "type=CA7D7CCB-63ED-4C53-861C-1742536059CC" in dumped
    assert 'name="flashback-red"' in dumped


def test_a_write_protected_device_is_seen_as_such(loop: str, programs: Programs) -> None:
    assert not block.read_only(loop)
    run("blockdev", "--setro", loop)
    try:
        assert block.read_only(loop)
        assert block.why_not(found(programs, loop), block.scan(programs)) == ("it is write-protected",)
    finally:
        run("blockdev", "--setrw", loop)  # it would outlast the test: the next image on this device inherits it


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
