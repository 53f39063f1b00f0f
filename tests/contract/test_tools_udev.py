"""Waiting for a drive with the real pyudev (which starts ldconfig to find its library)."""

from __future__ import annotations

import signal
from types import FrameType

import pytest

from flashback.core.signals import Interrupted
from flashback.tools import udev


def test_where_no_events_come_it_looks_at_every_tick() -> None:
    looks = iter([None, None, "red"])
    assert udev.wait_for_luks(is_wanted=lambda: next(looks), tick=0.01) == "red"


def test_a_signal_ends_the_wait_at_once() -> None:
    """Which is longer than the test may last: an hour to the next tick."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(number)

    def is_wanted() -> None:
        """Only now: what is raised while ctypes looks for the library is lost."""
        signal.setitimer(signal.ITIMER_REAL, 0.2)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(Interrupted):
            udev.wait_for_luks(is_wanted=is_wanted, tick=3600)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
