"""Switching a USB drive off, on a /sys that is made of files: only the drive itself, and never a card reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from flashback.core import sysfs
from flashback.core.errors import FlashbackError
from flashback.drive import power_off
from flashback.tools import block, usb


class Bus:
    """A hub with one stick on it, as /sys has it."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.hub = folder / "devices/pci/usb1/1-1"
        self.write(self.hub, idVendor="0bda", bDeviceClass="09", removable="removable", remove="")
        self.stick = self.device("1-1.2", "Ultra Fit")
        self.disk = self.unit(self.stick, "sda", "0:0:0:0", model="Ultra Fit")
        self.there = True
        self.removed: list[str] = []
        patch.setattr(sysfs, "home", lambda path: next(folder.glob(f"devices/**/block/{Path(path).name}"), None))
        patch.setattr(block, "presence", lambda _path: block.Presence("8:0", 7))
        patch.setattr(block, "in_use", lambda _path: False)
        patch.setattr(block, "still_there", lambda _presence: not self.off)

    @property
    def off(self) -> bool:
        return (self.stick / "remove").read_text() == "1"

    def write(self, place: Path, **files: str) -> Path:
        place.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (place / name).write_text(text)
        return place

    def device(self, name: str, product: str) -> Path:
        place = self.hub / name
        self.write(place, idVendor="0781", bDeviceClass="00", removable="removable", product=product, remove="")
        self.write(place / f"{name}:1.0", bInterfaceClass="08")
        return place

    def unit(self, device: Path, name: str, number: str, *, model: str = "", removable: str = "1") -> Path:
        place = device / f"{device.name}:1.0/host0/target0:0:0/{number}"
        self.write(place, vendor="Generic", model=model)
        disk = self.write(place / "block" / name, removable=removable)
        (disk / "device").symlink_to(place)
        return disk


@pytest.fixture
def bus(tmp_path, monkeypatch) -> Bus:
    return Bus(tmp_path, monkeypatch)


def test_a_stick_is_switched_off(bus) -> None:
    assert power_off.switch_off("/dev/sda") == ""
    assert bus.off


def test_the_hub_on_which_it_hangs_stays_on(bus) -> None:
    power_off.switch_off("/dev/sda")
    assert (bus.hub / "remove").read_text() == ""


def test_a_neighbour_on_the_same_hub_stays_on(bus) -> None:
    neighbour = bus.device("1-1.3", "Keyboard")
    power_off.switch_off("/dev/sda")
    assert (neighbour / "remove").read_text() == ""


def test_a_disk_on_another_bus_stays_on(bus, tmp_path) -> None:
    bus.write(tmp_path / "devices/pci/ata1/block/sdb", removable="0")
    assert power_off.switch_off("/dev/sdb") == "it is not on USB"


def test_a_device_that_is_not_there_stays_on(bus) -> None:
    assert power_off.switch_off("/dev/sdz") == "it is not on USB"


def test_a_reader_with_another_slot_stays_on(bus) -> None:
    bus.unit(bus.stick, "sdb", "0:0:0:1")
    assert power_off.switch_off("/dev/sda") == "it has other slots or disks"
    assert not bus.off


@pytest.mark.parametrize(
    "model",
    [
        "SD/MMC",
        "USB3.0 CRW   -SD",
        "Card Reader",
        "Multi-Card",
        "microSD",
        "MassStorageClass",
        "Flash Reader",
        "sd card",
    ],
)
def test_a_reader_with_one_slot_stays_on_since_it_would_not_see_the_next_card(bus, model) -> None:
    (bus.disk / "device/model").write_text(model)
    assert power_off.switch_off("/dev/sda") == "it is a card reader"
    assert not bus.off


@pytest.mark.parametrize("model", ["SanDisk Ultra", "Portable SSD T7", "Cruzer Blade", "DataTraveler 3.0", "SDSSDE60"])
def test_a_stick_or_a_disk_is_not_taken_for_a_reader(bus, model) -> None:
    (bus.disk / "device/model").write_text(model)
    assert power_off.switch_off("/dev/sda") == ""


def test_a_disk_whose_medium_does_not_come_out_is_no_reader_whatever_it_is_called(bus) -> None:
    (bus.disk / "device/model").write_text("Card Disk")
    (bus.disk / "removable").write_text("0")
    assert power_off.switch_off("/dev/sda") == ""


def test_what_is_built_in_stays_on(bus) -> None:
    (bus.stick / "removable").write_text("fixed")
    assert power_off.switch_off("/dev/sda") == "it is built in"


def test_a_device_that_is_more_than_a_disk_stays_on(bus) -> None:
    bus.write(bus.stick / "1-1.2:1.1", bInterfaceClass="03")
    assert power_off.switch_off("/dev/sda") == "it is more than a disk"


def test_a_device_with_devices_behind_it_stays_on(bus) -> None:
    bus.write(bus.stick / "1-1.2.1", idVendor="046d", bDeviceClass="00")
    assert power_off.switch_off("/dev/sda") == "other devices hang on it"


def test_a_disk_that_is_in_use_stays_on(bus, monkeypatch) -> None:
    monkeypatch.setattr(block, "in_use", lambda _path: True)
    assert power_off.switch_off("/dev/sda") == "it is in use"
    assert not bus.off


def test_a_kernel_that_cannot_do_it_is_told(bus) -> None:
    (bus.stick / "remove").unlink()
    assert power_off.switch_off("/dev/sda") == "the kernel cannot take it off the bus"


def test_a_kernel_that_refuses_is_an_error(bus, monkeypatch) -> None:
    def refuse(_path: Path, _text: str, _encoding: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(FlashbackError, match="Input/output error"):
        usb.switch_off(usb.device_of("/dev/sda"))


def test_a_device_that_does_not_go_is_an_error(bus, monkeypatch) -> None:
    monkeypatch.setattr(power_off, "WITHIN", -1.0)
    monkeypatch.setattr(block, "still_there", lambda _presence: True)
    with pytest.raises(FlashbackError, match="still in the kernel's list"):
        power_off.switch_off("/dev/sda")
