"""Whoever is killed has an heir, who does what was left to do: not before, and not where nothing was left."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable

import pytest

from flashback.core.command import Command, ProgramMissing
from flashback.core.conversation import converse
from flashback.core.heir import Heir
from tests.contract.conftest import FakePrograms

LATE = 20.0
BEQUEST = ("putaway", "red")


def killed_while(work: Callable[[], object]) -> None:
    """`work` is done in a process of its own, which ends by SIGKILL."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def comes(condition: Callable[[], object]) -> bool:
    until = time.monotonic() + LATE
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return bool(condition())


@pytest.fixture
def fakes(fake_programs: FakePrograms) -> FakePrograms:
    fake_programs.write("putaway")
    return fake_programs


def test_killed_after_it_was_begun_the_heir_does_it(fakes: FakePrograms) -> None:
    def work() -> None:
        heir = Heir(fakes.programs, BEQUEST).__enter__()
        heir.begin()
        heir.begin()
        os.kill(os.getpid(), signal.SIGKILL)

    killed_while(work)
    assert comes(lambda: fakes.argvs("putaway") == [["red"]])


def test_what_the_heir_does_waits_for_a_program_that_was_being_run(fakes: FakePrograms) -> None:
    fakes.write("open", "time.sleep(1); open(argv[0], 'w').close()", reads=False)
    fakes.write("putaway", "open(argv[0] + '.heir', 'w').write(str(os.path.exists(argv[0])))")
    mark = fakes.folder / "opened"

    def work() -> None:
        heir = Heir(fakes.programs, ("putaway", str(mark))).__enter__()
        heir.begin()
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        heir.run(Command(("open", str(mark))))

    killed_while(work)
    told = mark.with_suffix(".heir")
    assert comes(lambda: told.exists() and told.read_text())
    assert told.read_text() == "True"


def test_a_program_that_talks_with_a_person_is_outlived_as_well(fakes: FakePrograms, monkeypatch) -> None:
    """Also where nobody may look into this process, and not it itself by way of /proc: in the sandbox of a unit."""
    really = os.open
    kept_out = PermissionError(errno.EACCES, "no")

    def opened(path: str, *more: int) -> int:
        if str(path).startswith("/proc/"):
            raise kept_out
        return really(path, *more)

    monkeypatch.setattr(os, "open", opened)
    fakes.write("open", "out.write(os.readlink(argv[0]).encode())", reads=False)
    heard: list[str] = []
    with Heir(fakes.programs, BEQUEST) as heir:
        environment = {**fakes.programs.environment, "PATH": fakes.path}
        ours = os.readlink(f"/proc/self/fd/{heir.descriptor}")
        argv = (f"{fakes.path}/open", f"/proc/self/fd/{heir.descriptor}")
        code = converse(
            argv, environment=environment, answer=lambda _asked: None, hear=heard.append, inherits=heir.descriptor
        )
    assert (code, heard) == (0, [ours])


def test_what_was_seen_to_is_not_done_again(fakes: FakePrograms) -> None:
    with Heir(fakes.programs, BEQUEST) as heir:
        heir.begin()
        heir.let_go()
    assert fakes.calls("putaway") == []


def test_what_was_never_begun_is_not_done(fakes: FakePrograms) -> None:
    with Heir(fakes.programs, BEQUEST):
        pass
    assert fakes.calls("putaway") == []


def test_an_error_within_the_block_has_it_done_before_anything_else(fakes: FakePrograms) -> None:
    with pytest.raises(OSError, match="broke"), Heir(fakes.programs, BEQUEST) as heir:
        heir.begin()
        raise OSError("it broke")
    assert fakes.argvs("putaway") == [["red"]]


def test_a_heir_that_is_asked_to_end_stays(fakes: FakePrograms) -> None:
    """As a service manager asks all of a control group."""
    with Heir(fakes.programs, BEQUEST) as heir:
        heir.begin()
        assert comes(shells)
        (shell,) = shells()
        assert comes(lambda: ignores(shell, signal.SIGTERM))
        os.kill(shell, signal.SIGTERM)
    assert fakes.argvs("putaway") == [["red"]]


def shells() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return [int(each) for each in file.read().split() if b"read -r word" in cmdline(each)]


def ignores(pid: int, number: int) -> bool:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        mask = next(line.split()[1] for line in file if line.startswith("SigIgn"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def cmdline(pid: str) -> bytes:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()


def test_a_program_that_is_missing_is_told_before_anything_depends_on_it(fake_programs: FakePrograms) -> None:
    with Heir(fake_programs.programs, BEQUEST) as heir, pytest.raises(ProgramMissing, match="putaway"):
        heir.begin()
