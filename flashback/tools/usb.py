"""USB as the kernel accounts for it in /sys: the device that a disk belongs to, and switching that off.

Source of the names: Documentation/ABI/testing/sysfs-bus-usb (`remove`, `removable`) and /sys/devices/.../usbN/N-P.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flashback.core import sysfs
from flashback.core.errors import FlashbackError

_DISKS: Final = "*:*/host*/target*/*:*:*:*/block/*"
"""Below a device: interface, SCSI host, target, unit, disk; the same for usb-storage and uas."""


@dataclass(frozen=True, slots=True)
class UsbDevice:
    """One device on a bus, of which the disks are `disks` (their names). `classes` are those of its interfaces, as two
    hexadecimal digits; `fixed`: the firmware says that nobody can pull it; `words` are what it says of itself, and so
    untrusted; `medium_comes_out` as its disks say.
    """

    home: Path
    device_class: str
    classes: frozenset[str]
    disks: tuple[str, ...]
    fixed: bool
    words: str
    medium_comes_out: bool
    has_devices: bool
    can_be_removed: bool


def device_of(disk: str) -> UsbDevice | None:
    """The USB device that a disk (its path in /dev) is part of; `None` on another bus. Nothing is opened."""
    home = sysfs.home(disk)
    if home is None:
        return None
    for place in home.parents:
        if (place / "idVendor").exists() and (place / "bDeviceClass").exists():
            return _described(place)
    return None


def _described(place: Path) -> UsbDevice:
    disks = sorted(place.glob(_DISKS))
    said = [sysfs.read(place / name) for name in ("manufacturer", "product")]
    said += [sysfs.read(disk / "device" / name) for disk in disks for name in ("vendor", "model")]
    return UsbDevice(
        home=place,
        device_class=sysfs.read(place / "bDeviceClass"),
        classes=frozenset(sysfs.read(each / "bInterfaceClass") for each in place.glob("*:*") if each.is_dir()),
        disks=tuple(disk.name for disk in disks),
        fixed=sysfs.read(place / "removable") == "fixed",
        words=" ".join(each for each in said if each),
        medium_comes_out=any(sysfs.read(disk / "removable") == "1" for disk in disks),
        has_devices=any(place.glob("*-*/idVendor")),
        can_be_removed=(place / "remove").exists(),
    )


def switch_off(device: UsbDevice) -> None:
    """Take the device off the bus until it is plugged in anew; most switch their light off. Raises `FlashbackError`.

    As udisks does it (udiskslinuxdrive.c, power-off). The kernel has the disk write out its cache before.
    """
    try:
        (device.home / "remove").write_text("1", "ascii")
    except OSError as problem:
        raise FlashbackError(f"the kernel did not take it off the bus: {problem.strerror}") from problem
