"""The floors of the tests, held apart, and what all of them share.

A test's floor is the folder it lies in: `unit` starts no process, `contract` starts fake programs, `tools` real ones on
loop files (root), `guest` runs in a kernel of its own (tests/vm/uml-run), `machine` starts whole machines (tests/machine,
root). See CONTRIBUTING.md.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings

from flashback.core.command import Programs
from flashback.core.errors import Missing
from flashback.tools import mount

settings.register_profile("flashback", deadline=None)  # how long an example takes says nothing on a busy machine
settings.load_profile("flashback")

FLOORS = ("unit", "contract", "tools", "guest", "machine")
HERE = Path(__file__).parent
IN_CI = os.environ.get("CI", "").lower() not in {"", "0", "false"}
IN_GUEST = os.uname().nodename == "uml" or os.environ.get("FLASHBACK_TEST_NATIVE") == "1"
"""Whether this kernel may be used for the guest floor: it is the guest's, or somebody said that ours will do."""


GRACE = 20.0
"""Seconds for what is let go of to go: a loop device lives on while somebody else (udev, lsblk) looks at it, a deferred
mapping until the kernel has taken the last mount apart, which takes as long as other guests leave no time."""


for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    if (
        signal.getsignal(_number) is signal.SIG_IGN
    ):  # under nohup; the program rightly goes on ignoring it, and hears none
        signal.signal(_number, signal.SIG_DFL if _number != signal.SIGINT else signal.default_int_handler)


def pytest_sessionstart() -> None:
    """Mount where no other process sees it (a no-op without root).

    Where / is not shared, as without systemd, a mount namespace that somebody else makes meanwhile (the other process
    that shares the tests, mmdebstrap) keeps a copy of each mount of ours. Btrfs then stays in memory after our umount,
    and the next mount shows what was there, and not what a test has written into its image.
    """
    if not IN_GUEST:
        with contextlib.suppress(Missing):
            mount.private_namespace()


class RealProcess(BaseException):
    """A unit test tried to start a process. A `BaseException`, so that no handler in the program eats it."""


def floor_of(path: Path) -> str:
    """The floor of a test file, by its folder."""
    floor = path.relative_to(HERE).parts[0]
    if floor not in FLOORS:
        raise pytest.UsageError(f"{path} lies on no floor: tests belong in one of the folders {', '.join(FLOORS)}")
    return floor


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        floor = floor_of(item.path)
        wrong = {mark.name for mark in item.iter_markers()} & set(FLOORS) - {floor}
        if wrong:
            raise pytest.UsageError(f"{item.nodeid} lies on the floor {floor}, but is marked {wrong.pop()}")
        if floor != "unit":
            item.add_marker(floor)
    away = [item for item in items if item.get_closest_marker("guest")] if not IN_GUEST else []
    if away and "guest" in config.getoption("markexpr").replace("not guest", ""):
        raise pytest.UsageError("the guest floor needs a kernel of its own: make guest")
    if away:
        items[:] = [item for item in items if item not in away]
        config.hook.pytest_deselected(items=away)
    if SHARED:
        items.sort(key=lambda item: not item.path.name.startswith(LONG))


SHARED = os.environ.get("FLASHBACK_TEST_SHARED", "")
"""A folder that all see who share the tests (tests/floors.py): who makes a folder in it, named as a test file, runs that
file."""
LONG = ("test_faults", "test_restore", "test_room", "test_catalogue_runs", "test_btrfs_master")
"""Files that take minutes go first, so that nobody is left with one when the others have nothing more to do."""


@functools.cache
def is_ours(file: Path) -> bool:
    """Whether this process is the first that comes to a test file."""
    try:
        os.mkdir(f"{SHARED}/{file.parent.name}-{file.stem}")
    except FileExistsError:
        return False
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Where tests are shared: pytest's own loop, over those that are ours, so that each knows which one follows it."""
    if not SHARED:
        return None
    mine = (item for item in session.items if is_ours(item.path))
    for item, following in itertools.pairwise(itertools.chain(mine, [None])):
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
    return True


def pytest_runtest_setup(item: pytest.Item) -> None:
    for floor, lacks in {"tools": what_tools_lack, "machine": what_machine_lacks}.items():
        missing = lacks() if item.get_closest_marker(floor) else ""
        if missing and IN_CI:
            pytest.fail(f"the {floor} floor must run in CI, but {missing}", pytrace=False)
        if missing:
            pytest.skip(missing)


def what_tools_lack() -> str:
    """Why the tools floor cannot run here; empty if it can. Asked of the system, not guessed from the user number."""
    if not os.access("/dev/loop-control", os.R_OK | os.W_OK):
        return "loop devices are out of reach (root, and a kernel with loop, are needed)"
    missing = [name for name in ("mkfs.btrfs", "btrfs", "losetup", "mount", "rsync", "cryptsetup") if not on_path(name)]
    return f"programs are missing: {', '.join(missing)} (tests/vm/install-needs installs them)" if missing else ""


def what_machine_lacks() -> str:
    """The same of the machine floor."""
    if os.geteuid() != 0:
        return "root is needed, to make a Debian"
    missing = [name for name in ("qemu-system-x86_64", "qemu-img", "mmdebstrap", "mkfs.ext4") if not on_path(name)]
    return (
        f"programs are missing: {', '.join(missing)} (tests/vm/install-needs machine installs them)" if missing else ""
    )


def on_path(name: str) -> bool:
    return any(os.access(f"{folder}/{name}", os.X_OK) for folder in Programs().environment["PATH"].split(":"))


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Moments are told and typed in the machine's time; here that is UTC, wherever the tests are run."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(autouse=True)
def no_real_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the lowest floor no process starts, whichever way it is tried."""
    if floor_of(request.path) != "unit":
        return

    def refuse(*asked: object, **_more: object) -> None:
        raise RealProcess(f"a unit test tried to start a process: {asked[-1] if asked else ''}")

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp", "system", "popen", "execv", "execve"):
        monkeypatch.setattr(os, name, refuse)


# What the floors did, for tests/floors.py: one JSON line for each test, at once, so that it is known where all ends early.


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        outcome = "error" if report.failed and report.when != "call" else report.outcome
        skipped = report.skipped and isinstance(report.longrepr, tuple)
        note(report.nodeid, outcome, report.longrepr[2].removeprefix("Skipped: ") if skipped else "")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        note(report.nodeid, "error")


def note(test: str, outcome: str, why: str = "") -> None:
    where = os.environ.get("FLASHBACK_TEST_REPORT")
    if where:
        with open(where, "a", encoding="utf-8") as report:
            floor = test.removeprefix("tests/").partition("/")[0]
            print(json.dumps({"floor": floor, "outcome": outcome, "why": why}), file=report)


class Clock:
    """A clock that stands still until it is moved: call it for the time (aware, UTC)."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> datetime:
        """Move on by `days=`, `hours=`, `seconds=` and return the new time."""
        self.now += timedelta(**by)
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Stands at 2026-01-02T03:04:05Z."""
    return Clock()


@pytest.fixture
def programs() -> Programs:
    """The real programs of this machine (floors tools and guest)."""
    return Programs()


def run(*argv: str | Path, given: bytes | None = None) -> str:
    """For the tests' own errands: run a program, return what it said, raise with its words if it fails."""
    done = subprocess.run([str(word) for word in argv], input=given, capture_output=True, check=False)
    if done.returncode:
        raise AssertionError(f"{argv} exited with {done.returncode}: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode(errors="surrogateescape")


@pytest.fixture
def btrfs_image(tmp_path: Path) -> Iterator[Path]:
    """An empty Btrfs of 300 MiB on a loop device, mounted; gone afterwards whatever the test did."""
    yield from mounted_btrfs(tmp_path, "300M")


@pytest.fixture
def make_btrfs(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """For tests that want another size or several: `make_btrfs("120M")` returns a mount point."""
    made: list[Iterator[Path]] = []

    def make(size: str) -> Path:
        made.append(mounted_btrfs(tmp_path / f"btrfs{len(made)}", size))
        return next(made[-1])

    yield make
    for each in reversed(made):
        next(each, None)


def mounted_btrfs(folder: Path, size: str) -> Iterator[Path]:
    image, where = folder / "btrfs.img", folder / "btrfs"
    where.mkdir(parents=True)
    run("truncate", "-s", size, image)
    run("mkfs.btrfs", "-q", "--csum", "blake2", "-m", "dup", image)
    run("mount", "-o", "loop,nosuid,nodev,noexec,noatime", image, where)
    try:
        yield where
    finally:
        run("umount", "--recursive", where)
        image.unlink()


class Held:
    """Mounts, device mappings and loop devices: what the kernel holds at one moment.

    In a kernel of our own that is all of them. Elsewhere others are at work too: only what lies `below` the tests'
    folder counts, and mappings with a name that Flashback or its tests give.
    """

    def __init__(self, below: Path = Path("/")) -> None:
        lines = Path("/proc/self/mountinfo").read_text("utf-8").splitlines()
        mounts = [line.split(" ")[4].replace("\\040", " ") for line in lines]
        names = [read_line(path) for path in Path("/sys/block").glob("dm-*/dm/name")]
        backing = {path.parts[3]: read_line(path) for path in Path("/sys/block").glob("loop*/loop/backing_file")}
        alone = os.uname().nodename == "uml"
        self.mounts = [mount for mount in mounts if alone or Path(mount).is_relative_to(below)]
        self.mappings = {name for name in names if name and (alone or name.startswith(("flashback", "test")))}
        self.loops = {loop for loop, file in backing.items() if file and (alone or Path(file).is_relative_to(below))}

    def more_than(self, before: Held) -> list[str]:
        """What is held now and was not before, in words."""
        return [
            *(f"mount {each}" for each in self.mounts if each not in before.mounts),
            *(f"mapping {each}" for each in sorted(self.mappings - before.mappings)),
            *(f"loop device {each}" for each in sorted(self.loops - before.loops)),
        ]

    def release(self, before: Held) -> None:
        """Give all of that back, for the sake of the next test; by force where need be, being a test."""
        for each in reversed([each for each in self.mounts if each not in before.mounts]):
            subprocess.run(["umount", "--lazy", each], check=False, capture_output=True)
        for each in self.mappings - before.mappings:
            subprocess.run(["dmsetup", "remove", "--force", "--retry", each], check=False, capture_output=True)
        for each in self.loops - before.loops:
            subprocess.run(["losetup", "--detach", f"/dev/{each}"], check=False, capture_output=True)


def read_line(path: Path) -> str:
    """The line in a file of sysfs; empty if it has gone meanwhile."""
    with contextlib.suppress(OSError):
        return path.read_text("utf-8").strip()
    return ""


@pytest.fixture
def held(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Held]:
    """`held()` is what the kernel holds for the tests at this moment."""
    return lambda: Held(tmp_path_factory.getbasetemp())


@pytest.fixture(autouse=True)
def nothing_held_afterwards(request: pytest.FixtureRequest, held: Callable[[], Held]) -> Iterator[None]:
    """After each test on real devices nothing of it is mounted, mapped or attached."""
    if floor_of(request.path) not in {"tools", "guest"}:
        yield
        return
    before = held()
    yield
    after = held()
    until = time.monotonic() + GRACE
    while after.more_than(before) and time.monotonic() < until:
        time.sleep(0.02)
        after = held()
    left = after.more_than(before)
    if left:
        after.release(before)
        pytest.fail("still held after the test: " + ", ".join(left), pytrace=False)
