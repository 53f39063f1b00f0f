"""What the tests of this floor share: the image, the installed project, a prepared drive, a fresh machine for each file."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from tests.conftest import IN_CI
from tests.machine.vm import Guest, Process, Result, install_app, ready_image

PASSPHRASE = "correct horse battery staple"
MASTER = "/home/alice/Documents"
SECRET = "/run/secret"
"""The passphrase, in memory: nothing of it is ever on the machine's disk."""
MEMORY = ("/etc/flashback", "/var/lib/flashback")
"""What a machine knows of its drives."""
BY_ID = "/dev/disk/by-id/usb-QEMU_QEMU_HARDDISK_{}-0:0"
_CHEAP = """
import sys
import flashback.tools.cryptsetup as cryptsetup
cryptsetup.STANDARD = cryptsetup.PRACTICE
from flashback.cli import main
sys.argv[0] = "flashback"
main()
"""
CHEAPLY = ("/opt/flashback/bin/python", "-c", _CHEAP)
"""`flashback` with a key derivation that costs nothing: argon2id takes half a minute here."""


class Machine(Guest):
    """A guest on which Flashback is used."""

    def start(self) -> Self:
        """See `Guest`."""
        super().start()
        self.run(f"umask 077; cat > {SECRET}", given=PASSPHRASE)
        return self

    def begin_use(self) -> None:
        """Give alice something that is worth a backup."""
        self.run(f"mkdir {MASTER} && echo one > {MASTER}/file", user="alice")

    def forget_drives(self) -> None:
        """As if Flashback had never been used here."""
        self.run(["rm", "-rf", *MEMORY])

    def flashback(self, *argv: str, check: bool = True, **how: Any) -> Result:
        return self.run(["flashback", *argv], check=check, **how)

    def back_up(self, *argv: str, code: int = 0) -> dict[str, Any]:
        """`flashback run --json` with the passphrase from a file; its last event."""
        done = self.flashback("run", "--json", "--passphrase-file", SECRET, *argv, check=False)
        assert done.code == code, done
        return json.loads(done.out.splitlines()[-1])

    def at_terminal(self, *argv: str, **how: Any) -> Process:
        """A command on a terminal, for somebody who types."""
        return self.spawn(list(argv), pty=(40, 200), **how)

    def held(self) -> list[str]:
        """The mappings that are open, and the mount points of Flashback, in whatever namespace."""
        line = "cat /sys/block/dm-*/dm/name; grep -hs /run/flashback/mnt /proc/[0-9]*/mountinfo | sort -u"
        return self.run(line, check=False).out.splitlines()

    def holds_nothing(self) -> bool:
        return not self.held()

    def story(self) -> str:
        """What it logged last, and which units are at work, for somebody who asks why a test failed."""
        line = "journalctl -b -n 150 -q --no-pager -o short-monotonic; systemctl list-units --no-legend 'flashback*'; ps -ef"
        try:
            return self.run(line, check=False, patience=60).out
        except (AssertionError, OSError) as error:  # the machine is off, or hangs
            return f"{type(error).__name__}: {error}"


class Stick:
    """An image file that is plugged into a machine as a USB stick, and pulled."""

    def __init__(self, machine: Machine, image: Path) -> None:
        self.machine, self.image, self.serial = machine, image, image.stem.upper()

    @property
    def device(self) -> str:
        return BY_ID.format(self.serial)

    def plug(self) -> str:
        """Plug it in; return its device once udev is done with it."""
        self.machine.plug(self.image, self.serial)
        self.machine.run(f"udevadm wait --settle --timeout=100 {self.device}")
        return self.device

    def unplug(self) -> None:
        """Pull it, and wait until the kernel and udev have noticed."""
        self.machine.unplug(self.serial)
        self.machine.run(f"udevadm wait --removed --timeout=100 {self.device}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(900))  # the first makes the image; and the machine is slow


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A test that failed tells what was seen and logged: nobody can look at the machine afterwards."""
    report = yield
    if report.failed:
        for name in ("desk", "fresh"):
            if name in item.funcargs and (guest := item.funcargs[name]):
                report.sections.append((f"what {name} saw", guest.story()))
                break
    return report


@pytest.fixture(scope="session")
def image() -> Path:
    try:
        return ready_image()
    except subprocess.CalledProcessError as error:
        away = pytest.fail if IN_CI else pytest.skip
        away(f"no Debian could be made for the machine (is there a network?), see above: {error}", pytrace=False)


@pytest.fixture(scope="session")
def app(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_app(image, tmp_path_factory.mktemp("app") / "app.img")


@pytest.fixture(scope="module")
def fresh(image: Path, app: Path) -> Iterator[Machine]:
    """A machine on which Flashback is installed and was never used."""
    with Machine(image, app) as machine:
        machine.begin_use()
        yield machine
        assert machine.held() == []


@pytest.fixture
def make_stick(fresh: Machine, tmp_path: Path) -> Iterator[Callable[[str], Stick]]:
    """`make_stick("blue")` is a blank one of 400 MB, not plugged in; pulled after the test."""
    made: list[Stick] = []

    def make(name: str, contents: Path | None = None) -> Stick:
        path = tmp_path / f"{name}.img"
        if contents:
            subprocess.run(["cp", "--sparse=always", contents, path], check=True)
        else:
            with path.open("wb") as file:
                file.truncate(400 << 20)
        made.append(Stick(fresh, path))
        return made[-1]

    yield make
    for stick in made:
        if stick.serial in fresh.sticks:
            stick.unplug()


@dataclass(frozen=True)
class Prepared:
    """Drives by name, and what the machine that prepared them remembers (a tar archive)."""

    images: dict[str, Path]
    memory: bytes

    def remembered_by(self, machine: Machine) -> None:
        """From now on, and nothing else."""
        machine.run(f"rm -rf {' '.join(MEMORY)} && tar -xP", given=self.memory)


@pytest.fixture(scope="session")
def prepared(image: Path, app: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Red and blue, made once, with a cheap key derivation; no backup is on them."""
    folder = tmp_path_factory.mktemp("prepared")
    with Machine(image, app) as machine:
        machine.begin_use()
        images = {name: prepare(machine, folder / f"{name}.img") for name in ("red", "blue")}
        memory = machine.spawn(["tar", "-cP", *MEMORY])
        memory.wait()
    return Prepared(images, bytes(memory.out))


def prepare(machine: Machine, path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(400 << 20)
    stick = Stick(machine, path)
    init = ["init", stick.plug(), "--name", path.stem, "--master", MASTER, "--erase", "--no-recovery-key"]
    init += ["--no-first-run", "--passphrase-file", SECRET]
    machine.run([*CHEAPLY, *init])
    stick.unplug()
    return path


@pytest.fixture
def red(fresh: Machine, make_stick: Callable[..., Stick], prepared: Prepared) -> Stick:
    """A prepared drive, not plugged in; the machine knows it, and blue, and no backup of either."""
    prepared.remembered_by(fresh)
    return make_stick("red", prepared.images["red"])


@pytest.fixture
def blue(red: Stick, make_stick: Callable[..., Stick], prepared: Prepared) -> Stick:
    """Red's sibling."""
    return make_stick("blue", prepared.images["blue"])
