"""Loop devices, and what is put on them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import run

UUID = "6e9695b8-a925-4a8b-84bc-8df68e75f86a"


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[str]:
    """A blank loop device of 64 MiB."""
    (tmp_path / "disk.img").touch()
    os.truncate(tmp_path / "disk.img", 64 << 20)
    device = run("losetup", "--find", "--show", tmp_path / "disk.img").strip()
    yield device
    run("losetup", "--detach", device)


def with_luks(device: str) -> None:
    run(
        *("cryptsetup", "luksFormat", "-q", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"),
        *("--label", "flashback-red", "--uuid", UUID, "--key-file=-", device),
        given=b"x",
    )


@pytest.fixture
def mounted(loop: str, tmp_path: Path) -> Iterator[Path]:
    """An ext4 on the loop device, mounted; the test may unmount it."""
    run("mkfs.ext4", "-q", loop)
    (tmp_path / "mnt").mkdir()
    run("mount", loop, tmp_path / "mnt")
    yield tmp_path / "mnt"
    if os.path.ismount(tmp_path / "mnt"):
        run("umount", tmp_path / "mnt")


@pytest.fixture
def write_protected(loop: str) -> Iterator[str]:
    """The loop device, write-protected."""
    run("blockdev", "--setro", loop)
    yield loop
    run("blockdev", "--setrw", loop)  # it would outlast the test: the next image on this device inherits it
