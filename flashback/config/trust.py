"""Reading a file that decides what root does: nobody else may be able to change it (DESIGN 7.4)."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from flashback.core.errors import ConfigError
from flashback.core.text import shown
from flashback.core.way import walked

_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def read_file(file: Path, *, limit: int, trusted_by: int | None) -> bytes:
    """At most `limit + 1` bytes of a regular file (so that the caller sees when there are more).

    `trusted_by`: the uid besides root that may own the file and the directories above it, or `None` where that does
    not matter. Symbolic links are resolved first, and what was resolved is what is opened. POSIX ACLs need no look of
    their own: the group bits show their mask (acl(5)). Raises `ConfigError`.
    """
    real = Path(os.path.realpath(file))
    if trusted_by is not None:
        _links_are_safe(file, trusted_by)
        for directory in reversed(real.parents):
            _directory_is_safe(directory, real, trusted_by)
    try:
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{shown(str(file))} cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as opened:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{shown(str(file))} is not a file")
        if trusted_by is not None:
            _file_is_safe(status, real, trusted_by)
        return _read(opened.fileno(), limit + 1, file)


def _read(descriptor: int, count: int, file: Path) -> bytes:
    try:
        return b"".join(_pieces(descriptor, count))
    except OSError as error:
        raise ConfigError(f"{shown(str(file))} cannot be read: {error.strerror}") from error


def _pieces(descriptor: int, count: int) -> Iterator[bytes]:
    while count > 0 and (piece := os.read(descriptor, count)):
        yield piece
        count -= len(piece)


def _links_are_safe(file: Path, uid: int) -> None:
    """Whoever made a link on the way could choose which of our files is read."""
    try:
        here, links = walked(file)
    except OSError as error:
        raise ConfigError(f"{shown(str(file))} cannot be read: {error.strerror}") from error
    os.close(here)
    for name, maker in links:
        if maker not in {0, uid}:
            raise ConfigError(
                f"{shown(str(file))} leads through the link {shown(name)}, which another user made (uid {maker})",
                hint="Root follows only what nobody else can change. Name the file that the link leads to",
            )


def _file_is_safe(status: os.stat_result, real: Path, uid: int) -> None:
    if status.st_uid not in {0, uid}:
        raise _refusal(f"{shown(str(real))} belongs to another user (uid {status.st_uid})", f"chown root {_word(real)}")
    if status.st_mode & _OTHERS_MAY_WRITE:
        raise _refusal(f"{shown(str(real))} can be changed by other users", f"chmod go-w {_word(real)}")


def _directory_is_safe(directory: Path, file: Path, uid: int) -> None:
    try:
        status = os.stat(directory, follow_symlinks=False)
    except OSError as error:
        raise ConfigError(f"{shown(str(file))} cannot be read: {error.strerror}") from error
    if status.st_uid not in {0, uid}:
        # Taking a person's home away from them is no repair: the file has to move.
        move = f"install -D -o root -m 644 {_word(file)} {_word(Path('/etc/flashback') / file.name)}"
        what = (
            f"{shown(str(file))} lies in {shown(str(directory))}, which belongs to another user (uid {status.st_uid})"
        )
        raise _refusal(what, move)
    # In a sticky directory others can add names but not replace ours, whose owner is looked at in its turn.
    if status.st_mode & _OTHERS_MAY_WRITE and not status.st_mode & stat.S_ISVTX:
        what = f"{shown(str(file))} lies in {shown(str(directory))}, where other users can replace it"
        raise _refusal(what, f"chmod go-w {_word(directory)}")


def _refusal(what: str, repair: str) -> ConfigError:
    return ConfigError(what, hint=f"Root follows only what nobody else can change. To repair it: sudo {repair}")


def _word(path: Path) -> str:
    return shown(shlex.quote(str(path)))
