"""rsync copies exactly what a list names, reading as the master's owner, and its words are turned into meanings.

So that no link can carry a root-only file onto the drive, the sending side runs as the owner: rsync is told that the
master lies on another host, and that the way there (`-e`) is setpriv(1), and the host's name is the program `env`.
What rsync then runs is `setpriv ... -- env rsync --server --sender ...` in its own working directory, the master.
`-s` hands file names over inside the protocol, so nothing is split or expanded. Tried with 3.2.7 and 3.5.0.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Final

from flashback.core.command import Command, CommandFailed, Result, Runner
from flashback.core.errors import NoSpace, NotFinished
from flashback.core.text import shown

PROGRAM: Final = "rsync"
_SHIELDS: Final = {"block_suspend": 36, "net_bind_service": 10}
"""Harmless capabilities with their numbers (linux/capability.h); a container often has the second one only."""
TICK: Final = 0.1
"""Seconds between two calls of `on_progress`."""


class Links(StrEnum):
    """What becomes of symbolic links: all followed, those that lead out of the master followed, all kept."""

    FOLLOW = "follow"
    EXTERNAL = "external"
    KEEP = "keep"


_LINK_OPTIONS: Final = {
    Links.FOLLOW: ("--copy-links",),
    Links.EXTERNAL: ("--links", "--copy-unsafe-links"),
    Links.KEEP: ("--links",),
}


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """`names` is the NUL-separated list (paths relative to `master`), open at its beginning.

    `uid` and `gid` are the reader's; `groups` says that the system knows this user, whose other groups then count too.
    `source` is the master too, opened: rsync starts there, whatever lies at its path by then.
    `in_place` changes existing files block by block, else each is written anew and renamed over the old one; `fresh`
    says that there are none yet, which saves the renaming. `sparse` leaves holes where there are zeros (rsync then
    writes 1 KiB at a time).
    `only_root` goes with a list that is just `.`: the attributes of the master itself.
    """

    master: Path
    source: int
    destination: Path
    names: IO[bytes]
    uid: int
    gid: int
    groups: bool
    links: Links
    in_place: bool = False
    fresh: bool = False
    sparse: bool = False
    only_root: bool = False


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


def copy(run: Runner, request: CopyRequest, *, on_progress: Progress, watch: Callable[[], None]) -> CopyOutcome:
    """Copy what the list names. The exit codes 0, 23 and 24 are a result, 23 by what was said (LINUX 5.6).

    Raises `NoSpace`, `NotFinished` when rsync stopped or the drive became read-only, and whatever `watch` raises.
    """
    heard = _Heard(os.fsencode(os.path.realpath(request.master)), os.fsencode(request.destination), on_progress)
    command = Command(
        _argv(request),
        stdin=request.names,
        ok=frozenset({0, 23, 24}),
        cwd=f"/proc/self/fd/{request.source}",
        dies_with_us=True,
    )
    try:
        result = run.stream(command, on_out=heard.out, on_err=heard.err, watch=watch)
    except CommandFailed as failure:
        watch()  # a drive that is gone is the better explanation
        heard.judge(failure.result)
        raise _stopped(failure.result) from failure
    heard.judge(result)
    return heard.outcome()


def _argv(request: CopyRequest) -> tuple[str, ...]:
    in_place = ("--inplace",) if request.in_place or request.fresh else ()
    whole = "--no-whole-file" if request.in_place else "--whole-file"
    sparse = ("--sparse",) if request.sparse else ()
    # `.` in a list means all that the directory holds; the filter takes that back
    only_root = ("--exclude=/*",) if request.only_root else ()
    return (
        PROGRAM,
        *("-s", "-tpgoHAXd", *_LINK_OPTIONS[request.links], "--numeric-ids", "--no-devices", "--no-specials"),
        *("--modify-window=-1", whole, *in_place, *sparse, *only_root),
        *("--info=progress2,stats2,nonreg1", "--no-h", "--outbuf=L", "--out-format=@%n"),
        *("--files-from=-", "--from0"),
        *_source(request),
        f"{request.destination}/",
    )


def _source(request: CopyRequest) -> tuple[str, ...]:
    """Root needs no detour. With one, rsync would check each name it is sent against each that was asked for.

    That takes the square of their number, and fails over paths of some thousand bytes (3.5.0: "rejecting unrequested
    file-list name"). `--trust-sender` (3.2.5) leaves it out; the sender is our own, and what its user might smuggle in
    stays within the copy of what is theirs: `..` is refused all the same.
    """
    if request.uid == 0:
        return ("./",)
    groups = "--init-groups" if request.groups else "--clear-groups"
    ids = f"--reuid={request.uid} --regid={request.gid} {groups}"
    return ("--trust-sender", "-e", f"setpriv {ids} {_shield()} --no-new-privs --pdeathsig KILL --", "env:./")


def _shield() -> str:
    """Options of setpriv that give the reader a capability which is of no use to it, and its user does not have.

    The reader's user could attach to it otherwise (ptrace(2); seen on Debian, where nothing else forbids that) and say
    to the root that trusts it whatever they like: files of root's with any mode, names below a link that leads out of
    the copy. The kernel lets nobody attach who has not all the capabilities of the process (capabilities(7),
    security/commoncap.c, `cap_ptrace_access_check`). Not `wake_alarm`: systemd gives that to people who log in.
    """
    mine = _capabilities()
    names = [name for name, number in _SHIELDS.items() if mine >> number & 1]
    words = ",".join(["-all", *(f"+{name}" for name in names)])
    return f"--inh-caps={words} --ambient-caps={words}" if names else "--inh-caps=-all"


def _capabilities() -> int:
    """The capabilities that this process may hand on, as bits (proc_pid_status(5))."""
    found = re.search(rb"^CapPrm:\s*([0-9a-f]+)$", Path("/proc/self/status").read_bytes(), re.MULTILINE)
    return int(found[1], 16) if found else 0


def _stopped(result: Result) -> NotFinished:
    how = f"ended by signal {-result.code}" if result.code < 0 else f"exit code {result.code}"
    return NotFinished(
        f"rsync stopped ({how}): {shown(result.last_words)}",
        hint="run again: it carries on from where it stopped",
    )


_ESCAPED: Final = re.compile(rb"\\#([0-3][0-7]{2})")
_PROGRESS: Final = re.compile(rb" *(\d+) +\d+% .*\(xfr#(\d+)")
_STATISTIC: Final = re.compile(rb"(Literal data|Matched data|Number of regular files transferred): (\d+)")
_SKIPPED: Final = re.compile(rb'skipping (?:non-regular file "(.*)"|directory (.*))')
_SYSTEM_ERROR: Final = re.compile(rb"rsync: (?:\[(\w+)\] )?(.*) \((\d+)\)")
_VERIFICATION: Final = re.compile(rb"ERROR: (.*) failed verification -- update (retained|discarded).*")
_NO_WAY: Final = re.compile(rb"could not make way for [\w ]+: (.*)")
_VANISHED: Final = re.compile(rb'(?:\w+ has vanished|symlink has no referent): "(.*)"')
_TOO_LONG: Final = re.compile(rb"(?:rsync: )?(?:\[\w+\] )?skipping overly long name: \"?(.*?)\"?")
_TEMPORARY: Final = re.compile(rb"\.(.+)\.[A-Za-z0-9]{6}")
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def decoded(name: bytes) -> bytes:
    r"""A name as rsync prints it, where `\#ooo` stands for a byte in octal."""
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), name)


def _note(troubles: dict[bytes, Trouble], path: bytes, why: str = "", number: int = 0) -> None:
    """What was said of a file first is what counts."""
    troubles.setdefault(path, Trouble(path, why or os.strerror(number), number))


class _Heard:
    """Everything that rsync says, line by line. All of it may contain names that somebody chose with care."""

    def __init__(self, master: bytes, destination: bytes, on_progress: Progress) -> None:
        self._roots = (master, destination)
        self._on_progress = on_progress
        self._current = b""
        self._statistics: dict[bytes, int] = {}
        self._told = 0.0
        self._vanished: dict[bytes, None] = {}
        self._unread: dict[bytes, Trouble] = {}
        self._unwritable: dict[bytes, Trouble] = {}
        self._retained: dict[bytes, None] = {}
        self._errors: dict[int, bytes] = {}
        self._unknown = b""

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
            self._vanished[decoded(found[1] or found[2])] = None

    def err(self, line: bytes) -> None:
        """A complaint."""
        if found := _SYSTEM_ERROR.fullmatch(line):
            self._system_error(found[1] or b"", found[2], int(found[3]))
        elif found := _VERIFICATION.fullmatch(line):
            self._not_verified(decoded(found[1]), found[2])
        elif found := _VANISHED.fullmatch(line):
            self._vanished[self._relative(found[1])] = None
        elif found := _NO_WAY.fullmatch(line):
            _note(self._unwritable, decoded(found[1]), "something else stands in its place on the drive")
        elif found := _TOO_LONG.fullmatch(line):
            _note(self._unread, self._relative(found[1]), number=errno.ENAMETOOLONG)
        elif not line.startswith((b"rsync error:", b"rsync warning:", b"WARNING:", b"***")):
            self._unknown = line

    def _system_error(self, who: bytes, what: bytes, number: int) -> None:
        path = self._path_in(what)
        if who == b"sender" and number in _GONE:
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
        path = decoded(name)
        for root in self._roots:
            if path.startswith(root + b"/"):
                return path[len(root) + 1 :].removeprefix(b"./")
        return path.removeprefix(b"./")

    def judge(self, result: Result) -> None:
        """Raise what concerns the drive as a whole: full, or read-only."""
        for number in _FULL & self._errors.keys():
            raise NoSpace(
                f"the drive is full: {shown(self._errors[number])}", hint="remove snapshots or exclude something"
            )
        if errno.EROFS in self._errors:
            raise NotFinished(
                "the drive became read-only while it was being written to",
                hint="the kernel log (`dmesg`) says why; check the drive before using it again",
            )
        if result.code == 23 and not (self._vanished or self._unread or self._unwritable):
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
