"""Faults that are made around a command: the drive's, the host's, the clock's; and how each is taken back.

`make` runs in the process of flashback when it has come to its point, `heal` afterwards in the test's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.conftest import run
from tests.guest.conftest import wait_for
from tests.guest.faults import DRIVE_MOUNTED, Kind, Scene

DAYS = 86_400
JUMPS = {Kind.BACK: -2 * DAYS, Kind.FORWARD: 2 * DAYS}
SCSI = Path("/sys/module/scsi_debug/parameters")
"""Of scsi_debug: `wp` (each write is refused) and `opts` with MEDIUM_ERR, 2 (a stretch cannot be read)."""
STATE_SIZE = "128M"
NO_FAULT = "no-fault"
"""A file that says that the fault is none here; the trial then does not count."""


def make(kind: Kind, home: Path | None, command: Any) -> None:
    assert home is not None
    if kind is Kind.CRASH:
        if not crash(command.argv[0]):
            (home / NO_FAULT).touch()
    elif kind is Kind.NO_WRITE:
        (SCSI / "wp").write_text("1", "ascii")
    elif kind is Kind.NO_READ:
        (SCSI / "medium_error_start").write_text("0", "ascii")
        (SCSI / "medium_error_count").write_text(str(1 << 30), "ascii")
        (SCSI / "opts").write_text("2", "ascii")
    elif kind is Kind.FULL:
        if not fill_the_drive():
            (home / NO_FAULT).touch()
    elif kind is Kind.LEDGER_FULL:
        at = os.statvfs(home / "state")
        used = (at.f_blocks - at.f_bfree) or 1  # 0 would be no limit
        run("mount", "-o", f"remount,size={used * at.f_frsize}", home / "state")
    elif kind in JUMPS:
        jump(JUMPS[kind])
    elif kind is Kind.SECOND:
        (home / "second-wanted").touch()
        until = time.monotonic() + 100
        while not (home / "second-done").exists():
            assert time.monotonic() < until, "the second run did not end"
            time.sleep(0.01)
        (home / "second-done").unlink()
    elif kind is Kind.STOP:
        stop_and_continue()


def heal(kind: Kind, scene: Scene) -> None:
    """The next command finds the world as it was."""
    state = scene.machine.state
    if kind is Kind.NO_WRITE:
        (SCSI / "wp").write_text("0", "ascii")
        disk = Path("/sys/block") / scene.stick.device.name
        (disk / "device/rescan").write_text("1", "ascii")  # else it stays read-only where it was looked at meanwhile
        wait_for(lambda: (disk / "ro").read_text("ascii") == "0\n", "the disk to be writable again")
    elif kind is Kind.NO_READ:
        (SCSI / "opts").write_text("0", "ascii")
    elif kind is Kind.LEDGER_FULL:
        run("mount", "-o", f"remount,size={STATE_SIZE}", state)
    elif kind in JUMPS:
        jump(-JUMPS[kind])
        scene.allowed = ("--allow", "clock")
    elif kind is Kind.FULL:
        secret = scene.machine.secret.read_bytes()
        with scene.machine.opened(scene.stick.device, read_only=False, secret=secret) as drive:
            (drive / "filler").unlink(missing_ok=True)


def own_state(state: Path) -> None:
    """The folder of the ledger becomes a file system of its own, which can be full."""
    state.mkdir(mode=0o700)
    run("mount", "-t", "tmpfs", "-o", f"size={STATE_SIZE},mode=700", "tmpfs", state)


def jump(seconds: int) -> None:
    time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)


def crash(program: str) -> bool:
    """End the child that runs it by SIGSEGV; false where it has come to its end already."""
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split():
        if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].endswith(program.encode()):
            os.kill(int(pid), signal.SIGSEGV)
            return True
    return False


def fill_the_drive() -> bool:
    """Every free byte of the drive that this process has mounted; false where none is, or read-only."""
    found = DRIVE_MOUNTED.search(Path("/proc/self/mountinfo").read_text("utf-8"))
    if not found or os.statvfs(found[1]).f_flag & os.ST_RDONLY:
        return False
    with open(f"{found[1]}/filler", "wb") as file:
        for step in (16 << 20, 1 << 20, 4096):
            try:
                while True:
                    os.posix_fallocate(file.fileno(), file.tell(), step)
                    file.seek(step, os.SEEK_CUR)
            except OSError:
                continue
    return True


def stop_and_continue() -> None:
    """This process and its children stop, as in a suspended machine, and go on half a second later."""
    us = [os.getpid(), *map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split())]
    words = "kill -STOP {0}; sleep 0.5; kill -CONT {0}".format(" ".join(map(str, reversed(us))))
    subprocess.Popen(["sh", "-c", words], start_new_session=True)
    time.sleep(0.3)  # it is stopped somewhere in here
