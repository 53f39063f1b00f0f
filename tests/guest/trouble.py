"""Faults that are made around a command: the drive's, the host's, the clock's; and how each is taken back.

`make` runs in the process of flashback when it has come to its point, `heal` afterwards in the test's.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import run
from tests.guest import grounds
from tests.guest.conftest import wait_for
from tests.guest.faults import DRIVE_MOUNTED, Kind, Scene

DAYS = 86_400
JUMPS = {Kind.BACK: -2 * DAYS, Kind.FORWARD: 2 * DAYS}
SCSI = Path("/sys/module/scsi_debug/parameters")
"""Of scsi_debug: `wp` (each write is refused) and `opts` with MEDIUM_ERR, 2 (a stretch cannot be read)."""
NO_FAULT = "no-fault"
"""A file that says that the fault is none here; the trial then does not count."""


FILLER = "filler"
"""What takes the room, on the drive or beside the ledger."""
MASTER = (Kind.MASTER_RENAMED, Kind.MASTER_UNMOUNTED, Kind.MASTER_UNREADABLE)


def make(kind: Kind, home: Path | None, command: Any) -> None:
    assert home is not None
    if kind in MAKING:
        MAKING[kind](home)
    elif kind in JUMPS:
        jump(JUMPS[kind])
    elif kind is Kind.CRASH:
        if not crash(command.argv[0]):
            (home / NO_FAULT).touch()
    elif kind in {Kind.FULL, Kind.METADATA_FULL}:
        drive = writable_drive()
        if drive is None:
            (home / NO_FAULT).touch()
        else:
            (fill if kind is Kind.FULL else fill_the_metadata)(drive / FILLER)


def refuse_writes(_home: Path) -> None:
    (SCSI / "wp").write_text("1", "ascii")


def refuse_reads(_home: Path) -> None:
    (SCSI / "medium_error_start").write_text("0", "ascii")
    (SCSI / "medium_error_count").write_text(str(1 << 30), "ascii")
    (SCSI / "opts").write_text("2", "ascii")


def await_a_second(home: Path) -> None:
    """It is the process of the test that runs it."""
    (home / "second-wanted").touch()
    until = time.monotonic() + 100
    while not (home / "second-done").exists():
        assert time.monotonic() < until, "the second run did not end"
        time.sleep(0.01)
    (home / "second-done").unlink()


def abort_the_ledgers(home: Path) -> None:
    """Its ext4 turns read-only as it does after an error, whether somebody is writing or not."""
    run("mount", "-o", "remount,abort", home / "state")


def heal(kind: Kind, scene: Scene) -> None:
    """The next command finds the world as it was."""
    machine = scene.machine
    if kind is Kind.NO_WRITE:
        (SCSI / "wp").write_text("0", "ascii")
        disk = Path("/sys/block") / scene.stick.device.name
        (disk / "device/rescan").write_text("1", "ascii")  # else it stays read-only where it was looked at meanwhile
        wait_for(lambda: (disk / "ro").read_text("ascii") == "0\n", "the disk to be writable again")
    elif kind is Kind.NO_READ:
        (SCSI / "opts").write_text("0", "ascii")
    elif kind is Kind.NO_FLUSH:
        scene.stick.become("linear")  # type: ignore[attr-defined]
    elif kind is Kind.LEDGER_FULL:
        (machine.state / FILLER).unlink(missing_ok=True)
    elif kind is Kind.LEDGER_READ_ONLY:
        machine.grounds["state"].whole_again()
    elif kind in MASTER:
        machine.grounds[grounds.DISK].whole_again()
        if (away := away_from(machine.master)).exists():
            away.rename(machine.master)
    elif kind in JUMPS:
        jump(-JUMPS[kind])
        scene.allowed = ("--allow", "clock")
    elif kind in {Kind.FULL, Kind.METADATA_FULL}:
        secret = machine.secret.read_bytes()
        with machine.opened(scene.stick.device, read_only=False, secret=secret) as drive:
            run("rm", "-rf", drive / FILLER)


def rename_the_master(home: Path) -> None:
    (home / grounds.DISK / "Documents").rename(away_from(home / grounds.DISK / "Documents"))


def unmount_the_master(home: Path) -> None:
    """As somebody else does: where it is not only we who see it."""
    run("nsenter", f"--mount=/proc/{os.getppid()}/ns/mnt", "umount", "--lazy", home / grounds.DISK)


def spoil_the_master(home: Path) -> None:
    run("sync", "--file-system", home / grounds.DISK)
    grounds.becomes(home / grounds.NO_MASTER)
    Path("/proc/sys/vm/drop_caches").write_text("3", "ascii")


def away_from(master: Path) -> Path:
    return master.with_name(f"{master.name}.away")


def jump(seconds: int) -> None:
    time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)


def crash(program: str) -> bool:
    """End the child that runs it by SIGSEGV; false where it has come to its end already."""
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split():
        if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].endswith(program.encode()):
            os.kill(int(pid), signal.SIGSEGV)
            return True
    return False


def writable_drive() -> Path | None:
    """Where this process has mounted a drive that it may write to."""
    found = DRIVE_MOUNTED.search(Path("/proc/self/mountinfo").read_text("utf-8"))
    return None if not found or os.statvfs(found[1]).f_flag & os.ST_RDONLY else Path(found[1])


def fill(path: Path) -> None:
    """Every free byte goes to this file."""
    with path.open("wb") as file:
        for step in (16 << 20, 1 << 20, 4096):
            with contextlib.suppress(OSError):
                while True:
                    os.posix_fallocate(file.fileno(), file.tell(), step)
                    file.seek(step, os.SEEK_CUR)


DATA = 4 << 20
ATTRIBUTES = (15_000, 3_000, 300)
"""Bytes. The biggest takes a leaf of the tree for itself."""


def fill_the_metadata(folder: Path) -> None:
    """No metadata can be written any more, while half of the room for data is free.

    Btrfs gives room to the one or the other in chunks of megabytes. First all of it goes to data, of which every second
    file is then removed; what came to metadata by then is filled with attributes.
    """
    folder.mkdir()
    with contextlib.suppress(OSError):
        for number in itertools.count():
            with (folder / str(number)).open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, DATA)
    for path in folder.iterdir():
        if int(path.name) % 2:
            path.unlink()
    run("sync", "--file-system", folder)
    names = itertools.count()
    for size in ATTRIBUTES * 2:
        with contextlib.suppress(OSError):
            while True:
                os.setxattr(folder, f"user.{next(names)}", bytes(size))


def stop_and_continue() -> None:
    """This process and its children stop, as in a suspended machine, and go on half a second later."""
    us = [os.getpid(), *map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split())]
    words = "kill -STOP {0}; sleep 0.5; kill -CONT {0}".format(" ".join(map(str, reversed(us))))
    subprocess.Popen(["sh", "-c", words], start_new_session=True)
    time.sleep(0.3)  # it is stopped somewhere in here


MAKING: dict[Kind, Callable[[Path], None]] = {
    Kind.NO_WRITE: refuse_writes,
    Kind.NO_READ: refuse_reads,
    Kind.NO_FLUSH: lambda home: grounds.becomes(home / grounds.NO_FLUSH),
    Kind.LEDGER_FULL: lambda home: fill(home / "state" / FILLER),
    Kind.LEDGER_READ_ONLY: abort_the_ledgers,
    Kind.MASTER_RENAMED: rename_the_master,
    Kind.MASTER_UNMOUNTED: unmount_the_master,
    Kind.MASTER_UNREADABLE: spoil_the_master,
    Kind.SECOND: await_a_second,
    Kind.STOP: lambda _home: stop_and_continue(),
}
"""In the machine's home."""
