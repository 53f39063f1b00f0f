"""Btrfs: the `btrfs` program for what changes the drive, the kernel's own interface for what is asked.

Numbers and layouts are those of linux/btrfs.h (Linux 6.1); `btrfs subvolume show` and `btrfs scrub` give no JSON.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flashback.core.command import Command, CommandFailed, Runner
from flashback.core.errors import DriveError, DriveGone, FlashbackError, NoSpace, NotFinished

SYS_BTRFS: Final = Path("/sys/fs/btrfs")
SMALLEST: Final = 114_294_784
"""Bytes below which mkfs.btrfs refuses (btrfs-progs 6.2 and 6.14)."""
PACE: Final = 0.5
"""Seconds between two looks at a running scrub."""

_MAGIC: Final = 0x94
_WRITE, _READ = 1, 2


def _request(direction: int, number: int, size: int) -> int:
    """An ioctl's number (asm-generic/ioctl.h)."""
    return direction << 30 | size << 16 | _MAGIC << 8 | number


_SCRUB: Final = _request(_READ | _WRITE, 27, 1024)
_SCRUB_CANCEL: Final = _request(0, 28, 0)
_SCRUB_PROGRESS: Final = _request(_READ | _WRITE, 29, 1024)
_FS_INFO: Final = _request(_READ, 31, 1024)
_GET_SUBVOL_INFO: Final = _request(_READ, 60, 504)
_SCRUB_READONLY: Final = 1
_ROOT_RDONLY: Final = 1  # of the root item (linux/btrfs_tree.h), not the ioctls' BTRFS_SUBVOL_RDONLY

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Subvolume:
    """What the kernel says of a subvolume. `generation` grows with every change, `otransid` is that of its making."""

    id: int
    generation: int
    read_only: bool
    uuid: str
    parent_uuid: str
    ctransid: int
    otransid: int


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes. `free_estimate` is what df says; with little `unallocated` the metadata can be full long before.

    `metadata_*` count one copy; `reserved` of it is the kernel's own, for deleting on a full drive.
    """

    size: int
    free_estimate: int
    unallocated: int
    data_total: int
    data_used: int
    metadata_total: int
    metadata_used: int
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class ScrubCounts:
    """The kernel's counters of one scrub, in the order of `struct btrfs_scrub_progress`.

    Add up the errors, not `uncorrectable` alone: Linux 6.1 leaves that at 0 in a read-only scrub, 6.18 does not.
    """

    data_extents: int
    tree_extents: int
    data_bytes: int
    tree_bytes: int
    read_errors: int
    csum_errors: int
    verify_errors: int
    no_csum: int
    csum_discards: int
    super_errors: int
    malloc_errors: int
    uncorrectable: int
    corrected: int
    last_physical: int
    unverified: int


# --- what changes the drive


def make_filesystem(run: Runner, device: str, *, label: str = "Backup") -> None:
    """A file system with BLAKE2 checksums and doubled metadata; what was on the device is lost.

    Raises `DriveError`, also when the device is smaller than `SMALLEST`. btrfs-progs from 6.19 on would use
    block-group-tree, which kernels before 6.1 cannot write to; older ones do not know the word.
    """
    known = run(Command(("mkfs.btrfs", "-O", "list-all"), ok=frozenset({0, 1})))
    old_friends = ("-O", "^block-group-tree") if b"block-group-tree" in known.out + known.err else ()
    options = ("-q", "-f", "--csum", "blake2", "-m", "dup", "-d", "single", *old_friends, "-L", label)
    if _size(device) < SMALLEST:
        raise DriveError(f"{device} is too small: Btrfs needs {SMALLEST // 1024**2} MiB")
    _run(run, ("mkfs.btrfs", *options, device), f"no file system can be made on {device}")


def create_subvolume(run: Runner, path: Path) -> None:
    """Raises `DriveError` when it exists already, `NoSpace`."""
    _run(run, ("btrfs", "subvolume", "create", str(path)), f"the subvolume {path.name} cannot be made")


def snapshot(run: Runner, source: Path, target: Path) -> None:
    """Make `target` a read-only snapshot of `source`. Raises `DriveError`, `NoSpace`.

    With an existing `target` the program would make the snapshot inside it: refused.
    """
    if os.path.lexists(target):
        raise DriveError(f"the snapshot {target.name} cannot be made: there is something of that name already")
    argv = ("btrfs", "subvolume", "snapshot", "-r", str(source), str(target))
    _run(run, argv, f"the snapshot {target.name} cannot be made")


def _run(run: Runner, argv: tuple[str, ...], what: str) -> None:
    try:
        run(Command(argv))
    except CommandFailed as problem:
        words = problem.result.last_words.removeprefix("ERROR: ")
        kind: type[FlashbackError] = NoSpace if os.strerror(errno.ENOSPC) in words else DriveError
        raise kind(f"{what}: {words}") from problem


def _size(device: str) -> int:
    try:
        with open(device, "rb", buffering=0) as opened:
            return opened.seek(0, os.SEEK_END)
    except OSError as problem:
        raise DriveError(f"{device} cannot be read: {problem.strerror}") from problem


def sync(fd: int) -> None:
    """`syncfs`, once. Raises `OSError`: the kernel reports a lost write one single time, so never call it "again"."""
    if _libc.syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


# --- what is asked


def subvolume(fd: int) -> Subvolume:
    """The subvolume that `fd` lies in (BTRFS_IOC_GET_SUBVOL_INFO). Raises `OSError`: ENOTTY where it is no Btrfs."""
    answer = bytearray(504)
    fcntl.ioctl(fd, _GET_SUBVOL_INFO, answer)
    generation, flags = struct.unpack_from("=QQ", answer, 280)
    ctransid, otransid = struct.unpack_from("=QQ", answer, 344)
    return Subvolume(
        id=struct.unpack_from("=Q", answer, 0)[0],
        generation=generation,
        read_only=bool(flags & _ROOT_RDONLY),
        uuid=_uuid(answer[296:312]),
        parent_uuid=_uuid(answer[312:328]),
        ctransid=ctransid,
        otransid=otransid,
    )


def filesystem_uuid(fd: int) -> str:
    """UUID of the file system that `fd` lies in (BTRFS_IOC_FS_INFO). Raises `OSError`."""
    answer = bytearray(1024)
    fcntl.ioctl(fd, _FS_INFO, answer)
    return _uuid(answer[16:32])


def filesystem_on(device: str) -> str:
    """UUID of the Btrfs on a device that is not mounted, empty where there is none that can be recognised.

    From the superblock at 64 KiB, or its first copy at 64 MiB (btrfs "On-disk Format": fsid at 32, magic at 64).
    Raises `OSError`.
    """
    with open(device, "rb", buffering=0) as source:
        for place in (64 << 10, 64 << 20):
            source.seek(place)
            head = source.read(4096)
            if head[64:72] == b"_BHRfS_M":
                return _uuid(head[32:48])
    return ""


def _uuid(raw: bytes | bytearray) -> str:
    """Empty text for the UUID of nothing, all zeros."""
    return str(uuid.UUID(bytes=bytes(raw))) if any(raw) else ""


def error_counts(fsid: str) -> dict[str, int]:
    """The drive's own counters: write_errs, read_errs, flush_errs, corruption_errs, generation_errs.

    They last until somebody resets them: compare. Raises `DriveGone` when the file system is not mounted any more.
    """
    try:
        lines = (SYS_BTRFS / fsid / "devinfo/1/error_stats").read_text("ascii").splitlines()
    except OSError as problem:
        raise DriveGone(f"the error counters of the drive cannot be read: {problem.strerror}") from problem
    return {name: int(value) for name, value in (line.split() for line in lines if line.strip())}


def space(mount: Path, fsid: str) -> Space:
    """How full a mounted file system is. Raises `DriveGone` when it is not there any more.

    Mounted read-only, Btrfs takes what is free in the block groups that it has for not available (seen: Linux 6.18).
    """
    home = SYS_BTRFS / fsid
    try:
        status = os.statvfs(mount)
        devices = [int((each / "size").read_text("ascii")) * 512 for each in (home / "devices").iterdir()]
        kinds = [each for each in (home / "allocation").iterdir() if each.is_dir()]
        taken = sum(_number(each / "disk_total") for each in kinds)
        size = sum(devices) or status.f_blocks * status.f_frsize
        withheld = _of(home, "data", "bytes_readonly") if status.f_flag & os.ST_RDONLY else 0
        return Space(
            size=size,
            free_estimate=status.f_bavail * status.f_frsize + withheld,
            unallocated=max(0, size - taken),
            data_total=_of(home, "data", "total_bytes"),
            data_used=_of(home, "data", "bytes_used"),
            metadata_total=_of(home, "metadata", "total_bytes"),
            metadata_used=_of(home, "metadata", "bytes_used"),
            reserved=_number(home / "allocation/global_rsv_size"),
        )
    except OSError as problem:
        raise DriveGone(f"the space of the drive cannot be read: {problem.strerror}") from problem


def _of(home: Path, kind: str, name: str) -> int:
    """Small drives may mix data and metadata."""
    mixed = home / "allocation/mixed" / name
    return _number(mixed if mixed.exists() else home / "allocation" / kind / name)


def _number(path: Path) -> int:
    return int(path.read_text("ascii"))


# --- scrub


class Scrub:
    """One pass over everything on the mounted file system that `fd` lies in, by the kernel.

    With `read_only` nothing is repaired, as is needed on a read-only mount. Counters speak, not exit codes:
    an unplugged drive shows as read errors.
    """

    def __init__(self, fd: int, *, read_only: bool = False, device_id: int = 1) -> None:
        self._fd = fd
        self._head = struct.pack("=QQQQ", device_id, 0, 2**64 - 1, _SCRUB_READONLY if read_only else 0)
        self._error = 0

    def run(self, on_progress: Callable[[int, int], None], watch: Callable[[], None], size: int) -> ScrubCounts:
        """Scrub to the end. `on_progress` gets bytes done and `size`, the bytes in use; `watch` may raise.

        Whatever is raised meanwhile (a signal too) cancels the scrub and is raised again once the kernel has let go.
        Raises `DriveError` when it cannot start, `DriveGone`, `NotFinished` when somebody else cancelled it.
        """
        counts = ctypes.create_string_buffer(self._head, 1024)
        work = threading.Thread(target=self._work, args=(counts,), daemon=True)
        try:
            work.start()
            while work.is_alive():
                work.join(PACE)
                watch()
                self._report(on_progress, size)
        except BaseException:
            self._cancel(work)
            raise
        self._judge()
        return _counts(counts)

    def _work(self, counts: ctypes.Array[ctypes.c_char]) -> None:
        self._error = _ioctl(self._fd, _SCRUB, counts)

    def _report(self, on_progress: Callable[[int, int], None], size: int) -> None:
        asked = ctypes.create_string_buffer(self._head, 1024)
        if _ioctl(self._fd, _SCRUB_PROGRESS, asked) == 0:  # ENOTCONN: not begun, or over
            now = _counts(asked)
            on_progress(min(now.data_bytes + now.tree_bytes, size), size)

    def _cancel(self, work: threading.Thread) -> None:
        """Cancel until it has ended: the first word may come before the kernel has begun."""
        while work.is_alive():
            _libc.ioctl(self._fd, ctypes.c_ulong(_SCRUB_CANCEL))
            work.join(0.1)

    def _judge(self) -> None:
        if self._error == 0:
            return
        why = os.strerror(self._error)
        if self._error == errno.ECANCELED:
            raise NotFinished("the scrub was cancelled")
        if self._error == errno.EINPROGRESS:
            raise DriveError("a scrub is running on this drive already", hint="wait for its end, or cancel it")
        if self._error in {errno.ENODEV, errno.EIO, errno.ENXIO}:
            raise DriveGone(f"the scrub broke off: {why}")
        raise DriveError(f"the drive cannot be scrubbed: {why}")


def _ioctl(fd: int, request: int, argument: ctypes.Array[ctypes.c_char]) -> int:
    """Call it without Python's lock held; return the error's number, 0 for none."""
    done = _libc.ioctl(fd, ctypes.c_ulong(request), argument)
    return 0 if done == 0 else ctypes.get_errno()


def _counts(answer: ctypes.Array[ctypes.c_char]) -> ScrubCounts:
    return ScrubCounts(*struct.unpack_from("=15Q", answer.raw, 32))
