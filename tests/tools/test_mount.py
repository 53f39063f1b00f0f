"""Real mounts on loop devices: options, who keeps them busy, what a namespace hides."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from flashback.core.command import Programs
from flashback.core.errors import DriveError, StillHeld
from flashback.tools import mount
from tests.conftest import run


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[str]:
    """A loop device with a Btrfs on it."""
    image = tmp_path / "disk.img"
    image.touch()
    os.truncate(image, 200 << 20)
    run("mkfs.btrfs", "-q", image)
    device = run("losetup", "--find", "--show", image).strip()
    yield device
    run("losetup", "--detach", device)


@pytest.fixture
def mounted(loop: str, tmp_path: Path, programs: Programs) -> Iterator[Path]:
    target = tmp_path / "a b"
    target.mkdir()
    mount.mount(programs, loop, target, options=["compress=zstd:3"])
    yield target
    mount.unmount(programs, target)


def the(target: Path) -> mount.MountPoint:
    (found,) = [each for each in mount.mounts() if each.target == str(target)]
    return found


def test_a_mount_has_the_options_that_keep_us_safe(mounted: Path) -> None:
    assert {"nosuid", "nodev", "noexec", "noatime", "compress=zstd:3"} <= {*the(mounted).options}
    assert not the(mounted).read_only


def test_a_read_only_mount_is_seen_as_such(loop: str, tmp_path: Path, programs: Programs) -> None:
    target = tmp_path / "ro"
    target.mkdir()
    mount.mount(programs, loop, target, read_only=True)
    assert the(target).read_only
    mount.unmount(programs, target)


def test_mounts_of_a_device_are_found_by_its_number(mounted: Path, loop: str) -> None:
    status = os.stat(loop)
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    assert [each.target for each in mount.mounts_of(number)] == [str(mounted)]
    assert mount.mounts_of("250:250") == ()


def test_unmounting_twice_is_harmless(mounted: Path, programs: Programs) -> None:
    mount.unmount(programs, mounted)
    mount.unmount(programs, mounted)
    assert not mount.is_mounted(mounted)


def test_a_mount_reached_through_a_link_is_not_taken_for_unmounted(
    mounted: Path, programs: Programs, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(mounted.parent)
    mount.unmount(programs, tmp_path / "link" / mounted.name)
    assert not mount.is_mounted(mounted)


def test_what_is_no_file_system_cannot_be_mounted(loop: str, tmp_path: Path, programs: Programs) -> None:
    run("wipefs", "-aq", loop)
    (tmp_path / "mnt").mkdir()
    with pytest.raises(DriveError, match=f"{loop} cannot be mounted: .*wrong fs type"):
        mount.mount(programs, loop, tmp_path / "mnt")


# --- who is in the way: ourselves, so that no process must be started and waited for


def refused(programs: Programs, target: Path) -> str:
    with pytest.raises(StillHeld) as caught:
        mount.unmount(programs, target, patience=0)
    assert mount.is_mounted(target)
    return str(caught.value)


def test_a_file_open_in_a_subvolume_names_its_process(mounted: Path, programs: Programs) -> None:
    run("btrfs", "subvolume", "create", mounted / "sub")
    with (mounted / "sub/file").open("w"):
        assert f"(process {os.getpid()})" in refused(programs, mounted)


def test_a_working_directory_names_its_process(
    mounted: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mounted)
    assert f"(process {os.getpid()})" in refused(programs, mounted)
    monkeypatch.undo()


def test_a_mapped_file_names_its_process_although_it_is_not_open_any_more(mounted: Path) -> None:
    """By libc's own mmap: Python's keeps the file open."""
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    (mounted / "file").write_bytes(b"x" * 4096)
    with (mounted / "file").open("rb") as file:
        address = libc.mmap(
            None, ctypes.c_size_t(4096), mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), ctypes.c_long(0)
        )
    try:
        assert [each.pid for each in mount.users_of(mounted)] == [os.getpid()]
    finally:
        libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(4096))


def test_nobody_uses_a_mount_that_only_lies_there(mounted: Path) -> None:
    assert mount.users_of(mounted) == ()
    assert mount.users_of(mounted / "nothing") == ()


# --- a namespace of its own


def in_a_child(work: object) -> int:
    """Run `work` in a forked child; its exit code, 99 for an exception. The child must never come back into pytest."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            work()  # type: ignore[operator]
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_what_is_mounted_in_a_private_namespace_is_seen_by_nobody_else_and_ends_with_it(
    loop: str, tmp_path: Path, programs: Programs
) -> None:
    target = tmp_path / "private"
    target.mkdir()

    def work() -> None:
        mount.private_namespace()
        mount.mount(programs, loop, target)
        (target / "file").touch()
        outside = Path("/proc/1/mountinfo").read_text()
        assert mount.is_mounted(target)
        assert str(target) not in outside
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_a_child(work) == -signal.SIGKILL
    assert not mount.is_mounted(target)
    run("btrfs", "check", "--readonly", loop)  # refuses while it is mounted anywhere


def test_a_drive_whose_first_superblock_is_bad_is_read_by_the_command_of_the_page(
    loop: str, programs: Programs, tmp_path: Path
) -> None:
    place, rescued = tmp_path / "mnt", tmp_path / "rescued"
    for folder in (place, rescued):
        folder.mkdir()
    run("mount", loop, place)
    (place / "letter.txt").write_text("Dear reader")
    run("umount", place)
    with open(loop, "r+b") as device:
        device.seek(64 << 10)
        device.write(b"rot" * 1000)
    with pytest.raises(DriveError) as caught:
        mount.mount(programs, loop, place, read_only=True)
    page = Path(__file__).resolve().parents[2] / str(caught.value.hint).rpartition(" ")[2]
    (command,) = [line for line in page.read_text("utf-8").splitlines() if line.startswith("btrfs restore")]
    run(*command.replace("/dev/mapper/flashback", loop).replace("/home/alice/rescued", str(rescued)).split())
    assert (rescued / "letter.txt").read_text() == "Dear reader"
