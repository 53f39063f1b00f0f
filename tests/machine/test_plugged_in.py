"""What happens when a drive is plugged in, as the person at the machine sees it (docs/how-to/plug-in-and-walk-away.md)."""

from __future__ import annotations

import json

import pytest

from tests.machine.conftest import MASTER, PASSPHRASE, SECRET
from tests.machine.desk import AGENT, PINENTRY, Desk
from tests.machine.vm import until

RULE = "/etc/udev/rules.d/90-flashback.rules"


@pytest.fixture(scope="module")
def enabled(fresh):
    fresh.write("/usr/local/bin/pinentry", PINENTRY)
    fresh.run("chmod 755 /usr/local/bin/pinentry; sync")
    fresh.run(["sudo", "flashback", "enable"], user="alice")
    person = Desk(fresh)
    person.is_ready()
    return person


@pytest.fixture
def desk(enabled):
    machine = enabled.machine
    machine.set_clock()  # whatever a test that failed has left
    if machine.run(f"systemctl is-active tests-desktop && ls {RULE} {AGENT}", check=False).code:
        machine.run("systemctl start tests-desktop; flashback enable")
        enabled.is_ready()
    enabled.begin()
    yield enabled
    enabled.rests()
    enabled.end()


def unit_of(stick):
    """The unit that plugging this drive in starts, and its LUKS UUID."""
    uuid = stick.machine.run(["cryptsetup", "luksUUID", f"{stick.device}-part1"]).out.strip()
    return f"flashback-plug@{uuid.replace('-', chr(92) + 'x2d')}.service"


def test_it_asks_once_is_backed_up_to_and_says_when_it_is_safe_to_remove(desk, red):
    with desk.timed() as took:
        red.plug()
        question = desk.sees("red: back up now?")
    print(f"plug to question: {took[0]:.1f} s")
    assert question["actions"] == ["now", "Back up now", "later", "Later", "no", "Not this drive"]
    desk.machine.run("udevadm trigger --settle -c change; udevadm trigger --settle -c change -s block")
    desk.click(question, "now")
    assert "Back up to red" in desk.dialog()
    desk.type()
    desk.sees("red: safe to remove")
    assert desk.machine.holds_nothing()
    assert [len(desk.shown(text)) for text in ("back up now?", "safe to remove")] == [1, 1]
    assert desk.logs("finished")["FLASHBACK_SAFE_TO_REMOVE"] == "1"
    assert desk.logs("power")["FLASHBACK_POWERED_OFF"] == "1"
    desk.rests()
    assert desk.machine.run(["test", "-e", red.device], check=False).code == 1
    red.unplug()
    desk.begin()
    red.plug()
    assert desk.logs("plugged")["FLASHBACK_DECISION"] == "leave"
    desk.rests()
    assert desk.shown() == []


def test_a_wrong_passphrase_is_asked_for_again_three_times_in_all(desk, red):
    red.plug()
    desk.click(desk.sees("red: back up now?"), "now")
    for attempt, typed in enumerate(("wrong", "wrong again", PASSPHRASE), start=1):
        assert (f"({attempt} of 3)" in desk.dialog(attempt)) == (attempt > 1)
        desk.type(typed)
    desk.sees("red: safe to remove")


def test_no_holds_until_it_is_plugged_in_again_whatever_events_arrive(desk, red):
    red.plug()
    desk.click(desk.sees("red: back up now?"), "no")
    desk.logs("answer", answer="declined")
    desk.rests()
    desk.begin()
    desk.machine.run(f"udevadm trigger --settle -c change -s block; cryptsetup luksUUID {red.device}-part1")
    partition = f"{red.device}-part1"
    desk.machine.run(f"cryptsetup open --key-file {SECRET} {partition} by-hand && cryptsetup close by-hand")
    desk.machine.run("udevadm settle")
    desk.machine.run(["systemctl", "start", unit_of(red)], user="alice")
    desk.rests()
    assert [each["FLASHBACK_DECISION"] for each in desk.journal("plugged")] == ["leave"]
    red.unplug()
    red.plug()
    desk.close(desk.sees("red: back up now?"))
    desk.logs("answer", answer="declined")


def test_a_dialog_that_is_closed_is_a_no(desk, red):
    red.plug()
    desk.click(desk.sees("red: back up now?"), "now")
    desk.dialog()
    desk.close_dialog()
    desk.logs("answer", answer="declined")
    desk.rests()
    assert desk.machine.holds_nothing()


def test_later_is_asked_again_after_an_hour_and_not_before(desk, red):
    red.plug()
    desk.click(desk.sees("red: back up now?"), "later")
    desk.logs("answer", answer="later")
    desk.rests()
    red.unplug()
    desk.begin()
    red.plug()
    assert desk.logs("plugged")["FLASHBACK_DECISION"] == "leave"
    desk.rests()
    desk.machine.run("date -s '+61 minutes'")
    desk.begin()
    desk.machine.run(["systemctl", "start", unit_of(red)], user="alice")
    desk.click(desk.sees("red: back up now?"), "no")
    desk.rests()
    desk.machine.set_clock()  # a run would be held: the last one were of tomorrow


def test_nobody_answers_and_it_is_remembered_as_not_backed_up(desk, red):
    desk.machine.run("sed -i 's/^answer_within:.*/answer_within: 1min/' /etc/flashback/flashback.yaml")
    red.plug()
    question = desk.sees("red: back up now?")
    desk.logs("answer", answer="unanswered")
    desk.sees_withdrawn(question)
    desk.rests()
    assert desk.machine.holds_nothing()


def test_a_question_goes_away_with_its_drive(desk, red):
    red.plug()
    question = desk.sees("red: back up now?")
    red.unplug()
    desk.sees_withdrawn(question)
    desk.begin()
    red.plug()
    desk.click(desk.sees("red: back up now?"), "now")
    desk.dialog()
    assert desk.dialogs_open() == 1
    red.unplug()
    until("the dialog to be closed", lambda: desk.dialogs_open() == 0, pause=0.3)
    desk.rests()
    assert desk.machine.holds_nothing()


def test_a_question_is_withdrawn_when_somebody_at_a_terminal_takes_the_drive_in_hand(desk, red):
    red.plug()
    question = desk.sees("red: back up now?")
    terminal = desk.machine.spawn(["flashback", "run", "red"], pty=(24, 80))  # which waits for a passphrase
    desk.sees_withdrawn(question)
    desk.rests()
    terminal.kill()
    terminal.wait()
    assert len(desk.shown("red: back up now?")) == 1
    assert desk.machine.holds_nothing()


def test_pulled_in_mid_copy_it_says_so_and_the_next_plug_carries_on(desk, red):
    machine = desk.machine
    machine.run(f"head -c 12M /dev/urandom > {MASTER}/large; sync", user="alice")
    watching = machine.spawn(f"""
        while :; do grep -alsF -f {SECRET} /proc/[0-9]*/cmdline /proc/[0-9]*/environ; sleep 0.5; done""")
    red.plug()
    machine.slow_down(red.serial, 2 << 20)
    desk.says_yes("red")
    desk.logs("step-begun", step="copy")
    desk.sees("Do not unplug it yet.")
    assert "Flashback" in machine.run("systemd-inhibit --list --no-legend").out
    red.unplug()
    told = desk.sees("red: backup not finished")
    assert "unplugged" in told["body"]
    until("everything to be let go of", machine.holds_nothing)
    desk.rests()
    assert "Flashback" not in machine.run("systemd-inhibit --list --no-legend").out
    desk.begin()
    red.plug()
    desk.says_yes("red")
    desk.sees("red: safe to remove")
    watching.kill()
    assert watching.wait().out == ""
    assert traces(machine, red) == []


def traces(machine, stick):
    """Where the passphrase is found: in the journal, on the machine's disk, on the drive."""
    machine.run("journalctl --sync; sync")
    found = machine.run(f"journalctl -a -o export | grep -acF -f {SECRET}", check=False).out.strip()
    places = {"the journal": found != "0"}
    for path in (machine.folder / "root.img", stick.image):
        with path.open("rb") as file:
            places[path.name] = any(PASSPHRASE.encode() in block for block in iter(lambda: file.read(1 << 24), b""))
    return [name for name, there in places.items() if there]


@pytest.mark.parametrize("source", ["command:/usr/local/sbin/red-passphrase red", "credential:red"])
def test_a_passphrase_that_nobody_types_opens_the_drive_under_the_unit(desk, red, source):
    machine, drop = desk.machine, "/run/systemd/system/flashback-plug@.service.d/credential.conf"
    machine.write("/usr/local/sbin/red-passphrase", f'#!/bin/sh\n[ "$1" = red ] && cat {SECRET}\n')
    machine.write(drop, f"[Service]\nLoadCredential=red:{SECRET}\n")
    machine.run("chmod 755 /usr/local/sbin/red-passphrase; systemctl daemon-reload")
    machine.flashback("drive", "set", "red", f"passphrase={source}", "on_plug=always")
    red.plug()
    assert "switched off" in desk.sees("red: safe to remove")["body"]
    assert desk.dialogs() == []
    assert desk.logs("finished")["FLASHBACK_SAFE_TO_REMOVE"] == "1"
    desk.rests()
    machine.run(f"rm -r $(dirname {drop}) /usr/local/sbin/red-passphrase; systemctl daemon-reload")


@pytest.fixture
def keyring(desk):
    """Alice's, unlocked, with nothing in it."""
    start = "rm -rf ~/.local/share/keyrings; gnome-keyring-daemon --unlock --components=secrets"
    desk.machine.run(start, given="alice", user="alice")
    yield
    desk.machine.run("pkill -x gnome-keyring-d", user="alice")


@pytest.mark.usefixtures("keyring")
def test_what_was_typed_once_is_in_the_keyring_and_not_asked_for_again(desk, red, prepared):
    desk.machine.flashback("drive", "set", "red", "passphrase=keyring")
    red.plug()
    desk.says_yes("red")
    desk.sees("red: safe to remove")
    red.unplug()
    prepared.remembered_by(desk.machine)  # with no backup that would be too young
    desk.machine.flashback("drive", "set", "red", "passphrase=keyring")
    desk.begin()
    red.plug()
    desk.click(desk.sees("red: back up now?"), "now")
    desk.sees("red: safe to remove")
    assert desk.dialogs() == []


@pytest.mark.usefixtures("red")
def test_a_drive_that_is_due_is_told_once(desk):
    desk.machine.run("systemctl start flashback-remind.service")
    assert "red" in desk.sees("a backup is due")["body"]
    desk.machine.run("systemctl start flashback-remind.service")
    assert len(desk.shown("a backup is due")) == 1


def test_two_that_are_plugged_in_together_are_backed_up_to_one_after_the_other(desk, red, blue):
    red.plug()
    blue.plug()
    for drive in ("red", "blue"):
        desk.click(desk.sees(f"{drive}: back up now?"), "now")
    for drive in ("red", "blue"):
        desk.type(drive=drive)
    desk.sees("waits for its turn")
    for drive in ("red", "blue"):
        desk.sees(f"{drive}: safe to remove")
    assert desk.machine.holds_nothing()


def test_the_console_is_asked_while_nobody_is_logged_in_and_who_then_logs_in_too(desk, red):
    desk.log_out()
    red.plug()
    asked = until("a question on the console", desk.asked_on_console, pause=0.3)
    assert "Back up to red?" in asked
    desk.log_in()
    desk.dialog()
    desk.type()
    desk.sees("red: safe to remove")
    assert desk.asked_on_console() == ""


def test_without_a_desktop_the_passphrase_is_typed_on_a_console(desk, red):
    desk.log_out()
    red.plug()
    until("a question on the console", desk.asked_on_console, pause=0.3)
    agent = desk.machine.at_terminal("systemd-tty-ask-password-agent", "--query")
    agent.expect("Back up to red[?]")
    terminal = "ps -eo tty,args | awk '/ask-password-agent --query/ && $1 != \"?\" { print $1; exit }'"
    shows_nothing = (
        f"stty --all --file=/dev/$({terminal}) | grep --word-regexp --regexp=-echo"  # it asks a moment before
    )
    until("the terminal not to show what is typed", lambda: desk.machine.run(shows_nothing, check=False).out)
    agent.write(f"{PASSPHRASE}\n")
    assert desk.logs("finished")["FLASHBACK_SAFE_TO_REMOVE"] == "1"
    assert PASSPHRASE.encode() not in agent.out
    desk.log_in()


def test_after_a_power_cut_in_mid_copy_it_asks_at_the_next_start_and_carries_on(desk, red):
    machine = desk.machine
    machine.run(f"head -c 12M /dev/urandom > {MASTER}/large; sync", user="alice")
    red.plug()
    machine.slow_down(red.serial, 2 << 20)
    desk.says_yes("red")
    desk.logs("step-begun", step="copy")
    machine.power_cut()
    machine.start()
    desk.is_ready()
    desk.watch()
    desk.says_yes_somehow("red")
    desk.sees("red: safe to remove")


def test_others_and_other_units_are_refused(desk, red):
    red.plug()
    desk.click(desk.sees("red: back up now?"), "no")
    desk.rests()
    unit, escaped = unit_of(red), "flashback-plug@..-..-etc-passwd.service"

    def may(user, verb, unit):
        return desk.machine.run(["systemctl", "--no-ask-password", verb, unit], user=user, check=False).code == 0

    assert may("alice", "start", unit)
    assert not may("bob", "start", unit)
    assert not may("alice", "stop", unit)
    assert not may("alice", "restart", unit)
    for other in (escaped, "flashback-remind.service", "systemd-resolved.service", "flashback-plug@red.service"):
        assert not may("alice", "start", other), other


def test_one_that_this_machine_does_not_know_is_offered_and_not_opened(desk, red):
    desk.machine.run("rm -r /var/lib/flashback")
    red.plug()
    assert "drive adopt" in desk.sees("this machine does not know")["body"]
    desk.rests()
    assert desk.shown("back up now?") == []


def test_one_that_was_marked_lost_is_warned_of_and_left_alone(desk, red):
    desk.machine.flashback("drive", "lost", "red")
    red.plug()
    desk.sees("red was marked lost, and is plugged in")
    desk.rests()
    assert desk.shown("back up now?") == []


def test_enable_and_disable_leave_the_machine_as_it_was(desk):
    everything = """
        find /etc /usr/local /usr/bin /usr/lib/{systemd,udev,polkit-1} /usr/share/{dbus-1,polkit-1} /run/systemd /run/udev/rules.d -xdev ! -name '*.pyc' ! -path /run/systemd/'*'/invocation* -printf '%y %m %u %s %p %l\\n' |
            grep -Ev '/run/systemd/(journal|units|sessions|users|seats|inhibit|propagate|transient|ask-password)' | sort
        systemctl list-unit-files --no-legend; systemctl list-units --all --no-legend 'flashback*'"""
    machine = desk.machine
    machine.forget_drives()
    machine.run(["sudo", "flashback", "disable"], user="alice")
    before = set(machine.run(everything).out.splitlines())
    installed = ("/usr/local/bin/flashback", "opt-flashback.mount", "/opt/flashback")
    ours = [line for line in before if "flashback" in line and not any(each in line for each in installed)]
    assert ours == []
    machine.run(["sudo", "flashback", "enable"], user="alice")
    assert machine.run("systemctl is-active flashback-remind.timer").out == "active\n"
    desk.is_ready()
    again = machine.run(["sudo", "flashback", "enable", "--json"], user="alice").out
    assert {each["change"] for each in json.loads(again)["files"]} == {"unchanged"}
    machine.run(["sudo", "flashback", "disable"], user="alice")
    assert set(machine.run(everything).out.splitlines()) ^ before == set()
