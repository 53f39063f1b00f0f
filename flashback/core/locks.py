"""Locks that die with their holder: `flock` on a file in the runtime directory, with a note on who holds it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flashback.core.errors import Locked


@contextmanager
def locked(path: Path, *, purpose: str) -> Iterator[None]:
    """Hold the lock at `path` for the block. Raises `Locked` at once when a living process holds it.

    The kernel drops an flock when its holder dies, so neither a crash nor a reboot leaves a stale lock, and a reused
    process number cannot be mistaken for the holder. What stands in the file (process number, boot, purpose) is for
    people. The file is opened without following links and stays behind, unlocked.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 500, 0).decode("utf-8", "replace").partition("\n")[0] or "another process"
            raise Locked(f"{holder} is at work", hint="wait until it has finished, then start again") from None
        note = f"flashback {purpose} (process {os.getpid()}, boot {boot_id()})\n".encode()
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, note, 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def boot_id() -> str:
    """The running boot's own random name (proc(5), random/boot_id)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
