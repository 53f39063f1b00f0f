"""udev: waiting for a drive to be plugged in (pyudev's one owner), and telling it to read its rules anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from flashback.core.command import Command, Runner

T = TypeVar("T")
TICK: Final = 3.0


def wait_for_luks(*, is_wanted: Callable[[], T | None], tick: float = TICK) -> T:
    """Call `is_wanted` now, after every event of a block device and every `tick` seconds; return its first answer.

    The ticks are for machines where no udev runs, or where its events do not reach us (a container). What stops
    it otherwise is an exception: of `is_wanted`, or of a signal.
    """
    wait = _events(tick)
    while (found := is_wanted()) is None:
        wait()
    return found


def _events(tick: float) -> Callable[[], None]:
    """A function that returns after the next event, or after `tick` seconds."""
    try:
        import pyudev

        monitor: Any = pyudev.Monitor.from_netlink(pyudev.Context())
        monitor.filter_by("block")
        monitor.start()
    except (ImportError, OSError):
        return lambda: time.sleep(tick)

    def wait() -> None:
        if monitor.poll(timeout=tick) is not None:
            while monitor.poll(timeout=0.2) is not None:  # one insertion makes several events
                pass

    return wait


def reload(run: Runner) -> None:
    """Have udevd read its rules anew. Raises `CommandFailed` where none runs."""
    run(Command(("udevadm", "control", "--reload"), timeout=30))


def luks_uuids(label: str) -> list[str]:
    """The LUKS UUIDs of what is plugged in with a label that begins so, as udev remembers them. No root is needed."""
    try:
        import pyudev

        devices: Any = pyudev.Context().list_devices(subsystem="block", ID_FS_TYPE="crypto_LUKS")
        found = [each.properties for each in devices]
    except (ImportError, OSError):
        return []
    ours = [each.get("ID_FS_UUID", "") for each in found if str(each.get("ID_FS_LABEL", "")).startswith(label)]
    return [uuid for uuid in ours if uuid]
