"""Faults on purpose: the real command in a forked process, stopped at a point that has a name.

A *point* is a place in a run that is passed in the same order each time: before, during and after each program that is
started, around each line of the journal, each flush, each transaction of the ledger, and each event that is told. A
run without a fault yields the points; a test then places its fault at each of them, so none is forgotten by hand.

Forked instead of started, since starting Python takes seconds in this kernel. The process that forks is the reaper of
all that is left behind (PR_SET_CHILD_SUBREAPER), so no orphan goes unseen.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from flashback.tools import btrfs
from tests.conftest import run
from tests.guest.conftest import Stick, wait_for
from tests.guest.forked import forked, main, with_cheap_keys
from tests.guest.grounds import DISK, OwnDisk, own_grounds
from tests.guest.machine import Machine

MODE = os.environ.get("FLASHBACK_FAULTS", "")
ALL = MODE == "all"
"""Every point, instead of a selection that is quick enough for each run of the tests. `steps`: one of each step."""
_PR_SET_CHILD_SUBREAPER = 36
ENDS_WITHIN = 120.0
BIG = 5 << 20
PARTLY = -2
"""In the place of the number of a state: a run could not read all of it, and has named what it could not."""


class Kind(StrEnum):
    """What happens at a point. `FAIL` and `MISSING` are answers of a program, `CRASH` is its end by SIGSEGV."""

    KILL = "SIGKILL"
    TERM = "SIGTERM"
    INT = "SIGINT"
    HUP = "SIGHUP"
    UNPLUG = "unplug"
    FAIL = "exit 1"
    MISSING = "not installed"
    CRASH = "crash"
    NO_WRITE = "write errors"
    NO_READ = "read errors"
    FULL = "drive full"
    LEDGER_FULL = "host full"
    BACK = "clock back"
    FORWARD = "clock forward"
    SECOND = "second run"
    STOP = "stopped a while"
    NO_FLUSH = "flush errors"
    METADATA_FULL = "metadata full"
    LEDGER_READ_ONLY = "ledger read-only"
    MASTER_RENAMED = "master renamed"
    MASTER_UNMOUNTED = "master unmounted"
    MASTER_UNREADABLE = "master unreadable"


SIGNALS = {Kind.KILL: 9, Kind.TERM: 15, Kind.INT: 2, Kind.HUP: 1}


@dataclass(frozen=True)
class Fault:
    """`kind` happens when the point called `at` is reached. `action` is for what no kind describes."""

    at: str
    kind: Kind | None = None
    disk: str = ""
    action: Callable[[], None] | None = None
    home: Path | None = None

    def happen(self, command: Any) -> None:
        """Runs in the process of flashback."""
        from flashback.core.command import CommandFailed, ProgramMissing, Result

        if self.action is not None:
            self.action()
        if self.kind in SIGNALS:
            os.kill(os.getpid(), SIGNALS[self.kind])
        elif self.kind is Kind.UNPLUG:
            pull(self.disk)
        elif self.kind is Kind.FAIL:
            if 1 in command.ok:
                return
            raise CommandFailed(Result(command, 1, b"", b"failed on purpose"))
        elif self.kind is Kind.MISSING:
            raise ProgramMissing(command.argv[0])
        elif self.kind is not None:
            from tests.guest import trouble

            trouble.make(self.kind, self.home, command)


@dataclass(frozen=True, repr=False)
class Ended:
    """How a command ended. `code` is below zero for a signal; `points` are the names that were passed."""

    code: int
    out: str
    err: str
    points: tuple[str, ...]

    @property
    def last(self) -> dict[str, Any]:
        """The last JSON event; empty where there was none."""
        lines = [line for line in self.out.splitlines() if line.startswith("{")]
        return json.loads(lines[-1]) if lines else {}

    def __repr__(self) -> str:
        return f"exit {self.code} after {self.points[-3:]}\n{self.out[-3000:]}\n{self.err[-3000:]}"


def pull(disk: str) -> None:
    """Pull a disk of scsi_debug, from any process, and wait until it is gone."""
    Path(f"/sys/block/{disk}/device/delete").write_text("1", "ascii")
    until = time.monotonic() + 10
    while Path(f"/sys/block/{disk}").exists() and time.monotonic() < until:
        time.sleep(0.01)


class FaultyMachine(Machine):
    """A machine whose commands run forked, with points and at most one fault."""

    def __init__(self, home: Path, grounds: Mapping[str, OwnDisk] | None = None) -> None:
        super().__init__(home)
        self.grounds = grounds or {}
        if DISK in self.grounds:
            self.master = home / DISK / "Documents"
            self.master.mkdir()
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        run("mount", "--make-rshared", "/")  # as systemd does: what is unmounted here is unmounted for a run, too
        self.second: Ended | None = None

    def forked(self, work: Callable[[], int], fault: Fault | None = None) -> Ended:
        """Run `work` in a process of its own to its end; also wait for everything that it left behind."""
        pid = self.begin(work, fault)
        return self.ended(pid)

    def begin(self, work: Callable[[], int], fault: Fault | None = None) -> int:
        """The same without waiting; `ended` waits."""
        for name in ("out", "err", "points"):
            (self.home / name).write_bytes(b"")
        with ExitStack() as stack:
            null = stack.enter_context(open(os.devnull, "rb")).fileno()
            out, err = (stack.enter_context(open(self.home / name, "ab")).fileno() for name in ("out", "err"))
            return forked(lambda: self._with_points(work, fault), self.environment, (null, out, err))

    def ended(self, pid: int) -> Ended:
        """Wait for the process and for all that it left."""
        until = time.monotonic() + ENDS_WITHIN
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            if (self.home / "second-wanted").exists():
                self._second()
            if time.monotonic() > until:
                os.kill(pid, signal.SIGKILL)
                pytest.fail(f"the command did not end within {ENDS_WITHIN:g} s: {self._read('points')[-300:]}")
            time.sleep(0.005)
        self.no_process_left()
        return Ended(os.waitstatus_to_exitcode(status), self._read("out"), self._read("err"), self.passed())

    def _second(self) -> None:
        """Run another backup to its end, beside the command that waits for it."""
        (self.home / "second-wanted").unlink()
        kept = {name: (self.home / name).read_bytes() for name in ("out", "err", "points")}
        self.second = Ended(-1, "", "", ())  # it asks for no second
        pid = self.begin(lambda: main(("run", "--json", "--passphrase-file", str(self.secret))))
        _pid, status = os.waitpid(pid, 0)
        self.second = Ended(os.waitstatus_to_exitcode(status), self._read("out"), self._read("err"), self.passed())
        for name, text in kept.items():
            (self.home / name).write_bytes(text)
        (self.home / "second-done").touch()

    def passed(self) -> tuple[str, ...]:
        """The points of the last command."""
        return tuple(self._read("points").splitlines())

    def _read(self, name: str) -> str:
        return (self.home / name).read_text("utf-8", "replace")

    def no_process_left(self) -> None:
        """Orphans come to us; they have to end by themselves."""
        until = time.monotonic() + 20
        while True:
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return
            if time.monotonic() > until:
                left = Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()
                named = [Path(f"/proc/{each}/cmdline").read_bytes().replace(b"\0", b" ") for each in left]
                pytest.fail(f"processes were left behind: {named}")
            time.sleep(0.01)

    def _with_points(self, work: Callable[[], int], fault: Fault | None) -> int:
        os.chdir("/")
        Points(os.open(self.home / "points", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC), fault).install()
        return work()

    # --- the commands

    def command(self, *argv: str, fault: Fault | None = None) -> Ended:
        """`flashback ...`"""
        return self.forked(lambda: main(argv), fault)

    def backup(self, *more: str, fault: Fault | None = None) -> Ended:
        """`flashback run --json`"""
        return self.command("run", "--json", "--passphrase-file", str(self.secret), *more, fault=fault)

    def prepare(self, device: Path, *more: str, name: str = "red", fault: Fault | None = None) -> Ended:
        """`flashback init --json` with a cheap key derivation."""
        argv = ("init", str(device), "--name", name, "--master", str(self.master), "--erase", "--json")
        return self.command(*argv, "--passphrase-file", str(self.secret), "--no-recovery-key", *more, fault=fault)


class Points:
    """Lives in the forked process: names each point, tells the parent, and lets the fault happen."""

    def __init__(self, told: int, fault: Fault | None) -> None:
        self._told = told
        self._fault = fault
        self._passed: Counter[str] = Counter()
        self._inside = False
        self._running: list[Any] = []

    def reach(self, label: str, command: Any = None) -> None:
        """Pass a point; the second of a name is called `name #2`."""
        if self._inside:
            return
        self._passed[label] += 1
        name = label if self._passed[label] == 1 else f"{label} #{self._passed[label]}"
        os.write(self._told, name.encode() + b"\n")
        if self._fault is not None and self._fault.at == name:
            self._inside = True
            try:
                self._fault.happen(command)
            finally:
                self._inside = False

    def install(self) -> None:
        """Wrap what a run passes through."""
        self._wrap_programs()
        self._wrap_the_drive()
        self._wrap_the_ledger_and_what_is_told()

    def _around(self, room: Any, name: str, label: Callable[..., str]) -> None:
        from flashback.core.command import Command

        original = getattr(room, name)

        def wrapped(*args: Any, **more: Any) -> Any:
            said = label(*args, **more)
            command = next((each for each in args if isinstance(each, Command)), None)
            self.reach(f"before {said}", command)
            self._running.append(command)
            try:
                result = original(*args, **more)
            finally:
                self._running.pop()
            self.reach(f"after {said}", command)
            return result

        setattr(room, name, wrapped)

    def _wrap_programs(self) -> None:
        from flashback.core.command import Programs

        points = self

        class Popen(subprocess.Popen):  # type: ignore[type-arg]
            def __init__(self, *args: Any, **more: Any) -> None:
                super().__init__(*args, **more)
                command = points._running[-1] if points._running else None
                if command is not None:
                    points.reach(f"during {_short(command.argv)}", command)

        subprocess.Popen = Popen  # type: ignore[misc]
        self._around(Programs, "__call__", lambda _self, command, **_: _short(command.argv))
        Programs.streams = self._streaming(Programs.streams)  # type: ignore[method-assign]
        with_cheap_keys()

    def _streaming(self, original: Any) -> Any:
        """Points around each program that is listened to. One that fails on purpose has said nothing and ended so."""
        from flashback.core.command import CommandFailed, Result, Stream

        def ended(stream: Stream, result: Result) -> None:
            self.reach(f"after {_short(stream.command.argv)}", stream.command)
            stream.on_end(result)

        def wrapped(programs: Any, streams: Iterable[Stream], **more: Any) -> None:
            begun: list[Stream] = []

            def told() -> Iterator[Stream]:
                for stream in streams:
                    begun.append(stream)
                    self.reach(f"before {_short(stream.command.argv)}", stream.command)
                    self._running.append(stream.command)
                    yield replace(stream, on_end=functools.partial(ended, stream))
                    self._running.pop()

            before = len(self._running)
            try:
                original(programs, told(), **more)
            except CommandFailed as failure:
                if not begun or failure.result.command is not begun[-1].command:
                    raise
                begun[-1].on_end(failure.result)
            finally:
                del self._running[before:]

        return wrapped

    def _wrap_the_drive(self) -> None:
        from flashback.drive import layout
        from flashback.tools import block, btrfs

        self._around(layout, "append_line", lambda _p, _n, line, *_: f"line {json.loads(line)['mark']}")
        self._around(layout, "write_text", lambda _p, name, *_a, **_m: f"write {name}")
        self._around(btrfs, "sync", lambda _fd: "syncfs")
        self._around(block, "flush", lambda _path: "flush")
        report = btrfs.Scrub._report

        def reporting(scrubbing: Any, *args: Any) -> None:
            if not self._passed["scrubbing"]:
                self.reach("scrubbing")
            report(scrubbing, *args)

        btrfs.Scrub._report = reporting  # type: ignore[method-assign]

    def _wrap_the_ledger_and_what_is_told(self) -> None:
        from flashback.rotation.ledger import Ledger
        from flashback.tell.jsonlines import JsonTeller

        Ledger._writing = self._transaction(Ledger._writing)  # type: ignore[method-assign]
        tell = JsonTeller.__call__

        def telling(teller: Any, event: Any) -> None:
            tell(teller, event)
            kind = type(event).__name__
            if kind not in {"Progress", "Remarked", "Note"}:
                self.reach(f"told {kind} {getattr(event, 'step', '')}".strip())

        JsonTeller.__call__ = telling  # type: ignore[method-assign]

    def _transaction(self, writing: Any) -> Any:
        """A point before and after each transaction, called after the method that makes it."""

        @contextmanager
        def wrapped(ledger: Any) -> Iterator[None]:
            name = sys._getframe(2).f_code.co_name
            self.reach(f"before ledger {name}")
            with writing(ledger):
                yield
            self.reach(f"after ledger {name}")

        return wrapped


def _short(argv: Iterable[str]) -> str:
    """`cryptsetup close --deferred`: the program and its words that are neither paths nor values."""
    words = list(argv)
    kept = [words[0], *(w for w in words[1:4] if w.isalpha() or w in {"--deferred", "--dump-json-metadata"})]
    return " ".join(kept)


# --- looking around


def mappings() -> list[str]:
    """The mappings of drives that the kernel has."""
    names = (path.read_text("utf-8").strip() for path in Path("/sys/block").glob("dm-*/dm/name"))
    return sorted(name for name in names if name.startswith("flashback"))


def mounts_anywhere() -> list[str]:
    """The mounts of drives, in any namespace of any process. The kernel may name the mapping as udev does: /dev/dm-0."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            found |= set(DRIVE_MOUNTED.findall(file.read_text("utf-8", "replace")))
        except OSError:
            continue
    return sorted(found)


DRIVE_MOUNTED = re.compile(r"^.* (/\S+) .* - btrfs /dev/(?:mapper/flashback|dm-).*$", re.MULTILINE)


def nothing_held(*, but: Iterable[str] = ()) -> None:
    """No drive is mounted in any namespace, and no mapping is there but those named."""
    allowed = set(but)
    wait_for(lambda: not mounts_anywhere(), f"every mount to go ({mounts_anywhere()})")
    wait_for(lambda: not set(mappings()) - allowed, f"every mapping to go ({mappings()})")


def said_the_truth(ended: Ended, disk: Path) -> None:
    """What the last event says of the drive, held against the kernel at this moment."""
    last = ended.last
    if last.get("event") != "finished":
        return
    is_open, is_there = bool(mappings()), disk.exists()
    if last["safe_to_remove"]:
        assert not is_open, ended
        assert is_there, ended
    held = {"closed": (False, True), "not-opened": (False, True), "gone": (False, False), "still-held": (True, None)}
    state = last["drive_state"] if "drive_state" in last else last["drive"]["state"]
    if state in held:
        open_, there = held[state]
        assert is_open is open_, f"it said {state}\n{ended}"
        assert there is None or is_there is there, f"it said {state}\n{ended}"


def selected(points: list[str], few: int, wanted: Callable[[str], bool] = lambda _point: True) -> list[str]:
    """The points to be tried: all of them, one of each step, or `few` spread evenly."""
    chosen = [point for point in points if wanted(point)]
    if ALL:
        return chosen
    if MODE == "steps":
        return one_of_each_step(points, set(chosen))
    if len(chosen) <= few:
        return chosen
    if few == 1:
        return [chosen[len(chosen) // 2]]
    return [chosen[round(index * (len(chosen) - 1) / (few - 1))] for index in range(few)]


_turns = itertools.count(3, 7)


def one_of_each_step(points: list[str], wanted: set[str]) -> list[str]:
    """Another one each time."""
    steps: dict[str, list[str]] = {}
    step = ""
    for point in points:
        step = point if point.startswith("told StepBegun") else step
        if point in wanted:
            steps.setdefault(step.partition(" #")[0], []).append(point)
    turn = next(_turns)
    return [each[turn % len(each)] for each in steps.values()]


# --- a drive, a master, and what was complete


def manifest(root: Path) -> str:
    """A digest over names, content and metadata of all that lies below `root`."""
    digest = hashlib.blake2b(digest_size=16)
    for path in [root, *sorted(root.rglob("*"))]:
        at = path.lstat()
        kind = stat.S_IFMT(at.st_mode)
        content = path.read_bytes() if kind == stat.S_IFREG else b""
        told = (path.relative_to(root), at.st_mode, at.st_uid, at.st_gid, at.st_mtime_ns, content)
        digest.update(repr(told).encode())
    return digest.hexdigest()


@contextmanager
def a_home() -> Iterator[Path]:
    """A folder that is removed again; pytest's own folders let no owner but root reach the master."""
    home = Path(tempfile.mkdtemp(dir="/srv"))
    home.chmod(0o755)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def a_scene(stick: Stick) -> Iterator[Scene]:
    """A scene on this stick, in a home that is removed again."""
    with a_home() as home, own_grounds(home) as grounds:
        scene = Scene(FaultyMachine(home, grounds), stick)
        yield scene
        scene.look_at_everything()


class Scene:
    """A drive with one complete state, a master that changes, and what each state looked like."""

    def __init__(self, machine: FaultyMachine, stick: Stick) -> None:
        self.machine = machine
        self.stick = stick
        self.states: dict[str, int] = {}
        self.looked: dict[tuple[str, int], int] = {}
        self.number = 0
        self.finished: list[int] = []
        self.random = random.Random(1)
        self.allowed: tuple[str, ...] = ()
        os.chown(machine.master, 1000, 1000)
        self.change()
        done = machine.prepare(stick.device, "--no-first-run")
        assert done.code == 0, done
        self.complete()

    def change(self) -> None:
        """Another state of the master: added, deleted, changed, changed in place, renamed, a directory come and gone."""
        self.number += 1
        n, master = self.number, self.machine.master
        big = master / "big"
        if not big.exists():
            big.write_bytes(self.random.randbytes(BIG))
        with big.open("r+b") as file:
            file.seek(self.random.randrange(BIG - 200_000))
            file.write(self.random.randbytes(200_000))
        (master / "version").write_text(str(n))
        (master / f"new-{n}").write_bytes(self.random.randbytes(70_000))
        (master / f"folder-{n}").mkdir()
        (master / f"folder-{n}/leaf").write_text(f"leaf {n}")
        (master / f"new-{n - 2}").unlink(missing_ok=True)
        if MODE and (master / f"moved-{n - 1}").exists():
            (master / f"moved-{n - 1}").rename(master / f"moved-{n}")
        elif MODE:
            (master / f"moved-{n}").mkdir()
            (master / f"moved-{n}/file").write_bytes(self.random.randbytes(300_000))
        if (master / f"folder-{n - 1}").exists():
            (master / f"folder-{n - 1}/leaf").unlink()
            (master / f"folder-{n - 1}").rmdir()
        for path in [master, *master.rglob("*")]:
            os.chown(path, 1000, 1000)
        self.states[manifest(master)] = n

    def complete(self, *more: str) -> Ended:
        """A run that must come to its end by itself, after which the drive equals the master."""
        ended = self.machine.backup(*more)
        if ended.code == 13 and self.allowed:
            ended = self.machine.backup(*more, *self.allowed)
        assert ended.code == 0, ended
        assert ended.last["result"] == "complete", ended
        self.finished.append(self.number)
        return ended

    def look(self) -> None:
        """By cryptsetup and mount alone: the copy equals the master as it was when a run last said "complete"; each
        snapshot is a state that was complete; none of those is missing.
        """
        expected = self.finished
        with self.machine.opened(self.stick.device, secret=self.machine.secret.read_bytes()) as drive:
            folder = drive / "documents"
            names = sorted(path.name for path in (folder / "snapshots").iterdir())
            places = [*(folder / "snapshots" / name for name in names), folder / "current"]
            self.finished = [self._state_at(place) for place in places]  # whatever it is, go on from it
            lines = (drive / ".flashback/runs.jsonl").read_text().splitlines()
        if self.allowed:  # snapshots are named by a clock that has jumped
            are_as_said = sorted(self.finished) == sorted(expected)
        else:
            pairs = zip(self.finished, expected, strict=False)
            are_as_said = len(self.finished) == len(expected) and all(said in {found, PARTLY} for found, said in pairs)
        assert are_as_said, f"the drive holds {self.finished}, complete were {expected}"
        assert all(isinstance(json.loads(line), dict) for line in lines)

    def look_at_everything(self) -> None:
        """The same, where `look` believes Btrfs that what it has looked at is unchanged."""
        self.looked.clear()
        self.look()

    def _state_at(self, place: Path) -> int:
        """The number of the state that a subvolume holds; -1 if it is none.

        In the ordinary tests it is not read again where Btrfs has counted no change.
        """
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            at = btrfs.subvolume(folder)
        finally:
            os.close(folder)
        known = (at.uuid, at.generation)
        if known in self.looked and not MODE:
            return self.looked[known]
        number = self.states.get(manifest(place), -1)
        if number >= 0:
            self.looked[known] = number
        return number

    def points(self, *more: str) -> list[str]:
        """The names of all points of a run that changes things."""
        self.change()
        return list(self.complete(*more).points)
