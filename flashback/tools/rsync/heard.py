"""What rsync says, turned into values."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flashback.core.command import Result
from flashback.core.descent import is_below
from flashback.core.errors import NoSpace, NotFinished
from flashback.core.text import shown

TICK: Final = 0.1
"""Seconds between two calls of `on_progress`."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A file with which something went wrong; `path` is relative, `b""` when rsync did not say which.

    `number` is the errno, 0 where there was none.
    """

    path: bytes
    why: str
    number: int = 0


@dataclass(frozen=True, slots=True)
class CopyOutcome:
    """What rsync said. `vanished` are gone since the list was made, or have become what is not copied.

    `retained`: changed in place and left with content that the master never had.
    `unread` keep their earlier copy (or are among `retained`). `copied` is what had to be written, `same` what was
    found on the drive, both in bytes; `files` is how many were transferred.
    """

    vanished: tuple[bytes, ...] = ()
    unread: tuple[Trouble, ...] = ()
    unwritable: tuple[Trouble, ...] = ()
    retained: tuple[bytes, ...] = ()
    copied: int = 0
    same: int = 0
    files: int = 0


Progress = Callable[[int, int, bytes], None]
"""Is told bytes and files done, and the name of the file at hand."""


_ESCAPED: Final = re.compile(rb"\\#([0-3][0-7]{2})")
_PROGRESS: Final = re.compile(rb" *(\d{1,20}) +\d+% .*\(xfr#(\d{1,20})")
_STATISTIC: Final = re.compile(rb"(Literal data|Matched data|Number of regular files transferred): (\d{1,20})")
_SKIPPED: Final = re.compile(rb'skipping (?:non-regular file "(.*)"|directory (.*))')
_SYSTEM_ERROR: Final = re.compile(rb"rsync: (?:\[(\w+)\] )?(.*) \((\d{1,4})\)")
_VERIFICATION: Final = re.compile(rb"ERROR: (.*) failed verification -- update (retained|discarded).*")
_NO_WAY: Final = re.compile(rb"could not make way for [\w ]+: (.*)")
_VANISHED: Final = re.compile(rb'(?:\w+ has vanished|symlink has no referent): "(.*)"')
_TOO_LONG: Final = re.compile(rb"(?:rsync: )?(?:\[\w+\] )?skipping overly long name: \"?(.*?)\"?")
_TEMPORARY: Final = re.compile(rb"\.(.+)\.[A-Za-z0-9]{6}")
_ATTRIBUTE: Final = re.compile(rb"\b[lf]?(?:remove|get)xattr\(")
_RACED: Final = frozenset({errno.ENODATA, errno.ERANGE})
"""An attribute of a directory was removed or replaced between two calls: another rsync has files in it to copy, and
gives it the same attributes (3.5.0: "rsync_xal_set: fremovexattr(...) failed", "get_xattr_data: lgetxattr(...)")."""
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
_GO_ON: Final = "make room there, then give the same command again: what was copied is not copied again"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def decoded(name: bytes) -> bytes:
    r"""A name as rsync prints it, where `\#ooo` stands for a byte in octal."""
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), name)


def _note(troubles: dict[bytes, Trouble], path: bytes, why: str = "", number: int = 0) -> None:
    """What was said of a file first is what counts."""
    troubles.setdefault(path, Trouble(path, why or os.strerror(number), number))


class Heard:
    """Everything that rsync says, line by line. All of it may contain names that somebody chose with care."""

    def __init__(self, roots: tuple[bytes, ...], on_progress: Progress, *, place: str = "") -> None:
        self._roots = roots
        self._on_progress = on_progress
        self._place = place
        self._current = b""
        self._statistics: dict[bytes, int] = {}
        self._told = 0.0
        self._vanished: dict[bytes, None] = {}
        self._unread: dict[bytes, Trouble] = {}
        self._unwritable: dict[bytes, Trouble] = {}
        self._retained: dict[bytes, None] = {}
        self._errors: dict[int, bytes] = {}
        self._unknown = b""
        self._raced = False

    def out(self, line: bytes) -> None:
        """A name, a line of progress or a statistic."""
        if line.startswith(b"@"):
            self._current = line
        elif line.startswith(b" "):
            now = time.monotonic()
            if now - self._told >= TICK and (found := _PROGRESS.match(line)):
                self._told = now
                self._on_progress(int(found[1]), int(found[2]), decoded(self._current[1:]))
        elif found := _STATISTIC.match(line):
            self._statistics[found[1]] = int(found[2])
        elif found := _SKIPPED.fullmatch(line):
            self._vanished[self._relative(found[1] or found[2])] = None

    def err(self, line: bytes) -> None:
        """A complaint."""
        if found := _SYSTEM_ERROR.fullmatch(line):
            self._system_error(found[1] or b"", found[2], int(found[3]))
        elif found := _VERIFICATION.fullmatch(line):
            self._not_verified(decoded(found[1]), found[2])
        elif found := _VANISHED.fullmatch(line):
            self._vanished[self._relative(found[1])] = None
        elif found := _NO_WAY.fullmatch(line):
            _note(self._unwritable, self._relative(found[1]), "something else stands in its place on the drive")
        elif found := _TOO_LONG.fullmatch(line):
            _note(self._unread, self._relative(found[1]), number=errno.ENAMETOOLONG)
        elif not line.startswith((b"rsync error:", b"rsync warning:", b"WARNING:", b"***")):
            self._unknown = line

    def _system_error(self, who: bytes, what: bytes, number: int) -> None:
        path = self._path_in(what)
        if who != b"sender" and number in _RACED and _ATTRIBUTE.search(what):
            self._raced = True
        elif who == b"sender" and number in _GONE:
            self._vanished[path] = None
        elif who == b"sender":
            _note(self._unread, path, number=number)
        else:
            self._errors.setdefault(number, what)
            _note(self._unwritable, path, number=number)

    def _not_verified(self, path: bytes, became: bytes) -> None:
        """The second reading failed too, so the sender could not read it (or it changes faster than it is read)."""
        _note(self._unread, path, "it could not be read to its end, or changed all the time")
        if became == b"retained":
            self._retained[path] = None

    def _path_in(self, what: bytes) -> bytes:
        """The path that a message is about: in quotes, followed by what failed."""
        _before, quote, rest = what.partition(b'"')
        quoted = rest.rpartition(b'"')[0]
        if not quote:
            return b""
        old, _arrow, new = quoted.partition(b'" -> "')
        path = self._relative((new if new and what.startswith(b"rename") else old).partition(b'","')[0])
        directory, slash, name = path.rpartition(b"/")
        temporary = _TEMPORARY.fullmatch(name)
        return directory + slash + temporary[1] if temporary and b"mkstemp" in what else path

    def _relative(self, name: bytes) -> bytes:
        """A path below the copy; `b""` is the copy itself (which rsync calls `.`), and whatever is no such path."""
        path = decoded(name)
        for root in self._roots:
            if path.startswith(root + b"/"):
                path = path[len(root) + 1 :]
                break
        path = path.removeprefix(b"./")
        return path if is_below(path) else b""

    def judge(self, result: Result) -> None:
        """Raise what concerns the drive, or the `place` that is restored to, as a whole: full, or read-only."""
        place = self._place or "the drive"
        for number in _FULL & self._errors.keys():
            raise NoSpace(
                f"{place} is full: {shown(self._errors[number])}",
                hint=_GO_ON if self._place else "remove snapshots or exclude something",
            )
        if errno.EROFS in self._errors:
            raise NotFinished(
                f"{place} became read-only while it was being written to",
                hint="the kernel log (`dmesg`) says why; check the drive before using it again",
            )
        nothing = not (self._vanished or self._unread or self._unwritable)
        if result.code == 23 and nothing and (self._unknown or not self._raced):
            _note(self._unwritable, b"", shown(self._unknown) or "rsync did not say what could not be copied")

    def outcome(self) -> CopyOutcome:
        """The value that is left when everything was said."""
        return CopyOutcome(
            vanished=tuple(self._vanished),
            unread=tuple(self._unread.values()),
            unwritable=tuple(self._unwritable.values()),
            retained=tuple(self._retained),
            copied=self._statistics.get(b"Literal data", 0),
            same=self._statistics.get(b"Matched data", 0),
            files=self._statistics.get(b"Number of regular files transferred", 0),
        )
