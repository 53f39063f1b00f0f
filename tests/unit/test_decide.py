"""A hold at the terminal: shown, listed on one key, let pass on one key, stopped by any other."""

from __future__ import annotations

import pytest

from flashback.core.context import Doubt
from flashback.prepare.decide import MORE, QUESTION, decide


class Presses:
    def __init__(self, *keys: str) -> None:
        self.keys = list(keys)
        self.asked: list[str] = []

    def key(self, question: str, keys: str) -> str:
        self.asked.append(question)
        pressed = self.keys.pop(0)
        return pressed if pressed in keys else ""


def doubt(*lines: str) -> Doubt:
    return Doubt("red", "mass-deletion", "40 files would be deleted", ("a/1", "a/2"), lambda: iter(lines))


@pytest.mark.parametrize(("key", "answer"), [("y", True), ("n", False), ("", False), ("\r", False), ("Y", False)])
def test_only_y_lets_it_pass(key, answer) -> None:
    assert decide(doubt(), Presses(key), lambda _text: None, height=24) is answer


def test_the_hold_is_shown_with_its_reason_and_examples_before_the_question() -> None:
    shown: list[str] = []
    decide(doubt(), Presses("n"), shown.append, height=24)
    text = "\n".join(shown)
    for words in ("red", "mass-deletion", "40 files would be deleted", "a/1", "Nothing has been written"):
        assert words in text


def test_the_list_is_shown_on_one_key_and_the_question_asked_again() -> None:
    shown: list[str] = []
    presses = Presses("l", "y")
    assert decide(doubt("delete  d/x", "delete  d/y"), presses, shown.append, height=24)
    assert "delete  d/x" in "\n".join(shown)
    assert presses.asked == [QUESTION, QUESTION]


def test_a_long_list_is_shown_a_screenful_at_a_time() -> None:
    shown: list[str] = []
    presses = Presses("l", " ", "q", "n")
    decide(doubt(*(f"line {n}" for n in range(100))), presses, shown.append, height=12)
    assert presses.asked == [QUESTION, MORE, MORE, QUESTION]
    assert "line 19" in shown[-1]
    assert "line 20" not in "\n".join(shown)


def test_a_hold_without_files_says_that_there_is_no_list() -> None:
    shown: list[str] = []
    decide(doubt(), Presses("l", "n"), shown.append, height=24)
    assert "There is no list" in shown[-1]
