"""The masters are looked at before a drive is opened: there, a directory, not the drive itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from flashback.config.values import Config, Master
from flashback.core.errors import ConfigError
from flashback.rotation.values import KnownDrive


def carried(config: Config, known: KnownDrive) -> tuple[Master, ...]:
    """The masters that this drive is to carry. Raises `ConfigError` when that is none of them."""
    masters = tuple(master for master in config.masters if known.carries(master.name))
    if not masters:
        raise ConfigError(
            f"{known.name} is to carry {', '.join(known.masters or ())}, and the configuration has no such master",
            hint=f"flashback drive set {known.name} masters=…, or add the master to {config.file}",
        )
    return masters


def look_at(masters: Sequence[Master], *, mounts: Path) -> tuple[Master, ...]:
    """Return the masters that are missing. Raises `ConfigError`, with all findings, for those that cannot be meant.

    `mounts` is the folder below which drives are mounted: a master in it would be a backup of the backup.
    """
    findings = [f"{master.name}: {problem}" for master in masters if (problem := _cannot_be_meant(master, mounts))]
    if findings:
        raise ConfigError("a master cannot be backed up", findings=findings, hint="correct its path, then try again")
    return tuple(master for master in masters if not os.path.lexists(master.path))


def _cannot_be_meant(master: Master, mounts: Path) -> str | None:
    real = Path(os.path.realpath(master.path))
    drives = Path(os.path.realpath(mounts))
    if real == drives or drives in real.parents:
        return f"{master.path} is the place where drives are mounted"
    if os.path.lexists(master.path) and not os.path.isdir(master.path):
        return f"{master.path} is not a directory"
    return None
