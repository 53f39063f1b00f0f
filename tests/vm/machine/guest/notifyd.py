#!/usr/bin/python3
"""The desktop's notification service: owns org.freedesktop.Notifications on the session bus and writes a line of JSON for
each call to $XDG_RUNTIME_DIR/notifications.jsonl.

A test plays the person with  busctl --user call org.freedesktop.Notifications /org/freedesktop/Notifications tests.User
Invoke us ID ACTION   (or: Close u ID).
"""

import itertools
import json
import os
import time

from gi.repository import Gio, GLib

NAME, PATH = "org.freedesktop.Notifications", "/org/freedesktop/Notifications"
XML = """<node><interface name="org.freedesktop.Notifications">
<method name="GetCapabilities"><arg type="as" direction="out"/></method>
<method name="GetServerInformation"><arg type="s" direction="out"/><arg type="s" direction="out"/>
 <arg type="s" direction="out"/><arg type="s" direction="out"/></method>
<method name="Notify"><arg type="s" direction="in"/><arg type="u" direction="in"/><arg type="s" direction="in"/>
 <arg type="s" direction="in"/><arg type="s" direction="in"/><arg type="as" direction="in"/>
 <arg type="a{sv}" direction="in"/><arg type="i" direction="in"/><arg type="u" direction="out"/></method>
<method name="CloseNotification"><arg type="u" direction="in"/></method>
<signal name="NotificationClosed"><arg type="u"/><arg type="u"/></signal>
<signal name="ActionInvoked"><arg type="u"/><arg type="s"/></signal>
</interface><interface name="tests.User">
<method name="Invoke"><arg type="u" direction="in"/><arg type="s" direction="in"/></method>
<method name="Close"><arg type="u" direction="in"/></method>
</interface></node>"""
KNOWN = {
    "GetCapabilities": GLib.Variant("(as)", (["body", "actions", "persistence"],)),
    "GetServerInformation": GLib.Variant("(ssss)", ("tests", "tests", "1", "1.2")),
}
CLOSED_BY_THE_PERSON, CLOSED_BY_A_CALL = 2, 3

log = open(os.path.join(os.environ["XDG_RUNTIME_DIR"], "notifications.jsonl"), "a", buffering=1)  # noqa: SIM115
numbers = itertools.count(1)


def emit(bus, signal, types, *values):
    bus.emit_signal(None, PATH, NAME, signal, GLib.Variant(types, values))


def called(bus, _sender, _path, _interface, method, arguments, invocation):
    given = arguments.unpack()
    if method in KNOWN:
        invocation.return_value(KNOWN[method])
        return
    record = {"time": time.time(), "method": method}
    if method == "Notify":
        app, replaces, icon, summary, body, actions, hints, timeout = given
        record |= {"id": replaces or next(numbers), "app": app, "replaces": replaces, "icon": icon, "summary": summary}
        record |= {"body": body, "actions": actions, "hints": {name: str(hints[name]) for name in hints}}
        record["timeout"] = timeout
        invocation.return_value(GLib.Variant("(u)", (record["id"],)))
    else:
        record |= {"id": given[0], "args": given}
        invocation.return_value(None)
        if method == "Invoke":
            emit(bus, "ActionInvoked", "(us)", *given)
        reason = CLOSED_BY_A_CALL if method == "CloseNotification" else CLOSED_BY_THE_PERSON
        emit(bus, "NotificationClosed", "(uu)", given[0], reason)
    print(json.dumps(record), file=log)


def acquired(bus, _name):
    for interface in Gio.DBusNodeInfo.new_for_xml(XML).interfaces:
        bus.register_object(PATH, interface, called, None, None)


Gio.bus_own_name(Gio.BusType.SESSION, NAME, Gio.BusNameOwnerFlags.NONE, acquired, None, None)
GLib.MainLoop().run()
