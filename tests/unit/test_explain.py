from __future__ import annotations

import inspect
import re
import signal
from pathlib import Path

import pytest

from flashback.core import command, errors
from flashback.core.errors import (
    DriveError,
    DriveGone,
    DriveState,
    Exit,
    FlashbackError,
    HeldByGuard,
    NoSpace,
    NotFinished,
    StillHeld,
)
from flashback.core.secret import Secret
from flashback.core.signals import Interrupted
from flashback.tell.explain import DRIVE_SENTENCES, NEXT_STEPS, explain, finished

TABLE = Path(__file__).parents[2] / "docs/reference/exit-codes.md"
KINDS = [
    kind
    for room in (errors, command)
    for _name, kind in inspect.getmembers(room, inspect.isclass)
    if issubclass(kind, FlashbackError) and kind.__module__ == room.__name__
]


def an_error(kind: type[FlashbackError]) -> FlashbackError:
    if kind is StillHeld:
        return StillHeld(["the mount of red is still held: vim (pid 7) has notes.txt open"])
    if kind is HeldByGuard:
        return HeldByGuard("most files would be deleted", holds=["mass-deletion"])
    if kind is command.CommandFailed:
        return kind(command.Result(command.Command(("true",)), 1))
    if kind is command.CommandTimedOut:
        return kind(command.Command(("true",), timeout=1))
    return kind("sync")


def documented_codes() -> set[int]:
    return {int(number) for number in re.findall(r"^\| (\d+) \|", TABLE.read_text(), re.MULTILINE)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_explained_with_what_and_next_step(kind: type[FlashbackError]) -> None:
    told = explain(an_error(kind), drive="red")
    assert told.first_line
    assert told.next_step
    assert "{" not in told.next_step
    assert told.exit_code in set(Exit)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.__module__ == errors.__name__])
def test_every_error_of_the_cellar_has_a_next_step_of_its_own(kind: type[FlashbackError]) -> None:
    assert kind in NEXT_STEPS


def test_every_exit_code_is_documented() -> None:
    stops = {128 + int(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    assert documented_codes() == {int(code) for code in Exit} | stops


def test_every_drive_state_has_a_sentence() -> None:
    assert set(DRIVE_SENTENCES) == set(DriveState)
    assert [state for state, words in DRIVE_SENTENCES.items() if not words] == [DriveState.NOT_INVOLVED]


def test_the_order_is_what_then_drive_then_next() -> None:
    error = NoSpace("no space left on the drive", findings=["documents needs 5 GiB"])
    error.drive_state = DriveState.CLOSED
    lines = explain(error, drive="red").lines()
    assert lines[0] == "✗ red: no space left on the drive"
    assert lines[1] == "  documents needs 5 GiB"
    assert lines[2] == "  The drive is unmounted and closed; it can be unplugged."
    assert lines[3].startswith("  Next: ")


def test_the_mark_is_plain_where_the_terminal_has_no_utf8() -> None:
    assert explain(NoSpace("full")).lines(utf8=False)[0] == "x full"


def test_the_hint_of_the_error_comes_before_the_general_one() -> None:
    assert explain(DriveError("no drive", hint="plug one in")).next_step == "plug one in"


def test_a_subclass_from_another_room_gets_the_next_step_of_its_nearest_class() -> None:
    class Elsewhere(DriveGone):
        pass

    assert explain(Elsewhere("gone"), drive="red").next_step == explain(DriveGone("gone"), drive="red").next_step


def test_the_holds_of_a_guard_are_in_the_command_to_allow_them() -> None:
    told = explain(HeldByGuard("no", holds=["empty-master", "clock"]), drive="red")
    assert "`flashback run red --allow empty-master --allow clock`" in told.next_step


@pytest.mark.parametrize("cause", [NoSpace("full"), Interrupted(2), ValueError("odd"), KeyboardInterrupt()])
def test_still_held_is_the_first_line_and_exit_12_whatever_the_cause(cause: BaseException) -> None:
    cause.add_note("the mount of red is still held: vim (pid 7) has notes.txt open")
    told = explain(cause, drive="red")
    assert told.exit_code == 12
    assert told.lines()[0] == "✗ STILL HELD: do not unplug red. In the way: vim (pid 7) has notes.txt open"
    assert any(line.startswith("  Cause: ") for line in told.lines())


def test_held_deeper_in_the_chain_is_found() -> None:
    inner = DriveError("odd")
    inner.held = ("the mapping of red is still held: busy",)
    outer = NotFinished("stopped")
    outer.__cause__ = inner
    assert explain(outer).exit_code == 12


def test_held_in_a_suppressed_context_is_found() -> None:
    outer = NotFinished("stopped")
    outer.__context__ = StillHeld(["the mapping of red is still held: busy"])
    outer.__suppress_context__ = True
    assert explain(outer).exit_code == 12


def test_a_chain_that_bites_its_tail_ends() -> None:
    first, second = NotFinished("a"), NotFinished("b")
    first.__context__, second.__context__ = second, first
    assert explain(first).exit_code == 10


def test_a_caller_who_says_closed_does_not_outvote_what_is_held() -> None:
    assert explain(StillHeld(["a is still held: b"]), state=DriveState.CLOSED).exit_code == 12


def test_a_state_of_still_held_without_a_list_is_enough() -> None:
    told = explain(NotFinished("stopped"), state=DriveState.STILL_HELD)
    assert told.first_line == "STILL HELD: do not unplug the drive."


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_stop_by_signal_is_128_and_the_number(number: int) -> None:
    told = explain(Interrupted(number), state=DriveState.CLOSED)
    assert told.exit_code == 128 + number
    assert told.first_line.startswith(f"Stopped by {signal.Signals(number).name}")
    assert told.first_line.endswith("everything was released.")


def test_a_stop_with_an_unknown_state_does_not_claim_that_all_was_released() -> None:
    assert "released" not in "".join(explain(Interrupted(2), state=DriveState.UNKNOWN).lines())


def test_an_error_made_from_an_interruption_is_still_a_stop_by_signal() -> None:
    error = NotFinished("the copy stopped")
    error.__cause__ = Interrupted(15)
    assert explain(error).exit_code == 143
    assert "the copy stopped" in explain(error).findings


def test_an_unexpected_error_ends_with_1_and_asks_for_a_report() -> None:
    told = explain(ZeroDivisionError("division by zero"))
    assert told.exit_code == 1
    assert told.first_line == "unexpected error: ZeroDivisionError: division by zero"
    assert "report" in told.next_step
    assert "--verbose" in told.findings[0]


PASSPHRASE = Secret(b"hunter2")


def raised() -> Exception:
    try:
        raise ValueError(PASSPHRASE, "first\nsecond")
    except ValueError as error:
        return error


def test_the_trace_is_shown_only_when_verbose() -> None:
    assert "Traceback" not in "".join(explain(raised()).lines())
    assert "Traceback" in "".join(explain(raised(), verbose=True).lines())
    assert explain(raised(), trace_file="/var/lib/t").findings == ("The trace was written to /var/lib/t.",)


@pytest.mark.parametrize("verbose", [False, True])
def test_a_secret_is_never_shown(*, verbose: bool) -> None:
    assert "hunter2" not in "\n".join(explain(raised(), verbose=verbose).lines())


def test_a_foreign_error_is_cut_after_its_first_line() -> None:
    assert "second" not in "".join(explain(ValueError("first\nsecond")).lines())


def test_the_cause_is_named_once() -> None:
    error = NotFinished("the copy stopped: No space")
    error.__cause__ = FlashbackError("rsync exited with 11")
    error.__cause__.__cause__ = FlashbackError("No space")
    assert explain(error).findings == ("Cause: rsync exited with 11",)


def test_of_an_error_of_the_system_its_words_are_said_once_and_not_pythons_names() -> None:
    error = DriveError("/dev/sdx cannot be read")
    error.__cause__ = FileNotFoundError(2, "No such file or directory", "/dev/sdx")
    assert explain(error).findings == ("Cause: No such file or directory",)
    error.what = "/dev/sdx cannot be read: No such file or directory"
    assert explain(error).findings == ()


def test_control_characters_from_outside_do_not_reach_the_terminal() -> None:
    error = FlashbackError("bad \x1b[31m", hint="a\nb", findings=["\x07"])
    assert not re.search(r"[\x00-\x1f]", "".join(explain(error, drive="r\x1b").lines()))


def test_the_last_event_of_a_failure_carries_the_same() -> None:
    last = finished(explain(NotFinished("stopped"), drive="red", state=DriveState.CLOSED), "red")
    assert (last.result, last.exit_code, last.drive_state) == ("incomplete", 10, DriveState.CLOSED)
    assert last.error is not None
    assert last.error["what"] == "stopped"


@pytest.mark.parametrize(
    ("state", "closed_for_sure", "safe"),
    [
        (DriveState.CLOSED, True, True),
        (DriveState.CLOSED, False, False),
        (DriveState.NOT_OPENED, False, True),
        (DriveState.UNKNOWN, True, False),
        (DriveState.STILL_HELD, True, False),
        (DriveState.GONE, True, False),
    ],
)
def test_safe_to_remove_is_said_only_when_it_was_seen(state: DriveState, *, closed_for_sure: bool, safe: bool) -> None:
    told = explain(NotFinished("stopped"), state=state)
    assert finished(told, "red", closed_for_sure=closed_for_sure).safe_to_remove is safe


def test_the_last_event_of_something_still_held_is_never_safe_to_remove() -> None:
    last = finished(explain(StillHeld(["x is still held: y"]), drive="red"), "red")
    assert (last.result, last.exit_code, last.safe_to_remove) == ("failed", 12, False)


def test_a_signal_ends_as_incomplete() -> None:
    assert finished(explain(Interrupted(2)), "red").result == "incomplete"


def test_what_is_in_the_way_is_said_once_where_the_first_line_has_it_all() -> None:
    explanation = explain(StillHeld(["red was opened by somebody else, as luks-1"]), drive="red")
    assert sum("luks-1" in line for line in explanation.lines()) == 1
