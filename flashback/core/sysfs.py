"""How the kernel accounts for a block device: its number and its directory in /sys. No device is opened here.

What changes a disk and what lists disks both need this, and tools do not look into each other: so it lies below them.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

SYS: Final = Path("/sys")


def udev_runs() -> bool:
    """Whether a udev daemon listens (udev_ctrl's socket)."""
    return os.path.exists("/run/udev/control")


def number(path: str) -> str | None:
    """`8:17` for a block device, or `None`."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISBLK(status.st_mode):
        return None
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def home(path: str) -> Path | None:
    """The directory in /sys of the device at `path`, or `None`."""
    known = number(path)
    return home_of(known) if known else None


def home_of(number: str) -> Path | None:
    """The directory in /sys of the device that has this number, or `None`."""
    link = SYS / "dev/block" / number
    return link.resolve() if link.exists() else None


def disk(home: Path) -> Path:
    """The directory of the disk that a partition lies on; a disk's own."""
    return home.parent if (home / "partition").exists() else home


def parts(home: Path) -> tuple[Path, ...]:
    """The directories of a disk's partitions, in the order of the partitions' numbers."""
    numbered = ((read_whole(each / "partition"), each) for each in home.glob(f"{home.name}*") if each.is_dir())
    return tuple(each for number, each in sorted(numbered) if number)


def read(path: Path) -> str:
    """The text of a file in /sys; empty where there is none."""
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""


def read_whole(path: Path) -> int:
    """The whole number in a file in /sys; 0 where there is none."""
    try:
        return int(read(path))
    except ValueError:
        return 0
