"""`.flashback/drive.yaml`: the drive says which it is.

It is written as `key: value` lines whose values are JSON, which every YAML reader understands, and it is read as just
that: no YAML parser meets what a foreign drive says.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Final

from flashback.core.errors import DriveError
from flashback.drive.layout import FORMAT_VERSION

_TEXTS: Final = ("name", "uuid", "created", "machine")
_LINE: Final = re.compile(r"([a-z_]{1,40}): (.{0,4000})")


@dataclass(frozen=True, slots=True)
class Marker:
    """`uuid` is the LUKS UUID; `created` is RFC 3339; `machine` is the last one that backed up to the drive."""

    name: str
    uuid: str
    created: str
    machine: str
    format: int = FORMAT_VERSION


def encode(marker: Marker) -> bytes:
    """The file's content."""
    lines = [f"{key}: {json.dumps(value)}" for key, value in asdict(marker).items()]
    return ("# Written by Flashback; it knows the drive by this.\n" + "\n".join(lines) + "\n").encode("ascii")


def decode(content: bytes) -> Marker:
    """Raises `DriveError` when the content is not a marker, or one of a later format."""
    found: dict[str, object] = {}
    for line in content.decode("utf-8", "replace").splitlines()[:100]:
        if match := _LINE.fullmatch(line):
            try:
                found[match[1]] = json.loads(match[2])
            except (ValueError, RecursionError):
                continue
    texts = {key: text for key in _TEXTS if isinstance(text := found.get(key), str)}
    version = found.get("format")
    if len(texts) < len(_TEXTS) or type(version) is not int or version < 1:
        raise DriveError(
            "the drive's own marker (.flashback/drive.yaml) cannot be read",
            hint="if you trust this drive, `flashback drive adopt` writes it anew",
        )
    if version > FORMAT_VERSION:
        raise DriveError(
            f"the drive has format {version}, and this Flashback knows formats up to {FORMAT_VERSION}",
            hint="use a newer Flashback for this drive",
        )
    return Marker(**texts, format=version)
