"""The desktop's notices, on a bus that only remembers: markup, buttons, and what becomes of a notice."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from jeepney import HeaderFields, MessageType

from flashback.tools import dbus

HOSTILE = '<a href="http://x">red</a> & <img src="/etc/passwd"/>'


class Bus:
    """Answers calls; `arrives` are the signals that come next."""

    def __init__(self, *capabilities: str) -> None:
        self.capabilities = list(capabilities)
        self.called: list[tuple[str, tuple]] = []
        self.arrives: list[SimpleNamespace] = []

    def answer(self, message) -> tuple:
        name = message.header.fields[HeaderFields.member]
        self.called.append((name, message.body))
        return {"GetCapabilities": (self.capabilities,), "Notify": (7,)}.get(name, ())

    def receive(self, timeout):
        if not self.arrives:
            raise TimeoutError
        return self.arrives.pop(0)

    def close(self) -> None:
        pass


def signal(member: str, *body) -> SimpleNamespace:
    header = SimpleNamespace(message_type=MessageType.signal, fields={HeaderFields.member: member})
    return SimpleNamespace(header=header, body=body)


@pytest.fixture
def notices(monkeypatch):
    """`notices("actions")` is a desktop with these capabilities; `notices.bus` what it was told."""

    def notices(*capabilities: str) -> dbus.Notices:
        notices.bus = Bus(*capabilities)
        monkeypatch.setattr(dbus, "_connected", lambda _bus: notices.bus)
        monkeypatch.setattr(dbus, "_ask", lambda bus, message, _other=None: bus.answer(message))
        return dbus.Notices()

    return notices


def shown(notices, *capabilities: str, **more) -> tuple:
    notices(*capabilities).show(HOSTILE, HOSTILE, actions={"now": "Back up now"}, stays=True, **more)
    return notices.bus.called[-1][1]


def test_a_body_is_text_also_where_the_desktop_reads_markup(notices) -> None:
    body = shown(notices, "body-markup", "actions")[4]
    assert "<" not in body
    assert body.startswith("&lt;a href")


def test_where_no_markup_is_read_nothing_is_escaped(notices) -> None:
    assert shown(notices)[4] == HOSTILE


def test_buttons_are_offered_only_where_there_are_buttons(notices) -> None:
    assert shown(notices, "actions")[5] == ["now", "Back up now"]
    assert shown(notices)[5] == []


def test_a_notice_takes_the_place_of_the_one_before(notices) -> None:
    assert shown(notices, replaces=7)[1] == 7


@pytest.mark.parametrize(
    ("signalled", "happened"),
    [
        (("ActionInvoked", 7, "now"), (7, "now")),
        (("NotificationClosed", 7, 1), (7, "expired")),
        (("NotificationClosed", 7, 2), (7, "dismissed")),
        (("NotificationClosed", 7, 3), (7, "")),
        (("NotificationClosed", 7, 4), (7, "")),
        (("NotificationClosed", "seven", 1), None),
        (("ActionInvoked",), None),
        (("SomethingElse", 7, "now"), None),
        (("NameOwnerChanged", "org.freedesktop.Notifications", "", ":1.9"), (0, dbus.RENEWED)),
        (("NameOwnerChanged", "org.freedesktop.Notifications", ":1.8", ""), None),
        (("NameOwnerChanged", "org.freedesktop.Other", "", ":1.9"), None),
    ],
)
def test_what_becomes_of_a_notice(notices, signalled, happened) -> None:
    desktop = notices("actions")
    notices.bus.arrives.append(signal(*signalled))
    assert desktop.wait(0.0) == happened


def test_a_program_that_came_for_this_very_notice_has_it_and_is_asked_what_it_can(notices) -> None:
    desktop = notices("actions")
    notices.bus.capabilities = ["body-markup"]
    desktop._heard(signal("NameOwnerChanged", "org.freedesktop.Notifications", "", ":1.9"))
    desktop.show("red", "1 < 2", actions={"now": "Back up now"}, stays=True)
    (_app, _replaces, _icon, _summary, body, actions, *_more) = notices.bus.called[-1][1]
    assert (body, actions) == ("1 &lt; 2", [])
    assert desktop.wait(0.0) is None


def test_nothing_happens_to_most_notices(notices) -> None:
    assert notices("actions").wait(0.0) is None
