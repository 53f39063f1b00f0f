"""Processes that enter a master's directories before the walk: when there are some, and that nothing depends on them."""

from __future__ import annotations

import errno
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from mmap import mmap
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from flashback.config.values import Rule, Symlinks
from flashback.core.events import Remark
from flashback.core.signals import Interrupted, StopSignals
from flashback.walk import ahead, reader
from flashback.walk.ahead import WalkAhead, walking_ahead
from flashback.walk.child import Children, Owner
from flashback.walk.filter import Filter
from flashback.walk.frames import Ended, Frame
from flashback.walk.listing import Entry, Item, Kept, Kind, Same
from flashback.walk.markers import CACHE_SIGNATURE
from flashback.walk.master import Produce, walking
from flashback.walk.narrow import Narrow
from flashback.walk.reader import ReadingFailed, reading_as, reading_master
from tests.conftest import run

pytestmark = pytest.mark.tools

ALICE = Owner("4711", 4711, 4712)
RULES = Filter([Rule(b"*.o"), Rule(b"out/")])


class Forked:
    """What is forked from now on: `children` are the numbers, `produces` what they run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.children: list[int] = []
        fork = Children.fork

        def noted(*given: Any) -> int:
            self.children.append(fork(*given))
            return self.children[-1]

        monkeypatch.setattr(Children, "fork", noted)

    def __len__(self) -> int:
        return len(self.children)

    def gone(self) -> bool:
        return not any(Path(f"/proc/{child}").exists() for child in self.children)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> Forked:
    return Forked(monkeypatch)


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every master is taken for one that is read from a disk, to its end."""
    monkeypatch.setattr(reader, "LEAST", 0)
    monkeypatch.setattr(ahead, "PATIENCE", 1 << 30)


@pytest.fixture
def master() -> Iterator[Path]:
    """1,500 files, and a bit of everything that the walk minds."""
    with tempfile.TemporaryDirectory(prefix="flashback-ahead-") as room:
        os.chmod(room, 0o755)
        master = Path(room) / "master"
        plant(master)
        yield master


def plant(master: Path) -> None:
    for folder in range(15):
        (master / f"d{folder:02}" / "below").mkdir(parents=True)
        for number in range(100):
            (master / f"d{folder:02}" / f"f{number:02}").touch()
        (master / f"d{folder:02}" / "x.o").touch()
        (master / f"d{folder:02}" / "up").symlink_to("..")
        (master / f"d{folder:02}" / "gone").symlink_to("nowhere")
        (master / f"d{folder:02}" / "other").symlink_to(f"../d{(folder + 1) % 15:02}/below")
    for name in ("out", "closed", "cache", "ours"):
        (master / name).mkdir()
        (master / name / "x").touch()
    os.chmod(master / "closed", 0o700)
    (master / "cache" / "CACHEDIR.TAG").write_bytes(CACHE_SIGNATURE)
    os.mkfifo(master / "pipe")


def read(master: Path, *, owner: Owner | None = ALICE, **more: Any) -> tuple[list[Item], list[Remark]]:
    remarks: list[Remark] = []
    how = {"filter": RULES, "symlinks": Symlinks.FOLLOW, "avoid": master / "ours", **more}
    with reading_master(master, owner, remark=remarks.append, **how) as items:
        return list(items), remarks


def test_what_is_found_is_the_same_with_it(master: Path, cold: None, forked: Forked, monkeypatch) -> None:
    with_it = read(master)
    assert len(forked) == 1 + ahead.AT_ONCE
    monkeypatch.setattr(reader, "LEAST", 1 << 30)
    assert read(master) == with_it
    assert len(forked) == 2 + ahead.AT_ONCE
    kinds = {type(item) for item in with_it[0]}
    assert kinds == {Entry, Kept}
    assert len(with_it[0]) > 1500


def entered_by(produces: Iterable[Produce]) -> list[bytes]:
    """What processes that run at the same time enter, in all."""
    enter = WalkAhead._level

    def telling(produce: Produce) -> Produce:
        def told(emit: Callable[[object], None]) -> None:
            def entered(self: WalkAhead, fd: int, path: bytes, *more: Any, **rest: Any) -> Any:
                emit(Same(path))
                return enter(self, fd, path, *more, **rest)

            with patch.object(WalkAhead, "_level", entered):
                produce(emit)

        return told

    with ExitStack() as stack:
        told = [stack.enter_context(reading_as(ALICE, telling(each))) for each in produces]
        return [item.path for each in told for item in each if isinstance(item, Same)]


@pytest.mark.parametrize("symlinks", list(Symlinks))
def test_together_they_enter_what_the_walk_enters_but_for_links(master: Path, symlinks: Symlinks) -> None:
    at, below = os.stat(master / "ours"), os.stat(master / "d04")
    narrow = Narrow(frozenset({b"", b"d03"}), {b"d04": below.st_ino}, frozenset())
    avoid = frozenset({(at.st_dev, at.st_ino)})
    how = {"filter": RULES, "symlinks": symlinks, "avoid": avoid, "narrow": narrow}
    with reading_as(ALICE, walking(master, **how)) as said:
        found = {item.path for item in said if isinstance(item, Entry) and item.kind is Kind.DIRECTORY}
    entered = entered_by(walking_ahead(master, **how))
    assert set(entered) - {b"closed"} == {path for path in found if not (master / os.fsdecode(path)).is_symlink()}
    assert b"d04" not in entered
    assert b"d03" in entered


def test_what_one_has_gone_through_the_others_leave_out(master: Path) -> None:
    produces = list(walking_ahead(master, filter=RULES, symlinks=Symlinks.KEEP))
    assert len(produces) == ahead.AT_ONCE
    first = entered_by(produces[:1])
    assert len(first) > 30
    assert entered_by(produces[1:2]) == [b""]


def test_a_directory_in_which_another_one_still_is_is_gone_through_as_well(master: Path) -> None:
    """Or one process alone would go through a directory that holds nearly everything."""
    (master / "all").mkdir()
    for each in [*master.glob("d*")]:
        each.rename(master / "all" / each.name)
    produces = list(walking_ahead(master, filter=RULES, symlinks=Symlinks.KEEP))
    claims = next(cell.cell_contents for cell in produces[0].__closure__ or () if isinstance(cell.cell_contents, mmap))
    claims[os.stat(master / "all").st_ino % ahead.CLAIMS] = ahead.TAKEN
    assert b"all/d03/below" in entered_by(produces[1:2])


def test_each_file_is_looked_at_and_no_link_is_followed(master: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    touch = os.access
    monkeypatch.setattr(
        os, "access", lambda name, *how, **more: looks.append((name, more)) or touch(name, *how, **more)
    )
    next(walking_ahead(master, filter=RULES, symlinks=Symlinks.FOLLOW))(lambda _said: None)
    assert Counter(name for name, _more in looks)["f42"] == 15
    assert not any(more.get("follow_symlinks", True) for name, more in looks if name != b".")


def test_each_is_the_owner_and_holds_nothing_open_either(master: Path, cold: None, forked: Forked, monkeypatch) -> None:
    said = master.parent / "said"
    said.touch()
    os.chmod(said, 0o666)

    def tell(*_given: object, **_more: object) -> list[Produce]:
        def produce(_emit: object) -> None:
            held = len(os.listdir("/proc/self/fd")) - 1  # not the one that lists
            said.write_text(f"{os.getresuid()} {os.getresgid()} {os.getgroups()} {held}")

        return [produce]

    monkeypatch.setattr(reader, "walking_ahead", tell)
    kept = os.open(master, os.O_RDONLY)
    with reading_master(master, ALICE, filter=RULES, symlinks=Symlinks.KEEP, remark=lambda _remark: None) as items:
        next(items)
        os.waitid(os.P_PID, forked.children[1], os.WEXITED | os.WNOWAIT)
    os.close(kept)
    assert said.read_text() == "(4711, 4711, 4711) (4712, 4712, 4712) [4712] 4"  # the three of everybody, /dev/null


def stuck(*_given: object, **_more: object) -> list[Produce]:
    return [lambda _emit: signal.pause()] * 2


def broken(*_given: object, **_more: object) -> list[Produce]:
    def produce(_emit: object) -> None:
        raise ZeroDivisionError

    return [produce] * 2


def test_they_are_gone_when_the_walk_is_over(master: Path, cold: None, forked: Forked, monkeypatch) -> None:
    monkeypatch.setattr(reader, "walking_ahead", stuck)
    read(master)
    assert len(forked) == 3
    assert forked.gone()


def test_they_are_gone_when_the_walk_is_left_early(master: Path, cold: None, forked: Forked, monkeypatch) -> None:
    monkeypatch.setattr(reader, "walking_ahead", stuck)
    with (
        pytest.raises(KeyError),
        reading_master(master, None, filter=RULES, symlinks=Symlinks.KEEP, remark=lambda _remark: None) as items,
    ):
        next(items)
        assert len(forked) == 3
        raise KeyError
    assert forked.gone()


def test_they_are_gone_when_the_first_one_is_killed(master: Path, cold: None, forked: Forked, monkeypatch) -> None:
    monkeypatch.setattr(reader, "walking_ahead", stuck)
    produce = walking(master, filter=RULES, symlinks=Symlinks.KEEP)

    def killed(*given: Any, **more: Any) -> Produce:
        def part(emit: Callable[[object], None]) -> None:
            given: list[object] = []

            def some(said: object) -> None:
                emit(said)
                given.extend(said if isinstance(said, list) else ())
                if len(given) > 1000:
                    os.kill(os.getpid(), signal.SIGKILL)

            produce(some)

        return part

    monkeypatch.setattr(reader, "walking", killed)
    with pytest.raises(ReadingFailed):
        read(master)
    assert len(forked) == 3
    assert forked.gone()


def test_an_error_in_one_is_no_error_of_the_walk(master: Path, cold: None, forked: Forked, monkeypatch) -> None:
    alone = read(master)
    before = len(forked)
    monkeypatch.setattr(reader, "walking_ahead", broken)
    assert read(master) == alone
    assert len(forked) == before + 3


def test_without_room_for_one_the_walk_goes_on_alone(master: Path, cold: None, monkeypatch) -> None:
    alone = read(master)
    fork, calls = os.fork, []

    def full() -> int:
        calls.append(1)
        if len(calls) > 1:
            raise OSError(errno.EAGAIN, "no room")
        return fork()

    monkeypatch.setattr(os, "fork", full)
    assert read(master) == alone
    assert len(calls) == 2


def test_a_signal_at_its_start_leaves_none_behind(master: Path, cold: None, forked: Forked, monkeypatch) -> None:
    started: list[int] = []
    fork = os.fork

    def interrupted() -> int:
        if child := fork():
            started.append(child)
            if len(started) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
        return child

    monkeypatch.setattr(os, "fork", interrupted)
    monkeypatch.setattr(reader, "walking_ahead", stuck)
    with StopSignals(), pytest.raises(Interrupted):
        read(master)
    assert len(started) == 2
    assert not any(Path(f"/proc/{child}").exists() for child in started)


def test_a_disk_that_is_read_starts_them_and_memory_does_not(mounted: Path, loop: str, forked: Forked) -> None:
    plant(mounted / "master")
    run("umount", mounted)
    run("mount", loop, mounted)
    with reading_master(
        mounted / "master", None, filter=RULES, symlinks=Symlinks.KEEP, remark=lambda _remark: None
    ) as items:
        cold = [item.path for item in items]
    assert len(forked) == 1 + ahead.AT_ONCE
    warm = [item.path for item in read(mounted / "master", owner=None, symlinks=Symlinks.KEEP, avoid=None)[0]]
    assert len(forked) == 2 + ahead.AT_ONCE
    assert warm == cold
    run("umount", mounted)


class Counted:
    """Stands for `Children`."""

    def __init__(self) -> None:
        self.forks = 0

    def fork(self, _produce: Produce, writing: int) -> int:
        os.fstat(writing)
        self.forks += 1
        return 1


@pytest.mark.parametrize(
    ("blocks", "starts"),
    [
        ([0, 0, 0], 0),
        ([0, 8, 8], 0),
        ([0, ahead.LEAST, 9999], 1),
        ([9999, 9999, 9999, 9999], 1),
        ([0, 9999], 0),
        ([9999], 0),
    ],
)
def test_they_are_started_once_and_not_for_what_is_over(blocks: list[int], starts: int) -> None:
    frames = [Frame([], [], blocks=each) for each in blocks]
    frames[-1] = Frame([], [], Ended(), blocks=blocks[-1])
    children = Counted()
    assert list(reader._helped(iter(frames), children, stuck())) == frames  # type: ignore[arg-type]
    assert children.forks == starts * len(stuck())


@pytest.mark.parametrize(("blocks", "rounds"), [([0], 1), ([8, 16, 16], 3)])
def test_one_ends_where_nothing_was_read_for_some_thousand_names(
    master: Path, blocks: list[int], rounds: int, monkeypatch
) -> None:
    left = iter(blocks)
    monkeypatch.setattr(ahead, "blocks_read", lambda: next(left))
    monkeypatch.setattr(ahead, "PATIENCE", 200)
    looks = []
    touch = os.access
    monkeypatch.setattr(os, "access", lambda name, *how, **more: looks.append(name) or touch(name, *how, **more))
    next(walking_ahead(master, filter=RULES, symlinks=Symlinks.KEEP))(lambda _said: None)
    assert 200 * rounds - 50 < len(looks) < 200 * rounds  # what is no directory, of so many names
    assert next(left, None) is None


def test_the_files_of_a_directory_are_looked_at_by_one_of_them(master: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    touch = os.access
    monkeypatch.setattr(os, "access", lambda name, *how, **more: looks.append(name) or touch(name, *how, **more))
    (master / "top").touch()
    produces = list(walking_ahead(master, filter=RULES, symlinks=Symlinks.KEEP))
    for each in reversed(produces):
        each(lambda _said: None)
    assert Counter(looks)["f42"] == 15
    assert Counter(looks)["top"] == 1


def test_they_go_no_deeper_than_the_walk(master: Path) -> None:
    here = os.open(master, os.O_RDONLY)
    for _ in range(30):
        os.mkdir(b"x" * 250, dir_fd=here)
        below = os.open(b"x" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    entered = entered_by(list(walking_ahead(master, filter=RULES, symlinks=Symlinks.KEEP))[:1])
    assert 3800 < max(map(len, entered)) < 4096
    run("rm", "-rf", master / ("x" * 250))
