"""What /sys says of a Btrfs, and what becomes of a scrub's error number."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from flashback.core.errors import DriveError, DriveGone, FlashbackError, NotFinished
from flashback.tools import btrfs

FSID = "d09e154a-b839-484f-b44c-e373f1823f5c"


@pytest.fixture
def sys_btrfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(btrfs, "SYS_BTRFS", tmp_path)
    home = tmp_path / FSID
    (home / "devinfo/1").mkdir(parents=True)
    (home / "devinfo/1/error_stats").write_text("write_errs 3\nread_errs 0\n")
    (home / "allocation").mkdir()
    (home / "allocation/global_rsv_size").write_text("7\n")
    (home / "devices/dm-0").mkdir(parents=True)
    (home / "devices/dm-0/size").write_text("2048\n")
    for kind, disk, total, used in (("data", 4096, 4096, 100), ("metadata", 8192, 4096, 50), ("system", 16, 8, 1)):
        (home / "allocation" / kind).mkdir(parents=True)
        for name, value in (("disk_total", disk), ("total_bytes", total), ("bytes_used", used)):
            (home / "allocation" / kind / name).write_text(f"{value}\n")
    return home


def test_error_counters_come_by_name(sys_btrfs: Path) -> None:
    assert btrfs.error_counts(FSID) == {"write_errs": 3, "read_errs": 0}


def test_a_file_system_that_is_gone_has_no_counters(sys_btrfs: Path) -> None:
    with pytest.raises(DriveGone):
        btrfs.error_counts("00000000-0000-0000-0000-000000000000")


def test_unallocated_space_is_what_no_kind_of_data_has_taken(sys_btrfs: Path) -> None:
    space = btrfs.space(sys_btrfs, FSID)
    assert (space.size, space.unallocated) == (2048 * 512, 2048 * 512 - 4096 - 8192 - 16)
    assert (space.data_total, space.data_used, space.metadata_total, space.metadata_used) == (4096, 100, 4096, 50)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ECANCELED, NotFinished), (errno.EINPROGRESS, DriveError), (errno.ENODEV, DriveGone),
     (errno.EIO, DriveGone), (errno.EROFS, DriveError)],
)  # fmt: skip
def test_a_failed_scrub_says_why(number: int, kind: type[FlashbackError]) -> None:
    scrub = btrfs.Scrub(0)
    scrub._error = number
    with pytest.raises(kind):
        scrub._judge()


def test_sync_of_a_wrong_descriptor_is_an_error() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        btrfs.sync(-1)
