"""Every setting, once: what the reader accepts, what the sample shows and what the reference page must name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """How a value is written, in the words of the reference page."""

    PATH = "absolute path"
    USER = "user name"
    FILES = "list of files"
    SYMLINKS = "follow, external or keep"
    BTRFS = "auto or never"
    COUNT = "whole number"
    SPACE = "share or size"
    SHARE = "share"
    SIZE = "size"
    DURATION = "duration"
    SCRUB = "duration or never"
    ON_PLUG = "ask, always or never"
    BOOLEAN = "true or false"
    COMPRESS = "zstd:1 to zstd:15, or no"


@dataclass(frozen=True, slots=True)
class Setting:
    """`section` is empty for a setting at the top; `default` is as it stands in YAML, `None` where one is required."""

    section: str
    name: str
    kind: Kind
    default: str | None
    about: str

    @property
    def path(self) -> str:
        """`keep.last`, `masters.NAME.path`, `on_plug`."""
        return f"{self.section}.{self.name}" if self.section else self.name


MASTER: Final = "masters.NAME"

SETTINGS: Final = (
    Setting(MASTER, "path", Kind.PATH, None, "the directory that is backed up"),
    Setting(MASTER, "owner", Kind.USER, "null", "files are read as this user; null: as whoever owns the directory"),
    Setting(
        MASTER,
        "symlinks",
        Kind.SYMLINKS,
        "follow",
        "follow: what links lead to; external: only where they lead out of the master; keep: the links themselves",
    ),
    Setting(MASTER, "btrfs", Kind.BTRFS, "auto", "auto: where it is on Btrfs, a run reads from a snapshot of it"),
    Setting(MASTER, "exclusions", Kind.FILES, "[]", "files with patterns to leave out, in rsync's syntax"),
    Setting("keep", "last", Kind.COUNT, "3", "the newest snapshots, whatever their age; at least 1"),
    Setting("keep", "hourly", Kind.COUNT, "0", "hours of which one snapshot is kept"),
    Setting("keep", "daily", Kind.COUNT, "7", "days of which one snapshot is kept"),
    Setting("keep", "weekly", Kind.COUNT, "8", "weeks of which one snapshot is kept"),
    Setting("keep", "monthly", Kind.COUNT, "12", "months of which one snapshot is kept"),
    Setting("keep", "yearly", Kind.COUNT, "5", "years of which one snapshot is kept"),
    Setting("keep", "min_free", Kind.SPACE, "5%", "room on the drive that old snapshots make way for"),
    Setting("rotation", "due_after", Kind.DURATION, "7d", "a drive is due when its last complete backup is this old"),
    Setting("rotation", "overdue_after", Kind.DURATION, "14d", "and overdue when it is this old"),
    Setting("guards", "deleted_share", Kind.SHARE, "30%", "hold when so much of a copy would be deleted"),
    Setting("guards", "deleted_files", Kind.COUNT, "20", "but not for fewer files than these; 0: never"),
    Setting("guards", "damaged_files", Kind.COUNT, "20", "hold when so many files look encrypted or wiped; 0: never"),
    Setting("guards", "growth", Kind.SIZE, "20GiB", "hold when a copy would suddenly grow by so much; 0B: never"),
    Setting("guards", "min_interval", Kind.DURATION, "1h", "how soon a drive may be run again unattended"),
    Setting("", "scrub_every", Kind.SCRUB, "30d", "how often a run reads the whole drive to find damage"),
    Setting("", "full_every", Kind.COUNT, "10", "so many runs may trust the list of what the drive holds; 0: none"),
    Setting("", "on_plug", Kind.ON_PLUG, "ask", "what happens when a drive is plugged in"),
    Setting(
        "", "answer_within", Kind.DURATION, "15min", "how long a question about a drive stands; then: not backed up"
    ),
    Setting("", "min_battery", Kind.SHARE, "30%", "a run is put off while the battery in use holds less; 0%: never"),
    Setting("", "power_off", Kind.BOOLEAN, "true", "switch a USB drive off when plugging it in began the backup"),
    Setting("notify", "desktop", Kind.BOOLEAN, "true", "tell the desktop when a run begins, ends or is due"),
    Setting("", "compress", Kind.COMPRESS, "zstd:3", "how the drive compresses what is written to it"),
)

SECTIONS: Final = (
    "masters",
    "keep",
    "rotation",
    "guards",
    "scrub_every",
    "full_every",
    "on_plug",
    "answer_within",
    "min_battery",
    "power_off",
    "notify",
    "compress",
)
"""What may stand at the top, in the order of the sample."""


def section(name: str) -> dict[str, Setting]:
    """The settings of one section by name."""
    return {setting.name: setting for setting in SETTINGS if setting.section == name}
