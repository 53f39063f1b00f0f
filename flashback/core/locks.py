"""Locks that die with their holder: `flock` on a file in the runtime directory, with a note on who holds it."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flashback.core.errors import Locked


class Lock:
    """The lock at `path`, which may be left for a while and taken again.

    The kernel drops an flock when its holder dies, so neither a crash nor a reboot leaves a stale lock, and a reused
    process number cannot be mistaken for the holder. What stands in the file (process number, boot, purpose) is for
    people. The file is opened without following links and stays behind, unlocked.
    """

    def __init__(self, path: Path, *, purpose: str) -> None:
        self._path = path
        self._purpose = purpose
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether it is ours now."""
        return self._descriptor is not None

    def take(self) -> None:
        """Take it; nothing to do when it is ours. Raises `Locked` at once when a living process holds it."""
        if self._descriptor is not None:
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 500, 0).decode("utf-8", "replace").partition("\n")[0]
                what = f"{holder or 'another process'} is at work"
                raise Locked(what, hint="wait until it has finished, then start again") from None
            note = f"flashback {self._purpose} (process {os.getpid()}, boot {boot_id()})\n".encode()
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, note, 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def leave(self) -> None:
        """Let others have it. May be called twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                os.ftruncate(descriptor, 0)
            finally:
                os.close(descriptor)


@contextmanager
def locked(path: Path, *, purpose: str) -> Iterator[Lock]:
    """Hold the lock at `path` for the block. Raises `Locked` at once when a living process holds it."""
    lock = Lock(path, purpose=purpose)
    lock.take()
    try:
        yield lock
    finally:
        lock.leave()


def holder(path: Path) -> str:
    """Who holds the lock at `path`, as they call themselves; empty where nobody does. Nothing is taken for it.

    A note that a killed process has left is told from a living one by the kernel's own list (proc(5), /proc/locks), by
    process and inode: its device numbers are not those that stat(2) gives on every file system.
    """
    try:
        inode, note = path.stat().st_ino, path.read_text("utf-8", "replace").partition("\n")[0]
        rows = [line.split() for line in Path("/proc/locks").read_text("ascii").splitlines()]
    except OSError:
        return ""
    found = re.search(r"\(process (\d+), boot ", note)
    held = {(row[4], row[5].rpartition(":")[2]) for row in rows if len(row) > 5 and row[1] == "FLOCK"}
    return note if found and (found[1], str(inode)) in held else ""


def boot_id() -> str:
    """The running boot's own random name (proc(5), random/boot_id)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
