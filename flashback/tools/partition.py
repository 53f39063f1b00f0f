"""What lies on a disk, and the partition that is made there: wipefs and sfdisk.

What a device says of itself, its labels included, is untrusted: it is parsed with care and never believed.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from flashback.core import sysfs
from flashback.core.command import Command, CommandFailed, Runner
from flashback.core.errors import DriveError
from flashback.core.spoken import json_object, text_at

LUKS_PARTITION: Final = "CA7D7CCB-63ED-4C53-861C-1742536059CC"
"""The GPT type of a LUKS partition (UAPI group, Discoverable Partitions Specification)."""
APPEARS_WITHIN: Final = 15.0
"""Seconds that the kernel and udev get to show a new partition."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Something recognisable on a device: `kind` is wipefs's type (ext4, gpt, crypto_LUKS ...), `offset` in bytes."""

    device: str
    kind: str
    label: str
    uuid: str
    offset: int


# --- what is on it


def contents(run: Runner, path: str) -> tuple[Signature, ...]:
    """What wipefs recognises on the device and on its partitions. Raises `DriveError` when it cannot be read."""
    home = sysfs.home(path)
    targets = [path, *(f"/dev/{part.name}" for part in (sysfs.parts(home) if home else ()))]
    return tuple(found for target in targets for found in _signatures(run, target))


def _signatures(run: Runner, path: str) -> Iterator[Signature]:
    try:
        rows = json_object(run(Command(("wipefs", "-n", "--json", path))).out).get("signatures")
    except CommandFailed as problem:
        raise DriveError(f"{path} cannot be read: {problem.result.last_words}") from problem
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict):
            offset = re.fullmatch(r"0x[0-9a-f]{1,16}", text_at(row, "offset"))
            where = int(offset[0], 16) if offset else 0
            yield Signature(path, text_at(row, "type"), text_at(row, "label"), text_at(row, "uuid"), where)


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
        if sysfs.udev_runs():
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
    home = sysfs.home(disk)
    parts = sysfs.parts(home) if home else ()
    if len(parts) != 1 or sysfs.read(parts[0] / "start") != str(4 * 1024 * 1024 // 512):
        return None
    path = f"/dev/{parts[0].name}"
    return path if sysfs.number(path) == sysfs.read(parts[0] / "dev") else None
