"""Switching a drive's device off after it was closed and flushed, where that touches nothing else."""

from __future__ import annotations

import re
import time
from typing import Final

from flashback.core.errors import FlashbackError
from flashback.tools import block, usb

WITHIN: Final = 5.0
"""Seconds in which the kernel forgets a device that was taken off the bus."""
_STORAGE: Final = "08"
_HUB: Final = "09"
_READER: Final = re.compile(r"card|reader|\b(?:sd|mmc|sdhc|sdxc|micro ?sd|crw|mass-?storage ?class)\b", re.IGNORECASE)


def why_not(device: usb.UsbDevice, disk: str) -> str:
    """Why the device must stay on, in words for the journal; empty where it may be switched off. Pure.

    `disk` is the name (`sda`) of the one that is meant. What stays on: whatever is more than this one disk, and a card
    reader, which would not notice the next card.
    """
    if device.device_class == _HUB or device.has_devices:
        return "other devices hang on it"
    if device.fixed:
        return "it is built in"
    if device.disks != (disk,):
        return "it has other slots or disks"
    if device.classes != {_STORAGE}:
        return "it is more than a disk"
    if device.medium_comes_out and _READER.search(device.words):
        return "it is a card reader"
    return "" if device.can_be_removed else "the kernel cannot take it off the bus"


def switch_off(path: str) -> str:
    """Switch off the disk at `path` (`/dev/sda`), which has been closed and flushed. Returns an empty text once it is
    gone from the kernel's list, else why it is still on: for the journal. Raises `FlashbackError` where it was tried
    in vain.
    """
    device = usb.device_of(path)
    if device is None:
        return "it is not on USB"
    if reason := why_not(device, path.rpartition("/")[2]):
        return reason
    presence = block.presence(path)
    if block.in_use(path):
        return "it is in use"
    usb.switch_off(device)
    deadline = time.monotonic() + WITHIN
    while block.still_there(presence):
        if time.monotonic() > deadline:
            raise FlashbackError("it was taken off the bus, and is still in the kernel's list")
        time.sleep(0.05)
    return ""
