"""INT, TERM and HUP become one exception."""

from __future__ import annotations

import signal

import pytest

from flashback.core.signals import Interrupted, StopSignals

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_is_raised_with_its_name_and_number(number):
    with pytest.raises(Interrupted, match=signal.Signals(number).name) as caught, StopSignals():
        signal.raise_signal(number)
    assert caught.value.number == number


def test_no_broad_handler_eats_it():
    assert not issubclass(Interrupted, Exception)


def test_only_the_first_is_raised_and_later_ones_change_nothing():
    with StopSignals() as signals:
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGHUP)
    assert signals.first == signal.SIGTERM


def test_it_waits_for_the_end_of_the_outermost_hold():
    done = []
    with pytest.raises(Interrupted), StopSignals() as signals, signals.held():
        with signals.held():
            signal.raise_signal(signal.SIGTERM)
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]


def test_a_hold_that_ends_with_an_error_lets_that_error_through():
    with pytest.raises(ZeroDivisionError), StopSignals() as signals, signals.held():
        signal.raise_signal(signal.SIGTERM)
        raise ZeroDivisionError
    assert signals.first == signal.SIGTERM


def test_the_handlers_from_before_are_back_afterwards():
    before = [signal.getsignal(number) for number in NUMBERS]
    with StopSignals():
        assert [signal.getsignal(number) for number in NUMBERS] != before
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGHUP)
        assert signals.first is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
