"""Why real loop devices must not be erased."""

from __future__ import annotations

from pathlib import Path

from flashback.core.command import Programs
from flashback.prepare.refusal import why_not
from flashback.tools import block
from tests.conftest import run


def reasons(programs: Programs, path: str) -> tuple[str, ...]:
    devices = block.scan(programs)
    device = block.find(devices, path)
    assert device is not None
    return why_not(device, devices)


def test_nothing_speaks_against_a_blank_device(loop: str, programs: Programs) -> None:
    assert reasons(programs, loop) == ()


def test_a_mounted_device_is_refused_and_says_where(mounted: Path, loop: str, programs: Programs) -> None:
    assert reasons(programs, loop) == (f"it is mounted on {mounted}",)


def test_swap_is_refused(loop: str, programs: Programs) -> None:
    run("mkswap", loop)
    assert reasons(programs, loop) == ("it is swap space",)


def test_a_write_protected_device_is_refused(write_protected: str, programs: Programs) -> None:
    assert reasons(programs, write_protected) == ("it is write-protected",)
