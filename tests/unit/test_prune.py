"""Waiting for what was deleted, and making room while something is done: with a kernel that only remembers."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import pytest

from flashback.backup import prune
from flashback.backup.prune import Pruning, wait_deleted
from flashback.core.errors import DriveGone, NoSpace, NotFinished
from tests.unit.drives import RED


def a_drive(root: int, *, gone: bool = False) -> SimpleNamespace:
    def watch() -> None:
        if gone:
            raise DriveGone("gone")

    return SimpleNamespace(known=RED, root=root, watch=watch, read_only=False)


@pytest.fixture
def root(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def kernel(monkeypatch):
    """Gives back one subvolume at each look."""
    looks: list[int] = []
    monkeypatch.setattr(prune.btrfs_delete, "clean_up", lambda _fd: None)
    monkeypatch.setattr(prune, "PACE", 0)

    def is_deleted(_fd, number):
        looks.append(number)
        return looks.count(number) > number

    monkeypatch.setattr(prune.btrfs_delete, "is_deleted", is_deleted)
    return looks


def test_it_waits_until_each_has_given_back_what_it_held(root, kernel) -> None:
    wait_deleted(a_drive(root), [1, 3])
    assert (kernel.count(1), kernel.count(3)) == (2, 4)


def test_a_drive_that_is_pulled_meanwhile_ends_the_waiting(root, kernel) -> None:
    with pytest.raises(DriveGone):
        wait_deleted(a_drive(root, gone=True), [1 << 40])


def test_a_file_system_that_has_stopped_is_not_waited_for_for_ever(root, kernel, monkeypatch) -> None:
    monkeypatch.setattr(prune.os, "fstatvfs", lambda _fd: SimpleNamespace(f_flag=os.ST_RDONLY))
    with pytest.raises(NotFinished, match="did not give back the space"):
        wait_deleted(a_drive(root), [1 << 40])


class Filling(Pruning):
    """`full` times there is no room; each of `further` that goes makes some."""

    def __init__(self, root: int, further: list[str]) -> None:
        super().__init__(SimpleNamespace(), a_drive(root), lambda *_: None, further=further, arrange=sorted)
        self.gone: list[str] = []
        self.empty_chunks = False

    def _chunks_given_back(self) -> bool:
        return self.empty_chunks

    def remove(self, goes) -> None:
        self.gone += goes
        self.removed += goes

    def _some_room(self) -> bool:
        return True


@pytest.mark.parametrize("problem", [NoSpace("full"), OSError(errno.ENOSPC, "full")])
def test_the_next_in_order_go_one_at_a_time_until_the_work_fits(root, problem) -> None:
    pruning, tries = Filling(root, ["c", "a", "b"]), []

    def work() -> str:
        tries.append(len(pruning.gone))
        if len(pruning.gone) < 2:
            raise problem
        return "done"

    assert pruning.roomy(work) == "done"
    assert (tries, pruning.gone) == ([0, 1, 2], ["a", "b"])


def test_before_anything_goes_empty_chunks_are_given_back_once(root) -> None:
    pruning, tries = Filling(root, ["a"]), []
    pruning.empty_chunks = True

    def work() -> str:
        tries.append(len(pruning.gone))
        if len(tries) < 3:
            raise NoSpace("full")
        return "done"

    assert pruning.roomy(work) == "done"
    assert tries == [0, 0, 1]


def test_where_nothing_may_go_any_more_it_is_no_space_and_says_so(root) -> None:
    pruning = Filling(root, ["a"])

    def work() -> None:
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(NoSpace) as caught:
        pruning.roomy(work)
    assert pruning.gone == ["a"]
    assert caught.value.hint.startswith("no snapshot may go any more: exclude something")


def test_another_error_removes_nothing(root) -> None:
    pruning = Filling(root, ["a"])

    def work() -> None:
        raise OSError(errno.EIO, "broken")

    with pytest.raises(OSError, match="broken"):
        pruning.roomy(work)
    assert pruning.gone == []
