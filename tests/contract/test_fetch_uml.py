"""Two guests that are started at once, and find no kernel, get one between them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from pathlib import Path

from tests.contract.conftest import FakePrograms

FETCH = Path(__file__).parent.parent / "vm/fetch-uml"


def is_waited_for(file: int) -> bool:
    """Whether somebody waits for a lock on this file, see proc_locks(5)."""
    lines = (line.split() for line in Path("/proc/locks").read_text("ascii").splitlines())
    return any("->" in words and words[6].endswith(f":{os.fstat(file).st_ino}") for words in lines)


def test_what_another_has_fetched_meanwhile_is_left_as_it_is(tmp_path: Path, fake_programs: FakePrograms) -> None:
    fake_programs.write("apt-get", code=1)
    folder, path = tmp_path / "uml", f"{fake_programs.path}:{os.environ['PATH']}"
    with open(tmp_path / "uml.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen([FETCH, folder], env=os.environ | {"PATH": path}) as fetching:
            while not is_waited_for(lock.fileno()) and fetching.poll() is None:
                time.sleep(0.01)
            folder.mkdir()
            (folder / "xstate.so").touch()
            fcntl.flock(lock, fcntl.LOCK_UN)
    assert fetching.returncode == 0
    assert (folder / "xstate.so").exists()
    assert fake_programs.calls() == []
