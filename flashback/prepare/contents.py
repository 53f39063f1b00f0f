"""What an open drive tells about itself: marker, journal, snapshots, room, copy of the configuration. Only read.

All of it is a stranger's word until a person has said that the drive is theirs; even then nothing of it is carried out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from flashback.backup.plan import read_journal, snapshots_of, space_for
from flashback.config.masters import valid_name as valid_master
from flashback.core.errors import DriveError
from flashback.core.text import parse_stamp
from flashback.drive import journal, layout, marker
from flashback.drive.configuration import FILE_NAME, INDEX, Index, decode
from flashback.drive.session import OpenDrive, check_marker
from flashback.tools import btrfs

MOST_FILES: Final = 20
LARGEST_FILE: Final = 1024 * 1024
"""Bytes. The configuration reader takes 128 KiB; exclusion files may be longer."""


@dataclass(frozen=True, slots=True)
class Contents:
    """`snapshots` are master, name and moment; `configuration` are the files of the last run by their names.

    `filesystem` is the UUID of the Btrfs, `errors` are its error counters.
    """

    marker: marker.Marker
    journal: tuple[journal.Line, ...]
    snapshots: tuple[tuple[str, str, datetime], ...]
    space: btrfs.Space
    configuration: dict[str, bytes]
    index: Index | None = None
    filesystem: str = ""
    errors: Mapping[str, int] = field(default_factory=dict)


def contents_of(drive: OpenDrive) -> Contents:
    """Read it all. Raises `DriveError` where something is not what Flashback makes."""
    files = _configuration(drive)
    return Contents(
        marker=check_marker(drive),
        journal=read_journal(drive),
        snapshots=tuple(_snapshots(drive)),
        space=space_for(drive),
        configuration={name: content for name, content in files.items() if name != INDEX},
        index=decode(files.get(INDEX, b"")),
        filesystem=drive.filesystem,
        errors=drive.errors_before,
    )


def _snapshots(drive: OpenDrive) -> Iterator[tuple[str, str, datetime]]:
    """Of every folder that can be a master's: the configuration that names them may be lost with the machine."""
    with os.scandir(drive.root) as entries:
        masters = sorted(each.name for each in entries if each.is_dir(follow_symlinks=False))
    for master in filter(valid_master, masters):
        for name in snapshots_of(drive, master):
            if (moment := parse_stamp(name)) is not None:
                yield master, name, moment


def _configuration(drive: OpenDrive) -> dict[str, bytes]:
    """The copy of the configuration and the exclusions; whatever cannot be that is passed over."""
    found: dict[str, bytes] = {}
    with ExitStack() as opened:
        try:
            ours = opened.enter_context(layout.directory(drive.root, layout.OURS))
            folder = opened.enter_context(layout.directory(ours, layout.CONFIG_COPY))
        except FileNotFoundError:
            return found
        for name in sorted(filter(FILE_NAME.fullmatch, os.listdir(folder)))[:MOST_FILES]:
            content = _text(folder, name)
            if content:
                found[name] = content
    return found


def _text(folder: int, name: str) -> bytes:
    try:
        content = layout.read_text(folder, name) or b""
    except (DriveError, OSError):
        return b""
    return content if len(content) <= LARGEST_FILE else b""


def put_beside(configuration: Path, drive: str, files: dict[str, bytes]) -> tuple[Path, ...]:
    """Write the files into the folder of `configuration` as `NAME.from-DRIVE`, root's alone; return the paths.

    Nothing that is there is replaced, and nothing reads a file of such a name. Raises `OSError`.
    """
    configuration.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    return tuple(
        _written(configuration.parent, f"{name}.from-{drive}", content) for name, content in sorted(files.items())
    )


def _written(folder: Path, name: str, content: bytes) -> Path:
    for number in range(1, 100):
        path = folder / (name if number == 1 else f"{name}.{number}")
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            if path.is_file() and path.read_bytes() == content:
                return path
            continue
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(content)
        return path
    raise FileExistsError(f"{folder / name} exists in a hundred versions")
