"""Processes that read a master as its owner: they give up root before they look at anything.

They never run another program. Each holds a copy of this process's memory, passphrase included; the kernel lets nobody
look into it, since a process that changed its user is not dumpable (prctl(2), PR_SET_DUMPABLE).
"""

from __future__ import annotations

import contextlib
import gc
import os
import pwd
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn, Self

from flashback.core.signals import StopSignals
from flashback.walk.frames import Ended, ReadingFailed, Sender
from flashback.walk.master import Produce

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38


@dataclass(frozen=True, slots=True)
class Owner:
    """As whom a master is read. `gid` is the user's own group; the others are those that the system knows.

    `place` is the directory, as (st_dev, st_ino), by which that was decided, if it was: no other may then be read.
    """

    name: str
    uid: int
    gid: int
    place: tuple[int, int] | None = field(default=None, compare=False)


class Children:
    """While entered, processes that are `owner` may be forked; on leaving, all are killed and reaped.

    `None`, and a process that is not root, change nobody. This process must have no other thread: only the one that
    forks goes on in the child.
    """

    def __init__(self, owner: Owner | None) -> None:
        self._owner = owner
        self._forked: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            self._end()
        finally:
            self._end()  # a signal raises only once, perhaps on the way into the first of the two

    def _end(self) -> None:
        """Until a child is reaped its number is nobody else's."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, StopSignals.NUMBERS)
        try:
            for child in self._forked:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            while self._forked:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(self._forked.pop(), 0)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def fork(self, produce: Produce, writing: int, keep: int | None = None) -> int:
        """Run `produce` in a child that sends what it says to `writing`; `keep` is a descriptor that it has besides.

        Return the child's number; the child does not return. Raises `OSError` where there is no room for one.
        """
        parent = os.getpid()
        import ctypes  # here, since the owner may be unable to read where Python's modules lie

        prctl = ctypes.CDLL(None, use_errno=True).prctl
        # A signal between fork and the child's first step must not run our handlers there; one between fork and the
        # note of its number must not make us forget it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, StopSignals.NUMBERS)
        try:
            child = os.fork()
            if child == 0:
                _be_the_child(parent, self._owner, produce, writing, keep, prctl)
            self._forked.append(child)
            return child
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _be_the_child(
    parent: int, owner: Owner | None, produce: Produce, writing: int, keep: int | None, prctl: Callable[..., int]
) -> NoReturn:
    """Everything that the child does. It leaves by `_exit`: nothing of the parent's is flushed or given back here."""
    code = 1
    try:
        with open(writing, "wb", buffering=0) as pipe:
            sender = Sender(pipe)
            try:
                _settle(parent, owner, {writing, writing if keep is None else keep}, prctl)
                produce(sender.emit)
                end = Ended()
            except BaseException as problem:  # noqa: BLE001 - the parent raises it
                end = Ended.by(problem)
            sender.send(end)
        code = 0
    finally:
        os._exit(code)


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
