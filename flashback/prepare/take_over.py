"""The configuration that a drive carries comes into force on a machine that has none, once a person has seen it.

Nothing in it is carried out here, and nothing that exists is replaced. What came from another folder than the
configuration's own, or would stand in the place of a file that is here, is put beside, where nothing reads it: no drive
says where on this machine a file is to be written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from flashback.core.text import number, shown
from flashback.drive.configuration import FILE_NAME, Index
from flashback.prepare.ask import Ask
from flashback.prepare.contents import put_beside

USUAL: Final = "flashback.yaml"
DEEPEST: Final = 3
"""Folders below the configuration's own, at most."""
QUESTION: Final = "Make this the configuration of this machine?"


@dataclass(frozen=True, slots=True)
class Taken:
    """`in_force` are the files that are read from now on, the configuration first; `beside` those to look at."""

    in_force: tuple[Path, ...] = ()
    beside: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be written where: `main` first; `others` cannot come into force."""

    main: Path
    files: Mapping[Path, bytes]
    others: Mapping[str, bytes]

    def lines(self) -> tuple[str, ...]:
        """All that a person has to see before they say yes: the configuration itself, and what else there is."""
        text = self.files[self.main].decode("utf-8", "replace").splitlines()
        rules = [
            f"{shown(str(path))}: {number(len(content.splitlines()), 'line')} of exclusions"
            for path, content in self.files.items()
            if path != self.main
        ]
        return (
            "The drive carries a configuration. Look at the paths in it before you make it yours:",
            *(f"    {shown(line)}" for line in text),
            *rules,
            *(f"{shown(name)} came from another folder, and is put beside" for name in self.others),
        )


def plan(config: Path, files: Mapping[str, bytes], index: Index | None) -> Plan | None:
    """What could come into force at `config`, or `None` where the drive carries no configuration. Pure."""
    main = index.main if index is not None else USUAL
    if main not in files:
        return None
    home = PurePosixPath(index.origins[main]).parent if index is not None else PurePosixPath("/")
    inside, others = {config: files[main]}, {}
    for name, content in files.items():
        if name == main or (index is not None and name not in index.origins):
            continue
        origin = PurePosixPath(index.origins[name]) if index is not None else home / name
        target = _below(config.parent, home, origin)
        if target is None or target in inside:
            others[name] = content
        else:
            inside[target] = content
    return Plan(config, inside, others)


def _below(folder: Path, home: PurePosixPath, origin: PurePosixPath) -> Path | None:
    """The same place below the configuration's folder here; `None` for one outside, or with a name to be wary of."""
    if not origin.is_relative_to(home):
        return None
    parts = origin.relative_to(home).parts
    fine = 0 < len(parts) <= DEEPEST and all(FILE_NAME.fullmatch(part) for part in parts)
    return folder.joinpath(*parts) if fine else None


def take_over(
    config: Path, drive: str, files: Mapping[str, bytes], index: Index | None, *, asker: Ask | None, yes: bool
) -> Taken:
    """Write it where it comes into force, if that is wanted, else beside. Raises `OSError`."""
    if os.path.lexists(config) or not files:
        return Taken()
    planned = plan(config, files, index)
    wanted = yes
    if planned is not None and asker is not None and not yes:
        asker.show("\n".join(planned.lines()))
        wanted = asker.confirm(QUESTION, default=False)
    if planned is None or not wanted:
        return Taken(beside=put_beside(config, drive, dict(files)))
    written, beside = list[Path](), list[Path]()
    for path, content in reversed(list(planned.files.items())):
        if _written_new(path, content):
            written.insert(0, path)
        elif not _is_same(path, content):
            beside += put_beside(path, drive, {path.name: content})
    if planned.others:
        beside += put_beside(config, drive, dict(planned.others))
    return Taken(tuple(written), tuple(beside))


def _is_same(path: Path, content: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content


def _written_new(path: Path, content: bytes) -> bool:
    """Whether it was written: what is there stays as it is. The configuration comes last, when the rest is there."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return False
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(descriptor, 0o644)
        os.fsync(descriptor)
    return True
