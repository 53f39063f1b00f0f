"""The masters are looked at before a drive is opened: there, a directory, not the drive itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from flashback.config.values import Config, Master
from flashback.core.errors import ConfigError, NotFinished
from flashback.rotation.values import KnownDrive
from flashback.walk.there import absence


def carried(config: Config, known: KnownDrive) -> tuple[Master, ...]:
    """The masters that this drive is to carry. Raises `ConfigError` when that is none of them."""
    masters = tuple(master for master in config.masters if known.carries(master.name))
    if not masters:
        raise ConfigError(
            f"{known.name} is to carry {', '.join(known.masters or ())}, and the configuration has no such master",
            hint=f"flashback drive set {known.name} masters=…, or add the master to {config.file}",
        )
    return masters


def look_at(masters: Sequence[Master], *, mounts: Path) -> dict[Master, str]:
    """Return the masters that are missing, and how. Raises `ConfigError`, with all findings, for those that cannot be
    meant.

    `mounts` is the folder below which drives are mounted: a master in it would be a backup of the backup.
    """
    missing: dict[Master, str] = {}
    findings: list[str] = []
    for master in masters:
        try:
            _refuse_the_drives(master, mounts)
            if why := absence(master):
                missing[master] = why
        except ConfigError as problem:
            findings.append(f"{master.name}: {problem.what}")
    if findings:
        raise ConfigError("a master cannot be backed up", findings=findings, hint="correct that, then try again")
    return missing


def refuse_vanished(master: Master) -> None:
    """Raises `NotFinished` for a master that was there when the run began, and is not now."""
    if why := absence(master):
        raise NotFinished(
            f"{master.path} {why} now; it was there when the run began",
            hint="see to it (was it unmounted?), then run again; nothing of its copy was deleted",
        )


def _refuse_the_drives(master: Master, mounts: Path) -> None:
    real = Path(os.path.realpath(master.path))
    drives = Path(os.path.realpath(mounts))
    if real == drives or drives in real.parents:
        raise ConfigError(f"{master.path} is the place where drives are mounted")
