"""The udev rule with a real udevd: plugging in wants the unit, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import run
from tests.guest.conftest import Stick

RULE = Path(__file__).resolve().parents[2] / "udev/90-flashback.rules"
PLACE = Path("/run/udev/rules.d/90-flashback.rules")
UNIT = "flashback-plug@"


@pytest.fixture(scope="module", autouse=True)
def _rule() -> Iterator[None]:
    """The rule in a place that only this kernel knows."""
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    PLACE.write_bytes(RULE.read_bytes())
    run("udevadm", "control", "--reload")
    yield
    PLACE.unlink()
    run("udevadm", "control", "--reload")


def wanted(device: Path, action: str) -> dict[str, str]:
    """The properties of ours that the device would have after this event."""
    said = run("udevadm", "test", f"--action={action}", f"/sys/class/block/{device.name}")
    lines = dict(
        line.strip().split("=", 1) for line in said.splitlines() if "=" in line and " " not in line.split("=")[0]
    )
    return {name: lines[name] for name in ("SYSTEMD_WANTS", "UDISKS_AUTO") if name in lines}


def labelled(stick: Stick, cheap_luks: Callable[..., str], label: str = "flashback-red") -> str:
    uuid = cheap_luks(stick.device)
    run("cryptsetup", "config", stick.device, "--label", label)
    run("udevadm", "settle")
    return uuid


def test_plugging_in_wants_the_unit_of_this_drive(stick: Stick, cheap_luks: Callable[..., str]) -> None:
    uuid = labelled(stick, cheap_luks)
    escaped = uuid.replace("-", "\\x2d")
    assert wanted(stick.device, "add") == {"SYSTEMD_WANTS": f"{UNIT}{escaped}.service", "UDISKS_AUTO": "0"}


def test_a_change_wants_nothing_and_keeps_the_desktop_off(stick: Stick, cheap_luks: Callable[..., str]) -> None:
    labelled(stick, cheap_luks)
    assert wanted(stick.device, "change") == {"UDISKS_AUTO": "0"}


@pytest.mark.parametrize("label", ["backup", "my-flashback-red", "Flashback-red"])
def test_another_label_is_left_alone(stick: Stick, cheap_luks: Callable[..., str], label: str) -> None:
    labelled(stick, cheap_luks, label)
    assert wanted(stick.device, "add") == {}


def test_a_file_system_with_our_label_is_no_drive(stick: Stick) -> None:
    run("mkfs.btrfs", "-q", "-L", "flashback-red", stick.device)
    run("udevadm", "settle")
    assert wanted(stick.device, "add") == {}


def test_what_claims_to_be_a_uuid_and_is_not_wants_nothing(stick: Stick, cheap_luks: Callable[..., str]) -> None:
    labelled(stick, cheap_luks)
    with stick.device.open("r+b", buffering=0) as device:  # the UUID's field in both headers (LUKS2 format, part 2.1)
        for header in (0, 0x4000):
            device.seek(header + 168)
            device.write(b"x.service multi-user.target;reboot".ljust(40, b"\0"))
    assert "SYSTEMD_WANTS" not in wanted(stick.device, "add")
