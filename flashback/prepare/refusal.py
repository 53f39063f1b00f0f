"""Why a device must not be erased: what it is, what lies on it, and who uses it.

Decided over devices as values; two facts are asked for: what stands on the device, and whether it is in use.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from flashback.tools import block
from flashback.tools.block import BlockDevice

SYSTEM_MOUNTS: Final = frozenset({"/", "/boot", "/boot/efi", "/efi", "/usr", "/var", "/home"})
RUNNING_SYSTEM: Final = "/, the running system"
MEMBERS: Final = {
    "LVM2_member": "a member of an LVM volume group",
    "LVM1_member": "a member of an LVM volume group",
    "zfs_member": "a member of a ZFS pool",
    "bcache": "a part of a bcache",
    "mpath_member": "a path to a multipath device",
    "drbd": "a DRBD device",
    "swap": "swap space",
}


def why_not(device: BlockDevice, devices: Sequence[BlockDevice]) -> tuple[str, ...]:
    """Why this device must not be erased, a sentence each; empty when nothing speaks against it.

    `devices` is the whole tree. Raises as `block.in_use` does.
    """
    reasons = [*_unfit(device), *_held_by_system(device, devices)]
    for each in block.walk((device,)):
        reasons.extend(_uses(each, "it" if each is device else each.path))
    known = {
        name for each in block.walk((device,)) for name in (each.name, os.path.basename(os.path.realpath(each.path)))
    }
    reasons.extend(f"{name} stands on it" for name in block.holders(device.path) if name not in known)
    if block.in_use(device.path) and not reasons:
        reasons.append("the kernel gives it to nobody else")
    return tuple(dict.fromkeys(reasons))


def _unfit(device: BlockDevice) -> Iterator[str]:
    if device.kind not in {"disk", "part", "loop"}:
        yield f"it is neither a disk nor a partition ({device.kind or 'of unknown kind'})"
    if not device.size:
        yield "it has no medium"
    if device.read_only:
        yield "it is write-protected"


def _held_by_system(device: BlockDevice, devices: Sequence[BlockDevice]) -> Iterator[str]:
    """A free partition beside the running system's is not one to erase by a slip of the finger either."""
    disk = block.disk_of(device, devices)
    if disk.path != device.path and disk.path in system_disks(devices):
        yield f"it is part of {disk.path}, which holds {RUNNING_SYSTEM}"


def _uses(device: BlockDevice, name: str) -> Iterator[str]:
    for where in device.mountpoints:
        if where == "/":
            yield f"{name} holds {RUNNING_SYSTEM}"
        elif where == "[SWAP]":
            yield f"{name} is swap in use"
        else:
            yield f"{name} is mounted on {where}"
    if device.fstype.endswith("_raid_member"):
        arrays = [child.name for child in device.children if child.kind.startswith("raid")]
        yield f"{name} is a member of a RAID array" + (f" ({', '.join(arrays)})" if arrays else "")
    elif device.fstype in MEMBERS and "[SWAP]" not in device.mountpoints:
        yield f"{name} is {MEMBERS[device.fstype]}"
    for child in device.children:
        if child.kind == "crypt":
            yield f"the mapping {child.name} is open on {name}"


def system_disks(devices: Iterable[BlockDevice]) -> tuple[str, ...]:
    """Paths of the disks that hold a file system which the running system needs, or its swap."""
    needed = {*SYSTEM_MOUNTS, "[SWAP]"}
    return tuple(disk.path for disk in devices if any(needed & {*each.mountpoints} for each in block.walk((disk,))))
