"""Disks as values: what lsblk says, what a LUKS header says, and whether a device is still there."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashback.core import sysfs
from flashback.core.errors import DriveError, Missing
from flashback.tools import block
from tests.unit.block_devices import Answers, a_disk, device

MAGIC = b"LUKS\xba\xbe"
UUID = "6e9695b8-a925-4a8b-84bc-8df68e75f86a"


@pytest.fixture
def with_udev(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysfs, "udev_runs", lambda: True)


LSBLK = {
    "blockdevices": [
        {
            "path": "/dev/sda", "name": "sda", "type": "disk", "size": 629145600, "model": "Stick ", "serial": "2000",
            "tran": "usb", "rm": True, "hotplug": True, "ro": False, "fstype": None, "label": None, "uuid": None,
            "mountpoints": [None],
            "children": [
                {
                    "path": "/dev/sda1", "name": "sda1", "type": "part", "size": "623902720", "rm": "1", "ro": "0",
                    "fstype": "crypto_LUKS", "label": "flashback-red", "uuid": UUID, "mountpoints": [None],
                    "children": [
                        {"path": "/dev/mapper/x", "name": "x", "type": "crypt", "size": 1, "mountpoints": ["/mnt", None]}
                    ],
                }
            ],
        },
        {"path": None, "name": "nonsense"},
    ]
}  # fmt: skip


def test_without_lsblk_nothing_can_be_seen_and_that_is_said() -> None:
    with pytest.raises(
        Missing, match="it cannot be seen what is plugged in: lsblk exited with 3: program: it went wrong"
    ):
        block.scan(Answers({"lsblk": 3}))


def test_a_tree_is_read_from_lsblk_whatever_the_types_of_its_numbers(with_udev: None) -> None:
    (disk,) = block.scan(Answers({"lsblk": LSBLK}))
    (part,) = disk.children
    (mapping,) = part.children
    assert (disk.model, disk.transport, disk.removable, disk.hotplug, disk.fstype) == ("Stick", "usb", True, True, "")
    assert (part.size, part.removable, part.read_only, part.parent) == (623902720, True, False, "/dev/sda")
    assert (mapping.parent, mapping.mountpoints) == ("/dev/sda1", ("/mnt",))


@pytest.mark.parametrize("answer", [b"", b"not json", b"[]", {}, {"blockdevices": {}}, {"blockdevices": [1, None]}])
def test_an_answer_without_devices_is_no_devices(answer: Any, with_udev: None) -> None:
    assert block.scan(Answers({"lsblk": answer})) == ()


def test_devices_are_walked_parents_first(with_udev: None) -> None:
    devices = block.scan(Answers({"lsblk": LSBLK}))
    assert [each.name for each in block.walk(devices)] == ["sda", "sda1", "x"]


def test_the_disk_of_a_mapping_is_found_through_its_parents(with_udev: None) -> None:
    devices = block.scan(Answers({"lsblk": LSBLK}))
    assert block.disk_of(devices[0].children[0].children[0], devices).path == "/dev/sda"


def test_without_udev_the_content_is_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysfs, "udev_runs", lambda: False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    rows = {"blockdevices": [{"path": "/dev/loop9", "name": "loop9", "type": "loop", "size": 5}]}
    (found,) = block.scan(Answers({"lsblk": rows, "blkid": b"TYPE=ext4\nLABEL=a\\ b\nUUID=u\n"}))
    assert (found.fstype, found.label, found.uuid) == ("ext4", "a b", "u")


def test_a_device_that_cannot_be_probed_is_still_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysfs, "udev_runs", lambda: False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    rows = {"blockdevices": [{"path": "/dev/loop9", "name": "loop9", "type": "loop", "size": 5}]}
    (found,) = block.scan(Answers({"lsblk": rows, "blkid": 1}))
    assert found.fstype == ""


# --- LUKS headers


def header(
    version: int = 2, uuid: bytes = UUID.encode(), label: bytes = b"flashback-red", magic: bytes = MAGIC
) -> bytes:
    raw = bytearray(4096)
    raw[:8] = magic + version.to_bytes(2, "big")
    raw[24:72] = label.ljust(48, b"\0")
    raw[168:208] = uuid.ljust(40, b"\0")
    return bytes(raw)


def read(tmp_path: Path, raw: bytes) -> tuple[int, str, str] | None:
    (tmp_path / "device").write_bytes(raw)
    return block.luks_header(str(tmp_path / "device"))


def test_a_luks2_header_gives_version_uuid_and_label(tmp_path: Path) -> None:
    assert read(tmp_path, header()) == (2, UUID, "flashback-red")


def test_a_luks1_header_has_no_label(tmp_path: Path) -> None:
    assert read(tmp_path, header(version=1)) == (1, UUID, "")


def test_a_uuid_that_is_none_is_not_believed(tmp_path: Path) -> None:
    assert read(tmp_path, header(uuid=b"../../etc/passwd")) == (2, "", "flashback-red")


@pytest.mark.parametrize("raw", [b"", b"LUKS", MAGIC, header()[:300], header(magic=b"SKUL\xba\xbe"), bytes(4096)])
def test_what_is_no_header_is_none(raw: bytes, tmp_path: Path) -> None:
    assert read(tmp_path, raw) is None


def test_a_device_that_is_not_there_has_no_header() -> None:
    assert block.luks_header("/dev/does-not-exist") is None


@given(rest=st.binary(max_size=5000))
def test_no_header_whatever_its_bytes_stops_us(rest: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile"
    path.write_bytes(MAGIC + rest)
    found = block.luks_header(str(path))
    assert found is None or (isinstance(found[0], int) and isinstance(found[2], str))


def test_the_header_counts_more_than_what_udev_remembers(tmp_path: Path, with_udev: None) -> None:
    (tmp_path / "sda1").write_bytes(header())
    row = {"path": str(tmp_path / "sda1"), "name": "sda1", "type": "part", "size": 4096, "fstype": "crypto_LUKS",
           "uuid": "old", "label": "old"}  # fmt: skip
    disk = {"path": "/dev/none", "name": "none", "type": "disk", "size": 4096, "model": "M", "serial": "S", "ro": True,
            "fstype": "ext4", "children": [row, row]}  # fmt: skip
    (found,) = block.luks_volumes(Answers({"lsblk": {"blockdevices": [disk]}}))
    assert (found.uuid, found.label, found.version, found.disk) == (UUID, "flashback-red", 2, "/dev/none")
    assert (found.model, found.serial, found.read_only) == ("M", "S", True)


def test_a_volume_that_udev_knows_but_we_may_not_read_is_listed_without_version(with_udev: None) -> None:
    row = {"path": "/dev/none1", "name": "none1", "type": "part", "size": 9, "fstype": "crypto_LUKS", "uuid": UUID}
    (found,) = block.luks_volumes(Answers({"lsblk": {"blockdevices": [row]}}))
    assert (found.version, found.uuid) == (0, UUID)


# --- presence


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return a_disk(tmp_path, monkeypatch)


def test_a_partition_is_still_there_as_long_as_its_disk_was_not_exchanged(disk: Path) -> None:
    seen = block.presence("/dev/sdx1")
    assert seen == block.Presence("8:17", 7)
    assert block.still_there(seen)
    (disk / "diskseq").write_text("8")
    assert not block.still_there(seen)


def test_a_device_whose_number_is_gone_is_not_there(disk: Path, tmp_path: Path) -> None:
    seen = block.presence("/dev/sdx1")
    (tmp_path / "dev/block/8:17").unlink()
    assert not block.still_there(seen)


def test_presence_of_nothing_is_an_error(disk: Path) -> None:
    with pytest.raises(DriveError, match="there is no device"):
        block.presence("/dev/sdy")


def test_holders_of_a_disk_are_looked_for_on_its_partitions_too(disk: Path) -> None:
    assert block.holders("/dev/sdx") == ("dm-0",)
    assert block.holders("/dev/sdy") == ()


def test_a_partition_on_a_write_protected_disk_is_read_only(disk: Path) -> None:
    assert not block.read_only("/dev/sdx1")
    (disk / "ro").write_text("1\n")
    assert block.read_only("/dev/sdx1")


def test_find_follows_links(tmp_path: Path) -> None:
    (tmp_path / "sdx").touch()
    (tmp_path / "by-id").symlink_to(tmp_path / "sdx")
    disk_ = replace(device(), path=str(tmp_path / "sdx"))
    assert block.find((disk_,), str(tmp_path / "by-id")) is disk_
    assert block.find((disk_,), "/dev/other") is None
