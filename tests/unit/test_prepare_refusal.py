"""Why a device must not be erased, a sentence for each reason."""

from __future__ import annotations

from typing import Any

import pytest

from flashback.prepare.refusal import system_disks, why_not
from flashback.tools import block
from tests.unit.block_devices import device


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block, "in_use", lambda _path: False)
    monkeypatch.setattr(block, "holders", lambda _path: ())


def test_nothing_speaks_against_a_free_disk(free: None) -> None:
    disk = device()
    assert why_not(disk, (disk,)) == ()


REASONS = [
    ({"mountpoints": ("/",)}, "it holds /, the running system"),
    ({"mountpoints": ("/mnt/x",)}, "it is mounted on /mnt/x"),
    ({"mountpoints": ("[SWAP]",), "fstype": "swap"}, "it is swap in use"),
    ({"fstype": "swap"}, "it is swap space"),
    ({"fstype": "LVM2_member"}, "it is a member of an LVM volume group"),
    ({"fstype": "linux_raid_member"}, "it is a member of a RAID array"),
    (
        {"fstype": "linux_raid_member", "children": (device("/dev/md0", kind="raid1"),)},
        "it is a member of a RAID array (md0)",
    ),
    ({"children": (device("/dev/mapper/luks-a", kind="crypt"),)}, "the mapping luks-a is open on it"),
    ({"children": (device("/dev/sdx1", kind="part", mountpoints=("/a",)),)}, "/dev/sdx1 is mounted on /a"),
    (
        {"children": (device("/dev/sdx1", kind="part", children=(device("/dev/mapper/m", kind="crypt"),)),)},
        "the mapping m is open on /dev/sdx1",
    ),
    ({"read_only": True}, "it is write-protected"),
    ({"size": 0}, "it has no medium"),
    ({"kind": "rom"}, "it is neither a disk nor a partition (rom)"),
]


@pytest.mark.parametrize(("facts", "reason"), REASONS, ids=[reason for _facts, reason in REASONS])
def test_a_device_in_use_is_refused_with_the_reason(facts: dict[str, Any], reason: str, free: None) -> None:
    disk = device(**facts)
    assert why_not(disk, (disk,)) == (reason,)


def test_a_free_partition_of_the_system_disk_is_refused(free: None) -> None:
    system = device("/dev/sdx1", kind="part", parent="/dev/sdx", mountpoints=("/boot",))
    spare = device("/dev/sdx2", kind="part", parent="/dev/sdx")
    disk = device(children=(system, spare))
    assert why_not(spare, (disk,)) == ("it is part of /dev/sdx, which holds /, the running system",)
    assert system_disks((disk,)) == ("/dev/sdx",)


def test_a_free_partition_beside_a_mounted_one_of_another_disk_is_allowed(free: None) -> None:
    other = device("/dev/sdx1", kind="part", parent="/dev/sdx", mountpoints=("/mnt",))
    spare = device("/dev/sdx2", kind="part", parent="/dev/sdx")
    disk = device(children=(other, spare))
    assert why_not(spare, (disk,)) == ()


def test_a_holder_that_lsblk_does_not_show_is_named(free: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block, "holders", lambda _path: ("dm-7",))
    disk = device()
    assert why_not(disk, (disk,)) == ("dm-7 stands on it",)


def test_a_device_that_the_kernel_refuses_is_refused_although_nobody_can_be_named(
    free: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block, "in_use", lambda _path: True)
    disk = device()
    assert why_not(disk, (disk,)) == ("the kernel gives it to nobody else",)
