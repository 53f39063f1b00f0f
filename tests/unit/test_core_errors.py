"""Errors as data: each kind has its published exit code."""

from __future__ import annotations

import pytest

from flashback.core import errors
from flashback.core.command import Command, CommandFailed, CommandTimedOut, ProgramMissing, Result
from flashback.core.errors import DriveState, Exit, FlashbackError


def kinds() -> list[type[FlashbackError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FlashbackError)]


PUBLISHED = {
    "FlashbackError": 1,
    "UsageError": 2,
    "ConfigError": 2,
    "Locked": 3,
    "DriveError": 4,
    "PassphraseRefused": 5,
    "Missing": 6,
    "NotFinished": 10,
    "DriveGone": 10,
    "StillHeld": 12,
    "HeldByGuard": 13,
    "DamageFound": 14,
    "NoSpace": 15,
}


def test_every_kind_has_the_exit_code_that_was_published():
    assert {kind.__name__: int(kind.exit_code) for kind in kinds()} == PUBLISHED


def test_an_exit_code_below_128_is_never_used_twice():
    assert len({code.value for code in Exit}) == len(Exit.__members__)
    assert max(Exit) < 128


def test_what_is_still_held_sets_the_state_of_the_drive():
    error = errors.StillHeld(["mount /m is still held: busy"])
    assert (error.drive_state, error.held) == (DriveState.STILL_HELD, ("mount /m is still held: busy",))


def test_an_error_carries_sentence_hint_and_findings():
    error = errors.ConfigError("the configuration cannot be used", hint="mend it", findings=["a.yaml:1:1: no"])
    assert (str(error), error.hint, error.findings) == (
        "the configuration cannot be used",
        "mend it",
        ("a.yaml:1:1: no",),
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ProgramMissing("rsync"), 6),
        (CommandFailed(Result(Command(("rsync",)), 23)), 1),
        (CommandTimedOut(Command(("sync",), timeout=2.5)), 1),
    ],
)
def test_errors_of_programs_have_a_code_too(error, code):
    assert error.exit_code == code


def test_the_last_words_are_the_last_line_that_says_something():
    command = Command(("rsync",))
    assert Result(command, 1, b"out\n", b"first\n last \n\n").last_words == "last"
    assert Result(command, 1, b"out\n", b"\n").last_words == "out"
    assert Result(command, 1).last_words == "it said nothing"
