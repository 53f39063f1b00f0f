"""The way to a place that a person named, links included, and who made those: nobody may lead root elsewhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

LONGEST: Final = 4096
"""Names on the way, the targets of links included: PATH_MAX, more than the kernel follows."""
_STEP: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

Link = tuple[str, int]
"""The name of a link that was followed, and the user who owns it."""


def walked(path: Path) -> tuple[int, list[Link]]:
    """A descriptor (O_PATH) of what `path` leads to, found step by step, and the links that were followed.

    Nothing can be exchanged behind our back: each step is taken from the one before. Raises `OSError`.
    """
    os.stat(path)  # what can be mounted by looking at it is, and what is not there is said by its whole name
    links: list[Link] = []
    here, waiting = os.open("/", _STEP), list(path.absolute().parts[1:])
    try:
        for _ in range(LONGEST):
            if not waiting:
                break
            name = waiting.pop(0)
            there = os.open(name, _STEP, dir_fd=here)
            at = os.fstat(there)
            if stat.S_ISLNK(at.st_mode):
                links.append((name, at.st_uid))
                target = Path(os.readlink("", dir_fd=there))
                waiting = [*(part for part in target.parts if part != "/"), *waiting]
                os.close(there)
                there = os.open("/", _STEP) if target.is_absolute() else os.dup(here)
            os.close(here)
            here = there
    except BaseException:
        os.close(here)
        raise
    return here, links
