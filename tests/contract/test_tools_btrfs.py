"""What mkfs.btrfs and btrfs are told, and what their failures mean."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flashback.core.errors import DriveError, FlashbackError, NoSpace
from flashback.tools import btrfs
from tests.contract.conftest import FakePrograms


@pytest.fixture
def device(tmp_path: Path) -> str:
    (tmp_path / "image").touch()
    os.truncate(tmp_path / "image", 256 << 20)
    return str(tmp_path / "image")


@pytest.mark.parametrize(
    ("listing", "more"),
    [(b"mixed-bg\nextref\n", []), (b"mixed-bg\nblock-group-tree - x\n", ["-O", "^block-group-tree"])],
)
def test_a_feature_that_old_kernels_lack_is_switched_off_where_it_is_known(
    listing: bytes, more: list[str], fake_programs: FakePrograms, device: str
) -> None:
    fake_programs.write("mkfs.btrfs", f"if 'list-all' in argv: err.write({listing!r})")
    btrfs.make_filesystem(fake_programs.programs, device)
    expected = ["-q", "-f", "--csum", "blake2", "-m", "dup", "-d", "single", *more, "-L", "Backup", device]
    assert fake_programs.argvs()[1:] == [expected]


def test_a_device_that_is_too_small_is_refused_before_anything_is_written(
    fake_programs: FakePrograms, device: str
) -> None:
    fake_programs.write("mkfs.btrfs")
    os.truncate(device, 100 << 20)
    with pytest.raises(DriveError, match="too small: Btrfs needs 109 MiB"):
        btrfs.make_filesystem(fake_programs.programs, device)
    assert len(fake_programs.calls()) == 1


@pytest.mark.parametrize(
    ("words", "kind"),
    [(b"ERROR: cannot snapshot 'a': No space left on device", NoSpace), (b"ERROR: Read-only file system", DriveError)],
)
def test_a_failed_snapshot_says_why(
    words: bytes, kind: type[FlashbackError], fake_programs: FakePrograms, tmp_path: Path
) -> None:
    fake_programs.write("btrfs", err=words, code=1)
    with pytest.raises(kind, match="the snapshot s1 cannot be made") as caught:
        btrfs.snapshot(fake_programs.programs, tmp_path, tmp_path / "s1")
    assert type(caught.value) is kind


def test_a_snapshot_is_never_made_inside_something_of_its_name(fake_programs: FakePrograms, tmp_path: Path) -> None:
    fake_programs.write("btrfs")
    (tmp_path / "s1").symlink_to("nowhere")
    with pytest.raises(DriveError, match="something of that name"):
        btrfs.snapshot(fake_programs.programs, tmp_path, tmp_path / "s1")
    assert fake_programs.calls() == []


def test_snapshots_are_read_only(fake_programs: FakePrograms, tmp_path: Path) -> None:
    fake_programs.write("btrfs")
    run = fake_programs.programs
    btrfs.create_subvolume(run, tmp_path / "current")
    btrfs.snapshot(run, tmp_path / "current", tmp_path / "s1")
    assert [" ".join(argv).replace(str(tmp_path), "M") for argv in fake_programs.argvs()] == [
        "subvolume create M/current",
        "subvolume snapshot -r M/current M/s1",
    ]
