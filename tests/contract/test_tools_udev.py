"""Waiting for a drive with the real pyudev (which starts ldconfig to find its library)."""

from __future__ import annotations

from flashback.tools import udev


def test_where_no_events_come_it_looks_at_every_tick() -> None:
    looks = iter([None, None, "red"])
    assert udev.wait_for_luks(is_wanted=lambda: next(looks), tick=0.01) == "red"
