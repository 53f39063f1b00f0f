"""Sticks: disks in memory (scsi_debug) that can be pulled and plugged, blank at the start of each test."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import run

PATIENCE = 20.0
PASSPHRASE = b"correct horse battery staple"


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition` holds; fail after `PATIENCE` seconds, saying `what` did not come."""
    until = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"waited {PATIENCE:g} s in vain: {what}")
        time.sleep(0.02)


class Stick:
    """One disk of scsi_debug. Its contents survive being pulled; its name (/dev/sda) need not."""

    def __init__(self, host: str) -> None:
        self.host = host

    def _names(self) -> list[str]:
        return [path.name for path in Path(f"/sys/class/scsi_host/{self.host}/device").glob("target*/*/block/*")]

    @property
    def is_plugged(self) -> bool:
        return bool(self._names())

    @property
    def device(self) -> Path:
        """Its device file at this moment. Fails when it is not plugged in."""
        return Path("/dev") / self._names()[0]

    @property
    def size(self) -> int:
        """Bytes."""
        return int(Path(f"/sys/block/{self.device.name}/size").read_text("ascii")) * 512

    def unplug(self) -> None:
        """Pull it, whatever is going on, and wait until the kernel and udev have noticed."""
        device = self.device
        Path(f"/sys/block/{device.name}/device/delete").write_text("1", "ascii")
        wait_for(lambda: not self.is_plugged and not device.exists(), f"{device} to go")
        run("udevadm", "settle")

    def replug(self) -> Path:
        """Put it back with what was on it, and return its device file once udev is done with it."""
        Path(f"/sys/class/scsi_host/{self.host}/scan").write_text("- - -", "ascii")
        wait_for(lambda: self.is_plugged and self.device.exists(), f"the stick at {self.host} to come")
        run("udevadm", "settle")
        return self.device

    def wipe(self) -> None:
        """Make it blank: no partition table, no header, every byte zero."""
        if not self.is_plugged:
            self.replug()
        run("blkdiscard", "--force", self.device)
        run("blockdev", "--rereadpt", self.device)
        run("udevadm", "settle")


@pytest.fixture
def sticks() -> list[Stick]:
    """All sticks of this guest (two), blank and plugged in."""
    hosts = [path.name for path in sorted(Path("/sys/class/scsi_host").iterdir(), key=lambda path: int(path.name[4:]))]
    made = [Stick(host) for host in hosts if is_scsi_debug(host)]
    if not made:
        pytest.fail("there are no sticks: uml-run --scsi 2:400, or modprobe scsi_debug add_host=2 per_host_store=1")
    for stick in made:
        stick.wipe()
    return made


def is_scsi_debug(host: str) -> bool:
    return Path(f"/sys/class/scsi_host/{host}/proc_name").read_text("ascii").strip() == "scsi_debug"


@pytest.fixture
def stick(sticks: list[Stick]) -> Stick:
    """The first stick, blank and plugged in."""
    return sticks[0]


@pytest.fixture
def image_drive(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """For tests that need another size: `image_drive(1 << 30)` returns a blank loop device with partitions."""
    loops: list[str] = []

    def make(size: int) -> Path:
        image = tmp_path / f"drive{len(loops)}.img"
        image.touch()
        os.truncate(image, size)
        loops.append(run("losetup", "--find", "--show", "--partscan", image).strip())
        return Path(loops[-1])

    yield make
    for loop in loops:
        run("losetup", "--detach", loop)


@pytest.fixture
def cheap_luks() -> Callable[..., str]:
    """`cheap_luks(device, passphrase=PASSPHRASE)` makes a LUKS2 volume that opens at once and returns its UUID.

    The key derivation is as cheap as LUKS allows: argon2id takes some 20 s in this kernel.
    """

    def make(device: Path, passphrase: bytes = PASSPHRASE, *more: str) -> str:
        run(
            *("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--sector-size", "4096"),
            *("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", *more, "--key-file=-", str(device)),
            given=passphrase,
        )
        run("udevadm", "settle")
        return run("cryptsetup", "luksUUID", device).strip()

    return make


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """`opened(device, passphrase=PASSPHRASE)` opens with the tools alone and returns the mapping; closed afterwards."""
    names: list[str] = []

    def open_it(device: Path, passphrase: bytes = PASSPHRASE) -> Path:
        name = f"test-{os.getpid()}-{len(names)}"
        run("cryptsetup", "open", "--type", "luks2", "--key-file=-", device, name, given=passphrase)
        names.append(name)
        return Path("/dev/mapper") / name

    yield open_it
    for name in names:
        if (Path("/dev/mapper") / name).exists():
            run("cryptsetup", "close", name)
