"""pinentry, zenity and kdialog as they are called and heard, with programs that only play them."""

from __future__ import annotations

import pytest

from flashback.core.command import ProgramMissing
from flashback.core.errors import Missing
from flashback.core.secret import Secret
from flashback.tools import pinentry
from flashback.tools.loginctl import people_here
from flashback.trigger import dialog

PINENTRY = """
out.write(b"OK Pleased to meet you\\n")
for line in stdin.decode().splitlines():
    if line.startswith("GETPIN"):
        out.write({answer!r})
    else:
        out.write(b"OK\\n")
"""


@pytest.fixture
def programs(fake_programs):
    for name in ("setpriv", "sh"):
        fake_programs.let_through(name)
    return fake_programs


def plays(programs, answer: bytes) -> None:
    programs.write("pinentry", PINENTRY.format(answer=answer))


def ask(programs, error="", watch=lambda: None) -> Secret | None:
    question = "Enter passphrase for /dev/sdx1: "
    return dialog.ask(programs.programs, drive="red", question=question, error=error, watch=watch)


@pytest.mark.parametrize(
    ("said", "meant"),
    [(b"D correct horse\nOK\n", b"correct horse"), (b"D 100%25%0A \nOK\n", b"100%\n "), (b"OK\n", b"")],
)
def test_pinentry_gives_what_was_typed_byte_for_byte(programs, said, meant) -> None:
    plays(programs, said)
    assert ask(programs) == Secret(meant)


def test_a_closed_pinentry_is_no_answer_and_nothing_else_is_asked(programs) -> None:
    plays(programs, b"ERR 83886179 Operation cancelled <Pinentry>\n")
    programs.write("zenity", 'out.write(b"typed\\n")')
    assert ask(programs) is None
    assert programs.calls("zenity") == []


def test_a_pinentry_that_can_show_nothing_leaves_it_to_the_next(programs) -> None:
    plays(programs, b"ERR 83918950 Inappropriate ioctl for device <Pinentry>\n")
    programs.write("zenity", 'out.write(b"typed\\n")')
    assert ask(programs) == Secret(b"typed")


def test_what_pinentry_shows_cannot_add_a_command(programs) -> None:
    plays(programs, b"D x\nOK\n")
    pinentry.ask(programs.programs, title="red\nGETPIN", text="50% \r\nBYE", prompt="P:", error="", watch=lambda: None)
    (call,) = programs.calls("pinentry")
    assert [line.split()[0] for line in call["stdin"].splitlines()] == [
        *("SETTITLE", "SETDESC", "SETPROMPT", "SETOK", "SETCANCEL", "GETPIN", "BYE"),
    ]
    assert "SETTITLE red%0AGETPIN" in call["stdin"]


def test_the_passphrase_is_in_nobodys_arguments(programs) -> None:
    plays(programs, b"D correct horse\nOK\n")
    ask(programs)
    assert "correct" not in str([(call["argv"], call["env"]) for call in programs.calls()])


@pytest.mark.parametrize("name", ["zenity", "kdialog"])
def test_a_dialog_gives_what_was_typed(programs, name) -> None:
    programs.write(name, 'out.write(b"correct horse\\n")')
    assert ask(programs, error="Not accepted.") == Secret(b"correct horse")
    assert any("Not accepted." in word and "red" in word for word in programs.argvs(name)[0])


@pytest.mark.parametrize("name", ["zenity", "kdialog"])
def test_a_closed_dialog_is_no_answer(programs, name) -> None:
    programs.write(name, code=1)
    assert ask(programs) is None


@pytest.mark.parametrize("name", ["zenity", "kdialog"])
def test_a_dialog_without_a_screen_is_none(programs, name) -> None:
    programs.write(name, err=b"cannot open display: \n", code=1)
    with pytest.raises(Missing):
        ask(programs)


def test_without_any_dialog_it_is_said(programs) -> None:
    with pytest.raises(ProgramMissing):
        ask(programs)


def test_a_dialog_is_closed_by_whoever_watches(programs) -> None:
    class Withdrawn(Exception):
        pass

    def watch() -> None:
        raise Withdrawn

    programs.write("pinentry", "time.sleep(60)", reads=False)
    with pytest.raises(Withdrawn):
        ask(programs, watch=watch)


LOGINCTL = """
sessions = {{"1": (1000, "yes", "user", "no"), "2": (1001, "no", "user", "no"), "3": (1002, "yes", "user", "yes"),
             "c1": (120, "yes", "greeter", "no"), "4": (1000, "yes", "manager", "no")}}
if argv[0] == "list-sessions":
    out.write("".join(f"{{name}} 1000 alice seat0\\n" for name in sessions).encode())
else:
    values = sessions[argv[-1]]
    out.write("".join(f"{{k}}={{v}}\\n" for k, v in zip(("User", "Active", "Class", "Remote"), values)).encode())
"""


def test_only_who_sits_here_now_is_asked(fake_programs) -> None:
    fake_programs.write("loginctl", LOGINCTL.format())
    assert people_here(fake_programs.programs) == {1000}


def test_without_logind_nobody_sits_here(fake_programs) -> None:
    assert people_here(fake_programs.programs) == frozenset()
