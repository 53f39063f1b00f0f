"""Deleting subvolumes of a mounted Btrfs, by descriptors: nothing on the drive can lead elsewhere.

The kernel takes a subvolume out of its directory at once and gives back what it held later, in a thread of its own:
commit (`syncfs`), wake it (`clean_up`), wait until it `is_deleted`, commit again; then the space is free. Numbers and
layouts are those of linux/btrfs.h (Linux 6.1).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import Final

from flashback.core.command import Command, CommandFailed, Runner
from flashback.core.errors import DriveError, FlashbackError, NoSpace

_SYNC: Final = 0x94 << 8 | 8
_SNAP_DESTROY: Final = 1 << 30 | 4096 << 16 | 0x94 << 8 | 15
_TREE_SEARCH: Final = 3 << 30 | 4096 << 16 | 0x94 << 8 | 17
_TOP_OF_SUBVOLUME: Final = 256
"""The number of its first directory (btrfs(5))."""
_ROOT_TREE: Final = 1
_ROOT_ITEM: Final = 132
_ORPHANS: Final = 2**64 - 5
_ORPHAN_ITEM: Final = 48
"""Where the kernel notes what it has still to clear away (linux/btrfs_tree.h)."""
_HEADERS_FROM: Final = 104
"""In its answer to a search: `struct btrfs_ioctl_search_header`, each followed by its item."""


def delete(parent: int, name: str) -> None:
    """Delete the subvolume `name` in the directory that is open as `parent`.

    Works on a full drive too: the kernel keeps a reserve for it. Raises `DriveError` for what is none, `NoSpace`.
    """
    what = f"the snapshot {name} cannot be deleted"
    try:
        at = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if at.st_ino != _TOP_OF_SUBVOLUME or at.st_dev == os.fstat(parent).st_dev:
            raise DriveError(f"{what}: it is no subvolume")
        fcntl.ioctl(parent, _SNAP_DESTROY, bytearray(struct.pack("=q4088s", 0, os.fsencode(name))))
    except OSError as problem:
        kind: type[FlashbackError] = NoSpace if problem.errno == errno.ENOSPC else DriveError
        raise kind(f"{what}: {os.strerror(problem.errno or 0)}") from problem


def clean_up(fd: int) -> None:
    """Wake the thread that gives back what deleted subvolumes held: else it sleeps for up to 30 s. Raises `OSError`."""
    fcntl.ioctl(fd, _SYNC)


def is_deleted(fd: int, number: int) -> bool:
    """Whether the subvolume of this number has given back all that it held. Raises `OSError`."""
    return not _found(fd, (number, number), _ROOT_ITEM)


def give_back_chunks(run: Runner, mount_point: Path) -> bool:
    """Let chunks that hold no data any more become free for metadata, where the kernel has not done so yet.

    It may take its time, and a file system whose metadata is full has none ("No space left" with half of the data area
    free, seen with Linux 6.1). Only empty chunks are touched (btrfs-balance(8), usage=0): nothing is moved. False where
    there was no room for that either.
    """
    try:
        run(Command(("btrfs", "balance", "start", "-dusage=0", str(mount_point))))
    except CommandFailed:
        return False
    return True


def pending(fd: int) -> tuple[int, ...]:
    """The numbers of subvolumes that were deleted and have not given back everything yet, however long ago that was.

    After a crash the kernel goes on with it once the file system is mounted for writing. Raises `OSError`.
    """
    return tuple(offset for _number, offset in _found(fd, (_ORPHANS, _ORPHANS), _ORPHAN_ITEM))


def _found(fd: int, numbers: tuple[int, int], kind: int) -> list[tuple[int, int]]:
    """Number and offset of the items of this kind in the tree of trees; of very many the first ones."""
    asked, most = bytearray(4096), 2**64 - 1
    struct.pack_into("=7Q3I", asked, 0, _ROOT_TREE, *numbers, 0, most, 0, most, kind, kind, 2**32 - 1)
    fcntl.ioctl(fd, _TREE_SEARCH, asked)
    count, at, found = struct.unpack_from("=I", asked, 64)[0], _HEADERS_FROM, []
    for _ in range(count):
        _generation, number, offset, its_kind, length = struct.unpack_from("=QQQII", asked, at)
        if its_kind == kind:
            found.append((number, offset))
        at += 32 + length
    return found
