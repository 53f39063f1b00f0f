"""Mounting and unmounting, and who is in the way. Unmounting is never lazy: what is said to be gone is gone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flashback.core.command import Command, CommandFailed, Runner
from flashback.core.errors import DriveError, Missing, StillHeld
from flashback.core.text import shown

ALWAYS: Final = ("nosuid", "nodev", "noexec", "noatime")
PATIENCE: Final = 5.0
"""Seconds during which a busy mount is tried again: an indexer or a desktop may be looking at it for a moment."""
PROC: Final = Path("/proc")
_CLONE_NEWNS: Final = 0x00020000  # linux/sched.h
_MS_RDONLY: Final = 1  # linux/mount.h
_MS_REMOUNT: Final = 32
_SAFE: Final = _MS_RDONLY | 2 | 4 | 8 | 1024  # nosuid, nodev, noexec, noatime
_MS_REC: Final = 16384  # linux/mount.h
_MS_SLAVE: Final = 1 << 19
_MS_BIND: Final = 4096
_UMOUNT_NOFOLLOW: Final = 8

_libc = ctypes.CDLL(None, use_errno=True)
_own: Final[set[str]] = set()


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One line of proc_pid_mountinfo(5). For Btrfs `device` is a number of its own that no block device has."""

    mount_id: int
    device: str
    source: str
    target: str
    fstype: str
    options: tuple[str, ...]
    read_only: bool


@dataclass(frozen=True, slots=True)
class ProcessUsing:
    """A process that keeps a mount busy; `name` is its comm, up to 15 characters, as it calls itself."""

    pid: int
    name: str


def private_namespace() -> None:
    """Move this process into a mount namespace of its own: later mounts are seen by nobody else and end with us.

    Mounts made elsewhere still come in (a master plugged in later). Raises `Missing` where that is not allowed.
    """
    moved = _libc.unshare(_CLONE_NEWNS) == 0
    if not moved or _libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_SLAVE), None) != 0:
        why = os.strerror(ctypes.get_errno())
        raise Missing(f"a mount namespace of its own is not allowed here: {why}", hint="start again with sudo")
    _own.add(os.readlink(PROC / "self/ns/mnt"))


def is_private() -> bool:
    """Whether this process sees other mounts than the rest of the machine, which then does not see ours."""
    try:
        mine = os.readlink(PROC / "self/ns/mnt")
        return mine in _own or mine != os.readlink(PROC / "1/ns/mnt")
    except OSError:  # in a container process 1 may be somebody else's
        return False


HINTS: Final = {
    "File exists": "a drive that was pulled is still mounted: run `flashback close`",
    "superblock": (
        "look whether another drive has the files; what this one holds `btrfs restore` may get out without a mount: "
        "docs/how-to/get-files-back.md"
    ),
}
"""By words of mount's."""


def mount(run: Runner, device: str, target: Path, *, options: Iterable[str] = (), read_only: bool = False) -> None:
    """Mount a Btrfs, always nosuid, nodev, noexec, noatime. Raises `DriveError`.

    A write-protected device is mounted read-only without an error: look at `mounts()` or statvfs afterwards.
    """
    words = ",".join((*ALWAYS, *options, *(("ro",) if read_only else ())))
    try:
        run(Command(("mount", "-t", "btrfs", "-o", words, "--", device, str(target))))
    except CommandFailed as problem:
        said = problem.result.err.decode("utf-8", "replace")
        hint = next((hint for words, hint in HINTS.items() if words in said), "")
        lines = [line for line in said.splitlines() if "dmesg(1)" not in line]
        words = lines[-1] if lines else problem.result.last_words
        raise DriveError(f"{device} cannot be mounted: {words.strip().rstrip('.')}", hint=hint) from problem


def mount_shell(directory: int, source: str) -> None:
    """A small tmpfs over the directory open as `directory`, root's alone, for mount points. Raises `DriveError`.

    `source` is what it is called in the list of mounts, by which it is found again.
    """
    _mount_at(directory, source, "tmpfs", _SAFE & ~_MS_RDONLY, "mode=0700,size=1m,nr_inodes=100k")


def mount_subvolume(directory: int, device: str, subvolume: int) -> None:
    """A subvolume of a Btrfs that is mounted already, read-only, over the directory open as `directory`."""
    _mount_at(directory, device, "btrfs", _SAFE, f"subvolid={subvolume}")


def seal(directory: int) -> None:
    """Make the mount whose top is open as `directory` read-only. Raises `DriveError`."""
    _mount_at(directory, "none", "", _SAFE | _MS_REMOUNT, "")


def bind(source: int, over: int) -> None:
    """Show the directory open as `source` where the one open as `over` is. Raises `DriveError`."""
    place, what = f"/proc/self/fd/{over}".encode(), f"/proc/self/fd/{source}".encode()
    if _libc.mount(what, place, None, ctypes.c_ulong(_MS_BIND), None) != 0:
        raise DriveError(os.strerror(ctypes.get_errno()))


def unbind(place: Path, device: int, *, patience: float = PATIENCE) -> None:
    """Take away what `bind` shows at `place`, known by its `st_dev`; nothing to do where that is not there.

    Raises `StillHeld` when it is busy for longer than `patience` seconds.
    """
    end = time.monotonic() + patience
    while os.stat(place).st_dev == device:
        if _libc.umount2(os.fsencode(place), _UMOUNT_NOFOLLOW) != 0:
            if time.monotonic() > end:
                raise StillHeld((f"{place}: {os.strerror(ctypes.get_errno())}",), hint="end what uses it")
            time.sleep(0.05)


def _mount_at(directory: int, source: str, kind: str, flags: int, options: str) -> None:
    """mount(2) over an open directory, so that no name on the way to it is looked up again."""
    place = f"/proc/self/fd/{directory}".encode()
    if _libc.mount(source.encode(), place, kind.encode(), ctypes.c_ulong(flags), options.encode()) != 0:
        raise DriveError(f"{source} cannot be mounted: {os.strerror(ctypes.get_errno())}")


def unmount(run: Runner, target: Path, *, patience: float = PATIENCE) -> None:
    """Unmount `target` and look that it is gone; nothing to do when it is not mounted.

    A busy mount is tried again for `patience` seconds, then `StillHeld` names the processes.
    """
    end = time.monotonic() + patience
    said = ""
    while is_mounted(target):
        try:
            run(Command(("umount", "--", str(target))))
        except CommandFailed as problem:
            said = problem.result.last_words
            if time.monotonic() > end:
                raise StillHeld((_in_the_way(target, said),), hint="end these programs, then try again") from problem
            time.sleep(0.25)


def _in_the_way(target: Path, said: str) -> str:
    users = users_of(target)
    if not users:
        return f"{target} is still mounted ({said})"
    named = ", ".join(f"{shown(each.name)} (process {each.pid})" for each in users)
    return f"{target} is still mounted: {named} is using it"


def is_mounted(target: Path) -> bool:
    """Whether something is mounted at exactly this place, as this process sees it."""
    return bool(_mounted_at(target))


def _mounted_at(target: Path) -> tuple[MountPoint, ...]:
    """What is mounted there. The kernel knows places without symbolic links only, as /run for /var/run."""
    place = os.path.realpath(target)
    return tuple(each for each in mounts() if each.target == place)


def mounts() -> tuple[MountPoint, ...]:
    """Every mount that this process sees, lowest first. Names that are not UTF-8 come as surrogate escapes."""
    return _mounts_for("self")


def _mounts_for(pid: str) -> tuple[MountPoint, ...]:
    lines = (PROC / pid / "mountinfo").read_bytes().splitlines()
    return tuple(found for line in lines if (found := parsed(line)) is not None)


def parsed(line: bytes) -> MountPoint | None:
    """A line of mountinfo, `36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw`; `None` if it is none."""
    left, dash, right = line.partition(b" - ")
    here, there = left.split(b" "), right.split(b" ")
    if not dash or len(here) < 6 or len(there) < 3 or not here[0].isdigit():
        return None
    options = os.fsdecode(here[5]).split(",")
    return MountPoint(
        mount_id=int(here[0]),
        device=here[2].decode("ascii", "replace"),
        source=_unescaped(there[1]),
        target=_unescaped(here[4]),
        fstype=os.fsdecode(there[0]),
        options=(*options, *(each for each in os.fsdecode(there[2]).split(",") if each not in options)),
        read_only="ro" in options or b"ro" in there[2].split(b","),
    )


def _unescaped(word: bytes) -> str:
    r"""Blank, tab, newline and backslash stand in mountinfo as \040, \011, \012, \134."""
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda found: bytes((int(found[1], 8) & 0xFF,)), word))


def mounts_of(number: str) -> tuple[MountPoint, ...]:
    """The mounts of the block device with this number, `254:0`: by the device that the source's name leads to."""
    return tuple(each for each in mounts() if number in {each.device, _number_of(each.source)})


def _number_of(path: str) -> str:
    with contextlib.suppress(OSError, ValueError):
        status = os.stat(path) if path.startswith("/dev/") else None
        if status is not None and stat.S_ISBLK(status.st_mode):
            return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    return ""


def namespaces_with(number: str) -> tuple[ProcessUsing, ...]:
    """Where the block device with this number is mounted, in whatever mount namespace: one process for each of them.

    Raises nothing: a process that has ended meanwhile, or may not be looked at, is passed over.
    """
    found: dict[str, ProcessUsing] = {}
    for pid in sorted(int(name) for name in os.listdir(PROC) if name.isdigit()):
        with contextlib.suppress(OSError):
            namespace = os.readlink(PROC / str(pid) / "ns/mnt")
            if namespace not in found and any(number == _number_of(each.source) for each in _mounts_for(str(pid))):
                found[namespace] = ProcessUsing(pid, _name(pid))
    return tuple(found.values())


# --- who is in the way


def users_of(target: Path) -> tuple[ProcessUsing, ...]:
    """The processes with a working directory, root, program, open or mapped file on what is mounted at `target`."""
    ids = {each.mount_id for each in _mounted_at(target)}
    pids = sorted(int(name) for name in os.listdir(PROC) if name.isdigit())
    return tuple(ProcessUsing(pid, _name(pid)) for pid in pids if ids and _uses(pid, ids))


def _uses(pid: int, mount_ids: set[int]) -> bool:
    return any(_mount_id(each) in mount_ids for each in _opened(PROC / str(pid)))


def _opened(process: Path) -> Iterator[Path]:
    for name in ("cwd", "root", "exe"):
        yield process / name
    for folder in ("fd", "map_files"):
        with contextlib.suppress(OSError):
            for name in os.listdir(process / folder):
                yield process / folder / name


def _mount_id(path: Path) -> int | None:
    """The mount that a link of /proc leads into (proc_pid_fdinfo(5)), whatever namespace its owner lives in.

    O_PATH opens nothing but the name: no device is woken, no FIFO waited for.
    """
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        told = (PROC / "self/fdinfo" / str(descriptor)).read_bytes()
    finally:
        os.close(descriptor)
    found = re.search(rb"^mnt_id:\s*(\d+)$", told, re.MULTILINE)
    return int(found[1]) if found else None


def _name(pid: int) -> str:
    try:
        return (PROC / str(pid) / "comm").read_bytes().decode("utf-8", "replace").strip()
    except OSError:
        return "a process"
