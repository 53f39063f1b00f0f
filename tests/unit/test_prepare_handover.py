"""The recovery key reaches the person, whatever goes wrong on the way, and nobody else."""

from __future__ import annotations

import pytest

from flashback.core.command import Command, ProgramMissing, Result
from flashback.core.errors import UsageError
from flashback.prepare.handover import Handover
from tests.unit.test_prepare_wizard import Script

PAGE = "the page with the key\n"


class Printer:
    """Takes what goes to `lp`; there may be none."""

    def __init__(self, *, there: bool = True) -> None:
        self.there = there
        self.printed: list[Command] = []

    def __call__(self, command: Command) -> Result:
        if not self.there:
            raise ProgramMissing(command.argv[0])
        self.printed.append(command)
        return Result(command, 0)


@pytest.fixture
def shown() -> list[str]:
    return []


def give(shown: list[str], *answers: str, printer: Printer | None = None) -> Script:
    person = Script(*answers)
    Handover(shown.append, None, person).give(printer or Printer(), PAGE)
    return person


def test_the_page_is_shown(shown) -> None:
    give(shown, "")
    assert PAGE in shown[0]


def test_without_anybody_to_ask_it_is_shown_only(shown) -> None:
    Handover(shown.append).give(Printer(), PAGE)
    assert len(shown) == 1


def test_with_a_file_it_is_written_and_not_shown(shown, tmp_path) -> None:
    Handover(shown.append, tmp_path / "key.txt", Script()).give(Printer(), PAGE)
    assert (tmp_path / "key.txt").read_text() == PAGE
    assert not any("the key" in text for text in shown)


def test_a_file_that_exists_is_told_beforehand(shown, tmp_path) -> None:
    (tmp_path / "key.txt").touch()
    with pytest.raises(UsageError):
        Handover(shown.append, tmp_path / "key.txt").check()


def test_just_enter_ends_the_question(shown) -> None:
    assert len(give(shown, "").asked) == 1


def test_a_file_that_is_named_gets_the_page(shown, tmp_path) -> None:
    give(shown, str(tmp_path / "key.txt"))
    assert (tmp_path / "key.txt").read_text() == PAGE


def test_a_file_that_exists_is_not_overwritten_and_asked_for_again(shown, tmp_path) -> None:
    (tmp_path / "old").write_text("old")
    person = give(shown, str(tmp_path / "old"), str(tmp_path / "new"))
    assert (tmp_path / "old").read_text() == "old"
    assert (tmp_path / "new").read_text() == PAGE
    assert "That did not work" in person.shown[0]


def test_print_sends_the_page_to_the_printer(shown) -> None:
    printer = Printer()
    give(shown, "print", printer=printer)
    assert [command.secret.reveal() for command in printer.printed] == [PAGE.encode()]


def test_the_page_is_in_no_argument_of_a_program(shown) -> None:
    printer = Printer()
    give(shown, "print", printer=printer)
    assert not any("key\n" in word for command in printer.printed for word in command.argv)


def test_without_a_printer_it_is_asked_again(shown) -> None:
    person = give(shown, "print", "", printer=Printer(there=False))
    assert len(person.asked) == 2
    assert "lp" in person.shown[0]


def test_a_file_called_html_gets_html(shown, tmp_path) -> None:
    Handover(shown.append, tmp_path / "key.html").give(Printer(), PAGE, "<html>")
    Handover(shown.append, tmp_path / "key.txt").give(Printer(), PAGE, "<html>")
    assert (tmp_path / "key.html").read_text() == "<html>"
    assert (tmp_path / "key.txt").read_text() == PAGE
