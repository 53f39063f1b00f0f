"""A master that cannot be compared is passed over by `verify`, which goes on with the others."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from flashback.config.values import Master
from flashback.core.errors import DriveState
from flashback.core.events import Event, Finished
from flashback.drive import layout
from flashback.drive.states import State
from flashback.health.drill import Drill
from flashback.proof import prove
from flashback.proof.verify import Compared
from flashback.rotation.ledger import Ledger
from tests.unit.drives import RED, a_context


class Lying:
    """A drive that lies open, in the place of `drive.reading.Reading`."""

    state, safe_to_remove = DriveState.CLOSED, True

    @contextmanager
    def held(self, *, purpose: str) -> Iterator[SimpleNamespace]:
        assert purpose == "verify"
        yield SimpleNamespace(root=-1, known=RED, watch=lambda: None)


@pytest.fixture
def masters(tmp_path: Path) -> tuple[Master, Master]:
    for name in ("documents", "music"):
        (tmp_path / name).mkdir()
    return Master("documents", tmp_path / "documents"), Master("music", tmp_path / "music")


def verified(folder: Path, masters: tuple[Master, ...], monkeypatch: pytest.MonkeyPatch) -> Finished:
    """The whole command; all that is there is equal."""
    told: list[Event] = []
    monkeypatch.setattr(prove, "Reading", lambda _context, _candidate: Lying())
    monkeypatch.setattr(prove.states, "states_of", lambda _root, master: (State(master, layout.CURRENT, None),))
    monkeypatch.setattr(prove, "compare_content", lambda _root, master, _state, **_more: Compared(master.name))
    monkeypatch.setattr(prove, "drill", lambda _root, **_more: Drill())
    with Ledger.open(folder / "state/ledger.sqlite") as ledger:
        ledger.enrol(RED)
        code = prove.verify_drive(a_context(folder, told=told), ledger, SimpleNamespace(known=RED), masters, sample=5)
    last = told[-1]
    assert isinstance(last, Finished)
    assert code == last.exit_code
    return last


def test_one_that_is_no_directory_any_more(tmp_path, masters, monkeypatch) -> None:
    masters[0].path.rmdir()
    masters[0].path.touch()
    last = verified(tmp_path, masters, monkeypatch)
    assert (last.result, last.exit_code) == ("incomplete", 11)
    assert last.facts["not_compared"] == [{"master": "documents", "why": f"{masters[0].path} is not a directory"}]
    assert list(last.facts["compared"]) == ["music"]


def test_one_that_does_not_let_root_in(tmp_path, masters, monkeypatch) -> None:
    really = os.open

    def opened(path: Path, *more: int, **else_: int) -> int:
        if path == masters[0].path:
            raise PermissionError(errno.EACCES, "Permission denied")
        return really(path, *more, **else_)

    monkeypatch.setattr(os, "open", opened)
    last = verified(tmp_path, masters, monkeypatch)
    assert (last.result, last.exit_code) == ("incomplete", 11)
    (passed,) = last.facts["not_compared"]
    assert f"{masters[0].path} does not let root in" in passed["why"]
    assert list(last.facts["compared"]) == ["music"]
