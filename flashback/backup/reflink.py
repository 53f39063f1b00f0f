"""A file's content and attributes once more, sharing what it takes on the drive (ioctl FICLONE, ioctl_ficlone(2))."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import stat
from typing import Final

from flashback.backup.deletions import keeping_times

_FICLONE: Final = 0x40049409
"""`_IOW(0x94, 9, int)` of linux/fs.h; the same number on every architecture that Btrfs runs on but mips and powerpc."""
_CANNOT: Final = frozenset({errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EPERM})


def open_file(parent: int, name: bytes) -> int | None:
    """A descriptor of the regular file `name`, or `None` when it is not there or is something else."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    except OSError as problem:
        if problem.errno in {errno.ENOENT, errno.ELOOP, errno.ENXIO}:
            return None
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


def put_copy(source: int, parent: int, name: bytes) -> None:
    """Put a file like the open `source` in the place of `name`, at once and as a whole; nothing is written through.

    The directory's times stay. Raises `OSError`; what was there is then still there.
    """
    temporary = b".flashback-" + secrets.token_hex(8).encode()
    with keeping_times(parent):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.open(temporary, flags, 0o600, dir_fd=parent)
        try:
            _fill(source, target)
            _dress(source, target)
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            os.unlink(temporary, dir_fd=parent)
            raise
        finally:
            os.close(target)


def _fill(source: int, target: int) -> None:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as problem:
        if problem.errno not in _CANNOT:
            raise
        with open(source, "rb", closefd=False) as reading, open(target, "wb", closefd=False) as writing:
            shutil.copyfileobj(reading, writing, 1024 * 1024)


def _dress(source: int, target: int) -> None:
    """Owner first, since a change of owner takes mode bits and capabilities away; times last."""
    at = os.fstat(source)
    os.fchown(target, at.st_uid, at.st_gid)
    os.fchmod(target, stat.S_IMODE(at.st_mode))
    for attribute in os.listxattr(source):
        os.setxattr(target, attribute, os.getxattr(source, attribute))
    os.utime(target, ns=(at.st_atime_ns, at.st_mtime_ns))
