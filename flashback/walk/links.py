"""Where symbolic links lead, as far as that can be told from their text."""

from __future__ import annotations

import re
from typing import Final

LONGEST_CHAIN: Final = 40
"""So many links may be passed on the way to one file; with one more the kernel says ELOOP (path_resolution(7))."""

_LEADING_STEPS_UP: Final = re.compile(rb"(?:\.\./+)*")


def leaves(target: bytes, path: bytes) -> bool:
    """Whether the link at `path` (relative to the master) leads out of it, as rsync --copy-unsafe-links sees it.

    rsync goes by the text alone (`unsafe_symlink` in util1.c, seen with 3.5.0): absolute and empty targets lead out,
    so do those which climb above the master on their way, and those with `..` anywhere but at their beginning.
    """
    if not target or target.startswith(b"/"):
        return True
    rest = target[_LEADING_STEPS_UP.match(target).end() :]  # type: ignore[union-attr]  # it also matches nothing
    if b"/../" in rest or (len(target) > 3 and target.endswith(b"/..")):
        return True
    depth = path.count(b"/")
    for step in target.split(b"/"):
        if step == b"..":
            depth -= 1
            if depth < 0:
                return True
        elif step not in {b"", b"."}:
            depth += 1
    return False
