"""systemd-ask-password as it is called and heard, with a program that only plays it."""

from __future__ import annotations

import pytest

from flashback.core.command import ProgramMissing
from flashback.core.secret import Secret
from flashback.tools import ask_password
from flashback.trigger.asking import Console

ANSWERED = 'out.write(b"correct horse\\n")'


@pytest.fixture
def real_shell(fake_programs):
    """What `dies_with_us` needs."""
    for name in ("setpriv", "sh"):
        fake_programs.let_through(name)
    return fake_programs


def ask(programs, watch=lambda: None) -> Secret | None:
    return ask_password.ask(programs.programs, "Which?", identity="u", seconds=5, watch=watch)


def test_the_answer_is_the_first_line(real_shell) -> None:
    real_shell.write("systemd-ask-password", ANSWERED)
    assert ask(real_shell) == Secret(b"correct horse")


def test_nobody_answering_is_no_answer(real_shell) -> None:
    real_shell.write("systemd-ask-password", err=b"Timer expired\n", code=1)
    assert ask(real_shell) is None


def test_an_empty_answer_is_an_answer(real_shell) -> None:
    real_shell.write("systemd-ask-password", 'out.write(b"\\n")')
    assert ask(real_shell) == Secret(b"")


def test_the_question_stands_for_so_many_seconds_under_its_own_name(real_shell) -> None:
    real_shell.write("systemd-ask-password", ANSWERED)
    ask(real_shell)
    (argv,) = real_shell.argvs("systemd-ask-password")
    assert argv == ["--no-tty", "--icon=drive-harddisk", "--id=flashback:u", "--timeout=5", "--", "Which?"]


def test_a_question_is_withdrawn_by_whoever_watches(real_shell) -> None:
    class Answered(Exception):
        pass

    def watch() -> None:
        raise Answered

    real_shell.write("systemd-ask-password", "time.sleep(60)")
    with pytest.raises(Answered):
        ask(real_shell, watch)


def test_a_machine_without_it_says_so(real_shell) -> None:
    with pytest.raises(ProgramMissing):
        ask(real_shell)


def console(programs, **other) -> Console:
    return Console(programs.programs, "u", "red", **other)


def test_an_empty_answer_on_the_console_is_a_no(real_shell) -> None:
    real_shell.write("systemd-ask-password", 'out.write(b"\\n")')
    asker = console(real_shell)
    assert asker.passphrase("Enter passphrase for /dev/sdx1: ", 1) is None
    assert (asker.declined, asker.unanswered) == (True, False)


def test_no_answer_on_the_console_is_remembered_as_that(real_shell) -> None:
    real_shell.write("systemd-ask-password", code=1)
    asker = console(real_shell)
    assert asker.passphrase("Enter passphrase for /dev/sdx1: ", 1) is None
    assert (asker.declined, asker.unanswered) == (False, True)


def test_the_second_try_says_that_the_first_was_not_accepted(real_shell) -> None:
    real_shell.write("systemd-ask-password", ANSWERED)
    console(real_shell).passphrase("Enter passphrase for /dev/sdx1: ", 2)
    assert real_shell.argvs("systemd-ask-password")[0][-1] == (
        "Not accepted, try again (2 of 3). Back up to red? Enter passphrase for /dev/sdx1 (empty: not now):"
    )


def test_what_the_boot_console_cancels_at_once_is_asked_once_more(real_shell, tmp_path) -> None:
    been = tmp_path / "been"
    real_shell.write(
        "systemd-ask-password",
        f"""
        if not os.path.exists({str(been)!r}):
            open({str(been)!r}, "w").close()
            sys.exit(1)
        out.write(b"correct horse\\n")
        """,
    )
    assert console(real_shell).passphrase("Enter passphrase: ", 1) == Secret(b"correct horse")


def test_a_console_without_the_program_waits_for_the_time_and_answers_nothing(fake_programs) -> None:
    asker = console(fake_programs, seconds=0)
    assert asker.passphrase("Enter passphrase: ", 1) is None
    assert asker.unanswered
