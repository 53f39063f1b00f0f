"""Who holds a lock, seen without taking it."""

from __future__ import annotations

import os
from pathlib import Path

from flashback.core.locks import Lock, holder, locked


def test_the_holder_is_named_as_long_as_it_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "red.lock"
    assert holder(path) == ""
    with locked(path, purpose="run red"):
        assert holder(path).startswith(f"flashback run red (process {os.getpid()}, boot ")
    assert holder(path) == ""


def test_looking_takes_nothing_from_whoever_wants_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "red.lock"
    with locked(path, purpose="run red"):
        pass
    lock, seen = Lock(path, purpose="restore red"), []
    for _ in range(100):
        seen.append(holder(path))
        lock.take()
        lock.leave()
    assert set(seen) == {""}


def test_the_note_of_a_process_that_was_killed_is_nobodys(tmp_path: Path) -> None:
    path = tmp_path / "red.lock"
    path.write_text("flashback run red (process 4194300, boot 00000000-0000-0000-0000-000000000000)\n", "utf-8")
    assert holder(path) == ""
    with locked(path, purpose="run red"):
        other = tmp_path / "blue.lock"
        other.write_bytes(path.read_bytes())
        assert holder(other) == ""
