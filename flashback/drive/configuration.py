"""The copy of the configuration that a drive carries: which file was which, for a machine that has none. Pure.

`.flashback/config/` is flat, and exclusion files come from anywhere: each has a name of its own there, and `index.json`
says where it came from. What a drive says of that is a word, not an instruction: see `prepare.take_over`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

INDEX: Final = "index.json"
FILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", re.ASCII)
_LONGEST_PATH: Final = 4096


@dataclass(frozen=True, slots=True)
class Index:
    """`main` is the copy of the configuration itself, `origins` the path that each copy came from, by its name."""

    main: str
    origins: Mapping[str, str] = field(default_factory=dict)


def names_for(main: Path, others: Iterable[Path]) -> dict[str, Path]:
    """A name on the drive for each file, the configuration first; no two alike."""
    found: dict[str, Path] = {}
    for file in dict.fromkeys([main, *others]):
        wanted = file.name if FILE_NAME.fullmatch(file.name) and file.name != INDEX else "exclusions.txt"
        stem, suffix = PurePosixPath(wanted).stem[:50], PurePosixPath(wanted).suffix[:10]
        number = 1
        while wanted.casefold() in {name.casefold() for name in found}:
            number += 1
            wanted = f"{stem}-{number}{suffix}"
        found[wanted] = file
    return found


def encode(names: Mapping[str, Path]) -> bytes:
    """The index of what `names_for` gave; the first is the configuration. Odd bytes in a path come as escapes."""
    main = next(iter(names))
    said = {"configuration": main, "files": {name: str(path) for name, path in names.items()}}
    return (json.dumps(said, indent=1) + "\n").encode("ascii")


def decode(content: bytes) -> Index | None:
    """The index again, as far as it can be one; `None` for what is none. Never raises: the content is a drive's."""
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not isinstance(said.get("files"), dict):
        return None
    main = said.get("configuration")
    origins = {name: path for name, path in said["files"].items() if FILE_NAME.fullmatch(name) and _is_path(path)}
    return Index(main, origins) if isinstance(main, str) and main in origins else None


def _is_path(path: object) -> bool:
    return isinstance(path, str) and path.startswith("/") and len(path) <= _LONGEST_PATH and "\0" not in path
