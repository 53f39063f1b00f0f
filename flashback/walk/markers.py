"""Files that keep the other contents of their directory out of a backup, exclusion rules or not.

- `CACHEDIR.TAG`, an ordinary file that begins with the signature of https://bford.info/cachedir/ (as tar does with
  --exclude-caches): the directory and the tag are backed up, the rest is as if excluded;
- `.nobackup`, of any kind and content (as borg does with --exclude-if-present .nobackup --keep-exclude-tags): the same.
  Where it is a directory, it is backed up as an empty one.

In the master's own directory, where they would empty the backup, both are ignored, with a remark.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

CACHE_TAG: Final = b"CACHEDIR.TAG"
CACHE_SIGNATURE: Final = b"Signature: 8a477f597d28d172789f06886806bc55"
NO_BACKUP: Final = b".nobackup"
MARKERS: Final = frozenset({CACHE_TAG, NO_BACKUP})
OURS: Final = b".flashback-snapshots"
"""Where a snapshot of a Btrfs master lies while a run reads from it; never backed up, whatever it is."""
LOOKED_AT: Final = MARKERS | {OURS}


def valid(directory: int, found: Iterable[bytes]) -> bytes | None:
    """The marker that counts among those `found` in a directory that is open, or `None`."""
    return next((name for name in sorted(found) if name == NO_BACKUP or _is_cache_tag(directory)), None)


def _is_cache_tag(directory: int) -> bool:
    with suppress(OSError):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        tag = os.open(CACHE_TAG, flags, dir_fd=directory)
        try:
            return stat.S_ISREG(os.fstat(tag).st_mode) and os.read(tag, len(CACHE_SIGNATURE)) == CACHE_SIGNATURE
        finally:
            os.close(tag)
    return False
