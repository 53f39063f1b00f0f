"""Locks die with their holder, whatever it died of."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from flashback.core.errors import Locked
from flashback.core.locks import boot_id, locked


class Holder:
    """Another process that takes the lock and keeps it until it is killed."""

    def __init__(self, path: Path) -> None:
        reading, writing = os.pipe()
        self.process = os.fork()
        if not self.process:
            with locked(path, purpose="run on red"):
                os.write(writing, b"!")
                signal.pause()
            os._exit(0)
        os.close(writing)
        assert os.read(reading, 1) == b"!"
        os.close(reading)

    def kill(self) -> None:
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runtime" / "run.lock"


@pytest.fixture
def holder(path):
    holder = Holder(path)
    yield holder
    if Path(f"/proc/{holder.process}").exists():
        holder.kill()


def test_a_living_holder_is_respected_and_named(path, holder):
    with pytest.raises(Locked) as caught, locked(path, purpose="scrub"):
        pytest.fail("got the lock")
    assert str(caught.value) == f"flashback run on red (process {holder.process}, boot {boot_id()}) is at work"


def test_the_lock_of_a_killed_holder_is_taken_over(path, holder):
    holder.kill()
    assert b"run on red" in path.read_bytes()
    with locked(path, purpose="scrub"):
        assert path.read_bytes() == f"flashback scrub (process {os.getpid()}, boot {boot_id()})\n".encode()


def test_a_released_lock_can_be_taken_again_and_names_nobody(path):
    for _ in range(2):
        with locked(path, purpose="run"):
            pass
    assert path.read_bytes() == b""


def test_a_lock_is_released_when_its_block_fails(path):
    with pytest.raises(ZeroDivisionError), locked(path, purpose="run"):
        raise ZeroDivisionError
    with locked(path, purpose="run"):
        pass


def test_a_program_that_is_started_under_the_lock_does_not_keep_it(path):
    with locked(path, purpose="run"):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with locked(path, purpose="run"):
            pass
    finally:
        child.kill()
        child.wait()


def test_a_link_in_the_place_of_the_lock_is_not_followed(path, tmp_path):
    path.parent.mkdir()
    (tmp_path / "precious").write_text("precious")
    path.symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"), locked(path, purpose="run"):
        pytest.fail("followed the link")
    assert (tmp_path / "precious").read_text() == "precious"


def test_the_lock_and_its_folder_are_the_owners_alone(path):
    with locked(path, purpose="run"):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
