"""D-Bus (jeepney's one owner): logind's inhibitor locks, and the notices of a desktop."""

from __future__ import annotations

import html
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.release()


def _inhibit(what: str, who: str, why: str) -> int:
    """The descriptor that holds the lock (org.freedesktop.login1(5)). Raises `Missing`."""
    from jeepney import DBusAddress, new_method_call

    manager = DBusAddress("/org/freedesktop/login1", "org.freedesktop.login1", "org.freedesktop.login1.Manager")
    with _connected("SYSTEM", enable_fds=True) as bus:
        (descriptor,) = _ask(bus, new_method_call(manager, "Inhibit", "ssss", (what, who, why, "block")))
        return int(descriptor.to_raw_fd())


def _nothing(_message: object) -> None:
    """What nobody waits for."""


def _connected(bus: str, *, enable_fds: bool = False) -> Any:  # noqa: ANN401 - jeepney has no types
    """A connection to the bus, as a context. Raises `Missing`."""
    from jeepney.io.blocking import open_dbus_connection

    try:
        return open_dbus_connection(bus, enable_fds=enable_fds, auth_timeout=ANSWER_WITHIN)
    except (OSError, KeyError, RuntimeError, ValueError) as problem:
        raise Missing(f"the {bus.lower()} bus cannot be reached: {problem}") from problem


def _ask(bus: Any, message: Any, other: Callable[[Any], None] = _nothing) -> tuple[Any, ...]:  # noqa: ANN401
    """The answer to one call; what else arrives meanwhile is given to `other`. Raises `Missing`."""
    from jeepney import HeaderFields
    from jeepney.wrappers import unwrap_msg

    deadline = time.monotonic() + ANSWER_WITHIN
    try:
        serial = next(bus.outgoing_serial)
        bus.send(message, serial=serial)
        while True:
            reply = bus.receive(timeout=max(0.0, deadline - time.monotonic()))
            if reply.header.fields.get(HeaderFields.reply_serial) == serial:
                answer: tuple[Any, ...] = unwrap_msg(reply)
                return answer
            other(reply)
    except Exception as problem:
        raise Missing(f"no answer from the bus: {problem}") from problem


_CLOSED: Final = {1: "expired", 2: "dismissed"}
"""The reason for which a notice was closed (the specification, "NotificationClosed"); the others are nobody's doing."""
_NOTICES: Final = "org.freedesktop.Notifications"
_BUS: Final = "org.freedesktop.DBus"
RENEWED: Final = "renewed"


class Notices:
    """The desktop's notices (Desktop Notifications Specification 1.2), over one connection to the session's bus.

    Raises `Missing` when nobody shows notices here. A notice that was answered or closed is a pair in `happened`.
    """

    def __init__(self) -> None:
        from jeepney import DBusAddress, MatchRule, message_bus

        self._address = DBusAddress("/org/freedesktop/Notifications", _NOTICES, _NOTICES)
        self._bus = _connected("SESSION")
        self._happened: deque[tuple[int, str]] = deque()
        self._is_new = False
        bus = MatchRule(type="signal", interface=_BUS, member="NameOwnerChanged", path="/org/freedesktop/DBus")
        bus.add_arg_condition(0, _NOTICES)
        try:
            _ask(self._bus, message_bus.AddMatch(bus))
            rule = MatchRule(type="signal", interface=_NOTICES, path="/org/freedesktop/Notifications")
            _ask(self._bus, message_bus.AddMatch(rule))
            (self.capabilities,) = self._call("GetCapabilities")
            self._known()
        except BaseException:
            self._bus.close()
            raise

    def _known(self) -> None:
        """Whoever shows notices has answered just now: what was said of a new one before is about this one."""
        self._is_new = False
        self._happened = deque(each for each in self._happened if each[1] != RENEWED)

    def _call(self, name: str, signature: str = "", *values: object) -> tuple[Any, ...]:
        from jeepney import new_method_call

        return _ask(self._bus, new_method_call(self._address, name, signature or None, values), self._heard)

    def show(
        self,
        summary: str,
        body: str,
        *,
        actions: Mapping[str, str],
        replaces: int = 0,
        urgent: bool = False,
        stays: bool,
    ) -> int:
        """Show a notice in place of the one numbered `replaces`; return its number. `actions`: key to words.

        The body is text: where the desktop takes markup, it is escaped; the summary is never markup (the
        specification, "Markup"). `stays`: until it is closed.
        """
        if self._is_new:
            (self.capabilities,) = self._call("GetCapabilities")
        text = html.escape(body, quote=False) if "body-markup" in self.capabilities else body
        listed = [word for pair in actions.items() for word in pair] if "actions" in self.capabilities else []
        hints = {"urgency": ("y", 2 if urgent else 1), "category": ("s", "device")}
        values = ("Flashback", replaces, "drive-harddisk", summary, text, listed, hints, 0 if stays else -1)
        (number,) = self._call("Notify", "susssasa{sv}i", *values)
        self._known()
        return int(number)

    def close_notice(self, number: int) -> None:
        """Take a notice back."""
        self._call("CloseNotification", "u", number)

    def wait(self, seconds: float) -> tuple[int, str] | None:
        """The next thing that happened to a notice: its number with the action's key, `dismissed` or `expired`.

        `(0, RENEWED)`: another program shows the notices from now on, or the same one after a new start, and has none
        of those that there were.
        """
        if not self._happened:
            try:
                self._heard(self._bus.receive(timeout=seconds))
            except TimeoutError:
                return None
            except OSError as problem:
                raise Missing(f"the session's bus is gone: {problem}") from problem
        return self._happened.popleft() if self._happened else None

    def _heard(self, message: Any) -> None:  # noqa: ANN401
        from jeepney import HeaderFields, MessageType

        if message.header.message_type is not MessageType.signal:
            return
        match message.header.fields.get(HeaderFields.member), message.body:
            case "ActionInvoked", (int(number), str(key)):
                self._happened.append((number, key))
            case "NotificationClosed", (int(number), int(reason)):
                self._happened.append((number, _CLOSED.get(reason, "")))
            case "NameOwnerChanged", (str(name), str(), str(new)) if name == _NOTICES and new:
                self._is_new = True
                self._happened.append((0, RENEWED))

    def close(self) -> None:
        """Hang up."""
        self._bus.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
