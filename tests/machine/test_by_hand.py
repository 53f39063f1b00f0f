"""A drive prepared and backed up to by a person, on a real USB stick and with a desktop running."""

from __future__ import annotations

import json

from tests.machine.conftest import CHEAPLY, MASTER, PASSPHRASE, SECRET

CLEAR_LINE = "\x15"


def copied_equals_master(machine, stick):
    """Opened as README.txt on it says, with cryptsetup and mount alone, the copy is what the master is."""
    partition = f"{stick.device}-part1"
    machine.run(
        f"cryptsetup open --readonly --key-file {SECRET} {partition} by-hand && mount -o ro /dev/mapper/by-hand /mnt"
    )
    found = machine.run(f"diff -r {MASTER} /mnt/*/current", check=False)
    machine.run("umount /mnt && cryptsetup close by-hand")
    return found.out == ""


def answer(process, question, given):
    process.expect(question)
    process.write(f"{CLEAR_LINE}{given}\r")


def test_init_asks_at_a_terminal_what_it_needs_and_ends_with_a_backup_on_a_closed_drive(fresh, make_stick):
    fresh.forget_drives()
    stick = make_stick("blue")
    init = fresh.at_terminal("sudo", *CHEAPLY, "init", stick.plug(), user="alice")
    init.expect("QEMU.*BLUE")
    answer(init, "Which directory shall be backed up", MASTER)
    answer(init, "What shall this drive be called", "blue")
    answer(init, "type the word erase", "erase")
    init.expect("Passphrase for the drive")
    init.write(f"{PASSPHRASE}\n")
    init.expect("The same once more")
    init.write(f"{PASSPHRASE}\n")
    init.expect("recovery key of the drive blue")
    answer(init, "Keep it elsewhere as well", "")
    init.expect("blue is closed; safe to remove")
    assert init.wait().code == 0
    assert PASSPHRASE.encode() not in init.out
    assert fresh.held() == []
    assert copied_equals_master(fresh, stick)


def test_alice_backs_up_by_sudo(fresh, red):
    red.plug()
    run = fresh.at_terminal("sudo", "flashback", "run", user="alice")
    run.expect("passphrase for")
    run.write(f"{PASSPHRASE}\n")
    run.expect("red is closed; safe to remove")
    assert run.wait().code == 0
    assert fresh.held() == []


def test_run_waits_for_a_drive_and_takes_the_one_that_comes(fresh, red):
    run = fresh.spawn(["flashback", "run", "--json", "--passphrase-file", SECRET])
    run.expect("Waiting for a drive")
    red.plug()
    done = run.wait()
    last = json.loads(done.out.splitlines()[-1])
    assert (done.code, last["drive"], last["safe_to_remove"]) == (0, "red", True)


def test_what_the_desktop_opened_is_refused_and_the_desktops_service_is_else_not_in_the_way(fresh, red):
    red.plug()
    partition = fresh.run(["realpath", f"{red.device}-part1"]).out.strip()
    fresh.write("/home/alice/secret", PASSPHRASE, user="alice")
    fresh.run(["udisksctl", "unlock", "-b", partition, "--key-file", "/home/alice/secret"], user="alice")
    refused = fresh.flashback("run", "--passphrase-file", SECRET, check=False)
    assert refused.code == 12
    assert "do not unplug red. In the way: red was opened by somebody else, as luks-" in refused.out
    fresh.run(["udisksctl", "lock", "-b", partition], user="alice")
    assert fresh.back_up()["result"] == "complete"
