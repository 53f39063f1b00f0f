"""Waiting for a drive: looks first, then after each event; exceptions get through."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from flashback.core.signals import Interrupted
from flashback.tools import udev


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What happens at each wait; nothing left to happen is an error."""
    script: list[Callable[[], None]] = []

    def wait() -> None:
        script.pop(0)()

    monkeypatch.setattr(udev, "_events", lambda _tick: wait)
    return script


def test_a_drive_that_is_plugged_in_already_is_taken_without_waiting(events: list[Callable[[], None]]) -> None:
    assert udev.wait_for_luks(is_wanted=lambda: "red") == "red"


def test_after_each_event_it_looks_again(events: list[Callable[[], None]]) -> None:
    plugged: list[str] = []
    events.extend([lambda: None, lambda: plugged.append("red")])
    assert udev.wait_for_luks(is_wanted=lambda: plugged[0] if plugged else None) == "red"
    assert events == []


def test_a_signal_ends_the_wait(events: list[Callable[[], None]]) -> None:
    def interrupt() -> None:
        raise Interrupted(signal.SIGINT)

    events.append(interrupt)
    with pytest.raises(Interrupted):
        udev.wait_for_luks(is_wanted=lambda: None)
