"""Programs that ask on a terminal without echo, as cryptsetup does."""

from __future__ import annotations

import pytest

from flashback.core import conversation
from flashback.core.command import ProgramMissing
from flashback.core.conversation import converse
from flashback.core.secret import Secret

ASKS = """
import getpass, termios
def ask(prompt):
    return getpass.getpass(prompt)
"""


def talk(fake_programs, answer, *words):
    heard = []
    code = converse(("cryptsetup", *words), environment={"PATH": fake_programs.path}, answer=answer, hear=heard.append)
    return code, heard


def refuse(question):
    raise AssertionError(f"nothing should be asked, but was: {question}")


def test_what_is_asked_without_echo_is_answered_word_for_word(fake_programs):
    fake_programs.write(
        "cryptsetup", ASKS + "given = ask('Enter passphrase for /dev/sdb1: ')\nprint(given == 'p\u00e4ss \\\\ word')"
    )
    asked = []
    code, heard = talk(fake_programs, lambda question: asked.append(question) or Secret("p\u00e4ss \\ word".encode()))
    assert (code, asked) == (0, ["Enter passphrase for /dev/sdb1:"])
    assert [line for line in heard if line] == ["True"]


def test_the_answer_is_never_heard_back(fake_programs):
    fake_programs.write("cryptsetup", ASKS + "ask('PIN: ')\nask('Passphrase: ')")
    _code, heard = talk(fake_programs, lambda _question: Secret(b"tr0ub4dor"))
    assert "tr0ub4dor" not in "".join(heard)


def test_several_questions_each_get_their_answer(fake_programs):
    fake_programs.write("cryptsetup", ASKS + "print(ask('Token PIN: ') + ask('Enter passphrase: '))")
    answers = {"Token PIN:": Secret(b"12"), "Enter passphrase:": Secret(b"34")}
    assert talk(fake_programs, answers.__getitem__) == (0, ["1234"])


def test_lines_that_ask_nothing_are_heard_at_once(fake_programs):
    fake_programs.write("cryptsetup", out=b"Touch your key.\nwarning: slow\n")
    assert talk(fake_programs, refuse) == (0, ["Touch your key.", "warning: slow"])


def test_a_line_that_ends_like_a_question_but_shows_what_is_typed_is_only_heard(fake_programs, monkeypatch):
    monkeypatch.setattr(conversation, "SILENT_AFTER", 0.1)
    fake_programs.write("cryptsetup", out=b"Device is being checked: ")
    assert talk(fake_programs, refuse) == (0, ["Device is being checked:"])


def test_last_words_without_a_newline_are_heard(fake_programs):
    fake_programs.write("cryptsetup", out=b"No key available with this passphrase.", code=2)
    assert talk(fake_programs, refuse) == (2, ["No key available with this passphrase."])


def test_giving_up_ends_the_program(fake_programs):
    fake_programs.write("cryptsetup", ASKS + "ask('Enter passphrase: ')\nos.mkdir(argv[0] + '/went-on')")
    code, _heard = talk(fake_programs, lambda _question: None, str(fake_programs.folder))
    assert code < 0
    assert not (fake_programs.folder / "went-on").exists()


def test_an_error_while_answering_ends_the_program_and_comes_through(fake_programs):
    fake_programs.write("cryptsetup", ASKS + "ask('Enter passphrase: ')\nos.mkdir(argv[0] + '/went-on')")
    with pytest.raises(AssertionError, match="nothing should be asked"):
        talk(fake_programs, refuse, str(fake_programs.folder))
    assert not (fake_programs.folder / "went-on").exists()


def test_the_exit_code_comes_back_even_if_the_terminal_was_let_go_of_long_before(fake_programs):
    fake_programs.write("cryptsetup", "os.closerange(0, 3); time.sleep(1); os._exit(5)")
    assert talk(fake_programs, refuse) == (5, [])


def test_an_end_by_a_signal_comes_back_below_zero(fake_programs):
    fake_programs.write("cryptsetup", "os.kill(os.getpid(), 9)")
    assert talk(fake_programs, refuse) == (-9, [])


def test_a_program_that_is_not_there_is_named(fake_programs):
    with pytest.raises(ProgramMissing, match="the program cryptsetup is not installed"):
        talk(fake_programs, refuse)
