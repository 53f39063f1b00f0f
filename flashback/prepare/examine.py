"""A device is looked at before it is prepared: what it is, what lies on it, and whether it must not be touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from flashback.core.command import Runner
from flashback.core.errors import NotFinished, UsageError
from flashback.core.text import shown, size
from flashback.drive.recognise import block_device, named
from flashback.prepare.refusal import why_not
from flashback.rotation.values import KnownDrive
from flashback.tools import block, partition

SMALLEST: Final = 256 * 1024 * 1024
"""Btrfs needs 109 MiB and LUKS2 16 MiB; below this nothing worth while would be left (LINUX: mkfs.btrfs sizes)."""
CARRIERS: Final = frozenset({"usb", "mmc", "loop"})


@dataclass(frozen=True, slots=True)
class Examined:
    """`contents` are lines on what lies there (empty: nothing was recognised); `known` is the drive it already is.

    `presence` is the insertion that was looked at: another device may be plugged in under the same path later.
    """

    device: block.BlockDevice
    contents: tuple[str, ...]
    known: KnownDrive | None
    carries_drive: bool
    presence: block.Presence | None = None

    @property
    def is_blank(self) -> bool:
        """Nothing was recognised on it."""
        return not self.contents

    def lines(self) -> tuple[str, ...]:
        """What a person is shown before anything is asked."""
        device = self.device
        name = " ".join(shown(word) for word in (device.model,) if word) or "no model name"
        serial = f", serial {shown(device.serial)}" if device.serial else ""
        bus = f", {shown(device.transport)}" if device.transport else ""
        first = f"{device.path}: {name}{serial}{bus}, {size(device.size)}"
        if not self.contents:
            return first, "  Nothing was recognised on it."
        return first, "  On it now:", *(f"    {line}" for line in self.contents)

    def as_json(self) -> dict[str, Any]:
        """The same for scripts."""
        device = self.device
        return {
            "device": device.path,
            "model": device.model,
            "serial": device.serial,
            "transport": device.transport,
            "size": device.size,
            "contents": list(self.contents),
        }


def examine(run: Runner, path: str, known: Sequence[KnownDrive]) -> Examined:
    """Look at a device. Raises `DriveError` or `UsageError` when it must not or cannot become a drive; nothing
    overrides that (DESIGN 7.1).
    """
    real = block_device(path)
    devices = block.scan(run)
    device = block.find(devices, real)
    if device is None:
        raise UsageError(f"{shown(path)} is not a disk or partition that lsblk knows")
    if device.read_only:
        raise NotFinished(f"{shown(path)} is write-protected", hint="look for a lock switch on the card or its adapter")
    if reasons := why_not(device, devices):
        raise UsageError(
            f"{shown(path)} is in use: {'; '.join(reasons)}",
            hint="nothing was changed. If it is the right device, put away what uses it first."
            f" Signs of an earlier use that nobody needs any more go with `wipefs --all {shown(path)}`",
        )
    if device.size < SMALLEST:
        raise UsageError(
            f"{shown(path)} holds {size(device.size)}, which is too small: "
            f"Btrfs and the LUKS header alone take about 130 MiB",
            hint=f"take a drive of {size(SMALLEST)} at least",
        )
    presence = block.presence(real)
    known_drive = _known_drive(run, real, known)
    return Examined(device, _contents(run, device), known_drive, _carries_drive(device), presence)


def _contents(run: Runner, device: block.BlockDevice) -> tuple[str, ...]:
    named_parts = {each.path: each for each in block.walk((device,))}
    lines = []
    for found in partition.contents(run, device.path):
        part = named_parts.get(found.device)
        label = f' "{shown(part.label)}"' if part and part.label else ""
        room = f", {size(part.size)}" if part and part.path != device.path else ""
        lines.append(f"{found.device}: {found.kind}{label}{room}")
    return tuple(dict.fromkeys(lines))


def _known_drive(run: Runner, real: str, known: Sequence[KnownDrive]) -> KnownDrive | None:
    volumes = [volume for volume in block.luks_volumes(run) if real in {volume.path, volume.disk}]
    return next((drive for volume in volumes if (drive := named(known, volume.uuid)) is not None), None)


def _carries_drive(device: block.BlockDevice) -> bool:
    """Whether it looks like something that is carried about; a hint for people, never a permission."""
    return device.removable or device.hotplug or device.transport in CARRIERS
