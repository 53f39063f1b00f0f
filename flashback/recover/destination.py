"""Where files go back to: a directory that others may write to while root does.

Whoever may write there could plant a link and have root write elsewhere. So nothing is ever written by name below it:
everything is made ready in a directory of our own beside its place, which nobody else can enter, and then given its
name there by one rename between two descriptors, which never follows a link and never replaces anything.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from flashback.core.descent import DIRECTORY, exchanged
from flashback.core.errors import NotFinished, UsageError
from flashback.core.text import shown
from flashback.core.way import walked
from flashback.tools.rename import rename_new

PREFIX: Final = ".flashback-restore-"
FILES: Final = b"files"
TEMPORARY: Final = b"half"
_OURS: Final = b"made-by-flashback"
"""A file in each staging directory: root's directories of other use are not taken for one."""
MOST_NAMES: Final = 1000


@dataclass(slots=True)
class Staging:
    """A directory that only we can enter, on the file system of the place; what is whole lies in `files`,
    half a file in `temporary`.
    """

    place: int
    name: str
    outer: int
    files: int
    temporary: int

    def put(self, old: bytes, target: int, wanted: bytes) -> None:
        """Give `old` its name in the directory open as `target`. Raises `FileExistsError` where that is taken.

        A directory may take the place of an empty one, which the kernel sees to (rename(2)): nothing else is replaced.
        """
        with movable(self.files, old):
            try:
                rename_new(self.files, old, target, wanted)
            except FileExistsError:
                ours = os.stat(old, dir_fd=self.files, follow_symlinks=False)
                if not stat.S_ISDIR(ours.st_mode) or not is_empty(target, wanted):
                    raise
                _take_over(self.files, old, target, wanted)

    @contextmanager
    def meeting(self, place: int, way: bytes) -> Iterator[tuple[Staging, int, bytes]]:
        """How far `way` is there by now in the directory open as `place`, since another part has brought it: what is
        ready below the last directory of it, that directory, open, and the rest of the way.
        """
        here, there, rest = os.dup(self.files), os.dup(place), way
        try:
            while b"/" in rest:
                name, _slash, below = rest.partition(b"/")
                try:
                    theirs = os.open(name, DIRECTORY, dir_fd=there)
                except OSError:
                    break
                there = exchanged(there, theirs)
                here = exchanged(here, os.open(name, DIRECTORY, dir_fd=here))
                rest = below
            yield replace(self, files=here), there, rest
        finally:
            os.close(here)
            os.close(there)


@contextmanager
def movable(folder: int, name: bytes) -> Iterator[None]:
    """A directory that its owner may not write to can be given another place during the block all the same.

    Its `..` changes with the place, so the kernel wants that right of everybody but root. Its mode is as before then.
    """
    if os.geteuid() == 0:
        yield
        return
    itself = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        rights = stat.S_IWUSR if stat.S_ISDIR(os.fstat(itself).st_mode) else 0
        with _lent(itself, rights):
            yield
    finally:
        os.close(itself)


def changeable(folder: int) -> contextlib.AbstractContextManager[None]:
    """Names in the directory open as `folder` can be changed in the block, also where its owner may not write to it.

    Its mode is as before then. Raises `OSError`.
    """
    return contextlib.nullcontext() if os.geteuid() == 0 else _lent(folder, stat.S_IWUSR | stat.S_IXUSR)


@contextmanager
def _lent(itself: int, rights: int) -> Iterator[None]:
    """Its owner has these `rights` too in the block. By way of /proc: fchmod(2) takes no descriptor of `O_PATH`."""
    mode = stat.S_IMODE(os.fstat(itself).st_mode)
    if not rights & ~mode:
        yield
        return
    os.chmod(f"/proc/self/fd/{itself}", mode | rights)
    try:
        yield
    finally:
        os.chmod(f"/proc/self/fd/{itself}", mode)


@contextmanager
def directory(path: Path, trusted: Collection[int]) -> Iterator[int]:
    """The directory at `path`, open. A link on the way must belong to root or to one of the `trusted` users.

    Raises `UsageError` for one that does not, `NotFinished` where it cannot be opened.
    """
    try:
        found, links = walked(path)
    except OSError as problem:
        raise NotFinished(
            f"{shown(str(path))} cannot be opened: {problem.strerror}", hint="name another directory: --to DIR"
        ) from problem
    try:
        for name, maker in links:
            if maker not in {0, *trusted}:
                raise UsageError(
                    f"{shown(str(path))} leads through the link {shown(name)}, which another user made (uid {maker})",
                    hint="name the directory itself, or another one: --to DIR",
                )
        descriptor = os.open(f"/proc/self/fd/{found}", DIRECTORY & ~os.O_NOFOLLOW)
    except OSError as problem:
        raise UsageError(f"{shown(str(path))} is not a directory: {problem.strerror}") from problem
    finally:
        os.close(found)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make_directory(path: Path, trusted: Collection[int]) -> None:
    """Make `path` where there is nothing; it belongs to whoever owns the directory it lies in, and to nobody else."""
    if os.path.lexists(path):
        return
    with directory(path.parent, trusted) as parent:
        at = os.fstat(parent)
        try:
            os.mkdir(path.name, 0o700, dir_fd=parent)
            made = os.open(path.name, DIRECTORY, dir_fd=parent)
        except OSError as problem:
            raise NotFinished(f"{shown(str(path))} cannot be made: {problem.strerror}") from problem
        try:
            if os.geteuid() == 0:
                os.fchown(made, at.st_uid, at.st_gid)
            os.fchmod(made, 0o700)
        finally:
            os.close(made)


def descended(top: int, way: bytes) -> tuple[int, bytes]:
    """How far `way` leads below the directory open as `top`, by directories alone: the last one, open, and the rest.

    Raises `UsageError` where something that is no directory lies on the way.
    """
    here, rest = os.dup(top), way
    while b"/" in rest:
        name, _slash, below = rest.partition(b"/")
        try:
            there = os.open(name, DIRECTORY, dir_fd=here)
        except FileNotFoundError:
            break
        except OSError as problem:
            what = _obstacle(name, here, problem)
            os.close(here)
            raise UsageError(
                f"{shown(name)}, on the way to where {shown(way)} was, {what}",
                hint="say where the files are to go: --to DIR",
            ) from problem
        os.close(here)
        here, rest = there, below
    return here, rest


def _obstacle(name: bytes, here: int, problem: OSError) -> str:
    """What keeps us from entering it. Root is not let into what somebody else has mounted with FUSE (fuse(8))."""
    if problem.errno in {errno.ELOOP, errno.ENOTDIR}:
        with contextlib.suppress(OSError):
            at = os.stat(name, dir_fd=here, follow_symlinks=False)
            return "is a link now" if stat.S_ISLNK(at.st_mode) else "is no directory now"
    return f"cannot be entered: {problem.strerror}"


def is_empty(place: int, name: bytes) -> bool:
    """Whether `name` in the directory open as `place` is a directory with nothing in it: it may give way to one."""
    try:
        found = os.open(name, DIRECTORY, dir_fd=place)
    except OSError:
        return False
    try:
        return not os.listdir(found)
    except OSError:
        return False
    finally:
        os.close(found)


def free_names(name: bytes, mark: str) -> Iterator[bytes]:
    """The name itself, then those that are tried where it is taken: `a.txt.restored-20260102T030405Z`, then `…-2`."""
    yield name
    suffix = f".restored-{mark}".encode()
    for count in range(1, MOST_NAMES):
        more = suffix + (f"-{count}".encode() if count > 1 else b"")
        yield name[: 255 - len(more)] + more


@contextmanager
def staging(place: int, key: str, where: str) -> Iterator[Staging]:
    """Our own directory in the one open as `place`; the same `key` finds again what an earlier attempt has left there.

    It stays when the block is left by an error and something was copied into it; else it is removed. `where` is what
    to call the place. Raises `NotFinished` where it cannot be made.
    """
    name = PREFIX + key
    try:
        outer = _made(place, name)
        files, temporary = _inner(outer)
    except OSError as problem:
        raise NotFinished(
            f"nothing can be written to {where}: {problem.strerror}", hint="name another directory: --to DIR"
        ) from problem
    whole = False
    try:
        yield Staging(place, name, outer, files, temporary)
        whole = True
    finally:
        _empty(temporary)
        if whole or not os.listdir(files):
            _remove(place, name, outer, files)
        for each in (files, temporary, outer):
            os.close(each)


def staged(place: int) -> list[str]:
    """Our own directories in the one open as `place`, by name."""
    found = []
    for name in os.listdir(place):
        if name.startswith(PREFIX):
            with contextlib.suppress(OSError):
                at = os.stat(name, dir_fd=place, follow_symlinks=False)
                found += [name] if stat.S_ISDIR(at.st_mode) and at.st_uid == os.geteuid() else []
    return found


def _made(place: int, name: str) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=place)
    outer = os.open(name, DIRECTORY, dir_fd=place)
    at = os.fstat(outer)
    if at.st_uid != os.geteuid() or stat.S_IMODE(at.st_mode) & 0o077:
        os.close(outer)
        raise OSError(errno.EEXIST, f"{name} in it is not ours")
    if os.listdir(outer) and not _is_ours(outer):
        os.close(outer)
        raise OSError(errno.EEXIST, f"{name} in it is not ours")
    os.fchmod(outer, 0o700)
    return outer


def _is_ours(outer: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return stat.S_ISREG(os.stat(_OURS, dir_fd=outer, follow_symlinks=False).st_mode)
    return False


def _take_over(files: int, old: bytes, target: int, wanted: bytes) -> None:
    """Exchange a directory for an empty one. Raises `FileExistsError` where that is not possible after all."""
    try:
        os.rename(old, wanted, src_dir_fd=files, dst_dir_fd=target)
    except OSError as problem:
        if problem.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EBUSY}:
            raise FileExistsError(errno.EEXIST, "it is taken") from problem
        raise


def _inner(outer: int) -> tuple[int, int]:
    os.close(os.open(_OURS, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=outer))
    for name in (FILES, TEMPORARY):
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=outer)
    return os.open(FILES, DIRECTORY, dir_fd=outer), os.open(TEMPORARY, DIRECTORY, dir_fd=outer)


def _empty(directory: int) -> None:
    for each in os.listdir(directory):
        with contextlib.suppress(OSError):
            os.unlink(each, dir_fd=directory)


def _remove(place: int, name: str, outer: int, files: int) -> None:
    """Take everything of ours away; what cannot be removed stays, and is found by its name."""
    import shutil

    for each in os.listdir(files):
        shutil.rmtree(each, dir_fd=files, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.unlink(each, dir_fd=files)
    with contextlib.suppress(OSError):
        os.unlink(_OURS, dir_fd=outer)
    for inner in (FILES, TEMPORARY):
        with contextlib.suppress(OSError):
            os.rmdir(inner, dir_fd=outer)
    with contextlib.suppress(OSError):
        os.rmdir(name, dir_fd=place)
