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
    """`uuid` is the LUKS UUID; `created` is RFC 3339; `machine` is the last one that backed up to the drive.

    `place` and `masters` are what that machine's ledger said of the drive, should the ledger be lost.
    """

    name: str
    uuid: str
    created: str
    machine: str
    format: int = FORMAT_VERSION
    place: str = ""
    masters: tuple[str, ...] | None = None


def encode(marker: Marker) -> bytes:
    """The file's content; what is not said (no place, all masters) has no line."""
    said = {key: value for key, value in asdict(marker).items() if value not in ("", None) or key in _TEXTS}
    lines = [f"{key}: {json.dumps(value)}" for key, value in said.items()]
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
            hint="nothing was changed. README.txt on the drive says how to read it by hand; "
            "`flashback init` makes a new drive of it, and erases what is on it",
        )
    if version > FORMAT_VERSION:
        raise DriveError(
            f"the drive has format {version}, and this Flashback knows formats up to {FORMAT_VERSION}",
            hint="use a newer Flashback for this drive",
        )
    place, masters = found.get("place"), found.get("masters")
    return Marker(**texts, format=version, place=place if isinstance(place, str) else "", masters=_names(masters))


def _names(value: object) -> tuple[str, ...] | None:
    """A list of names, or `None` for whatever else stands there."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return None
    return tuple(value)
