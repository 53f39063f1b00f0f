"""A device becomes a drive: nothing is erased but what a person was shown."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from flashback.core.errors import DriveError, NoSpace
from flashback.core.secret import Secret
from flashback.prepare import format as room
from flashback.prepare.examine import Examined
from flashback.prepare.format import prepare
from flashback.prepare.request import InitRequest
from flashback.rotation.ledger import Ledger
from flashback.tools.block import BlockDevice, Presence
from flashback.tools.cryptsetup import PRACTICE
from tests.unit.drives import RED, a_context

STICK = BlockDevice("/dev/sdx", "sdx", "disk", 1 << 30, model="Stick", serial="S1", transport="usb", removable=True)
SHOWN = Examined(STICK, ("/dev/sdx: vfat",), None, carries_drive=True, presence=Presence("8:16", 7))


class Begun(Exception):
    """The first step that writes to the device."""


@pytest.fixture
def erase(tmp_path, monkeypatch):
    """`erase(now)`: a person has agreed to erase `SHOWN`; meanwhile `now` is there."""

    def begin(_context, _request):
        raise Begun

    def erase(now: Examined) -> None:
        monkeypatch.setattr(room, "examine", lambda _run, _path, _known: now)
        request = InitRequest(SHOWN, "red", Secret(b"x"), None, None, whole_device=False, kdf=PRACTICE)
        with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
            prepare(a_context(tmp_path), ledger, request)

    monkeypatch.setattr(room, "_volume", begin)
    return erase


def test_the_device_that_was_shown_is_erased(erase) -> None:
    with pytest.raises(Begun):
        erase(SHOWN)


@pytest.mark.parametrize(
    "now",
    [
        replace(SHOWN, presence=Presence("8:16", 8)),
        replace(SHOWN, device=replace(STICK, serial="S2")),
        replace(SHOWN, contents=("/dev/sdx: ext4",)),
    ],
    ids=["plugged in anew", "another serial number", "other contents"],
)
def test_another_device_in_its_place_is_left_alone(erase, now) -> None:
    with pytest.raises(DriveError, match="not the device any more"):
        erase(now)


def test_a_new_drive_that_does_not_take_what_is_written_is_told_in_words() -> None:
    with (
        pytest.raises(DriveError, match="did not take what was written to it: Input/output error"),
        room._explained(RED),
    ):
        raise OSError(errno.EIO, "a flush failed")


def test_a_new_drive_that_is_full_is_told_as_that() -> None:
    with pytest.raises(NoSpace, match="the drive for red has no room"), room._explained(RED):
        raise OSError(errno.ENOSPC, "no room")
