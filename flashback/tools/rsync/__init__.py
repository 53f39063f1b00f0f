"""rsync copies exactly what a list names, reading as the master's owner, and its words are turned into meanings.

So that no link can carry a root-only file onto the drive, the sending side runs as the owner: rsync is told that the
master lies on another host, and that the way there (`-e`) is setpriv(1), and the host's name is the program `env`.
What rsync then runs is `setpriv ... -- env rsync --server --sender ...` in its own working directory, the master.
`-s` hands file names over inside the protocol, so nothing is split or expanded. Tried with 3.2.7 and 3.5.0.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import IO, Final

from flashback.core.command import Command, Result, Runner, Stream
from flashback.core.errors import FlashbackError, NotFinished
from flashback.core.text import shown
from flashback.tools.rsync.heard import TICK, CopyOutcome, Heard, Progress, Trouble

__all__ = ["TICK", "CopyOutcome", "CopyRequest", "Links", "Progress", "RestoreRequest", "Trouble", "copy", "restore"]

PROGRAM: Final = "rsync"
AT_ONCE: Final = 2
"""So many rsyncs at a time: while one reads its list or waits for the drive, the other copies. Three gained no more."""
_RESULTS: Final = frozenset({0, 23, 24})
_SHIELDS: Final = {"block_suspend": 36, "net_bind_service": 10}
"""Harmless capabilities with their numbers (linux/capability.h); a container often has the second one only."""


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
class RestoreRequest:
    """The way back: what the NUL-separated list `names` has below the directory that is open as `source`, into the one
    open as `destination`, which is called `place`.

    Half a file lies in the open directory `temporary`, on the same file system, never in the destination. `owner` is
    `1000:1001` where everything is to belong to them, empty where all belongs to whom it did.
    """

    source: int
    destination: int
    place: str
    temporary: int
    names: IO[bytes]
    sparse: bool = False
    owner: str = ""


def copy(
    run: Runner,
    requests: Iterable[CopyRequest],
    *,
    on_progress: Progress,
    on_outcome: Callable[[CopyOutcome], None],
    watch: Callable[[], None],
) -> None:
    """Copy what the lists name, `AT_ONCE` of them at a time. The lists must have no file in common, under any name.

    They may share directories: each rsync sets the times of those that its names lie in when it has written the last
    of these, so that the one that writes last also sets them last. The exit codes 0, 23 and 24 are a result, 23 by what
    was said (LINUX 5.6). `on_progress` is told sums, `on_outcome` what became of each list once all have ended.

    Raises `NoSpace`, `NotFinished` when rsync stopped or the drive became read-only: then no other is begun, but those
    under way come to their end, since one that is killed may leave half a file under a name of its own. Whatever
    `watch` raises stops them at once.
    """
    sums, parts = _Sums(on_progress), list[_Part]()

    def streams() -> Iterator[Stream]:
        for request in requests:
            if any(part.problem for part in parts):
                return
            parts.append(_Part(request, sums, watch))
            yield parts[-1].stream()

    run.streams(streams(), at_once=AT_ONCE, watch=watch)
    for part in parts:
        on_outcome(part.heard.outcome())
    for part in parts:
        if part.problem is not None:
            raise part.problem


class _Part:
    """One list, and what rsync says of it. `problem` is what concerns the drive as a whole."""

    def __init__(self, request: CopyRequest, sums: _Sums, watch: Callable[[], None]) -> None:
        roots = (os.fsencode(os.path.realpath(request.master)), os.fsencode(request.destination))
        self._request, self._sums, self._watch = request, sums, watch
        self._number = sums.begun()
        self.heard = Heard(roots, partial(sums.told, self._number))
        self.problem: FlashbackError | None = None

    def stream(self) -> Stream:
        """The rsync that copies it."""
        request = self._request
        command = Command(_argv(request), stdin=request.names, cwd=f"/proc/self/fd/{request.source}", dies_with_us=True)
        return Stream(command, self.heard.out, self.heard.err, self._end)

    def _end(self, result: Result) -> None:
        if result.code not in _RESULTS:
            self._watch()  # a drive that is gone is the better explanation
        try:
            self._sums.ended(self._number, _judged(result, self.heard))
        except FlashbackError as problem:
            self.problem = problem


class _Sums:
    """What several rsyncs have done, as one sum: bytes and files of each."""

    def __init__(self, on_progress: Progress) -> None:
        self._on_progress = on_progress
        self._parts: list[tuple[int, int]] = []
        self._current = b""

    def begun(self) -> int:
        """One more; by this number it is known."""
        self._parts.append((0, 0))
        return len(self._parts) - 1

    def told(self, part: int, done: int, files: int, current: bytes) -> None:
        self._parts[part], self._current = (done, files), current
        self._on_progress(sum(part[0] for part in self._parts), sum(part[1] for part in self._parts), current)

    def ended(self, part: int, outcome: CopyOutcome) -> None:
        """Tell its end, too: what it said last may have come too soon after what it said before."""
        done, files = self._parts[part]
        self.told(part, max(done, outcome.copied + outcome.same), max(files, outcome.files), self._current)


def restore(run: Runner, request: RestoreRequest, *, on_progress: Progress, watch: Callable[[], None]) -> CopyOutcome:
    """Copy back what the list names; links are kept as links. What became of each file is for the caller to look at.

    Both ends are named by descriptors, so that no name on the way is looked up twice, and the names go by the same
    detour as with `copy`. Raises as that, naming the place that is written to instead of the drive.
    """
    ours = f"/proc/{os.getpid()}/fd"
    source, here = f"{ours}/{request.source}", f"/proc/self/fd/{request.destination}"
    roots = tuple(os.fsencode(each) for each in (source, os.path.realpath(source), os.path.realpath(here)))
    heard = Heard(roots, on_progress, place=request.place)
    words = ("-s", "-tpgoHAXd", "--links", "--numeric-ids", "--no-devices", "--no-specials", "--modify-window=-1")
    sparse = ("--sparse",) if request.sparse else ()
    owner = (f"--chown={request.owner}",) if request.owner else ()
    says = ("--info=progress2,stats2,nonreg1", "--no-h", "--outbuf=L", "--out-format=@%n")
    argv = (PROGRAM, *words, "--whole-file", *sparse, *owner, f"--temp-dir={ours}/{request.temporary}", *says)
    argv = (*argv, "--files-from=-", "--from0", *_detour("", f"{source}/"), "./")
    command, ended = Command(argv, stdin=request.names, cwd=here, dies_with_us=True), list[Result]()
    run.streams([Stream(command, heard.out, heard.err, ended.append)], at_once=1, watch=watch)
    if ended[0].code not in _RESULTS:
        watch()
    return _judged(ended[0], heard)


def _judged(result: Result, heard: Heard) -> CopyOutcome:
    """What came of it. Raises what concerns the drive as a whole, and `NotFinished` where rsync stopped."""
    heard.judge(result)
    if result.code not in _RESULTS:
        raise _stopped(result)
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
    """The detour, for root too: without it rsync reads the list of names byte by byte, with two calls of the kernel for
    each (3.2.7 and 3.5.0; a million names take it half a minute), and with it in pieces.

    With it, rsync would check each name it is sent against each that was asked for. That takes the square of their
    number, and fails over paths of some thousand bytes (3.5.0: "rejecting unrequested file-list name").
    `--trust-sender` (3.2.5) leaves it out; the sender is our own, and what its user might smuggle in stays within the
    copy of what is theirs: `..` is refused all the same.
    """
    if request.uid == 0:
        return _detour("", "./")
    groups = "--init-groups" if request.groups else "--clear-groups"
    ids = f"--reuid={request.uid} --regid={request.gid} {groups}"
    return _detour(f"{ids} {_shield()} ", "./")


def _detour(options: str, place: str) -> tuple[str, ...]:
    """The way to a sender of our own, with more options for setpriv, and what it is to read."""
    return ("--trust-sender", "-e", f"setpriv {options}--no-new-privs --pdeathsig KILL --", f"env:{place}")


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
