"""A drive whose LUKS header is gone is recognised by what surrounds it, and no other device is taken for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flashback.drive.headerless import match
from flashback.rotation.values import KnownDrive
from flashback.tools.block import BlockDevice
from tests.unit.drives import GREEN, RED

KNOWN = replace(RED, size=1 << 30, model="Stick", serial="S1", partition_uuid="aaaa-1")
PART = BlockDevice("/dev/sdx1", "sdx1", "part", (1 << 30) - (5 << 20), parent="/dev/sdx")
DISK = BlockDevice("/dev/sdx", "sdx", "disk", 1 << 30, model="Stick", serial="S1", children=(PART,))


def disk(disk: BlockDevice = DISK, *parts: BlockDevice) -> BlockDevice:
    return replace(disk, children=parts)


def found(*devices: BlockDevice, known: KnownDrive = KNOWN, ours: frozenset[str] = frozenset()) -> list[str]:
    return [each.device.path for each in match(devices, [known], set(ours))]


def test_it_is_known_by_the_uuid_of_its_partition() -> None:
    part = replace(PART, partition_uuid="aaaa-1")
    assert found(disk(replace(DISK, serial=""), part)) == ["/dev/sdx1"]


def test_it_is_known_by_the_name_of_its_partition() -> None:
    part = replace(PART, partition_label="flashback-red")
    assert found(disk(replace(DISK, serial=""), part)) == ["/dev/sdx1"]


def test_it_is_known_by_model_serial_number_and_size() -> None:
    assert found(DISK) == ["/dev/sdx1"]


def test_a_drive_on_a_whole_disk_is_the_disk() -> None:
    assert found(disk(DISK)) == ["/dev/sdx"]


@pytest.mark.parametrize(
    "other", [replace(DISK, serial="S2"), replace(DISK, model="Other"), replace(DISK, size=2 << 30)]
)
def test_another_disk_is_not_taken_for_it(other: BlockDevice) -> None:
    assert found(other) == []


def test_a_disk_without_a_serial_number_is_nobodys() -> None:
    assert found(replace(DISK, serial=""), known=replace(KNOWN, serial="")) == []


def test_of_a_disk_with_several_partitions_none_is_guessed() -> None:
    assert found(disk(DISK, PART, replace(PART, path="/dev/sdx2"))) == []


def test_a_device_on_which_another_drive_lies_is_not_taken_for_it() -> None:
    assert found(DISK, ours=frozenset({"/dev/sdx1"})) == []


def test_a_name_is_only_a_whole_name() -> None:
    assert found(disk(replace(DISK, serial=""), replace(PART, partition_label="flashback-reddish"))) == []


def test_the_sentence_names_the_device_the_drive_and_the_way_out() -> None:
    (gone,) = match([DISK], [KNOWN, GREEN], set())
    assert gone.sentence.startswith("/dev/sdx1 looks like red (by model, serial number and size)")
    assert gone.remedy == "flashback key header restore red"
