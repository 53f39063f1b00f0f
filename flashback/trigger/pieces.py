"""The files that make plugging in work: the udev rule, the units, the polkit rule, written for one installation.

In the source tree they stand ready for packagers, with the command at `/usr/bin/flashback`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from flashback.core.errors import Missing, UsageError
from flashback.core.text import shown

PACKAGED: Final = "/usr/bin/flashback"
"""Where the command lies in the files of the source tree."""
MARK: Final = "`flashback enable`"
"""Stands at the top of each file: without it, a file at that place is somebody else's."""
_PLAIN: Final = re.compile(r"/[A-Za-z0-9/._+@-]+")


@dataclass(frozen=True, slots=True)
class Piece:
    """One file: `source` is its path in the source tree, `target` its place on a machine. `link` is a second name,
    a symbolic link to `target`, by which systemd knows that the unit is enabled.
    """

    source: str
    target: Path
    link: Path | None = None


PIECES: Final = (
    Piece("systemd/flashback-plug@.service", Path("/etc/systemd/system/flashback-plug@.service")),
    Piece(
        "systemd/flashback-watch.service",
        Path("/etc/systemd/user/flashback-watch.service"),
        link=Path("/etc/systemd/user/default.target.wants/flashback-watch.service"),
    ),
    Piece("systemd/flashback-remind.service", Path("/etc/systemd/system/flashback-remind.service")),
    Piece(
        "systemd/flashback-remind.timer",
        Path("/etc/systemd/system/flashback-remind.timer"),
        link=Path("/etc/systemd/system/timers.target.wants/flashback-remind.timer"),
    ),
    Piece("polkit/50-flashback.rules", Path("/etc/polkit-1/rules.d/50-flashback.rules")),
    Piece("udev/90-flashback.rules", Path("/etc/udev/rules.d/90-flashback.rules")),
)
"""In the order in which they are installed: the rule comes last, since it is what starts the others."""


def content(piece: Piece, command: str) -> str:
    """What stands in the file for an installation whose command is at `command`. Raises `Missing`, `UsageError`."""
    if _PLAIN.fullmatch(command) is None:
        raise UsageError(
            f"units cannot be written for a command at {shown(command)}",
            hint="install Flashback at a path of letters, digits and . _ + @ - only",
        )
    return _source(piece.source).replace(PACKAGED, command)


def _source(name: str) -> str:
    packaged = resources.files("flashback.trigger") / "pieces" / name
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    checkout = Path(__file__).parents[2] / name
    if checkout.is_file():
        return checkout.read_text(encoding="utf-8")
    raise Missing(f"{name} is missing from this installation", hint="Install Flashback again.")


def changeable_by(command: str) -> Iterator[str]:
    """The parts of the paths to `command`, to the package and to its Python that others than root can change.

    What is written into a unit runs as root; whoever can change it can become root.
    """
    seen: set[Path] = set()
    called = (Path(each) for program in (command, sys.executable) for each in (program, os.path.realpath(program)))
    for place in (*called, Path(__file__).resolve().parents[1], Path(os.__file__).resolve().parent):
        for part in (place, *place.parents):
            if part in seen:
                continue
            seen.add(part)
            try:
                status = os.stat(part)
            except OSError:
                continue
            if status.st_uid != 0 or (status.st_mode & 0o022 and not status.st_mode & 0o1000):
                yield str(part)
