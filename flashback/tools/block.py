"""What block devices there are, and how they are: lsblk, blkid, LUKS headers and the kernel's own account in /sys.

Everything read from a device, its label included, is untrusted: it is parsed with care and never believed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from flashback.core import sysfs
from flashback.core.command import Command, CommandFailed, ProgramMissing, Runner
from flashback.core.errors import DriveError, DriveGone, Missing
from flashback.core.spoken import json_object, text_at

COLUMNS: Final = "PATH,NAME,TYPE,SIZE,MODEL,SERIAL,TRAN,RM,HOTPLUG,RO,FSTYPE,LABEL,UUID,PARTUUID,PARTLABEL,MOUNTPOINTS"
LUKS: Final = "crypto_LUKS"
_BLKFLSBUF: Final = 0x1261  # linux/fs.h
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class BlockDevice:
    """One device as lsblk shows it. `kind` is its TYPE (disk, part, loop, crypt, lvm, raid1 ...), `size` in bytes.

    Empty text where nothing is known. `label` is whatever stands on the device: show it only through `text.shown`.
    """

    path: str
    name: str
    kind: str
    size: int
    model: str = ""
    serial: str = ""
    transport: str = ""
    removable: bool = False
    hotplug: bool = False
    read_only: bool = False
    fstype: str = ""
    label: str = ""
    uuid: str = ""
    partition_uuid: str = ""
    partition_label: str = ""
    parent: str | None = None
    mountpoints: tuple[str, ...] = ()
    children: tuple[BlockDevice, ...] = ()


@dataclass(frozen=True, slots=True)
class LuksVolume:
    """A device with a LUKS header; `disk` is the path of the disk it lies on (itself, without partitions).

    `version` is 1 or 2, or 0 where the header could not be read (not root). `diskseq` is the kernel's number of
    this insertion of the disk (Linux 5.15), 0 where it has none.
    """

    path: str
    disk: str
    uuid: str
    label: str
    version: int
    size: int
    model: str
    serial: str
    transport: str
    read_only: bool
    diskseq: int
    partition_uuid: str = ""


@dataclass(frozen=True, slots=True)
class Presence:
    """One insertion of one device: its number, and the sequence number of the disk it is (a part of)."""

    number: str
    diskseq: int


# --- what there is


def scan(run: Runner) -> tuple[BlockDevice, ...]:
    """Every block device as a tree: disks, on them partitions, on these mappings.

    File system, label and UUID come from udev; where it knows nothing and we are root, the devices are probed.
    Raises `Missing` where lsblk fails.
    """
    try:
        answer = run(Command(("lsblk", "-J", "-b", "-o", COLUMNS)))
    except CommandFailed as problem:
        raise Missing(
            f"it cannot be seen what is plugged in: {problem.what}", hint="look at what `lsblk` says, then try again"
        ) from problem
    devices = _listed(json_object(answer.out).get("blockdevices"), None)
    if os.geteuid() == 0 and not sysfs.udev_runs():
        devices = tuple(_probed(run, each) for each in devices)
    return devices


def walk(devices: Iterable[BlockDevice]) -> Iterator[BlockDevice]:
    """Each device of the tree, parents first."""
    for device in devices:
        yield device
        yield from walk(device.children)


def find(devices: Iterable[BlockDevice], path: str) -> BlockDevice | None:
    """The device that `path` leads to, through links such as /dev/disk/by-id/..., or `None`."""
    real = os.path.realpath(path)
    return next((each for each in walk(devices) if path == each.path or os.path.realpath(each.path) == real), None)


def disk_of(device: BlockDevice, devices: Iterable[BlockDevice]) -> BlockDevice:
    """The disk that the device is, or lies on."""
    by_path = {each.path: each for each in walk(devices)}
    while device.parent is not None and device.parent in by_path:
        device = by_path[device.parent]
    return device


def _listed(rows: object, parent: str | None) -> tuple[BlockDevice, ...]:
    listed = rows if isinstance(rows, list) else []
    return tuple(_device(row, parent) for row in listed if isinstance(row, dict) and row.get("path"))


def _device(row: dict[str, Any], parent: str | None) -> BlockDevice:
    path = str(row["path"])
    mounted = row.get("mountpoints")
    return BlockDevice(
        path=path,
        name=text_at(row, "name"),
        kind=text_at(row, "type"),
        size=_whole(row.get("size")),
        model=text_at(row, "model"),
        serial=text_at(row, "serial"),
        transport=text_at(row, "tran"),
        removable=_yes(row, "rm"),
        hotplug=_yes(row, "hotplug"),
        read_only=_yes(row, "ro"),
        fstype=text_at(row, "fstype"),
        label=text_at(row, "label"),
        uuid=text_at(row, "uuid"),
        partition_uuid=text_at(row, "partuuid").lower(),
        partition_label=text_at(row, "partlabel"),
        parent=parent,
        mountpoints=tuple(str(each) for each in mounted if each) if isinstance(mounted, list) else (),
        children=_listed(row.get("children"), path),
    )


def _yes(row: dict[str, Any], key: str) -> bool:
    return row.get(key) in (True, 1, "1")


def _whole(value: object) -> int:
    try:
        return int(value) if isinstance(value, int | str) else 0
    except ValueError:
        return 0


def _probed(run: Runner, device: BlockDevice) -> BlockDevice:
    children = tuple(_probed(run, each) for each in device.children)
    if device.fstype or not device.size:
        return replace(device, children=children)
    found = _blkid(run, device.path)
    return replace(
        device,
        children=children,
        fstype=found.get("TYPE", ""),
        label=found.get("LABEL", ""),
        uuid=found.get("UUID", ""),
    )


def _blkid(run: Runner, path: str) -> dict[str, str]:
    """What `blkid -p` says about the content; nothing where it recognises nothing (exit 2) or too much (exit 8)."""
    try:
        answer = run(Command(("blkid", "-p", "-o", "export", path), ok=frozenset({0, 2, 4, 8})))
    except (CommandFailed, ProgramMissing):
        return {}
    pairs = (line.partition("=") for line in answer.out.decode("utf-8", "replace").splitlines())
    return {key: re.sub(r"\\(.)", r"\1", value) for key, _is, value in pairs}


# --- LUKS volumes


def luks_volumes(run: Runner) -> tuple[LuksVolume, ...]:
    """Every LUKS volume plugged in. Their headers are read anew where we may: udev's memory can be old."""
    devices = scan(run)
    found: dict[str, LuksVolume] = {}
    for device in walk(devices):
        header = luks_header(device.path) if device.fstype in {"", LUKS} and device.size else None
        if header is None and device.fstype == LUKS and not os.access(device.path, os.R_OK):
            header = (0, device.uuid, device.label)
        if header is not None and device.path not in found:
            found[device.path] = _volume(device, disk_of(device, devices), header)
    return tuple(found.values())


def _volume(device: BlockDevice, disk: BlockDevice, header: tuple[int, str, str]) -> LuksVolume:
    version, uuid, label = header
    return LuksVolume(
        path=device.path,
        disk=disk.path,
        uuid=uuid,
        label=label,
        version=version,
        size=device.size,
        model=disk.model,
        serial=disk.serial,
        transport=disk.transport,
        read_only=device.read_only or disk.read_only,
        diskseq=_diskseq(disk.path),
        partition_uuid=device.partition_uuid,
    )


def luks_header(path: str) -> tuple[int, str, str] | None:
    r"""Version, UUID and label from a LUKS header, or `None` where none can be read.

    Layout: LUKS2 On-Disk Format 1.1.1, 2.1 (magic "LUKS\xba\xbe", version u16 big-endian, label at 24, UUID at 168);
    LUKS1 has magic, version and UUID at the same places. A UUID that is none is returned as empty text.
    """
    try:
        with open(path, "rb", buffering=0) as device:
            head = device.read(4096)
    except OSError:
        return None
    if len(head) < 512 or head[:6] != b"LUKS\xba\xbe":
        return None
    version: int = struct.unpack_from(">H", head, 6)[0]
    uuid = _until_nul(head[168:208]).lower()
    label = _until_nul(head[24:72]) if version == 2 else ""
    return version, uuid if _UUID.fullmatch(uuid) else "", label


def _until_nul(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")


# --- is it in use


def in_use(path: str) -> bool:
    """Whether the kernel refuses the device to a second user (O_EXCL): mounted, mapped, swap, or a partition of it is.

    Raises `DriveError` when there is no such device, `Missing` when we may not look.
    """
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC | os.O_NONBLOCK))
    except PermissionError as problem:
        raise Missing(f"reading {path} needs root", hint="start again with sudo") from problem
    except OSError as problem:
        if problem.errno == errno.EBUSY:
            return True
        if problem.errno == errno.ENOMEDIUM:
            return False
        raise DriveError(f"{path} cannot be opened: {problem.strerror}") from problem
    return False


def holders(path: str) -> tuple[str, ...]:
    """Names of the kernel devices (dm-0, md0) that stand on the device or on one of its partitions."""
    home = sysfs.home(path)
    if home is None:
        return ()
    folders = [home / "holders", *(part / "holders" for part in sysfs.parts(home))]
    return tuple(sorted({name for folder in folders if folder.is_dir() for name in os.listdir(folder)}))


# --- is it still there


def presence(path: str) -> Presence:
    """What to look for later in order to know that the device was not pulled. Raises `DriveError`."""
    number = sysfs.number(path)
    if number is None:
        raise DriveError(f"there is no device {path}")
    return Presence(number, _diskseq(path))


def still_there(presence: Presence) -> bool:
    """Whether that very insertion is still in the kernel's list. Two reads of /sys; the device is not touched."""
    home = sysfs.home_of(presence.number)
    return home is not None and _diskseq_at(home) == presence.diskseq


def flush(path: str) -> None:
    """Have everything written reach the medium, and drop what the kernel keeps of it. Raises `DriveGone`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
            fcntl.ioctl(descriptor, _BLKFLSBUF)
        finally:
            os.close(descriptor)
    except OSError as problem:
        raise DriveGone(f"{path} cannot be flushed: {problem.strerror}") from problem


def read_only(path: str) -> bool:
    """Whether the kernel treats the device, or the disk it lies on, as write-protected."""
    home = sysfs.home(path)
    return home is not None and "1" in {sysfs.read(home / "ro"), sysfs.read(sysfs.disk(home) / "ro")}


def bytes_written(path: str) -> int:
    """Bytes that the kernel has sent to the device since it was plugged in (sysfs stat: sectors of 512 bytes)."""
    home = sysfs.home(path)
    fields = sysfs.read(home / "stat").split() if home is not None else []
    return int(fields[6]) * 512 if len(fields) > 6 else 0


def _diskseq(path: str) -> int:
    home = sysfs.home(path)
    return _diskseq_at(home) if home else 0


def _diskseq_at(home: Path) -> int:
    return sysfs.read_whole(sysfs.disk(home) / "diskseq")
