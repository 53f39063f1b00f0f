"""The lines of mountinfo."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flashback.tools import mount

BTRFS = b"31 22 0:27 / /mnt/x rw,noatime shared:5 - btrfs /dev/mapper/fb rw,ssd,subvol=/"


def test_a_line_gives_source_target_and_options() -> None:
    found = mount.parsed(BTRFS)
    assert found is not None
    assert (found.mount_id, found.device, found.source, found.target) == (31, "0:27", "/dev/mapper/fb", "/mnt/x")
    assert (found.fstype, found.options, found.read_only) == ("btrfs", ("rw", "noatime", "ssd", "subvol=/"), False)


def test_octal_escapes_and_foreign_bytes_in_a_name_are_undone() -> None:
    found = mount.parsed(b"31 22 0:27 / /a\\040b\\012\\134040\xff rw - btrfs /dev/x rw")
    assert found is not None
    assert os.fsencode(found.target) == b"/a b\n\\040\xff"


@pytest.mark.parametrize("line", [BTRFS.replace(b"rw,noatime", b"ro,noatime"), BTRFS.replace(b"rw,ssd", b"ro,ssd")])
def test_a_mount_is_read_only_by_itself_or_by_its_file_system(line: bytes) -> None:
    found = mount.parsed(line)
    assert found is not None
    assert found.read_only


@pytest.mark.parametrize("line", [b"", b"nonsense", b"31 22 0:27 / /mnt rw", b"a b c d e f - g h i", b"1 2 - x y z"])
def test_what_is_no_line_of_mountinfo_is_left_out(line: bytes) -> None:
    assert mount.parsed(line) is None


def test_mounts_of_a_device_are_found_by_number_and_through_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/mountinfo").write_bytes(BTRFS + b"\n40 22 8:1 / /e rw - ext4 /dev/sda1 rw\n")
    monkeypatch.setattr(mount, "PROC", tmp_path)
    monkeypatch.setattr(mount, "_number_of", {"/dev/mapper/fb": "254:0"}.get)
    assert [each.target for each in mount.mounts_of("254:0")] == ["/mnt/x"]
    assert [each.target for each in mount.mounts_of("8:1")] == ["/e"]
