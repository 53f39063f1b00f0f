"""Disks and partitions: lsblk, wipefs, blkid, sfdisk and the kernel's own account in /sys.

Everything read from a device, its label included, is untrusted: it is parsed with care and never believed.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import stat
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from flashback.core.command import Command, CommandFailed, ProgramMissing, Runner
from flashback.core.errors import DriveError, DriveGone, Missing

SYS: Final = Path("/sys")
COLUMNS: Final = "PATH,NAME,TYPE,SIZE,MODEL,SERIAL,TRAN,RM,HOTPLUG,RO,FSTYPE,LABEL,UUID,MOUNTPOINTS"
LUKS: Final = "crypto_LUKS"
LUKS_PARTITION: Final = "CA7D7CCB-63ED-4C53-861C-1742536059CC"
"""The GPT type of a LUKS partition (UAPI group, Discoverable Partitions Specification)."""
SYSTEM_MOUNTS: Final = frozenset({"/", "/boot", "/boot/efi", "/efi", "/usr", "/var", "/home"})
RUNNING_SYSTEM: Final = "/, the running system"
APPEARS_WITHIN: Final = 15.0
"""Seconds that the kernel and udev get to show a new partition."""
MEMBERS: Final = {
    "LVM2_member": "a member of an LVM volume group",
    "LVM1_member": "a member of an LVM volume group",
    "zfs_member": "a member of a ZFS pool",
    "bcache": "a part of a bcache",
    "mpath_member": "a path to a multipath device",
    "drbd": "a DRBD device",
    "swap": "swap space",
}
_BLKRRPART: Final = 0x125F  # linux/fs.h
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


@dataclass(frozen=True, slots=True)
class Signature:
    """Something recognisable on a device: `kind` is wipefs's type (ext4, gpt, crypto_LUKS ...), `offset` in bytes."""

    device: str
    kind: str
    label: str
    uuid: str
    offset: int


@dataclass(frozen=True, slots=True)
class Presence:
    """One insertion of one device: its number, and the sequence number of the disk it is (a part of)."""

    number: str
    diskseq: int


# --- what there is


def scan(run: Runner) -> tuple[BlockDevice, ...]:
    """Every block device as a tree: disks, on them partitions, on these mappings.

    File system, label and UUID come from udev; where it knows nothing and we are root, the devices are probed.
    """
    answer = run(Command(("lsblk", "-J", "-b", "-o", COLUMNS)))
    devices = _listed(_object(answer.out).get("blockdevices"), None)
    if os.geteuid() == 0 and not udev_runs():
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


def udev_runs() -> bool:
    """Whether a udev daemon listens (udev_ctrl's socket)."""
    return os.path.exists("/run/udev/control")


def _listed(rows: object, parent: str | None) -> tuple[BlockDevice, ...]:
    listed = rows if isinstance(rows, list) else []
    return tuple(_device(row, parent) for row in listed if isinstance(row, dict) and row.get("path"))


def _device(row: dict[str, Any], parent: str | None) -> BlockDevice:
    path = str(row["path"])
    mounted = row.get("mountpoints")
    return BlockDevice(
        path=path,
        name=_text(row, "name"),
        kind=_text(row, "type"),
        size=_whole(row.get("size")),
        model=_text(row, "model"),
        serial=_text(row, "serial"),
        transport=_text(row, "tran"),
        removable=_yes(row, "rm"),
        hotplug=_yes(row, "hotplug"),
        read_only=_yes(row, "ro"),
        fstype=_text(row, "fstype"),
        label=_text(row, "label"),
        uuid=_text(row, "uuid"),
        parent=parent,
        mountpoints=tuple(str(each) for each in mounted if each) if isinstance(mounted, list) else (),
        children=_listed(row.get("children"), path),
    )


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    return "" if value is None else str(value).strip()


def _yes(row: dict[str, Any], key: str) -> bool:
    return row.get(key) in (True, 1, "1")


def _whole(value: object) -> int:
    try:
        return int(value) if isinstance(value, int | str) else 0
    except ValueError:
        return 0


def _object(out: bytes) -> dict[str, Any]:
    """The JSON object that a program printed; empty when it printed none."""
    try:
        value = json.loads(out.decode("utf-8", "replace") or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


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
    home = _home(path)
    if home is None:
        return ()
    folders = [home / "holders", *(part / "holders" for part in _parts(home))]
    return tuple(sorted({name for folder in folders if folder.is_dir() for name in os.listdir(folder)}))


def why_not(device: BlockDevice, devices: Sequence[BlockDevice]) -> tuple[str, ...]:
    """Why this device must not be erased, a sentence each; empty when nothing speaks against it.

    `devices` is the whole tree. Raises as `in_use` does.
    """
    reasons = [*_unfit(device), *_held_by_system(device, devices)]
    for each in walk((device,)):
        reasons.extend(_uses(each, "it" if each is device else each.path))
    known = {name for each in walk((device,)) for name in (each.name, os.path.basename(os.path.realpath(each.path)))}
    reasons.extend(f"{name} stands on it" for name in holders(device.path) if name not in known)
    if in_use(device.path) and not reasons:
        reasons.append("it is in use: the kernel does not give it to anybody else")
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
    disk = disk_of(device, devices)
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
    return tuple(disk.path for disk in devices if any(needed & {*each.mountpoints} for each in walk((disk,))))


# --- what is on it


def contents(run: Runner, path: str) -> tuple[Signature, ...]:
    """What wipefs recognises on the device and on its partitions. Raises `DriveError` when it cannot be read."""
    home = _home(path)
    targets = [path, *(f"/dev/{part.name}" for part in (_parts(home) if home else ()))]
    return tuple(found for target in targets for found in _signatures(run, target))


def _signatures(run: Runner, path: str) -> Iterator[Signature]:
    try:
        rows = _object(run(Command(("wipefs", "-n", "--json", path))).out).get("signatures")
    except CommandFailed as problem:
        raise DriveError(f"{path} cannot be read: {problem.result.last_words}") from problem
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict):
            offset = re.fullmatch(r"0x[0-9a-f]{1,16}", _text(row, "offset"))
            where = int(offset[0], 16) if offset else 0
            yield Signature(path, _text(row, "type"), _text(row, "label"), _text(row, "uuid"), where)


# --- making a partition


def partition(run: Runner, disk: str, *, name: str) -> str:
    """Write a GPT with one LUKS partition at 4 MiB called `name`; return its path once it can be used.

    Erases what was there. Raises `DriveError` when sfdisk refuses or the partition does not show itself in time,
    `ValueError` for a name with anything but letters, digits, dot, dash and underscore.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,36}", name):
        raise ValueError(f"not a name for a partition: {name!r}")
    script = f'label: gpt\nstart=4MiB, type={LUKS_PARTITION}, name="{name}"\n'
    argv = ("sfdisk", "-q", "--wipe", "always", "--wipe-partitions", "always", disk)
    with open(os.memfd_create("sfdisk"), "w+b") as stdin:
        stdin.write(script.encode("ascii"))
        stdin.seek(0)
        try:
            run(Command(argv, stdin=stdin))
        except CommandFailed as problem:
            raise DriveError(f"{disk} cannot be partitioned: {problem.result.last_words}") from problem
    return _wait_for_partition(run, disk)


def _wait_for_partition(run: Runner, disk: str) -> str:
    end = time.monotonic() + APPEARS_WITHIN
    while True:
        if udev_runs():
            run(Command(("udevadm", "settle", "--timeout=10"), ok=frozenset({0, 1})))
        found = _first_partition(disk)
        if found is not None:
            return found
        if time.monotonic() > end:
            break
        time.sleep(0.2)
    raise DriveError(
        f"the new partition of {disk} did not show itself within {APPEARS_WITHIN:.0f} s",
        hint="unplug the drive, plug it in again, and start again",
    )


def _first_partition(disk: str) -> str | None:
    """Path of the only partition, provided that it starts at 4 MiB and its node in /dev is the right one."""
    home = _home(disk)
    parts = _parts(home) if home else ()
    if len(parts) != 1 or _read(parts[0] / "start") != str(4 * 1024 * 1024 // 512):
        return None
    path = f"/dev/{parts[0].name}"
    return path if _number(path) == _read(parts[0] / "dev") else None


def refresh(path: str) -> None:
    """Let the kernel read the partition table anew. Raises `DriveError` when it refuses, as while one is in use."""
    _ioctl(path, _BLKRRPART, "its partition table cannot be read anew")


# --- is it still there


def presence(path: str) -> Presence:
    """What to look for later in order to know that the device was not pulled. Raises `DriveError`."""
    number = _number(path)
    if number is None:
        raise DriveError(f"there is no device {path}")
    return Presence(number, _diskseq(path))


def still_there(presence: Presence) -> bool:
    """Whether that very insertion is still in the kernel's list. Two reads of /sys; the device is not touched."""
    home = SYS / "dev/block" / presence.number
    return home.exists() and _diskseq_at(home.resolve()) == presence.diskseq


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
    home = _home(path)
    return home is not None and "1" in {_read(home / "ro"), _read(_disk(home) / "ro")}


def bytes_written(path: str) -> int:
    """Bytes that the kernel has sent to the device since it was plugged in (sysfs stat: sectors of 512 bytes)."""
    home = _home(path)
    fields = _read(home / "stat").split() if home is not None else []
    return int(fields[6]) * 512 if len(fields) > 6 else 0


def _ioctl(path: str, request: int, what: str) -> None:
    try:
        with open(path, "rb", buffering=0) as device:
            fcntl.ioctl(device, request)
    except OSError as problem:
        raise DriveError(f"{path}: {what}: {problem.strerror}") from problem


def _number(path: str) -> str | None:
    """`8:17` for a block device, or `None`."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISBLK(status.st_mode):
        return None
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def _home(path: str) -> Path | None:
    """The device's directory in /sys."""
    number = _number(path)
    home = SYS / "dev/block" / (number or "none")
    return home.resolve() if home.exists() else None


def _disk(home: Path) -> Path:
    return home.parent if (home / "partition").exists() else home


def _parts(home: Path) -> tuple[Path, ...]:
    parts = ((_whole(_read(each / "partition")), each) for each in home.glob(f"{home.name}*") if each.is_dir())
    return tuple(each for number, each in sorted(parts) if number)


def _diskseq(path: str) -> int:
    home = _home(path)
    return _diskseq_at(home) if home else 0


def _diskseq_at(home: Path) -> int:
    return _whole(_read(_disk(home) / "diskseq"))


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""
