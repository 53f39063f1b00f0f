"""Which drive is meant when nobody says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flashback.core.errors import DriveError, UsageError
from flashback.core.events import Note
from flashback.drive.choose import choose
from flashback.drive.recognise import Candidate
from flashback.rotation.values import Standing
from flashback.tools import block, udev
from tests.unit.drives import GREEN, OTHER, RED, VOLUME, a_context

GREEN_VOLUME = replace(VOLUME, uuid=OTHER, path="/dev/sdz1", disk="/dev/sdz")
BOTH = [RED, GREEN]


class Asked(AssertionError):
    """Somebody was asked who should not be."""


def nobody(names):
    raise Asked(names)


@pytest.fixture
def told() -> list:
    return []


@pytest.fixture
def pick(monkeypatch, tmp_path, told):
    def pick(known, volumes, wanted=None, *, ask=nobody, wait=False) -> Candidate:
        monkeypatch.setattr(block, "luks_volumes", lambda _run: tuple(volumes))
        monkeypatch.setattr(block, "scan", lambda _run: ())
        return choose(a_context(tmp_path, told=told), known, wanted, ask=ask, wait=wait)

    return pick


def test_a_drive_that_is_named_is_taken(pick) -> None:
    assert pick(BOTH, [VOLUME, GREEN_VOLUME], "green").known is GREEN


def test_the_only_one_is_taken_without_a_question(pick) -> None:
    assert pick(BOTH, [VOLUME]) == Candidate(RED, VOLUME)


def test_among_several_a_person_is_asked(pick) -> None:
    asked = []
    assert pick(BOTH, [VOLUME, GREEN_VOLUME], ask=lambda names: asked.append(names) or "red").known is RED
    assert asked == [["green", "red"]]


def test_among_several_a_script_gets_an_error_with_their_names(pick) -> None:
    with pytest.raises(UsageError, match="green, red"):
        pick(BOTH, [VOLUME, GREEN_VOLUME], ask=None)


def test_without_any_and_without_waiting_it_is_an_error(pick) -> None:
    with pytest.raises(DriveError, match="no drive of the rotation is plugged in"):
        pick(BOTH, [])


@pytest.mark.parametrize("standing", [Standing.LOST, Standing.RETIRED])
def test_a_lost_or_retired_drive_is_not_chosen(pick, standing) -> None:
    with pytest.raises(DriveError):
        pick([replace(RED, standing=standing)], [VOLUME])


def test_beside_a_retired_drive_the_active_one_is_taken_without_a_question(pick) -> None:
    assert pick([replace(RED, standing=Standing.RETIRED), GREEN], [VOLUME, GREEN_VOLUME]).known is GREEN


# --- waiting


@pytest.fixture
def plugged_later(monkeypatch) -> None:
    """While it is waited for, red is plugged in after two events."""

    def wait_for_luks(*, is_wanted):
        assert is_wanted() is None
        monkeypatch.setattr(block, "luks_volumes", lambda _run: (VOLUME,))
        monkeypatch.setattr(block, "scan", lambda _run: ())
        return is_wanted()

    monkeypatch.setattr(udev, "wait_for_luks", wait_for_luks)


def test_the_first_that_is_plugged_in_ends_the_waiting(pick, plugged_later) -> None:
    assert pick(BOTH, [], wait=True) == Candidate(RED, VOLUME)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ([RED], "plug in red."),
        (BOTH, "plug in red or green."),
        ([RED, GREEN, replace(GREEN, uuid="x", name="blue")], "plug in red, green or blue."),
        ([RED, replace(GREEN, standing=Standing.LOST)], "plug in red."),
    ],
)
def test_a_person_is_told_what_to_plug_in(pick, plugged_later, told, known, words) -> None:
    pick(known, [], wait=True)
    assert [note.text for note in told if isinstance(note, Note) and words in note.text]


def test_with_no_drive_known_there_is_nothing_to_wait_for(pick) -> None:
    with pytest.raises(DriveError, match="no drive is known here yet") as caught:
        pick([], [], wait=True)
    assert "flashback init" in caught.value.hint


def test_a_drive_that_is_there_already_is_not_waited_for(pick, told) -> None:
    pick(BOTH, [VOLUME], wait=True)
    assert told == []


@pytest.mark.parametrize("wanted", [None, "green"])
@pytest.mark.parametrize("standing", [Standing.LOST, Standing.RETIRED])
def test_a_lost_or_retired_drive_that_is_plugged_in_is_told_first(pick, told, standing, wanted) -> None:
    pick([replace(RED, standing=standing), GREEN], [VOLUME, GREEN_VOLUME], wanted)
    (note,) = told
    assert note.text.startswith(f"red was {'marked lost' if standing is Standing.LOST else 'retired'}")
