"""What the drive says of itself, to Flashback (`.flashback/drive.yaml`) and to people (`README.txt`)."""

from __future__ import annotations

import errno

from flashback.drive import layout, marker
from flashback.drive.readme import readme
from flashback.drive.session import OpenDrive, check_marker
from flashback.rotation.values import KnownDrive


def write(root: int, ours: int, known: KnownDrive, *, created: str, machine: str) -> None:
    """Write both where they differ from what they should be. `created` is when the drive was made (RFC 3339).

    The marker comes first: it is what the drive is known by. Raises `OSError`.
    """
    said = marker.Marker(known.name, known.uuid, created, machine, place=known.place, masters=known.masters)
    _write_where_different(ours, layout.MARKER, marker.encode(said), 0o600)
    _write_where_different(root, layout.README, readme(name=known.name, uuid=known.uuid).encode(), 0o644)


def keep(drive: OpenDrive, *, machine: str) -> None:
    """Have an open drive say what the ledger says now: it may have been renamed since. On a full drive: the next time.

    Raises `OSError`, and `DriveError` where the drive's own files are not what they should be.
    """
    created = check_marker(drive).created
    try:
        with layout.directory(drive.root, layout.OURS) as ours:
            write(drive.root, ours, drive.known, created=created, machine=machine)
    except OSError as problem:
        if problem.errno != errno.ENOSPC:
            raise


def _write_where_different(parent: int, name: str, content: bytes, mode: int) -> None:
    if layout.read_text(parent, name) != content:
        layout.write_text(parent, name, content, mode)
