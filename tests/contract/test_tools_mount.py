"""What mount and umount are told, and what their failures mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from flashback.core.errors import DriveError, StillHeld
from flashback.tools import mount
from tests.contract.conftest import FakePrograms

LINE = "31 22 0:27 / {} rw,noatime - btrfs /dev/mapper/fb rw\n"


def test_a_drive_is_always_mounted_without_suid_devices_programs_and_atime(fake_programs: FakePrograms) -> None:
    fake_programs.write("mount")
    mount.mount(fake_programs.programs, "/dev/x", Path("/mnt/x"), options=["compress=zstd:3"], read_only=True)
    options = "nosuid,nodev,noexec,noatime,compress=zstd:3,ro"
    assert fake_programs.argvs() == [["-t", "btrfs", "-o", options, "--", "/dev/x", "/mnt/x"]]


def test_a_failed_mount_is_an_error_with_mounts_words(fake_programs: FakePrograms) -> None:
    words = b"mount: /mnt/x: can't read superblock on /dev/x.\n       dmesg(1) may have more information.\n"
    fake_programs.write("mount", err=words, code=32)
    with pytest.raises(DriveError, match=r"/dev/x cannot be mounted: .*can't read superblock on /dev/x$"):
        mount.mount(fake_programs.programs, "/dev/x", Path("/mnt/x"))


def test_a_file_system_that_is_mounted_from_a_pulled_drive_is_explained(fake_programs: FakePrograms) -> None:
    fake_programs.write("mount", err=b"mount: /mnt/x: mount(2) system call failed: File exists.\n", code=32)
    with pytest.raises(DriveError) as caught:
        mount.mount(fake_programs.programs, "/dev/x", Path("/mnt/x"))
    assert "pulled" in caught.value.hint


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "self").mkdir()
    monkeypatch.setattr(mount, "PROC", tmp_path)
    (tmp_path / "self/mountinfo").write_text(LINE.format("/mnt/x"))
    return tmp_path / "self/mountinfo"


def test_unmounting_what_is_not_mounted_asks_nobody(fake_programs: FakePrograms, proc: Path) -> None:
    fake_programs.write("umount", code=32)
    mount.unmount(fake_programs.programs, Path("/mnt/y"))
    assert fake_programs.calls() == []


def test_a_mount_that_is_busy_for_a_moment_is_tried_again(fake_programs: FakePrograms, proc: Path) -> None:
    fake_programs.write(
        "umount",
        f"""
        once = {str(proc)!r} + ".once"
        if os.path.exists(once):
            open({str(proc)!r}, "w").close()
            sys.exit(0)
        open(once, "w").close()
        """,
        err=b"umount: /mnt/x: target is busy.\n",
        code=32,
    )
    mount.unmount(fake_programs.programs, Path("/mnt/x"))
    assert fake_programs.argvs() == [["--", "/mnt/x"]] * 2


def test_a_mount_that_stays_busy_is_still_held(fake_programs: FakePrograms, proc: Path) -> None:
    fake_programs.write("umount", err=b"umount: /mnt/x: target is busy.\n", code=32)
    with pytest.raises(StillHeld, match="/mnt/x is still mounted"):
        mount.unmount(fake_programs.programs, Path("/mnt/x"), patience=0)
