"""A drive that was made by hand to do harm: the passphrase is known, the header is as enrolled, all else is hostile.

Each planted thing is met by the commands; none of them may crash, follow a link out of the drive, run anything, take
memory without end, say a control character, or leave something open.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import run
from tests.guest.conftest import Stick
from tests.guest.faults import ALL, Ended, FaultyMachine, manifest, nothing_held
from tests.guest.forked import main
from tests.guest.machine import PreparedDrive, blank_sticks

pytestmark = pytest.mark.timeout(7200 if ALL else 600)
ROOM = 768 << 20
"""Bytes of address space that a command may take beside what this process has."""
HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202e<b>{0}%s $(reboot) `id` [red]\n- rule"
STAMP = "20200102T030405Z"
Plant = Callable[[Path, Path], None]
"""Is given the drive's top directory and a folder elsewhere that nothing may touch."""


def instead(at: str, kind: str) -> Plant:
    """Something else in the place of what is at `at`."""

    def plant(drive: Path, elsewhere: Path) -> None:
        place = drive / at
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place, ignore_errors=True)
            if place.exists():
                place.rename(drive / "aside")
        else:
            place.unlink(missing_ok=True)
        if kind == "link":
            place.symlink_to(elsewhere / (place.name if "." in place.name[1:] else ""))
        elif kind == "fifo":
            os.mkfifo(place)
        elif kind == "directory":
            place.mkdir()
        elif kind == "terabyte":
            place.touch()
            os.truncate(place, 1 << 40)
        else:
            place.write_text(kind, "utf-8")

    return plant


def many_names(drive: Path, elsewhere: Path) -> None:
    """Names that look like options, markup, other places; links and folders that call themselves snapshots."""
    for name in ("--delete", "-rf", "..x", HOSTILE.replace("/", ""), "a\nb", "\udcff", "%s%n", "CON"):
        (drive / name).mkdir()
        run("btrfs", "subvolume", "create", drive / name / "current")
        (drive / name / "snapshots").mkdir()
        (drive / name / "current/file").write_text("hostile")
    snapshots = drive / "documents/snapshots"
    (snapshots / STAMP).symlink_to(elsewhere)
    (snapshots / "20200102T030406Z").mkdir()
    (snapshots / "--all").mkdir()
    (snapshots / f"{STAMP}\x1b[2J").mkdir()


def lines(**changes: object) -> str:
    """A journal with a line of every kind, with these fields in each."""
    base = {
        "v": 1,
        "sequence": 7,
        "run": HOSTILE,
        "at": "2020-01-02T03:04:05Z",
        "machine": HOSTILE,
        "master": "documents",
    }
    marks = ("begun", "snapshot", "copying", "complete", "unchanged", "pruned", "pinned", "unpinned", "scrub")
    return "".join(json.dumps({**base, "mark": mark, **changes}) + "\n" for mark in marks)


def endless_lines(drive: Path, _elsewhere: Path) -> None:
    (drive / ".flashback/runs.jsonl").write_text(lines(snapshot=HOSTILE) * 1000)


def marker(drive: Path, _elsewhere: Path) -> None:
    place = drive / ".flashback/drive.yaml"
    said = [line for line in place.read_text().splitlines() if line.startswith(("uuid", "format"))]
    odd = json.dumps(HOSTILE + "/../../etc")
    said += [f"{key}: {odd}" for key in ("name", "created", "machine", "place")]
    place.write_text("\n".join([*said, f"masters: [{odd}]", "x: " + "[" * 3000]) + "\n")


def copies(drive: Path, elsewhere: Path) -> None:
    """Links where other drives' headers, the configuration and the catalogue lie."""
    for name in ("headers", "config", "catalogue"):
        shutil.rmtree(drive / ".flashback" / name, ignore_errors=True)
        (drive / ".flashback" / name).symlink_to(elsewhere)


def catalogue(drive: Path, elsewhere: Path) -> None:
    """Files of the catalogue that are huge, none of ours, or links."""
    folder = drive / ".flashback/catalogue"
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        file.write_bytes(os.urandom(1000) + file.read_bytes()[:100])
    for path in [folder, *(each for each in folder.iterdir() if each.is_dir())]:
        (path / f"{STAMP}.delta").symlink_to(elsewhere / "secret")
        (path / "20200102T030406Z.delta").touch()
        os.truncate(path / "20200102T030406Z.delta", 1 << 40)


PLANTS: dict[str, Plant] = {
    "a link at .flashback": instead(".flashback", "link"),
    "a link at the master": instead("documents", "link"),
    "a link at current": instead("documents/current", "link"),
    "a link at snapshots": instead("documents/snapshots", "link"),
    "a link at the journal": instead(".flashback/runs.jsonl", "link"),
    "a fifo at the journal": instead(".flashback/runs.jsonl", "fifo"),
    "a terabyte of journal": instead(".flashback/runs.jsonl", "terabyte"),
    "a hostile journal": instead(".flashback/runs.jsonl", lines(snapshot=f"../../{STAMP}", facts={"begun": HOSTILE})),
    "numbers without measure": instead(
        ".flashback/runs.jsonl", lines(sequence=2**62, generation=2**63, unread=-1, facts={"files": 2**70})
    ),
    "9,000 lines": endless_lines,
    "a fifo at the marker": instead(".flashback/drive.yaml", "fifo"),
    "a terabyte of marker": instead(".flashback/drive.yaml", "terabyte"),
    "a hostile marker": marker,
    "names": many_names,
    "links at the copies": copies,
    "a hostile catalogue": catalogue,
}
COMMANDS = {
    "run": ("run", "red"),
    "restore": ("restore", "--all", "--drive", "red", "--to", "{to}"),
    "adopt": ("drive", "adopt", "red", "--yes"),
    "verify": ("verify", "red"),
    "prune": ("prune", "red"),
    "scrub": ("scrub", "red"),
    "mount": ("mount", "red"),
    "rebuild": ("catalogue", "rebuild", "red"),
}
FEW = ("run", "restore")
SOME = (
    "a link at .flashback",
    "a link at current",
    "a link at snapshots",
    "a fifo at the journal",
    "a hostile journal",
)
SOME += ("a hostile marker", "names", "links at the copies")


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir="/srv"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def stick() -> Stick:
    return blank_sticks()[0]


@pytest.fixture(scope="module")
def machine(home: Path) -> FaultyMachine:
    machine = FaultyMachine(home)
    (machine.master / "file").write_text("content")
    for path in (machine.master, machine.master / "file"):
        os.chown(path, 1000, 1000)
    return machine


@pytest.fixture(scope="module")
def prepared(machine: FaultyMachine, home: Path, stick: Stick) -> PreparedDrive:
    """A drive with two states, and this machine's memory of it."""
    folder = home / "prepared"
    folder.mkdir()
    drive = PreparedDrive(folder)
    done = machine.prepare(stick.device, "--no-first-run")
    assert done.code == 0, done
    for number in range(2):
        (machine.master / f"file{number}").write_text("content")
        assert machine.backup().code == 0
    run("dd", f"if={stick.device}", f"of={drive.image}", "bs=1M", "conv=sparse", "status=none")
    shutil.copytree(machine.state, drive.state)
    machine.back_up_only(machine.master)
    return drive


@pytest.fixture
def elsewhere(home: Path) -> Iterator[Path]:
    """What a planted link leads to."""
    folder = home / "elsewhere"
    folder.mkdir()
    (folder / "secret").write_text("not to be read, changed or deleted")
    (folder / "runs.jsonl").write_text("")
    yield folder
    shutil.rmtree(folder)


def met(machine: FaultyMachine, words: tuple[str, ...]) -> Ended:
    """The command, with little memory to be had."""

    def work() -> int:
        here = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (here + ROOM, here + ROOM))
        return main((*words, "--passphrase-file", str(machine.secret)))

    return machine.forked(work)


def control_characters(text: str) -> str:
    return "".join(each for each in text if each != "\n" and unicodedata.category(each) in {"Cc", "Cf"})


@pytest.mark.parametrize("planted", PLANTS if ALL else SOME)
def test_it_can_do_no_harm(
    machine: FaultyMachine, prepared: PreparedDrive, stick: Stick, elsewhere: Path, planted: str
) -> None:
    shutil.rmtree(machine.state)
    prepared.onto(machine, stick)
    with machine.opened(stick.device, read_only=False) as drive:
        PLANTS[planted](drive, elsewhere)
    before, wrong = manifest(elsewhere), []
    for name in COMMANDS if ALL else FEW:
        to = machine.home / "to"
        ended = met(machine, tuple(word.format(to=to) for word in COMMANDS[name]))
        shutil.rmtree(to, ignore_errors=True)
        if ended.code in {1, 99} or ended.code < 0 or "Traceback" in ended.err:
            wrong.append(f"{name} crashed: {ended}")
        if found := control_characters(ended.out + ended.err):
            wrong.append(f"{name} said the characters {found!r}: {ended}")
        if manifest(elsewhere) != before:
            wrong.append(f"{name} reached a place outside the drive: {ended}")
        if name == "mount":
            machine.command("close", "red")
        nothing_held()
    assert not wrong, "\n".join(wrong)
