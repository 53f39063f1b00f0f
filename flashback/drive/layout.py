"""What lies where on a drive (DESIGN part 4), and how to get there without following anything the drive planted.

Everything on a drive is untrusted: each component below the mount point is opened with O_NOFOLLOW and must be what it
should be, so a link at `.flashback`, `<master>/current` or `snapshots` leads nowhere.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from flashback.core.errors import DriveError
from flashback.core.text import parse_stamp, shown

OURS: Final = ".flashback"
README: Final = "README.txt"
CURRENT: Final = "current"
SNAPSHOTS: Final = "snapshots"
JOURNAL: Final = "runs.jsonl"
MARKER: Final = "drive.yaml"
CONFIG_COPY: Final = "config"
HEADERS: Final = "headers"
BALLAST: Final = "ballast"
BALLAST_SHARE: Final = 1000
BALLAST_MOST: Final = 16 * 1024 * 1024
"""A full Btrfs cannot take two bytes more; the ballast is what may be given up so that the journal can be written."""
FORMAT_VERSION: Final = 1

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
LONGEST_JOURNAL: Final = 16 * 1024 * 1024
"""Bytes; of a longer one the last are read. Some ten thousand runs."""
LARGEST_TEXT: Final = 1024 * 1024
"""Bytes of a text that is read as a whole: no exclusion file may be longer."""


@contextmanager
def directory(parent: int, name: str) -> Iterator[int]:
    """A descriptor of the directory `name` in `parent`. Raises `DriveError` when it is a link or no directory."""
    descriptor = open_directory(parent, name)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_directory(parent: int, name: str) -> int:
    """Like `directory`, for callers that keep the descriptor. Raises `FileNotFoundError` too."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as problem:
        if problem.errno in {errno.ELOOP, errno.ENOTDIR}:
            raise DriveError(
                f"{shown(name)} on the drive is not a directory of its own",
                hint="somebody changed the drive by hand; look at it on a machine that you do not mind losing",
            ) from problem
        raise


@contextmanager
def made_directory(parent: int, name: str, mode: int = 0o700) -> Iterator[int]:
    """Like `directory`; makes it first where there is nothing. The mode is set whatever the umask."""
    try:
        os.mkdir(name, mode, dir_fd=parent)
        fresh = True
    except FileExistsError:
        fresh = False
    with directory(parent, name) as descriptor:
        if fresh:
            os.fchmod(descriptor, mode)
        yield descriptor


def read_text(parent: int, name: str, *, most: int = LARGEST_TEXT) -> bytes | None:
    """The content of the regular file `name`, or `None` when there is none.

    Raises `DriveError` for anything else, and for a file of more than `most` bytes.
    """
    return _read(parent, name, most=most, whole=True)


def read_lines(parent: int, name: str) -> bytes:
    """The lines of a file that grows for as long as the drive lives: of a very long one the last ones.

    Nothing when there is no such file. Raises `DriveError` as `read_text` does.
    """
    return _read(parent, name, most=LONGEST_JOURNAL, whole=False) or b""


def _read(parent: int, name: str, *, most: int, whole: bool) -> bytes | None:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    except FileNotFoundError:
        return None
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            raise DriveError(f"{shown(name)} on the drive is a link, which Flashback never makes") from problem
        raise
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        before = status.st_size - most
        if not stat.S_ISREG(status.st_mode) or (whole and before > 0):
            raise DriveError(f"{shown(name)} on the drive is not a file of the size that Flashback writes")
        if before > 0:
            file.seek(before)
            file.readline(most)  # which began before
        return file.read(most)


def write_text(parent: int, name: str, content: bytes, mode: int = 0o600) -> None:
    """Replace the file `name` as a whole, with its content on the medium before its name."""
    temporary = f".{name}.new"
    try:
        os.unlink(temporary, dir_fd=parent)
    except FileNotFoundError:
        pass
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=parent
    )
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)


def ballast_for(size: int) -> int:
    """How much is set aside on a drive of this size."""
    return min(BALLAST_MOST, size // BALLAST_SHARE)


def ballast(parent: int) -> int:
    """How much is set aside now; 0 where it was given up."""
    try:
        return os.stat(BALLAST, dir_fd=parent, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def write_ballast(parent: int, length: int) -> None:
    """Set `length` bytes aside, as random as can be so that compression does not make them vanish."""
    write_text(parent, BALLAST, os.urandom(length))


def append_line(parent: int, name: str, line: bytes, mode: int = 0o600) -> None:
    """Append one line and wait until it is on the medium.

    A line that was torn before (a power cut, a full drive) is ended first, or it would swallow this one.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(name, flags, mode, dir_fd=parent)
    with open(descriptor, "r+b", buffering=0) as file:
        end = os.fstat(descriptor).st_size
        torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
        _write_all(file, (b"\n" if torn else b"") + line + b"\n")
        os.fsync(descriptor)


def _write_all(file: io.FileIO, content: bytes) -> None:
    while content:
        content = content[file.write(content) :]


def append_line_even_when_full(parent: int, name: str, line: bytes) -> None:
    """Append a line; where the drive is full to the last byte, the ballast is given up for it."""
    try:
        append_line(parent, name, line)
    except OSError as problem:
        if problem.errno != errno.ENOSPC or not give_up_ballast(parent):
            raise
        append_line(parent, name, line)


def give_up_ballast(parent: int) -> bool:
    """Make the last room on a full drive; false when it was made before."""
    try:
        os.unlink(BALLAST, dir_fd=parent)
    except FileNotFoundError:
        return False
    os.sync()
    return True


def snapshot_names(snapshots: int) -> tuple[str, ...]:
    """The names of ours in an open `snapshots` folder, oldest first; anything else there is left alone.

    The folder is opened anew: a Btrfs directory lists nothing that was made after it was opened (seen with Linux 6.1).
    """
    fresh = os.open(".", _DIRECTORY, dir_fd=snapshots)
    try:
        with os.scandir(fresh) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    finally:
        os.close(fresh)
    return tuple(sorted(name for name in names if parse_stamp(name) is not None))
