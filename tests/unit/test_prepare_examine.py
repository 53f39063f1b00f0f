"""A device is looked at before it becomes a drive, and nothing overrides a refusal."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from flashback.core.command import Programs
from flashback.core.errors import NotFinished, UsageError
from flashback.prepare import examine as room
from flashback.prepare.examine import SMALLEST, Examined, examine
from flashback.tools import block, partition
from flashback.tools.block import BlockDevice
from flashback.tools.partition import Signature
from tests.unit.drives import GREEN, RED, UUID, VOLUME

PART = BlockDevice("/dev/sdx1", "sdx1", "part", 1 << 29, label="PHOTOS\x1b[2J", parent="/dev/sdx")
STICK = BlockDevice(
    "/dev/sdx", "sdx", "disk", 1 << 30, model="Stick", serial="S1", transport="usb", removable=True, children=(PART,)
)


@pytest.fixture
def look(monkeypatch):
    """`look(device, signatures=(), reasons=(), volumes=())`: the device as these tools would show it."""
    monkeypatch.setattr(room, "block_device", os.path.normpath)

    def look(device=STICK, *, path="/dev/sdx", signatures=(), reasons=(), volumes=()) -> Examined:
        monkeypatch.setattr(block, "scan", lambda _run: (device,))
        monkeypatch.setattr(room, "why_not", lambda _device, _devices: reasons)
        monkeypatch.setattr(partition, "contents", lambda _run, _path: signatures)
        monkeypatch.setattr(block, "luks_volumes", lambda _run: volumes)
        monkeypatch.setattr(block, "presence", lambda _path: block.Presence("8:16", 7))
        return examine(Programs(), path, [RED, GREEN])

    return look


def signature(device: str, kind: str) -> Signature:
    return Signature(device, kind, "", "", 0)


def test_a_device_in_use_is_refused_with_every_reason(look) -> None:
    with pytest.raises(UsageError, match="in use: it is mounted on /mnt; it is swap in use"):
        look(reasons=("it is mounted on /mnt", "it is swap in use"))


def test_signs_of_an_earlier_use_are_told_how_to_go(look) -> None:
    with pytest.raises(UsageError) as caught:
        look(reasons=("it is swap space",))
    assert "`wipefs --all" in caught.value.hint


def test_a_device_that_nobody_knows_is_refused(look) -> None:
    with pytest.raises(UsageError, match="not a disk or partition"):
        look(path="/dev/sdq")


def test_a_write_protected_device_is_refused(look) -> None:
    with pytest.raises(NotFinished, match="write-protected"):
        look(replace(STICK, read_only=True))


def test_a_device_that_is_too_small_is_refused(look) -> None:
    with pytest.raises(UsageError, match="too small"):
        look(replace(STICK, size=SMALLEST - 1))


def test_the_smallest_that_will_do_will_do(look) -> None:
    assert look(replace(STICK, size=SMALLEST)).device.size == SMALLEST


def test_a_device_on_which_nothing_was_recognised_is_blank(look) -> None:
    assert look().is_blank


def test_what_is_on_it_is_listed_once_with_label_and_size(look) -> None:
    found = look(
        signatures=(signature("/dev/sdx1", "vfat"), signature("/dev/sdx1", "vfat"), signature("/dev/sdx", "gpt"))
    )
    assert found.contents == ('/dev/sdx1: vfat "PHOTOS\\x1b[2J", 512 MiB', "/dev/sdx: gpt")


def test_no_control_character_of_the_device_reaches_the_terminal(look) -> None:
    hostile = replace(STICK, model="\x1b[2J", serial="\x07", transport="\x9b")
    found = look(hostile, signatures=(signature("/dev/sdx1", "vfat"),))
    assert all(character.isprintable() for line in found.lines() for character in line)


def test_a_drive_of_the_rotation_is_recognised_by_its_uuid(look) -> None:
    assert look(volumes=(VOLUME,)).known is RED


def test_a_drive_of_the_rotation_elsewhere_is_not_this_one(look) -> None:
    assert look(volumes=(replace(VOLUME, path="/dev/sdy1", disk="/dev/sdy"),)).known is None


def test_another_luks_volume_is_no_drive_of_the_rotation(look) -> None:
    assert look(volumes=(replace(VOLUME, uuid=UUID.replace("1", "2")),)).known is None


@pytest.mark.parametrize(
    ("device", "carried"),
    [
        (STICK, True),
        (replace(STICK, removable=False), True),
        (replace(STICK, removable=False, transport="sata"), False),
        (replace(STICK, removable=False, transport="sata", hotplug=True), True),
        (replace(STICK, removable=False, transport=""), False),
        (replace(STICK, removable=False, transport="mmc"), True),
    ],
)
def test_what_looks_as_if_it_were_carried_about(look, device, carried) -> None:
    assert look(device).carries_drive is carried


def test_a_person_sees_model_serial_and_size(look) -> None:
    assert look().lines()[0] == "/dev/sdx: Stick, serial S1, usb, 1.0 GiB"


def test_a_script_sees_the_same(look) -> None:
    assert look().as_json() == {
        "device": "/dev/sdx",
        "model": "Stick",
        "serial": "S1",
        "transport": "usb",
        "size": 1 << 30,
        "contents": [],
    }
