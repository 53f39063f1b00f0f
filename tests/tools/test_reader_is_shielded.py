"""The reading side of rsync is its owner's, and yet its owner cannot make it say something else to root."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flashback.tools import rsync
from flashback.tools.rsync import CopyRequest, Links

pytestmark = pytest.mark.tools

ALICE = 4711
SEIZE = 0x4206
"""PTRACE_SEIZE of linux/ptrace.h: attach without stopping."""


@pytest.fixture
def reader() -> Iterator[int]:
    """A process that was started as rsync starts its reading side, for somebody who is not root."""
    with open(os.devnull, "rb") as names:
        request = CopyRequest(Path("/"), -1, Path("/"), names, uid=ALICE, gid=ALICE, groups=False, links=Links.KEEP)
        way = rsync._argv(request)
    words = way[way.index("-e") + 1].split()
    with subprocess.Popen([*words, "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        yield child.pid
        child.kill()


def attached(pid: int, uid: int) -> int:
    """What comes of attaching to `pid` as the user `uid` without any capability: 0 or an errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        done = libc.ptrace(SEIZE, pid, 0, 0)
        os._exit(ctypes.get_errno() if done else 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_the_reader_cannot_be_attached_to_by_its_own_user(reader) -> None:
    assert attached(reader, ALICE) == errno.EPERM


def test_the_reader_can_do_nothing_that_its_user_cannot(reader) -> None:
    status = Path(f"/proc/{reader}/status").read_text("ascii")
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    harmless = sum(1 << number for number in rsync._SHIELDS.values())
    assert int(facts["CapPrm"], 16) & ~harmless == 0
    assert facts["Uid"].split() == [str(ALICE)] * 4


def test_where_no_such_capability_is_to_be_had_the_reader_has_none(monkeypatch) -> None:
    monkeypatch.setattr(rsync, "_capabilities", lambda: 0)
    assert rsync._shield() == "--inh-caps=-all"
