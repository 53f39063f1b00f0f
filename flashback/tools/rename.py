"""Give something another name only where nothing has that name yet (renameat2(2), RENAME_NOREPLACE; Linux 3.15)."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

_NOREPLACE: Final = 1  # linux/fs.h
_UNKNOWN: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

_libc = ctypes.CDLL(None, use_errno=True)


def rename_new(source: int, old: bytes, target: int, new: bytes) -> None:
    """Move `old` in the directory open as `source` to `new` in the one open as `target`, on the same file system.

    Raises `FileExistsError` where `new` is there, whatever it is; other `OSError`s. A file system that does not know
    the flag (NFS, some of FUSE) is asked first: then somebody could come in between.
    """
    if _libc.renameat2(source, old, target, new, _NOREPLACE) == 0:
        return
    number = ctypes.get_errno()
    if number not in _UNKNOWN:
        raise OSError(number, os.strerror(number), os.fsdecode(new))
    try:
        os.stat(new, dir_fd=target, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(old, new, src_dir_fd=source, dst_dir_fd=target)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(new))
