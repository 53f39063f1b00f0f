"""From which drive a file comes, and what is said of the drives that are not here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from flashback.catalogue.seen import Kind, Seen
from flashback.recover import choice
from flashback.recover.wanted import Wanted, When
from flashback.rotation.values import KnownDrive, Standing
from tests.unit.drives import a_context
from tests.unit.histories import DRIVES, World

THESIS = Seen(b"", int(Kind.FILE), 0o644, 1000, 1000, 5, 0)
Chosen = Callable[..., choice.Choice]


@pytest.fixture
def chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chosen:
    """Red and then green were backed up to; which of them are plugged in is for the test to say."""
    world = World(tmp_path / "state/catalogue")
    world.run(DRIVES[0], "docs", {b"old": THESIS, b"thesis": THESIS})
    world.run(DRIVES[1], "docs", {b"thesis": THESIS})

    def chosen(
        *here: str, path: bytes = b"thesis", when: When | None = None, green: Standing = Standing.ACTIVE
    ) -> choice.Choice:
        since = datetime(2026, 1, 1, tzinfo=UTC)
        red = KnownDrive(DRIVES[0], "red", "digest", 1, since)
        other = KnownDrive(DRIVES[1], "green", "digest", 1, since, place="office", standing=green)
        plugged = tuple(SimpleNamespace(known=each) for each in (red, other) if each.name in here)
        monkeypatch.setattr(choice, "plugged_in", lambda _run, _known: plugged)
        ledger = SimpleNamespace(drives=lambda: (red, other), backups=lambda: ())
        return choice.choose(a_context(tmp_path), ledger, None, [Wanted("docs", path)], when or When())  # type: ignore[arg-type]

    return chosen


def test_a_drive_in_the_safe_with_a_newer_state_is_named(chosen: Chosen) -> None:
    found = chosen("red")
    assert found.newer == "green (office), which is not plugged in, holds it in a newer state, of 2026-01-01 14:00 UTC."


def test_nothing_is_said_where_no_state_that_is_meant_is_newer(chosen: Chosen) -> None:
    assert chosen("green").newer == ""
    assert chosen("red", "green").newer == ""
    assert chosen("red", path=b"old").newer == ""
    assert chosen("red", when=When(at=datetime(2026, 1, 1, 8, tzinfo=UTC))).newer == ""


def test_the_newest_state_of_each_drive_is_what_latest_means(chosen: Chosen) -> None:
    assert chosen("red", when=When("latest")).newer.startswith("green (office)")
    assert chosen("green", path=b"old", when=When("latest")).elsewhere.startswith("plug in red")


def test_a_lost_drive_is_not_asked_for(chosen: Chosen) -> None:
    assert chosen("red", green=Standing.LOST).newer == ""
