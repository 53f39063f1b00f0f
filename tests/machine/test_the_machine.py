"""What the other tests of this floor stand on."""

from __future__ import annotations

import pytest

from tests.machine.vm import GuestError


def test_alice_sits_at_a_desktop_and_bob_does_not(fresh):
    assert fresh.run("loginctl show-session $XDG_SESSION_ID -p Active -p Type -p Remote", user="alice").out.split() == [
        "Remote=no",
        "Type=wayland",
        "Active=yes",
    ]
    assert "bob" not in fresh.run("loginctl list-users").out


def test_what_alice_is_notified_of_is_recorded(fresh):
    fresh.run(["notify-send", "Backup", "done"], user="alice")
    assert fresh.notifications()[-1]["summary"] == "Backup"


def test_a_stick_is_on_usb_and_keeps_what_was_written(fresh, make_stick):
    stick = make_stick("blue")
    known = fresh.run(["udevadm", "info", "-q", "property", stick.plug()]).out
    assert "ID_BUS=usb\n" in known
    assert "ID_SERIAL_SHORT=BLUE\n" in known
    fresh.run(f"echo kept | dd of={stick.device} conv=fsync")
    stick.unplug()
    assert fresh.run(["head", "-c5", stick.plug()]).out == "kept\n"


def test_a_command_is_typed_to_and_stopped(fresh):
    asking = fresh.at_terminal("bash", "-c", "read -p 'Name? ' name; echo it is $name; sleep 1000", user="bob")
    asking.expect("Name[?] ")
    asking.write("bob\n")
    asking.expect("it is bob")
    asking.kill()
    assert asking.wait().code == 128 + 15


def test_a_command_that_fails_says_so(fresh):
    with pytest.raises(GuestError, match="exited with 3"):
        fresh.run("exit 3")
