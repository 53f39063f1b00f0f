"""Work lists for which this machine has no room are found out before anything is done with them."""

from __future__ import annotations

import errno
import gc
import tempfile
from pathlib import Path

import pytest

from flashback.compare.changes import ChangeSet
from flashback.compare.comparison import compare
from flashback.compare.spool import Spool
from flashback.walk.listing import Entry, Kind


@pytest.fixture
def full(monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_more: open("/dev/full", "w+b"))  # noqa: SIM115


def an_entry(path: bytes) -> Entry:
    return Entry(path, Kind.FILE if path else Kind.DIRECTORY, 0o644, 0, 0, 0, 1, 1, 1, 1, 1)


@pytest.mark.usefixtures("full")
def test_a_list_that_has_no_room_is_an_error_when_it_is_complete() -> None:
    spool = Spool(Path("/nowhere"))
    spool.add(b"name")
    with pytest.raises(OSError, match="No space left") as caught:
        spool.settle()
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.usefixtures("full")
def test_nothing_is_said_when_such_a_list_is_thrown_away(capsys) -> None:
    spool = Spool(Path("/nowhere"))
    spool.add(b"name")
    del spool
    gc.collect()
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("full")
def test_collecting_fails_where_the_lists_have_no_room(tmp_path) -> None:
    with pytest.raises(OSError, match="No space left"):
        ChangeSet.collect(compare([], [an_entry(b""), an_entry(b"gone")]), directory=tmp_path)


def test_a_list_of_nothing_but_the_root_is_whole_after_settling_twice(tmp_path) -> None:
    spool = Spool(tmp_path, with_root=True)
    spool.add(b"")
    spool.settle()
    assert spool.rewound().read() == b".\0"
