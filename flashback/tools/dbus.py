"""D-Bus (jeepney's one owner): logind's inhibitor locks."""

from __future__ import annotations

import os
from typing import Any, Final

from flashback.core.errors import Missing

ANSWER_WITHIN: Final = 5.0


class Inhibitor:
    """Keeps the machine awake while it is held: sleep, shutdown, idle and the lid (logind's Inhibit).

    Where there is no logind, nothing is inhibited and nothing is said but by `take`.
    """

    WHAT = "sleep:shutdown:idle:handle-lid-switch"

    def __init__(self) -> None:
        self._descriptor: int | None = None

    def take(self, why: str) -> str:
        """Take the lock, once. Returns an empty text, or why it could not be taken."""
        if self._descriptor is not None:
            return ""
        try:
            self._descriptor = _inhibit(self.WHAT, "Flashback", why)
        except Missing as problem:
            return problem.what
        return ""

    def release(self) -> None:
        """Give it back. May be called twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _inhibit(what: str, who: str, why: str) -> int:
    """The descriptor that holds the lock (org.freedesktop.login1(5)). Raises `Missing`."""
    from jeepney import DBusAddress, new_method_call

    manager = DBusAddress("/org/freedesktop/login1", "org.freedesktop.login1", "org.freedesktop.login1.Manager")
    with _connected("SYSTEM", enable_fds=True) as bus:
        (descriptor,) = _ask(bus, new_method_call(manager, "Inhibit", "ssss", (what, who, why, "block")))
        return int(descriptor.to_raw_fd())


def _connected(bus: str, *, enable_fds: bool = False) -> Any:  # noqa: ANN401 - jeepney has no types
    """A connection to the bus, as a context. Raises `Missing`."""
    from jeepney.io.blocking import open_dbus_connection

    try:
        return open_dbus_connection(bus, enable_fds=enable_fds)
    except (OSError, KeyError, RuntimeError, ValueError) as problem:
        raise Missing(f"the {bus.lower()} bus cannot be reached: {problem}") from problem


def _ask(bus: Any, message: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """The answer to one call. Raises `Missing` when there is none, or an error."""
    from jeepney.wrappers import unwrap_msg

    try:
        reply = bus.send_and_get_reply(message, timeout=ANSWER_WITHIN)
        answer: tuple[Any, ...] = unwrap_msg(reply)
    except Exception as problem:
        raise Missing(f"no answer from the bus: {problem}") from problem
    return answer
