"""The timer's reminder: said to who sits here, once; what nobody could read is said again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from flashback.config.values import Config, Notify
from flashback.rotation.ledger import Ledger
from flashback.trigger import remind
from tests.unit.drives import a_context

DUE = SimpleNamespace(what="red is due", next_step="plug it in", about="red", state="due")


@pytest.fixture
def world(tmp_path, monkeypatch):
    world = SimpleNamespace(said=[], logged=[], able=[1], due=[DUE], shown=True)
    world.links = SimpleNamespace(
        look=lambda: None,
        able=world.able,
        say=lambda **words: world.said.append(words),
        shown=lambda number: world.shown and world.said[-1]["id"] == number,
        hang_up=lambda: None,
    )
    world.journal = SimpleNamespace(send=lambda message, **_more: world.logged.append(message))
    monkeypatch.setattr(remind, "reminders", lambda *_given, **_more: world.due)
    context = a_context(tmp_path)
    monkeypatch.setattr(
        remind, "take_stock", lambda *_given: SimpleNamespace(outlook=None, holds=(), now=context.clock())
    )

    def act(*, desktop: bool = True) -> dict:
        config = Config(context.paths.config, (), notify=Notify(desktop=desktop))
        with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
            remind.remind(context, config, ledger, world.links, world.journal)
            return dict(ledger.reminded())

    world.act = act
    return world


def test_who_sits_here_gets_a_notice(world) -> None:
    assert "red" in world.act()
    assert world.said[0]["body"] == "red is due. Next: plug it in."
    assert world.logged == ["red is due. Next: plug it in."]


def test_what_nobody_was_there_to_read_is_not_counted_as_said(world) -> None:
    world.able.clear()
    assert world.act() == {}
    assert world.said == []


def test_what_no_desktop_has_shown_is_not_counted_as_said(world) -> None:
    world.shown = False
    assert world.act() == {}
    assert world.logged == []
    world.shown = True
    assert "red" in world.act()


def test_without_notices_the_journal_has_it(world) -> None:
    world.able.clear()
    assert "red" in world.act(desktop=False)
    assert world.logged


def test_when_nothing_is_due_nothing_is_said(world) -> None:
    world.due = []
    assert world.act() == {}
    assert (world.said, world.logged) == ([], [])
