"""Reading a master as its owner: a forked child gives up root before it looks at anything, and sends what it finds.

The child never runs another program. It holds a copy of this process's memory, passphrase included; the kernel lets
nobody look into it, since a process that changed its user is not dumpable (prctl(2), PR_SET_DUMPABLE).

What comes through the pipe are frames: four bytes of length, then a `_Frame` as msgpack, decoded by its types.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pwd
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, NoReturn

import msgspec

from flashback.config.values import Symlinks
from flashback.core.errors import ConfigError, NotFinished
from flashback.core.events import Remark, RemarkKind
from flashback.core.signals import StopSignals
from flashback.core.text import shown
from flashback.core.way import Link, walked
from flashback.walk.content import Look
from flashback.walk.filter import Filter
from flashback.walk.listing import Entry, Item, Kept, Linked, Same
from flashback.walk.master import Produce, Said, walking
from flashback.walk.narrow import Narrow

BATCH: Final = 400
"""Items in a frame."""
LARGEST_FRAME: Final = 64 * 1024 * 1024
PIPE_SIZE: Final = 1024 * 1024
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38


class ReadingFailed(NotFinished):
    """The child that reads a master ended with an error that is no `OSError`, or without a word."""


@dataclass(frozen=True, slots=True)
class Owner:
    """As whom a master is read. `gid` is the user's own group; the others are those that the system knows.

    `place` is the directory, as (st_dev, st_ino), by which that was decided, if it was: no other may then be read.
    """

    name: str
    uid: int
    gid: int
    place: tuple[int, int] | None = field(default=None, compare=False)


class _Remarked(msgspec.Struct, array_like=True, frozen=True, gc=False):
    kind: str
    path: bytes
    detail: str


class _Ended(msgspec.Struct, array_like=True, frozen=True):
    """`error` is the name of an exception's type, empty when all went well."""

    error: str = ""
    what: str = ""
    number: int | None = None
    path: str = ""


class _Frame(msgspec.Struct, array_like=True, frozen=True):
    """What is sent at a time; the last one has an `end`."""

    items: list[Entry | Kept | Same]
    remarks: list[_Remarked]
    end: _Ended | None = None
    looks: list[Look] = []
    linked: list[bytes] = []


def owner_of(path: Path, name: str | None) -> Owner:
    """The user called `name`, or else whoever owns `path`.

    Raises `ConfigError` for a name that this machine does not know, `OSError` when `path` cannot be looked at. An
    owner without a name on this machine is read as with the group of `path`. Where nobody is named, a link on the way
    must be root's or the owner's own, or whoever made it could choose as whom the master is read: root, by a link to /.
    """
    if name is not None:
        try:
            known = pwd.getpwnam(name)
        except KeyError:
            raise ConfigError(f"there is no user {shown(name)} on this machine", hint="correct `owner`") from None
        return Owner(known.pw_name, known.pw_uid, known.pw_gid)
    at = _found(path)
    place = (at.st_dev, at.st_ino)
    try:
        known = pwd.getpwuid(at.st_uid)
    except KeyError:
        return Owner(str(at.st_uid), at.st_uid, at.st_gid, place)
    return Owner(known.pw_name, known.pw_uid, known.pw_gid, place)


def _found(path: Path) -> os.stat_result:
    """The directory at `path`, found step by step, so that nothing can be exchanged behind our back. See `owner_of`."""
    here, links = walked(path)
    try:
        at = os.fstat(here)
    finally:
        os.close(here)
    _refuse_links_of_others(path, links, at.st_uid)
    return at


def _refuse_links_of_others(path: Path, links: list[Link], owner: int) -> None:
    for name, maker in links:
        if maker not in {0, owner}:
            raise ConfigError(
                f"{path} leads through the link {shown(os.fsencode(name))}, which another user made (uid {maker})",
                hint="correct `path`, or say with `owner` as whom it is to be read",
            )


@contextlib.contextmanager
def reading_master(
    path: Path,
    owner: Owner | None,
    *,
    filter: Filter,  # noqa: A002 - it is what it is
    symlinks: Symlinks,
    remark: Callable[[Remark], None],
    avoid: Path | None = None,
    with_xattrs: bool = True,
    narrow: Narrow | None = None,
    linked: Callable[[bytes], object] = lambda _path: None,
) -> Iterator[Iterator[Item]]:
    """Walk the master at `path` as its owner. `avoid` is a directory of ours that is never entered, if it exists.

    `narrow`: see `walking`; `linked` is told the links that were followed.

    Raises `OSError` (with the errno that the owner met) when `path` cannot be opened or listed, and `ReadingFailed`.
    """
    barred: frozenset[tuple[int, int]] = frozenset()
    if avoid is not None:
        with contextlib.suppress(FileNotFoundError):
            at = os.stat(avoid)
            barred = frozenset({(at.st_dev, at.st_ino)})
    produce = walking(path, filter=filter, symlinks=symlinks, avoid=barred, with_xattrs=with_xattrs, narrow=narrow)
    with _reading(owner, produce) as frames:
        yield _items(frames, remark, linked, owner.place if owner is not None else None)


def _items(
    frames: Iterator[_Frame],
    remark: Callable[[Remark], None],
    linked: Callable[[bytes], object],
    place: tuple[int, int] | None,
) -> Iterator[Item]:
    for frame in frames:
        for each in _remarks(frame):
            remark(each)
        for path in frame.linked:
            linked(path)
        if place is not None and frame.items:
            _refuse_another(frame.items[0], place)
            place = None
        yield from frame.items


def _refuse_another(first: Item, place: tuple[int, int]) -> None:
    if isinstance(first, Entry) and (first.dev, first.ino) != place:
        raise ReadingFailed("the master was exchanged while it was looked at", hint="start the run again")


def _remarks(frame: _Frame) -> Iterator[Remark]:
    return (Remark(RemarkKind(each.kind), path=each.path, detail=each.detail) for each in frame.remarks)


@contextlib.contextmanager
def reading_as(owner: Owner | None, produce: Produce, *, keep: int | None = None) -> Iterator[Iterator[Said]]:
    """Run `produce` in a child that is `owner`, and iterate over what it gives away. `keep` is a descriptor that it
    has besides.

    `None`, and a process that is not root, change nobody. Leaving the block kills the child. This process must have no
    other thread: only the one that forks goes on in the child. An error in `produce` is raised here when everything
    before it was taken: an `OSError` as such, any other as `ReadingFailed`. Remarks keep no exact place among items.
    """
    with _reading(owner, produce, keep) as frames:
        yield (said for frame in frames for said in (*_remarks(frame), *frame.items, *frame.looks))


@contextlib.contextmanager
def _reading(owner: Owner | None, produce: Produce, keep: int | None = None) -> Iterator[Iterator[_Frame]]:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with open(reading, "rb", buffering=PIPE_SIZE) as pipe:
        try:
            child = _forked(owner, produce, writing, keep)
        finally:
            os.close(writing)
        try:
            yield _received(pipe)
        finally:
            _end(child)


def _forked(owner: Owner | None, produce: Produce, writing: int, keep: int | None) -> int:
    """Return the child's number; the child does not return."""
    parent = os.getpid()
    import ctypes  # here, since the owner may be unable to read where Python's modules lie

    prctl = ctypes.CDLL(None, use_errno=True).prctl
    # A signal between fork and the child's first step must not run our handlers there.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, StopSignals.NUMBERS)
    try:
        child = os.fork()
        if child == 0:
            _be_the_child(parent, owner, produce, writing, keep, prctl)
        return child
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(child: int) -> None:
    """Kill and reap; until it is reaped its number is nobody else's."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)


def _received(pipe: IO[bytes]) -> Iterator[_Frame]:
    decode = msgspec.msgpack.Decoder(_Frame).decode
    while True:
        length = int.from_bytes(pipe.read(4), "big")
        sent = pipe.read(length) if 0 < length <= LARGEST_FRAME else b""
        if len(sent) != length or not length:
            raise ReadingFailed("the process that read the master ended without a word", hint="start the run again")
        frame = decode(sent)
        yield frame
        if frame.end is not None:
            _raise_again(frame.end)
            return


def _raise_again(end: _Ended) -> None:
    if end.number is not None:
        raise OSError(end.number, os.strerror(end.number), end.path or None)
    if end.error:
        raise ReadingFailed(f"reading the master failed: {end.error}: {end.what}", hint="please report this")


def _be_the_child(
    parent: int, owner: Owner | None, produce: Produce, writing: int, keep: int | None, prctl: Callable[..., int]
) -> NoReturn:
    """Everything that the child does. It leaves by `_exit`: nothing of the parent's is flushed or given back here."""
    code = 1
    try:
        with open(writing, "wb", buffering=0) as pipe:
            sender = _Sender(pipe)
            try:
                _settle(parent, owner, {writing, writing if keep is None else keep}, prctl)
                produce(sender.emit)
                end = _Ended()
            except OSError as problem:
                end = _Ended(type(problem).__name__, str(problem), problem.errno, _text(problem.filename))
            except BaseException as problem:  # noqa: BLE001 - the parent raises it
                end = _Ended(type(problem).__name__, str(problem).encode("utf-8", "replace").decode())
            sender.send(end)
        code = 0
    finally:
        os._exit(code)


def _text(name: object) -> str:
    return os.fsencode(name).decode("utf-8", "replace") if isinstance(name, str | bytes | os.PathLike) else ""


def _settle(parent: int, owner: Owner | None, kept: set[int], prctl: Callable[..., int]) -> None:
    """Become a process that can be trusted with a master: the owner's, alone, and gone when the parent goes."""
    os.setsid()  # a Ctrl-C in the terminal is for the parent, which then ends this one
    for number in StopSignals.NUMBERS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, StopSignals.NUMBERS)
    first = 3
    for descriptor in sorted(kept):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
    if owner is not None and os.geteuid() == 0 and owner.uid != 0:
        _become(owner)
    # After the change of user, which makes the kernel forget it (prctl(2)).
    if prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) or prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise ReadingFailed("the kernel refused prctl")
    if os.getppid() != parent:
        os._exit(1)
    gc.disable()  # what the walk makes has no cycles, and the process is short-lived


def _become(owner: Owner) -> None:
    try:
        os.initgroups(pwd.getpwuid(owner.uid).pw_name, owner.gid)
    except KeyError:
        os.setgroups([owner.gid])
    os.setresgid(owner.gid, owner.gid, owner.gid)
    os.setresuid(owner.uid, owner.uid, owner.uid)


class _Sender:
    """Gathers what the walk finds and sends it in frames."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.pipe = pipe
        self.encode = msgspec.msgpack.Encoder().encode
        self.items: list[Item] = []
        self.remarks: list[_Remarked] = []
        self.looks: list[Look] = []
        self.linked: list[bytes] = []

    def emit(self, said: Said) -> None:
        """Take one item or remark."""
        if isinstance(said, Remark):
            self.remarks.append(_Remarked(said.kind.value, said.path, said.detail))
        elif isinstance(said, Look):
            self.looks.append(said)
        elif isinstance(said, Linked):
            self.linked.append(said.path)
        else:
            self.items.append(said)
        if len(self.items) >= BATCH or len(self.remarks) >= BATCH or len(self.linked) >= BATCH:
            self.send()

    def send(self, end: _Ended | None = None) -> None:
        """Write a frame; a write to a pipe may take less than it was given."""
        payload = self.encode(_Frame(self.items, self.remarks, end, self.looks, self.linked))
        self.items.clear()
        self.remarks.clear()
        self.looks.clear()
        self.linked.clear()
        rest = memoryview(len(payload).to_bytes(4, "big") + payload)
        while rest:
            rest = rest[os.write(self.pipe.fileno(), rest) :]
