"""What the other tests of this floor stand on: sticks that are blank, can be pulled, and keep what was written."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Held, run
from tests.guest.conftest import Stick


@pytest.mark.parametrize("time", ["first", "second"])
def test_a_stick_is_blank_although_a_test_before_filled_it(stick: Stick, time: str) -> None:
    with stick.device.open("r+b", buffering=0) as device:
        assert not any(device.read(1 << 20))
        device.seek(0)
        device.write(b"\xff" * (1 << 20))


def test_a_pulled_stick_is_gone_and_comes_back_with_its_contents(stick: Stick, cheap_luks: Callable[..., str]) -> None:
    uuid = cheap_luks(stick.device)
    stick.unplug()
    assert not stick.is_plugged
    assert run("cryptsetup", "luksUUID", stick.replug()).strip() == uuid


def test_a_pulled_stick_is_plugged_in_again_for_the_next_test(sticks: list[Stick]) -> None:
    sticks[1].unplug()
    sticks[1].wipe()
    assert sticks[1].is_plugged


def test_luks_and_btrfs_of_this_kernel_hold_a_file(
    stick: Stick,
    cheap_luks: Callable[..., str],
    opened: Callable[..., Path],
    tmp_path: Path,
    held: Callable[[], Held],
) -> None:
    cheap_luks(stick.device)
    run("mkfs.btrfs", "-q", "--csum", "blake2", opened(stick.device))
    before = held()
    run("mount", Path("/dev/mapper") / before.mappings.pop(), tmp_path)
    (tmp_path / "file").write_bytes(b"held")
    assert held().more_than(before) == [f"mount {tmp_path}", *[f"mapping {name}" for name in held().mappings]]
    run("umount", tmp_path)


def test_what_a_test_leaves_behind_is_seen_and_released(stick: Stick, tmp_path: Path, held: Callable[[], Held]) -> None:
    before = held()
    run("mkfs.btrfs", "-q", stick.device)
    run("mount", stick.device, tmp_path)
    assert held().more_than(before) == [f"mount {tmp_path}"]
    held().release(before)
    assert held().more_than(before) == []


def test_an_image_drive_has_the_size_that_was_asked_for(image_drive: Callable[[int], Path]) -> None:
    assert int(run("blockdev", "--getsize64", image_drive(64 << 20))) == 64 << 20


def test_an_errand_that_fails_raises_with_the_programs_words() -> None:
    with pytest.raises(AssertionError, match="No such file"):
        run("cat", "/nonexistent")
    assert subprocess.run(["true"], check=False).returncode == 0
