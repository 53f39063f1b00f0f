"""rsync copies exactly what a list names, reading as the master's owner, and its words are turned into meanings.

So that no link can carry a root-only file onto the drive, the sending side runs as the owner: rsync is told that the
master lies on another host, and that the way there (`-e`) is setpriv(1), and the host's name is the program `env`.
What rsync then runs is `setpriv ... -- env rsync --server --sender ...` in its own working directory, the master.
`-s` hands file names over inside the protocol, so nothing is split or expanded. Tried with 3.2.7 and 3.5.0.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Final

from flashback.core.command import Command, CommandFailed, Result, Runner
from flashback.core.errors import NotFinished
from flashback.core.text import shown
from flashback.tools.rsync.heard import TICK, CopyOutcome, Heard, Progress, Trouble

__all__ = ["TICK", "CopyOutcome", "CopyRequest", "Links", "Progress", "RestoreRequest", "Trouble", "copy", "restore"]

PROGRAM: Final = "rsync"
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


def copy(run: Runner, request: CopyRequest, *, on_progress: Progress, watch: Callable[[], None]) -> CopyOutcome:
    """Copy what the list names. The exit codes 0, 23 and 24 are a result, 23 by what was said (LINUX 5.6).

    Raises `NoSpace`, `NotFinished` when rsync stopped or the drive became read-only, and whatever `watch` raises.
    """
    roots = (os.fsencode(os.path.realpath(request.master)), os.fsencode(request.destination))
    heard = Heard(roots, on_progress)
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
    command = Command(
        (*argv, "--files-from=-", "--from0", *_detour("", f"{source}/"), "./"),
        stdin=request.names,
        ok=frozenset({0, 23, 24}),
        cwd=here,
        dies_with_us=True,
    )
    try:
        result = run.stream(command, on_out=heard.out, on_err=heard.err, watch=watch)
    except CommandFailed as failure:
        watch()
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
