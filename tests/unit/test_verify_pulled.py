"""A drive that is pulled while it is verified is gone, not damaged."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flashback.config.values import Master
from flashback.core.errors import DriveGone
from flashback.drive.proofs import Proofs
from flashback.drive.states import State
from flashback.drive.tree import Trouble
from flashback.health import drill as drilling
from flashback.proof import verify

STATE = State("documents", "20260102T030405Z", None)
NOTHING = Trouble(b"20260102T030405Z", "Input/output error")


@pytest.fixture
def proofs() -> Proofs:
    """Not asked: no file is read."""
    return Proofs(None, "red", str)  # type: ignore[arg-type]


def gone() -> None:
    raise DriveGone("red was unplugged")


@contextmanager
def a_folder(_root: int, _state: State) -> Iterator[tuple[int, bytes]]:
    yield -1, b"20260102T030405Z"


@pytest.mark.parametrize("sample", [3, None])
def test_files_that_a_drill_cannot_choose_because_the_drive_was_pulled_are_not_damaged(
    monkeypatch: pytest.MonkeyPatch, proofs: Proofs, sample: int | None
) -> None:
    def listed(_folder: int, _name: bytes, trouble) -> Iterator[None]:
        trouble(NOTHING)
        yield from ()

    def none(_folder: int, _name: bytes, _rng: random.Random, trouble) -> None:
        trouble(NOTHING)

    monkeypatch.setattr(drilling.states, "masters_on", lambda _root: ("documents",))
    monkeypatch.setattr(drilling.states, "states_of", lambda _root, _master: (STATE,))
    monkeypatch.setattr(drilling.states, "opened", a_folder)
    monkeypatch.setattr(drilling, "_one", none)
    monkeypatch.setattr(drilling, "listed", listed)
    with pytest.raises(DriveGone):
        drilling.drill(-1, sample=sample, rng=random.Random(1), proofs=proofs, watch=gone, told=lambda _done: None)


def test_a_copy_that_cannot_be_listed_because_the_drive_was_pulled_is_not_damaged(
    monkeypatch: pytest.MonkeyPatch, proofs: Proofs, tmp_path: Path
) -> None:
    def listed(_folder: int, _name: bytes, trouble) -> Iterator[None]:
        trouble(NOTHING)
        yield from ()

    monkeypatch.setattr(verify.states, "opened", a_folder)
    monkeypatch.setattr(verify, "listed", listed)
    with pytest.raises(DriveGone):
        verify.compare_content(
            *(-1, Master("documents", tmp_path), STATE),
            sample=None,
            rng=random.Random(1),
            proofs=proofs,
            watch=gone,
            told=lambda _done, _total: None,
        )
