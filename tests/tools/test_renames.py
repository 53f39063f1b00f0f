"""What was renamed in the master is moved on the drive, and shares its extents with the snapshot."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from flashback.backup import moving, prune
from flashback.compare.guard import holds_for
from flashback.config.values import Guards, Rule
from flashback.core.errors import NotFinished
from tests.conftest import run
from tests.tools.test_catalogue_runs import Meddler, Rig, rig  # noqa: F401 - a fixture

MIB = 1 << 20


def exclusive(rig: Rig) -> int:  # noqa: F811
    """Bytes that only the copy has."""
    run("sync", "-f", rig.current())
    return int(run("btrfs", "filesystem", "du", "--raw", "-s", rig.current()).splitlines()[1].split()[1])


def filled(folder: Path, files: int = 20, size: int = MIB // 2) -> None:
    folder.mkdir()
    for number in range(files):
        (folder / f"{number}").write_bytes(os.urandom(size))


def check(rig: Rig) -> dict[str, int]:  # noqa: F811
    (plan,) = (report := rig.back_up()).plan.masters
    assert not plan.full
    assert report.remarks == []
    assert rig.wrong() == ""
    assert not [name for name in os.listdir(rig.current()) if name.startswith(".flashback-")]
    totals = plan.changes.totals()
    assert rig.still_to_do() == {}
    return totals


def swap(top: Path) -> None:
    (top / "d").rename(top / "t")
    (top / "e").rename(top / "d")
    (top / "t").rename(top / "e")


def chain(top: Path) -> None:
    (top / "e").rename(top / "f")
    (top / "d").rename(top / "e")


def into_itself(top: Path) -> None:
    (top / "d").rename(top / "t")
    (top / "d").mkdir()
    (top / "t").rename(top / "d/inner")


def over_a_file(top: Path) -> None:
    (top / "single").unlink()
    (top / "d").rename(top / "single")
    (top / "d").write_bytes(b"a file now")


def singly(top: Path) -> None:
    (top / "new/deep").mkdir(parents=True)
    for each in (top / "d").iterdir():
        each.rename(top / "new/deep" / f"{each.name}.moved")


def with_edits(top: Path) -> None:
    (top / "d").rename(top / "n")
    (top / "n/0").write_bytes(b"edited")
    (top / "n/1").rename(top / "e/from-d")
    (top / "n/more").write_bytes(b"new")
    (top / "n/2").unlink()


def by_case(top: Path) -> None:
    (top / "d").rename(top / "D")
    (top / "D/0").rename(top / "D/O")


def in_a_ring(top: Path) -> None:
    (top / "d/0").rename(top / "d/t")
    for number in range(18):
        (top / f"d/{number + 1}").rename(top / f"d/{number}")
    (top / "d/t").rename(top / "d/18")


@pytest.mark.parametrize("how", [swap, chain, into_itself, over_a_file, singly, with_edits, by_case, in_a_ring])
def test_what_moves_takes_no_room(rig: Rig, how) -> None:  # noqa: F811
    filled(rig.master / "d")
    filled(rig.master / "e", files=3)
    (rig.master / "single").write_bytes(b"one")
    rig.back_up()
    rig.back_up()
    how(rig.master)
    totals = check(rig)
    assert totals["files_moved"] >= 18
    assert totals["files_added"] <= 1
    assert exclusive(rig) < MIB // 4


@pytest.mark.parametrize("seed", range(100, 105))
def test_after_random_renames_and_edits_the_copy_equals_the_master(rig: Rig, seed: int) -> None:  # noqa: F811
    meddler = Meddler(rig.master, seed)
    meddler.work(60)
    meddler.ways += [meddler.rename, meddler.swap_two] * 12
    for turn in range(9):
        report = rig.back_up()
        assert report.remarks == [], turn
        assert rig.wrong() == "", turn
        assert rig.still_to_do() == {}, turn
        meddler.work(meddler.random.choice([1, 3, 15]))


@pytest.mark.parametrize("step", [1, 2, 4, 7])
@pytest.mark.parametrize("how", [swap, with_edits])
def test_a_run_that_is_broken_off_while_it_moves_is_carried_on(rig: Rig, how, step) -> None:  # noqa: F811
    filled(rig.master / "d", files=4, size=10_000)
    filled(rig.master / "e", files=3, size=10_000)
    rig.back_up()
    how(rig.master)
    calls, real = [], moving._Mover._step

    def stop(self) -> None:
        calls.append(1)
        if len(calls) == step:
            raise NotFinished("on purpose")
        real(self)

    with patch.object(moving._Mover, "_step", stop), suppress(NotFinished):
        rig.back_up()
    rig.back_up()
    assert rig.wrong() == ""
    assert rig.still_to_do() == {}


@pytest.mark.parametrize("step", [1, 4, 7, 10])
def test_a_drive_that_is_full_while_it_moves_is_given_room_and_the_moving_goes_on(rig: Rig, step) -> None:  # noqa: F811
    filled(rig.master / "d", files=4, size=10_000)
    filled(rig.master / "e", files=3, size=10_000)
    rig.back_up()
    with_edits(rig.master)
    (rig.master / "e/0").rename(rig.master / "e/t")
    (rig.master / "e/1").rename(rig.master / "e/0")
    (rig.master / "e/t").rename(rig.master / "e/1")
    calls, made, real = [], [], moving._Mover._step

    def full(self) -> None:
        calls.append(1)
        if len(calls) == step:
            raise OSError(errno.ENOSPC, "full")
        real(self)

    with (
        patch.object(moving._Mover, "_step", full),
        patch.object(prune.Pruning, "more", lambda _self: made.append(1) or 1),
    ):
        check(rig)
    assert made == [1]


def test_a_rename_of_everything_is_nothing_that_a_guard_holds(rig: Rig) -> None:  # noqa: F811
    filled(rig.master / "d", files=600, size=1000)
    rig.back_up()
    (rig.master / "new").mkdir()
    (rig.master / "d").rename(rig.master / "new/d")
    (plan,) = rig.back_up(dry=True).plan.masters
    assert holds_for([plan.facts()], limits=Guards()) == ()
    assert check(rig)["files_moved"] == 600


def test_a_large_rename_puts_the_regular_full_comparison_off_to_twice_as_many_runs_at_most(rig: Rig) -> None:  # noqa: F811
    rig.full_every, found = 2, []
    filled(rig.master / "d0", files=65, size=MIB)
    for turn in range(6):
        (plan,) = rig.back_up().plan.masters
        found.append((plan.full, plan.changes.moved.files))
        (rig.master / f"d{turn}").rename(rig.master / f"d{turn + 1}")
    assert found == [(True, 0), *[(False, 65)] * 4, (True, 0)]


def test_names_of_one_file_stay_one_file_wherever_they_go(rig: Rig) -> None:  # noqa: F811
    filled(rig.master / "d", files=3)
    os.link(rig.master / "d/0", rig.master / "d/same")
    os.link(rig.master / "d/0", rig.master / "outside")
    rig.back_up()
    (rig.master / "d").rename(rig.master / "n")
    (rig.master / "n/same").rename(rig.master / "elsewhere")
    check(rig)
    names = [rig.current() / name for name in ("n/0", "elsewhere", "outside")]
    assert len({path.stat().st_ino for path in names}) == 1


def test_what_is_renamed_to_an_excluded_name_goes_and_what_comes_from_one_is_copied(rig: Rig) -> None:  # noqa: F811
    rig.settings = replace(rig.settings, rules=(Rule(b"*.tmp"),))
    filled(rig.master / "d", files=3, size=10_000)
    filled(rig.master / "e.tmp", files=3, size=10_000)
    rig.back_up()
    (rig.master / "e.tmp").rename(rig.master / "f")
    (rig.master / "d").rename(rig.master / "e.tmp")
    (rig.master / "e.tmp/0").rename(rig.master / "0")
    rig.back_up()
    assert sorted(os.listdir(rig.current())) == ["0", "f"]
    assert rig.wrong("--exclude=*.tmp") == ""
    assert rig.still_to_do() == {}


def test_another_file_with_the_same_inode_size_and_time_is_not_taken_for_it(rig: Rig) -> None:  # noqa: F811
    """As when an inode is used again: only its content tells."""
    (rig.master / "a").write_bytes(b"x" * 100_000)
    os.utime(rig.master / "a", ns=(5, 5))
    rig.back_up()
    (rig.master / "a").rename(rig.master / "b")
    (rig.master / "b").write_bytes(b"y" * 100_000)
    os.utime(rig.master / "b", ns=(5, 5))
    totals = check(rig)
    assert totals["files_moved"] == 1
    assert (rig.current() / "b").read_bytes() == b"y" * 100_000
