"""`init` asks little, shows first, and erases nothing without the word."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from flashback.core.errors import UsageError
from flashback.core.secret import Secret
from flashback.prepare.examine import Examined
from flashback.prepare.request import InitRequest
from flashback.prepare.wizard import Given, bad_master, bad_name, settle
from flashback.tools.block import BlockDevice
from flashback.tools.cryptsetup import STANDARD
from tests.unit.drives import RED

STRONG = "correct horse battery staple"
ANOTHER = "violin turnip gravel monsoon"
WEAK = "password1"
STICK = BlockDevice("/dev/sdx", "sdx", "disk", 1 << 30, model="Stick", serial="S1", transport="usb", removable=True)
BLANK = Examined(STICK, (), None, carries_drive=True)
FULL = Examined(STICK, ('/dev/sdx1: vfat "PHOTOS", 1.0 GiB',), None, carries_drive=True)
BUILT_IN = replace(BLANK, carries_drive=False)


class Script:
    """An `Ask` that gives its answers in order and counts the questions; it asks again as questionary does."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.shown: list[str] = []

    def next(self, question: str) -> str:
        self.asked.append(question)
        return self.answers.pop(0)

    def text(self, question, *, default="", check=None) -> str:
        while True:
            answer = self.next(question) or default
            if check is None or (problem := check(answer)) is None:
                return answer
            self.shown.append(problem)

    def secret(self, question) -> Secret:
        return Secret(self.next(question).encode())

    def choose(self, question, choices) -> str:
        return self.next(question)

    def confirm(self, question, *, default) -> bool:
        return bool(self.next(question))

    def show(self, text) -> None:
        self.shown.append(text)


@pytest.fixture
def master(tmp_path) -> str:
    return str(tmp_path)


def ask(script: Script | None, examined: Examined = BLANK, *, taken=("green",), configured=True, **said) -> InitRequest:
    return settle(examined, Given(asker=script, **said), taken=taken, configured=configured, kdf=STANDARD)


def script(**said) -> InitRequest:
    """Nobody can be asked."""
    examined = said.pop("examined", BLANK)
    return ask(None, examined, **{"passphrase": Secret(b"x"), **said})


# --- how much is asked


def test_a_first_drive_takes_at_most_six_questions(master) -> None:
    person = Script(master, "", "erase", STRONG, STRONG)
    ask(person, taken=(), configured=False)
    assert len(person.asked) + 1 <= 6  # and where else the recovery key shall be kept (test_prepare_handover)


def test_a_further_drive_takes_the_word_and_the_passphrase(master) -> None:
    person = Script("erase", STRONG, STRONG)
    ask(person)
    assert len(person.asked) == 3  # the passphrase twice
    assert "type the word erase" in person.asked[0]


def test_a_command_line_that_says_all_leaves_no_question(master) -> None:
    person = Script()
    ask(
        person,
        configured=False,
        master=Path(master),
        name="blue",
        erase=True,
        passphrase=Secret(b"x"),
        recovery_key=False,
    )
    assert person.asked == []


def test_what_is_on_the_device_is_shown_before_the_first_question() -> None:
    shown_when_asked = []

    class Watching(Script):
        def next(self, question):
            shown_when_asked.append(list(self.shown))
            return super().next(question)

    ask(Watching("erase", STRONG, STRONG), FULL)
    assert "PHOTOS" in shown_when_asked[0][0]
    assert "serial S1" in shown_when_asked[0][0]


# --- the name


def test_a_first_drive_is_called_as_the_person_says(master) -> None:
    person = Script(master, "attic", "erase", STRONG, STRONG)
    assert ask(person, taken=(), configured=False).name == "attic"


def test_a_first_drive_is_called_by_a_colour_when_nothing_is_typed(master) -> None:
    assert ask(Script(master, "", "erase", STRONG, STRONG), taken=(), configured=False).name == "red"


def test_a_further_drive_is_called_by_the_next_colour_and_says_so() -> None:
    person = Script("erase", STRONG, STRONG)
    assert ask(person, taken=("red", "Green")).name == "blue"
    assert any("It will be called blue" in line for line in person.shown)


def test_a_bad_name_is_asked_for_again(master) -> None:
    person = Script(master, "../red", "attic", "erase", STRONG, STRONG)
    assert ask(person, taken=(), configured=False).name == "attic"


@pytest.mark.parametrize("name", ["", "-red", "_red", "a b", "a/b", "..", "a" * 33, "rouge\n", "röt", "a.b", "\x1b[2J"])
def test_a_name_that_could_not_stand_in_a_path_is_refused(name) -> None:
    assert bad_name(name, ()) is not None


@pytest.mark.parametrize("name", ["red", "R2-D2", "2026_a", "a" * 32])
def test_a_good_name_passes(name) -> None:
    assert bad_name(name, ("green",)) is None


@pytest.mark.parametrize(("name", "taken"), [("RED", "red"), ("red", "RED")])
def test_a_taken_name_is_refused_whatever_its_case(name, taken) -> None:
    assert bad_name(name, (taken,)) == f"there is a drive called {name} already"


def test_a_bad_name_on_the_command_line_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="--name"):
        script(name="a/b")


def test_a_bad_name_is_shown_without_its_control_characters() -> None:
    with pytest.raises(UsageError) as caught:
        script(name="\x1b[2J")
    assert "\x1b" not in caught.value.what


# --- the word


@pytest.mark.parametrize("typed", ["erase", "ERASE", " erase "])
def test_the_word_gives_permission(typed) -> None:
    assert ask(Script(typed, STRONG, STRONG), FULL).name == "red"


@pytest.mark.parametrize("typed", ["", "y", "yes", "eras", "erase everything"])
def test_anything_but_the_word_changes_nothing(typed) -> None:
    with pytest.raises(UsageError, match="nothing was changed"):
        ask(Script(typed, STRONG, STRONG), FULL)


def test_without_the_word_no_passphrase_is_asked_for() -> None:
    person = Script("no", STRONG, STRONG)
    with pytest.raises(UsageError):
        ask(person, FULL)
    assert len(person.asked) == 1


def test_a_blank_device_asks_for_the_word_too() -> None:
    with pytest.raises(UsageError):
        ask(Script("no", STRONG, STRONG), BLANK)


def test_erase_on_the_command_line_skips_the_word() -> None:
    person = Script(STRONG, STRONG)
    ask(person, FULL, erase=True)
    assert not any("erase" in question for question in person.asked)


def test_a_script_needs_erase_where_there_are_data() -> None:
    with pytest.raises(UsageError, match="PHOTOS") as caught:
        script(examined=FULL)
    assert "--erase" in caught.value.hint


def test_a_script_needs_erase_for_what_is_not_carried_about() -> None:
    with pytest.raises(UsageError, match="carried about") as caught:
        script(examined=BUILT_IN)
    assert "--erase" in caught.value.hint


def test_a_script_may_take_a_blank_stick() -> None:
    assert script(examined=BLANK).name == "red"


@pytest.mark.parametrize("examined", [FULL, BUILT_IN])
def test_a_script_that_says_erase_may_take(examined) -> None:
    assert script(examined=examined, erase=True).name == "red"


def test_a_person_is_told_that_it_is_a_drive_of_the_rotation() -> None:
    person = Script("erase", STRONG, STRONG)
    ask(person, replace(FULL, known=RED))
    assert any("This is red, a drive of this machine's rotation" in line for line in person.shown)


def test_a_person_is_warned_of_what_is_not_carried_about() -> None:
    person = Script("erase", STRONG, STRONG)
    ask(person, BUILT_IN)
    assert any("Look twice" in line for line in person.shown)


# --- the passphrase


def test_a_strong_passphrase_is_asked_for_twice() -> None:
    assert ask(Script("erase", STRONG, STRONG)).passphrase == Secret(STRONG.encode())


def test_a_weak_passphrase_is_questioned() -> None:
    person = Script("erase", WEAK, STRONG, STRONG)
    assert ask(person).passphrase == Secret(STRONG.encode())
    assert any("That is weak" in line for line in person.shown)


def test_a_weak_passphrase_typed_once_more_is_kept() -> None:
    person = Script("erase", WEAK, WEAK)
    assert ask(person).passphrase == Secret(WEAK.encode())


def test_one_weak_passphrase_after_another_is_questioned_again() -> None:
    person = Script("erase", WEAK, "12345678", STRONG, STRONG)
    assert ask(person).passphrase == Secret(STRONG.encode())
    assert len([line for line in person.shown if "That is weak" in line]) == 2


def test_two_different_ones_start_over() -> None:
    person = Script("erase", STRONG, "mistyped", ANOTHER, ANOTHER)
    assert ask(person).passphrase == Secret(ANOTHER.encode())
    assert any("not the same" in line for line in person.shown)


def test_a_weak_one_after_two_different_ones_is_questioned_too() -> None:
    person = Script("erase", STRONG, "mistyped", WEAK, STRONG, STRONG)
    assert ask(person).passphrase == Secret(STRONG.encode())


def test_an_empty_one_is_refused() -> None:
    person = Script("erase", "", STRONG, "", STRONG)
    assert ask(person).passphrase == Secret(STRONG.encode())
    assert person.shown.count("A passphrase cannot be empty.") == 2


def test_a_passphrase_made_of_the_drives_name_is_weak() -> None:
    person = Script("erase", "flashback red", "flashback red")
    ask(person)
    assert any("That is weak" in line for line in person.shown)


def test_a_passphrase_from_the_command_line_is_taken_as_it_is() -> None:
    assert script(passphrase=Secret(b"x")).passphrase == Secret(b"x")


def test_a_script_without_a_passphrase_is_told_the_option() -> None:
    with pytest.raises(UsageError) as caught:
        script(passphrase=None)
    assert "--passphrase-file" in caught.value.hint


def test_nothing_that_is_shown_or_asked_holds_the_passphrase() -> None:
    person = Script("erase", WEAK, "12345678", STRONG, "mistyped", ANOTHER, ANOTHER)
    request = ask(person)
    said = "\n".join([*person.shown, *person.asked, repr(request), str(request.as_json())])
    assert not [each for each in (WEAK, "12345678", STRONG, "mistyped", ANOTHER) if each in said]


# --- the master


def test_a_first_drive_asks_what_to_back_up(master) -> None:
    assert ask(Script(master, "erase", STRONG, STRONG), configured=False).first_master == Path(master)


def test_with_a_configuration_no_master_is_asked_for() -> None:
    assert ask(Script("erase", STRONG, STRONG)).first_master is None


def test_a_directory_that_is_not_there_is_asked_for_again(master) -> None:
    person = Script(f"{master}/nowhere", "Documents", master, "erase", STRONG, STRONG)
    assert ask(person, configured=False).first_master == Path(master)


def test_a_home_directory_may_be_written_with_a_tilde(monkeypatch, master) -> None:
    monkeypatch.setenv("HOME", master)
    assert ask(Script("~", "erase", STRONG, STRONG), configured=False).first_master == Path(master)


def test_a_script_without_a_master_is_told_the_option() -> None:
    with pytest.raises(UsageError) as caught:
        script(configured=False)
    assert "--master" in caught.value.hint


@pytest.mark.parametrize("path", ["Documents", "/nowhere/at/all", os.devnull])
def test_a_bad_master_is_refused(path) -> None:
    assert bad_master(path)
    with pytest.raises(UsageError, match="--master"):
        script(configured=False, master=Path(path))


# --- the recovery key


def test_a_person_gets_a_recovery_key() -> None:
    assert ask(Script("erase", STRONG, STRONG)).recovery_key is not None


def test_a_person_may_do_without_a_recovery_key() -> None:
    assert ask(Script("erase", STRONG, STRONG), recovery_key=False).recovery_key is None


def test_a_script_gets_no_recovery_key_unless_it_asks() -> None:
    assert script().recovery_key is None
    assert script(recovery_key=True).recovery_key is not None


# --- the plan


def test_a_disk_gets_a_partition_table() -> None:
    assert script().partitions


def test_a_whole_device_gets_none() -> None:
    assert not script(whole_device=True).partitions


def test_a_partition_is_used_as_it_is() -> None:
    partition = replace(BLANK, device=replace(STICK, path="/dev/sdx1", kind="part"))
    assert not script(examined=partition).partitions


def test_the_plan_names_every_step(master) -> None:
    request = script(configured=False, master=Path(master), recovery_key=True)
    steps = "\n".join(request.steps())
    for word in (master, "GPT", "LUKS2", "recovery key", "header", "blake2", "README.txt", "known here as red"):
        assert word in steps


def test_the_label_says_whose_drive_it_is() -> None:
    assert script(name="blue").label == "flashback-blue"
