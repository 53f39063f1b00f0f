"""A drive of ours that is plugged in and not recognised: its LUKS header is gone, what surrounds it is still there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flashback.core.command import Runner
from flashback.drive.leftover import PREFIX
from flashback.rotation.values import KnownDrive, Standing
from flashback.tools import block

RESTORE: Final = "flashback key header restore "


@dataclass(frozen=True, slots=True)
class Headerless:
    """`why` says by what the drive was recognised, for a person; none of it is a proof."""

    known: KnownDrive
    device: block.BlockDevice
    why: str

    @property
    def sentence(self) -> str:
        """What happened, for an error or a line."""
        return f"{self.device.path} looks like {self.known.name} ({self.why}), but its LUKS header is gone"

    @property
    def remedy(self) -> str:
        """The command that brings it back."""
        return RESTORE + self.known.name


def headerless(run: Runner, known: Sequence[KnownDrive]) -> tuple[Headerless, ...]:
    """The drives in use that are plugged in without a header. Asks nobody where every drive shows itself."""
    volumes = {volume.uuid: volume.path for volume in block.luks_volumes(run)}
    missing = [drive for drive in known if drive.standing is Standing.ACTIVE and drive.uuid not in volumes]
    if not missing:
        return ()
    ours = {path for uuid, path in volumes.items() if uuid in {drive.uuid for drive in known}}
    return match(block.scan(run), missing, ours)


def match(
    devices: Sequence[block.BlockDevice], missing: Sequence[KnownDrive], ours: set[str]
) -> tuple[Headerless, ...]:
    """Pure. `ours` are the devices on which a drive was found, which cannot be another one."""
    free = [each for each in block.walk(devices) if each.path not in ours and each.kind in {"disk", "part", "loop"}]
    found = ((drive, _match(free, drive)) for drive in missing)
    return tuple(Headerless(drive, *hit) for drive, hit in found if hit is not None)


def _match(free: Sequence[block.BlockDevice], drive: KnownDrive) -> tuple[block.BlockDevice, str] | None:
    for each in free:
        if each.partition_uuid and each.partition_uuid == drive.partition_uuid:
            return each, "by the UUID of its partition"
    for each in free:
        if each.kind == "part" and each.partition_label == f"{PREFIX}{drive.name}":
            return each, "by the name of its partition"
    for each in free:
        if each.parent is None and _same_disk(each, drive):
            parts = [child for child in each.children if child.kind == "part"]
            if len(parts) < 2 and all(part in free for part in parts):
                return (parts[0] if parts else each), "by model, serial number and size"
    return None


def _same_disk(disk: block.BlockDevice, drive: KnownDrive) -> bool:
    return bool(drive.serial) and (disk.serial, disk.model, disk.size) == (drive.serial, drive.model, drive.size)
