"""On battery: what the kernel says, what is decided of it, and who asks again."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flashback.backup import holds
from flashback.backup.report import Report, RunRequest
from flashback.config.values import Guards, OnPlug
from flashback.core.errors import FlashbackError, HeldByGuard
from flashback.rotation.ledger import Ledger
from flashback.rotation.plugs import PlugOutcome, PlugRecord
from flashback.tools import systemctl, udev
from flashback.tools.power_supply import Power, power
from flashback.trigger import again
from flashback.trigger.decide import Act, Seen, decide
from flashback.trigger.plug import question
from tests.unit.drives import GREEN, OTHER, RED, UUID, a_context

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LOW = Power(on_battery=True, charge=0.12)
SEEN = Seen(RED, OnPlug.ALWAYS, NOW, "boot:7", power=LOW, min_battery=0.3)


@pytest.fixture
def supply(tmp_path):
    def supply(name: str, **files: str) -> Path:
        (tmp_path / name).mkdir()
        for key, text in files.items():
            (tmp_path / name / key).write_text(text + "\n")
        return tmp_path

    return supply


def test_a_machine_without_a_battery_is_on_the_mains(tmp_path) -> None:
    assert power(tmp_path) == Power()
    assert power(tmp_path / "none") == Power()


def test_a_laptop_that_is_not_plugged_in_is_on_battery(supply) -> None:
    supply("AC", type="Mains", online="0")
    assert power(supply("BAT0", type="Battery", status="Discharging", capacity="12")) == LOW


def test_a_laptop_that_is_plugged_in_is_not(supply) -> None:
    supply("AC", type="Mains", online="1")
    home = supply("BAT0", type="Battery", status="Charging", capacity="12")
    assert power(home) == Power(on_battery=False, charge=0.12)


def test_a_battery_that_drains_though_the_mains_are_there_counts_as_fed(supply) -> None:
    supply("ucsi", type="USB", online="1")
    assert not power(supply("BAT0", type="Battery", status="Discharging", capacity="12")).on_battery


def test_a_mouse_is_not_the_machine(supply) -> None:
    home = supply("hid", type="Battery", scope="Device", status="Discharging", capacity="3")
    assert power(home) == Power()


def test_an_empty_bay_is_no_battery(supply) -> None:
    assert power(supply("BAT1", type="Battery", present="0", status="Unknown")) == Power()


def test_two_batteries_are_taken_together(supply) -> None:
    supply("BAT0", type="Battery", status="Discharging", capacity="10")
    assert power(supply("BAT1", type="Battery", status="Not charging", capacity="90")) == Power(True, 0.5)


def test_a_charge_that_is_no_number_is_not_known(supply) -> None:
    assert power(supply("BAT0", type="Battery", status="Discharging", capacity="a lot")).charge is None


def test_an_unattended_run_on_a_low_battery_is_asked_about_where_somebody_sits() -> None:
    decision = decide(replace(SEEN, agents=True))
    assert (decision.act, decision.why) == (Act.ASK, "the battery holds 12%")


def test_an_unattended_run_on_a_low_battery_is_put_off_where_nobody_sits() -> None:
    assert decide(SEEN).act is Act.LATER


def test_a_run_that_is_asked_about_is_asked_about_on_a_low_battery_too_with_that_said() -> None:
    asked = replace(SEEN, default=OnPlug.ASK)
    assert decide(asked).act is Act.ASK
    assert question(asked) == "The battery holds 12% and nothing charges it. No backup was finished on it yet."


@pytest.mark.parametrize(
    ("now", "least"),
    [
        (Power(on_battery=False, charge=0.12), 0.3),
        (Power(on_battery=True, charge=0.3), 0.3),
        (Power(on_battery=True, charge=None), 0.3),
        (Power(on_battery=True, charge=0.01), 0.0),
        (Power(), 0.3),
    ],
)
def test_enough_power_is_not_spoken_of(now, least) -> None:
    assert now.too_low(least) == ""
    assert decide(replace(SEEN, power=now, min_battery=least)).act is Act.RUN
    assert question(replace(SEEN, power=now, min_battery=least)) == "No backup was finished on it yet."


@pytest.mark.parametrize(("unattended", "names"), [(True, ["battery"]), (False, [])])
def test_a_run_that_a_timer_began_is_held_on_a_low_battery(tmp_path, monkeypatch, unattended, names) -> None:
    monkeypatch.setattr(holds, "power", lambda: LOW)
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        ledger.enrol(RED)
        request, report = RunRequest(unattended=unattended), Report()
        context = replace(a_context(tmp_path), clock=lambda: holds.parse_rfc3339(holds.BUILT))
        watch = holds.Watch(context, Guards(), ledger, RED, request, report, 0.3)
        with contextlib.suppress(HeldByGuard):
            watch.before({})
    assert [str(hold.name) for hold in report.held] == names
    assert not holds._is_worth_remembering(report.held, request)


# --- asked again


def put_off(uuid: str = UUID, until: datetime | None = NOW) -> PlugRecord:
    return PlugRecord(uuid, NOW - timedelta(hours=1), "boot:7", PlugOutcome.LATER, until)


def test_what_was_put_off_is_due_when_its_time_has_come() -> None:
    plugs = [put_off(), put_off(OTHER, NOW + timedelta(seconds=1)), None, replace(put_off(), until=None)]
    assert list(again.due(plugs, NOW)) == [UUID]


@pytest.mark.parametrize("outcome", [each for each in PlugOutcome if each is not PlugOutcome.LATER])
def test_only_what_was_put_off_is_asked_again(outcome) -> None:
    assert list(again.due([replace(put_off(), outcome=outcome)], NOW)) == []


def test_only_known_drives_that_are_plugged_in_are_asked_again(tmp_path, monkeypatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(systemctl, "start", lambda _run, unit: started.append(unit))
    monkeypatch.setattr(udev, "luks_uuids", lambda _label: [UUID, "77777777-2222-4333-8444-555555555555", "$(reboot)"])
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        for drive in (RED, GREEN):
            ledger.enrol(drive)
            ledger.record_plug(put_off(drive.uuid))
        again.ask_again(None, ledger, NOW)
    assert started == [again.unit_of(UUID)]


def test_a_unit_that_does_not_start_keeps_nothing_from_the_next(tmp_path, monkeypatch) -> None:
    started: list[str] = []

    def start(_run, unit: str) -> None:
        started.append(unit)
        raise FlashbackError("no such unit")

    monkeypatch.setattr(systemctl, "start", start)
    monkeypatch.setattr(udev, "luks_uuids", lambda _label: [UUID, OTHER])
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        for drive in (RED, GREEN):
            ledger.enrol(drive)
            ledger.record_plug(put_off(drive.uuid))
        again.ask_again(None, ledger, NOW)
    assert len(started) == 2
