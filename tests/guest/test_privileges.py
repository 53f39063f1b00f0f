"""What another user of the machine can do: neither read, nor write, nor stop, nor look into anything of ours."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import shutil
import signal
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.guest.faults import Fault, FaultyMachine, nothing_held
from tests.guest.forked import main
from tests.guest.machine import blank_sticks

NOBODY = 65534
PR_GET_DUMPABLE = 3


@pytest.fixture(scope="module")
def machine() -> Iterator[FaultyMachine]:
    """In a folder that everybody can enter, so that only our own modes keep anybody out."""
    home = Path(tempfile.mkdtemp(dir="/srv"))
    home.chmod(0o755)
    machine = FaultyMachine(home)
    machine.master.chmod(0o755)
    yield machine
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def disk(machine: FaultyMachine) -> Path:
    """With the drive red, known to the machine. Nothing here wipes it; whoever changes the master makes the run copy."""
    device = blank_sticks()[0].device
    (machine.master / "file").write_bytes(b"file")
    done = machine.prepare(device)
    assert done.code == 0, done
    return device


def as_nobody(work: Callable[[], object]) -> str:
    """What `work` answers in a process of another user; the name of the error where it is stopped."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            said = f"could: {work()}"
        except OSError as problem:
            said = type(problem).__name__
        except BaseException as problem:  # noqa: BLE001 - a process of its own
            said = f"failed: {problem!r}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


def attacks(machine: FaultyMachine, pid: int, disk: Path) -> dict[str, Callable[[], object]]:
    """What somebody else would try while the drive is open."""
    process, lock = Path(f"/proc/{pid}"), machine.runtime / "locks/run.lock"
    return {
        "list the state": lambda: os.listdir(machine.state),
        "read the ledger": lambda: (machine.state / "ledger.sqlite").read_bytes()[:10],
        "write into the state": lambda: (machine.state / "x").write_text(""),
        "hold our lock": lambda: fcntl.flock(os.open(lock, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB),
        "make a lock of ours": lambda: os.open(lock.parent / "x", os.O_CREAT | os.O_RDWR),
        "put another folder of locks there": lambda: lock.parent.rename(lock.parent.with_name("away")),
        "put a link among the mount points": lambda: (machine.runtime / "mnt/blue").symlink_to("/etc"),
        "put something into the runtime folder": lambda: os.mkfifo(machine.runtime / "x"),
        "put another configuration there": lambda: (machine.config.with_name("x")).write_text(""),
        "list the drive": lambda: os.listdir(process / "root" / str(machine.runtime)[1:] / "mnt/red"),
        "see the drive as we do": lambda: os.open(process / "ns/mnt", os.O_RDONLY),
        "read our environment": (process / "environ").read_bytes,
        "read our memory": lambda: os.open(process / "mem", os.O_RDONLY),
        "see what we have open": lambda: os.listdir(process / "fd"),
        "stop us": lambda: os.kill(pid, signal.SIGTERM),
        "read the mapping": lambda: Path("/dev/mapper/flashback-red").read_bytes(),
        "read the disk": lambda: os.open(disk, os.O_RDONLY),
        "read the passphrase file": machine.secret.read_bytes,
        "unmount it": lambda: ctypes.CDLL(None).umount2(str(machine.runtime / "mnt/red").encode(), 2) or "done",
    }


EXPECTED = {
    "unmount it": "could: -1",  # what umount2 answers
}


def test_another_user_can_do_nothing_to_an_open_drive(machine: FaultyMachine, disk: Path) -> None:
    (machine.master / "file").write_bytes(b"another")
    note = machine.home / "tried"

    def try_all() -> None:
        tried = attacks(machine, os.getpid(), disk)
        note.write_text(json.dumps({name: as_nobody(attack) for name, attack in tried.items()}))

    ended = machine.backup("red", fault=Fault("told StepDone copy", action=try_all))
    assert ended.code == 0, ended
    tried = json.loads(note.read_text())
    assert {name: said for name, said in tried.items() if said not in {"PermissionError", EXPECTED.get(name)}} == {}
    nothing_held()


@pytest.mark.parametrize(
    "argv",
    [
        *(("run", "red"), ("close", "red"), ("status",), ("find", "x"), ("snapshots",), ("drive", "list")),
        *(("init", "DEVICE", "--name", "x"), ("scrub", "red"), ("key", "list", "red"), ("enable",)),
    ],
    ids=" ".join,
)
def test_a_command_of_another_user_ends_with_a_sentence(machine: FaultyMachine, disk: Path, argv: tuple[str]) -> None:
    def work() -> int:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        return main(tuple(str(disk) if word == "DEVICE" else word for word in argv))

    ended = machine.forked(work)
    assert ended.code in {2, 4, 6}, ended
    assert "Traceback" not in ended.err
    assert "root" in ended.out + ended.err or "sudo" in ended.out + ended.err


def test_while_a_passphrase_is_held_nothing_makes_a_core_dump(machine: FaultyMachine, disk: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    note = machine.home / "looked"

    def look() -> None:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        limits = [Path(f"/proc/{each}/limits").read_text() for each in ("self", *children)]
        cores = [line.split()[4] for text in limits for line in text.splitlines() if line.startswith("Max core")]
        note.write_text(json.dumps([ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), cores]))

    try:
        ended = machine.backup("red", fault=Fault("during cryptsetup open", action=look))
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    assert ended.code == 0, ended
    dumpable, limits = json.loads(note.read_text())
    assert (dumpable, set(limits)) == (0, {"0"}), "and the limits of flashback and all that it has started"
    assert len(limits) > 1, "cryptsetup's among them"


def modes(top: Path) -> dict[str, str]:
    """Mode and owner of all that lies there; numbers and times in names are left out."""
    found = {}
    for path in sorted([top, *top.rglob("*")]):
        at = path.lstat()
        name = "/".join("*" if any(each.isdigit() for each in part) else part for part in path.relative_to(top).parts)
        found[name] = f"{stat.filemode(at.st_mode)} {at.st_uid}"
    return found


def test_what_is_made_has_its_modes_whatever_the_umask(tmp_path: Path, image_drive: Callable[[int], Path]) -> None:
    found = {}
    for umask in (0o000, 0o077):
        device = image_drive(300 << 20)
        machine = FaultyMachine(tmp_path / f"{umask:o}")
        (machine.master / "file").write_bytes(b"file")
        before = os.umask(umask)
        try:
            done = machine.prepare(device)
            assert done.code == 0, done
        finally:
            os.umask(before)
        with machine.opened(device) as drive:
            places = {"state": machine.state, "run": machine.runtime, "etc": machine.config.parent, "drive": drive}
            found[umask] = {
                f"{name}: {path}": mode for name, top in places.items() for path, mode in modes(top).items()
            }
    for mode in found.values():  # these two are opened to all where somebody looks around (`mount`)
        assert {mode.pop("run: "), mode.pop("run: mnt")} <= {"drwxr-xr-x 0", "drwx------ 0"}
    assert found[0o000] == found[0o077]
    made = {path: mode for path, mode in found[0].items() if not path.startswith("drive: documents/current")}
    assert {path: mode for path, mode in made.items() if mode[5] == "w" or mode[8] == "w"} == {}
    private = ("state: ", "run: locks", "run: mnt/", "drive: .flashback", "drive: documents/snapshots")
    assert any(path.startswith(private) for path in made)
    assert {path: mode for path, mode in made.items() if path.startswith(private) and mode[4:10] != "------"} == {}
