"""Taking and giving back: whatever goes wrong wherever, nothing is held at the end."""

from __future__ import annotations

import signal
import sys

import pytest

from flashback.core import signals as signals_file
from flashback.core import stack as stack_file
from flashback.core.errors import NoSpace, StillHeld
from flashback.core.signals import Interrupted, StopSignals
from flashback.core.stack import ResourceStack

STEPS = ("lock", "mapping", "mount", "rsync")
NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


class Outside:
    """What the kernel holds. The undo asks it, so it may be called twice or after half a failure."""

    def __init__(self) -> None:
        self.held: list[str] = []
        self.given_back: list[str] = []
        self.trouble = {}

    def take(self, name: str) -> str:
        self.trouble.get(("before", name), lambda: None)()
        self.held.append(name)
        self.trouble.get(("after", name), lambda: None)()
        return f"{name}!"

    def give_back(self, name: str) -> None:
        self.trouble.get(("undo", name), lambda: None)()
        if name in self.held:
            assert self.held[-1] == name, "given back in the wrong order"
            self.held.remove(name)
            self.given_back.append(name)


def fail() -> None:
    raise NoSpace("the drive is full")


def run(outside: Outside, body=lambda: None) -> StopSignals:
    with StopSignals() as signals, ResourceStack(signals) as stack:
        take_all(outside, stack)
        body()
    return signals


def take_all(outside: Outside, stack: ResourceStack) -> None:
    for name in STEPS:
        answer = stack.take(name, lambda name=name: outside.take(name), lambda name=name: outside.give_back(name))
        assert answer == f"{name}!"


@pytest.fixture
def outside() -> Outside:
    return Outside()


def test_everything_is_given_back_in_reverse(outside):
    run(outside, lambda: outside.held == list(STEPS) or fail())
    assert (outside.held, outside.given_back) == ([], list(reversed(STEPS)))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_failing_step_leaves_nothing_held_even_if_it_had_half_happened(outside, step, when):
    outside.trouble[when, step] = fail
    with pytest.raises(NoSpace) as caught:
        run(outside)
    assert outside.held == []
    assert caught.value.held == ()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_during_a_step_lets_it_finish_and_then_gives_everything_back(outside, step, when, number):
    outside.trouble[when, step] = lambda: signal.raise_signal(number)
    with pytest.raises(Interrupted) as caught:
        run(outside)
    assert outside.held == []
    assert outside.given_back[0] == step
    assert caught.value.number == number


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_between_steps_is_raised_at_once(outside, number):
    def body():
        signal.raise_signal(number)
        pytest.fail("went on")

    with pytest.raises(Interrupted):
        run(outside, body)
    assert outside.held == []


def test_a_step_that_fails_under_a_signal_keeps_its_own_error(outside):
    outside.trouble["before", "mount"] = lambda: signal.raise_signal(signal.SIGTERM) or fail()
    with pytest.raises(NoSpace):
        run(outside)
    assert outside.held == []


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_while_giving_back_does_not_disturb_and_is_remembered(outside, step, number):
    outside.trouble["undo", step] = lambda: signal.raise_signal(number)
    signals = run(outside)
    assert outside.held == []
    assert signals.first == number


@pytest.mark.parametrize("step", STEPS)
def test_a_second_signal_while_giving_back_changes_nothing(outside, step):
    outside.trouble["undo", step] = lambda: signal.raise_signal(signal.SIGINT)
    with pytest.raises(Interrupted) as caught:
        run(outside, lambda: signal.raise_signal(signal.SIGTERM))
    assert outside.held == []
    assert caught.value.number == signal.SIGTERM


def test_a_second_signal_is_not_raised_again_before_the_unwind_begins(outside):
    def body():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted) as caught:
        run(outside, body)
    assert (outside.held, caught.value.number) == ([], signal.SIGTERM)


def test_an_undo_that_fails_does_not_stop_the_others(outside):
    outside.trouble["undo", "rsync"] = fail
    outside.trouble["undo", "lock"] = fail
    with pytest.raises(StillHeld) as caught:
        run_loosely(outside)
    assert outside.held == ["lock", "rsync"]
    assert caught.value.held == (
        "rsync is still held: the drive is full",
        "lock is still held: the drive is full",
    )
    assert str(caught.value) == "rsync is still held: the drive is full; lock is still held: the drive is full"


def run_loosely(outside: Outside, body=lambda: None) -> None:
    outside.give_back = lambda name: (outside.trouble.get(("undo", name), lambda: None)(), outside.held.remove(name))
    run(outside, body)


@pytest.mark.parametrize("error", [NoSpace("full"), Interrupted(15), OSError("odd")])
def test_the_first_cause_stays_the_cause_and_carries_what_is_still_held(outside, error):
    def body():
        raise error

    outside.trouble["undo", "mount"] = fail
    with pytest.raises(type(error)) as caught:
        run_loosely(outside, body)
    assert caught.value is error
    assert caught.value.__notes__ == ["mount is still held: the drive is full"]
    if not isinstance(error, OSError):
        assert caught.value.held == ("mount is still held: the drive is full",)


def test_giving_back_by_hand_says_what_is_still_held_and_leaves_nothing_to_do(outside):
    with StopSignals() as signals, ResourceStack(signals) as stack:
        outside.give_back = lambda name: outside.trouble.get(("undo", name), lambda: None)()
        take_all(outside, stack)
        outside.trouble["undo", "mount"] = fail
        assert stack.give_back_all() == ("mount is still held: the drive is full",)
        assert stack.give_back_all() == ()


def test_a_signal_while_giving_back_by_hand_leaves_the_rest_to_the_end(outside):
    def interrupted_once():
        del outside.trouble["undo", "mount"]
        signal.raise_signal(signal.SIGTERM)

    outside.trouble["undo", "mount"] = interrupted_once
    with pytest.raises(Interrupted), StopSignals() as signals, ResourceStack(signals) as stack:
        take_all(outside, stack)
        stack.give_back_all()
    assert outside.held == []


def test_what_take_returns_is_handed_on():
    with StopSignals() as signals, ResourceStack(signals) as stack:
        assert stack.take("a number", lambda: 42, lambda: None) == 42


def bytecodes(body, *, signal_at: int) -> int:
    """Run `body` and send SIGTERM at one bytecode of the two files under test; return how many there were."""
    watched = {stack_file.__file__, signals_file.__file__}
    count = 0

    def each(frame, event, _argument):
        nonlocal count
        if frame.f_code.co_filename not in watched or frame.f_code.co_name in {"_arrived", "_raise_once"}:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            if count == signal_at:
                signal.raise_signal(signal.SIGTERM)
            count += 1
        return each

    before = sys.gettrace()
    sys.settrace(each)
    try:
        body()
    finally:
        sys.settrace(before)
    return count


def attempt(failing: bool, signal_at: int) -> tuple[Outside, BaseException | None, StopSignals, int]:
    outside, count, signals, error = Outside(), 0, StopSignals(), None
    with signals:
        try:
            count = bytecodes(lambda: work(outside, signals, failing), signal_at=signal_at)
        except (Interrupted, NoSpace) as problem:
            error = problem
    return outside, error, signals, count


def work(outside: Outside, signals: StopSignals, failing: bool) -> None:
    with ResourceStack(signals) as stack:
        take_all(outside, stack)
        if failing:
            fail()


@pytest.mark.parametrize("failing", [False, True])
def test_a_signal_at_whichever_bytecode_leaves_nothing_held_and_is_never_lost(failing):
    at = 0
    while True:
        outside, error, signals, _count = attempt(failing, at)
        if signals.first is None:
            break
        assert outside.held == [], f"signal at bytecode {at}"
        assert signals.first == signal.SIGTERM
        assert error is None or isinstance(error, Interrupted | NoSpace)
        assert signals._holds == 0, f"signal at bytecode {at}"
        at += 1
    assert at > 200
