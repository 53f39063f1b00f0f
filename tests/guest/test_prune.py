"""A drive that fills up, end to end: real stick, LUKS, the real command."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run
from tests.guest.conftest import Stick
from tests.guest.machine import Machine, invalid, is_held, until

MIB = 1 << 20
KEEP = "keep: {last: 2, daily: 0, weekly: 0, monthly: 0, yearly: 0, min_free: 0B}\n"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    tmp_path.chmod(0o755)
    return Machine(tmp_path)


def configured(machine: Machine) -> None:
    machine.back_up_only(machine.master)
    machine.configure(machine.config.read_text() + KEEP)


def a_day(machine: Machine, number: int, size: int = 60 * MIB) -> None:
    """Everything of yesterday is gone, and as much has come."""
    for old in machine.master.iterdir():
        old.unlink()
    (machine.master / f"film{number}").write_bytes(os.urandom(size))


def listed(machine: Machine) -> list[dict[str, Any]]:
    import json

    return json.loads(machine.flashback("snapshots", "--json").stdout)["snapshots"]


def pruned(machine: Machine, *argv: str) -> list[dict[str, Any]]:
    import json

    done = machine.flashback("prune", "red", "--json", "--passphrase-file", str(machine.secret), *argv)
    assert done.returncode == 0, done.stdout + done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert invalid(events, "run-events.schema.json") == []
    return events


def test_a_drive_fills_up_and_goes_on(machine: Machine, stick: Stick) -> None:
    """Days go by; the oldest make way, the floor and the pin stay; `prune` then removes what no rule keeps."""
    machine.init(stick.device, "red", first_run=False)
    configured(machine)
    lasts = []
    for number in range(7):
        a_day(machine, number)
        lasts.append(machine.events("red", "--allow", "mass-deletion", "--allow", "growth", "--allow", "mass-change"))
        if number == 2:
            first = listed(machine)[0]["name"]
            assert machine.flashback("snapshots", "pin", "red", first).returncode == 0
    assert [last[-1]["result"] for last in lasts] == ["complete"] * 7
    assert all(last[-1]["safe_to_remove"] for last in lasts)
    assert all(invalid(last, "run-events.schema.json") == [] for last in lasts)
    gone = [name for last in lasts for name in last[-1]["pruned"]]
    assert gone
    assert f"documents/{first}" not in gone
    assert {f"documents/{each['name']}" for each in listed(machine)}.isdisjoint(gone)
    assert {each["name"]: each["pinned"] for each in listed(machine)}[first]

    assert machine.flashback("snapshots", "unpin", "red", first).returncode == 0
    *_events, planned, _opened = [
        each for each in pruned(machine, "--dry-run") if each["event"] in {"planned", "finished"}
    ]
    plan = planned["plan"]
    assert f"documents/{first}" in plan["prune"]
    assert {each["path"] for each in plan["vanish"] if each["whole"]} >= {"film0"}
    assert len([each for each in plan["snapshots"] if each["keep"]]) == 2
    last = pruned(machine)[-1]
    assert last["pruned"] == plan["prune"]
    freed = sum(each["bytes"] for each in plan["snapshots"] if not each["keep"])
    assert freed == last["bytes_freed"] == 60 * MIB * len(plan["prune"])
    assert [each["name"] for each in listed(machine)] == [each["name"] for each in plan["snapshots"] if each["keep"]]
    with machine.opened(stick.device) as drive:
        assert len(list((drive / "documents/snapshots").iterdir())) == 2
        assert (drive / ".flashback/ballast").exists()
    told = machine.flashback("prune", "red", "--dry-run", "--explain", "--passphrase-file", str(machine.secret))
    print(told.stdout)
    assert "nothing was written" in told.stdout or "nothing to remove" in told.stdout
    assert is_held() == []


def test_a_prune_that_is_killed_is_finished_by_the_next_run(machine: Machine, stick: Stick) -> None:
    machine.init(stick.device, "red")
    configured(machine)
    for number in range(5):
        a_day(machine, number, 20 * MIB)
        machine.events("red", "--allow", "mass-deletion", "--allow", "growth", "--allow", "mass-change")
    child = machine.start("prune", "red", "--json", "--passphrase-file", str(machine.secret))
    until(child, '"step":"prune"')
    child.kill()
    child.communicate()
    a_day(machine, 9, 5 * MIB)
    assert machine.run("red", "--allow", "mass-deletion", "--allow", "growth", "--allow", "mass-change")[
        "safe_to_remove"
    ]
    pruned(machine)
    assert len(listed(machine)) == 2
    with machine.opened(stick.device) as drive:
        assert sorted(each["name"] for each in listed(machine)) == sorted(os.listdir(drive / "documents/snapshots"))
    assert is_held() == []


def filled(drive: Path, how: str) -> None:
    """By another hand: no room for one more byte of data, for one more name, or for either."""
    if how in {"data", "both"}:
        with suppress(OSError), (drive / "filler").open("ab", buffering=0) as file:
            while True:
                file.write(os.urandom(MIB))
        with suppress(OSError), (drive / "filler").open("ab", buffering=0) as file:
            while True:
                file.write(os.urandom(4096))
                os.fsync(file.fileno())
    if how in {"metadata", "both"}:
        (drive / "names").mkdir()
        with suppress(OSError):
            for number in range(1_000_000):
                (drive / "names" / f"{number:0200}").touch()
    os.sync()


@pytest.mark.parametrize("how", ["data", "metadata", "both"])
def test_a_stick_that_is_full_to_the_brim_is_backed_up_to_again(machine: Machine, stick: Stick, how: str) -> None:
    machine.init(stick.device, "red")
    configured(machine)
    allowed = [word for guard in ("mass-deletion", "growth", "mass-change") for word in ("--allow", guard)]
    for day in range(5):
        for number in range(800):  # so that the snapshots hold metadata of their own
            (machine.master / f"small{number}").write_bytes(os.urandom(1900))
        (machine.master / "big").write_bytes(os.urandom(20 * MIB + day))
        machine.run("red", *allowed)
    with machine.opened(stick.device, read_only=False) as drive:
        filled(drive, how)
    (machine.master / "new").write_bytes(os.urandom(3 * MIB))
    last = machine.run("red", *allowed)
    assert (last["result"], last["safe_to_remove"]) == ("complete", True)
    with machine.opened(stick.device) as drive:
        assert (
            run("rsync", "-aHAXni", "--delete", "--checksum", f"{machine.master}/", f"{drive}/documents/current/") == ""
        )
        assert len(os.listdir(drive / "documents/snapshots")) >= 1
    assert is_held() == []
