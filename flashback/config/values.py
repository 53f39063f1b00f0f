"""What the configuration says, as frozen values (DESIGN part 5; reference: docs/reference/configuration.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path


class Symlinks(StrEnum):
    """What becomes of a symbolic link in the master."""

    FOLLOW = "follow"
    EXTERNAL = "external"
    KEEP = "keep"


class Btrfs(StrEnum):
    """Whether a master on Btrfs is read from a snapshot."""

    AUTO = "auto"
    NEVER = "never"


class OnPlug(StrEnum):
    """What happens when a drive is plugged in."""

    ASK = "ask"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of an exclusion file, in rsync's syntax. `pattern` is what remains without `+ ` or `- `."""

    pattern: bytes
    include: bool = False
    file: str = ""
    line: int = 0

    @property
    def origin(self) -> str:
        """`file:line`, for `explain` and for errors."""
        return f"{self.file}:{self.line}" if self.file else "built in"


@dataclass(frozen=True, slots=True)
class Master:
    """A directory that is backed up. `owner` is a user's name; `None`: whoever owns the directory.

    `rules` are those of all its exclusion files in order; as in rsync the first that matches decides.
    """

    name: str
    path: Path
    owner: str | None = None
    symlinks: Symlinks = Symlinks.FOLLOW
    exclusion_files: tuple[Path, ...] = ()
    rules: tuple[Rule, ...] = ()
    btrfs: Btrfs = Btrfs.AUTO


@dataclass(frozen=True, slots=True)
class Keep:
    """Retention (DESIGN part 5). `min_free` is a share of the drive (0 to 1) or a number of bytes."""

    last: int = 3
    hourly: int = 0
    daily: int = 7
    weekly: int = 8
    monthly: int = 12
    yearly: int = 5
    min_free: float | int = 0.05


@dataclass(frozen=True, slots=True)
class Rotation:
    """How old a drive's last complete backup may become."""

    due_after: timedelta = timedelta(days=7)
    overdue_after: timedelta = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Guards:
    """What a run may do without a person (docs/explanation/guards.md). A share is 0 to 1, `growth` bytes."""

    deleted_share: float = 0.3
    deleted_files: int = 20
    damaged_files: int = 20
    growth: int = 20 << 30
    min_interval: timedelta = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Notify:
    """Who is told besides the terminal and the journal."""

    desktop: bool = True


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration; `file` is where it came from."""

    file: Path
    masters: tuple[Master, ...]
    keep: Keep = field(default_factory=Keep)
    rotation: Rotation = field(default_factory=Rotation)
    guards: Guards = field(default_factory=Guards)
    scrub_every: timedelta | None = timedelta(days=30)
    full_every: int = 10
    on_plug: OnPlug = OnPlug.ASK
    answer_within: timedelta = timedelta(minutes=15)
    min_battery: float = 0.3
    power_off: bool = True
    notify: Notify = field(default_factory=Notify)
    compress: str = "zstd:3"
