"""Asking a person's session: both ends of the socket, with a desktop and a dialog that are made up."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from flashback.core.errors import DriveState, Exit, Missing
from flashback.core.events import Finished, Progress, Step, StepBegun, StepDone
from flashback.core.secret import Secret
from flashback.tools.dbus import RENEWED
from flashback.trigger import links as links_side
from flashback.trigger import session as session_side
from flashback.trigger import watch
from flashback.trigger.asking import Consent, Everywhere
from flashback.trigger.links import Links
from flashback.trigger.notices import LONGEST, notice_of
from flashback.trigger.session import ACTIONS, Talk
from flashback.trigger.telling import PlugTeller
from flashback.trigger.words import AGENT, Gone, Wire
from tests.unit.drives import UUID

ME = os.getuid()
LATE = 10.0
"""Seconds after which a test has failed; nothing waits for so long."""


class Desktop:
    """Shows nothing, remembers all; `clicks` are what the person does to each new question, in turn."""

    def __init__(self, *clicks: str, capabilities=("actions",)) -> None:
        self.capabilities = list(capabilities)
        self.clicks = list(clicks)
        self.shown: list[tuple[str, str]] = []
        self.urgent: list[bool] = []
        self.taken_back: list[int] = []
        self.happened: list[tuple[int, str]] = []
        self.broken = False

    def show(self, summary, body, *, actions, replaces=0, urgent=False, stays) -> int:
        if self.broken:
            raise Missing("nobody shows notices")
        self.shown.append((summary, body))
        self.urgent.append(urgent)
        number = replaces or len(self.shown)
        if actions and self.clicks:
            self.happened.append((number, self.clicks.pop(0)))
        return number

    def close_notice(self, number) -> None:
        self.taken_back.append(number)

    def wait(self, _seconds):
        return self.happened.pop(0) if self.happened else None


class Dialog:
    """Gives its answers in turn; `None` closes it, an error is raised."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.errors: list[str] = []

    def __call__(self, *, drive, question, error, watch):
        self.errors.append(error)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Keyring:
    """Remembers; `locked` until an event is set, `broken`: nobody can reach it."""

    def __init__(self, held: Secret | None = None, *, broken: bool = False) -> None:
        self.held, self.broken = held, broken
        self.unlocked = threading.Event()
        self.unlocked.set()
        self.kept = threading.Event()

    def find(self, uuid):
        assert self.unlocked.wait(LATE)
        if self.broken:
            raise Missing("there is no keyring")
        return self.held if uuid == UUID else None

    def keep(self, uuid, drive, passphrase):
        if self.broken:
            self.kept.set()
            raise Missing("there is no keyring")
        assert (uuid, drive) == (UUID, "red")
        self.held = passphrase
        self.kept.set()


def until(happened) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + LATE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Console:
    """What is asked where there is no session."""

    def __init__(self, answer=None) -> None:
        self.answer = answer
        self.asked = 0

    def ask(self, _question, _attempt, watch):
        self.asked += 1
        watch()
        return self.answer


class Session:
    """One person's session: a socket as `flashback watch` has it, and a thread for each talk."""

    def __init__(self, folder: Path, desktop: Desktop, dialog: Dialog, keyring: Keyring | None) -> None:
        self.desktop, self.dialog, self.keyring = desktop, dialog, keyring
        self.put_off: list[str] = []
        place = folder / str(ME)
        place.mkdir(exist_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(place / AGENT))
        self.listener.listen()
        self.threads: list[threading.Thread] = []
        self.begun = threading.Event()
        self.accepting = threading.Thread(target=self._accept, daemon=True)
        self.accepting.start()

    def _accept(self) -> None:
        try:
            while True:
                talk = Talk(
                    Wire(self.listener.accept()[0]), self.desktop, self.dialog, self.put_off.append, self.keyring
                )
                self.threads.append(threading.Thread(target=talk.hold, daemon=True))
                self.threads[-1].start()
                self.begun.set()
        except OSError:
            pass

    def ended(self) -> None:
        """Until a talk has begun and every talk is over."""
        assert self.begun.wait(LATE)
        self._join()

    def _join(self) -> None:
        for thread in self.threads:
            thread.join(LATE)
            assert not thread.is_alive()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.accepting.join(LATE)
        self._join()


@pytest.fixture
def world(tmp_path):
    """`world(desktop, dialog)` is one session; `world.asker` asks it."""
    sessions: list[Session] = []
    links = Links(lambda: frozenset({ME}), {"uuid": UUID, "drive": "red"}, sessions=tmp_path)
    world = SimpleNamespace(links=links, console=Console())

    def session(desktop=None, dialog=None, keyring=None) -> Session:
        sessions.append(Session(tmp_path, desktop or Desktop(), dialog or Dialog(), keyring))
        return sessions[-1]

    world.session = session
    world.asker = Everywhere(links, world.console, "red", seconds=LATE)  # type: ignore[arg-type]
    yield world
    links.hang_up()
    for each in sessions:
        each.close()


@pytest.mark.parametrize(
    ("click", "consent"),
    [("now", Consent.NOW), ("later", Consent.LATER), ("no", Consent.NO), ("dismissed", Consent.NO)],
)
def test_a_click_is_the_answer(world, click, consent) -> None:
    world.session(Desktop(click))
    assert world.asker.consent("The last run ended 3 days ago.") is consent


def test_a_question_that_the_desktop_took_off_the_screen_is_one_that_nobody_answered(world) -> None:
    session = world.session(Desktop("expired", "expired"))
    assert world.asker.consent("") is Consent.NOBODY
    world.links.hang_up()
    session.ended()
    assert len(session.desktop.shown) == 2


def test_a_question_that_the_desktop_took_off_the_screen_comes_back_once_to_stay(world) -> None:
    session = world.session(Desktop("expired", "now"))
    assert world.asker.consent("Yesterday.") is Consent.NOW
    assert session.desktop.shown == [("red: back up now?", "Yesterday.")] * 2
    assert session.desktop.urgent == [False, True]


def test_who_comes_after_the_question_has_expired_elsewhere_is_asked_anew(world) -> None:
    session = world.session(Desktop("expired", "expired", "now"))
    assert world.asker.consent("") is Consent.NOBODY
    assert world.asker.consent("") is Consent.NOW
    assert len(session.desktop.shown) == 3


def test_the_question_names_the_drive_and_offers_three_answers(world) -> None:
    session = world.session(Desktop("now"))
    world.asker.consent("Yesterday.")
    assert session.desktop.shown[0] == ("red: back up now?", "Yesterday.")
    assert list(ACTIONS) == ["now", "later", "no"]


def test_a_question_is_withdrawn_when_a_command_has_taken_the_drive_in_hand(world) -> None:
    session = world.session(Desktop())
    assert world.asker.consent("", lambda: bool(session.desktop.shown)) is Consent.TAKEN
    world.links.hang_up()
    session.ended()
    assert session.desktop.taken_back == [1]


class Restarted(Desktop):
    """Begins anew after what it has shown first, and knows nothing of it."""

    def show(self, summary, body, *, actions, replaces=0, urgent=False, stays) -> int:
        number = super().show(summary, body, actions=actions, replaces=replaces, urgent=urgent, stays=stays)
        if len(self.shown) == 1:
            self.happened.insert(0, (0, RENEWED))
        return number


def test_a_question_is_shown_again_once_where_the_notices_program_began_anew(world) -> None:
    desktop = Restarted()
    world.session(desktop)
    desktop.clicks.append("")
    desktop.clicks.append("now")
    assert world.asker.consent("Yesterday.") is Consent.NOW
    assert desktop.shown == [("red: back up now?", "Yesterday.")] * 2
    assert desktop.taken_back == []


def test_how_far_it_is_comes_back_where_the_notices_program_began_anew_unless_it_was_closed() -> None:
    for closed, shown in ((False, 2), (True, 1)):
        desktop = Restarted()
        ours, theirs = socket.socketpair()
        talk = Talk(Wire(ours), desktop, Dialog(), lambda _uuid: None)
        talk._hear({"do": "notice", "kind": "progress", "summary": "red: copying", "body": "Do not unplug it yet."})
        if closed:
            desktop.happened.insert(0, (1, "dismissed"))
        for _ in range(3):
            talk._notices(0.0)
        ours.close()
        theirs.close()
        assert desktop.shown == [("red: copying", "Do not unplug it yet.")] * shown


def test_later_is_remembered_by_the_session(world) -> None:
    session = world.session(Desktop("later"))
    world.asker.consent("")
    assert session.put_off == [UUID]


def test_a_question_that_nobody_answers_is_withdrawn(world) -> None:
    session = world.session(Desktop())
    world.asker.seconds = 0.0
    assert world.asker.consent("") is Consent.NOBODY
    world.links.hang_up()
    session.ended()
    assert session.desktop.taken_back == [1]


def test_the_question_is_withdrawn_when_the_unit_ends(world) -> None:
    session = world.session(Desktop())
    world.links.look()
    world.links.say(do="ask", id=1, said="")
    world.links.hang_up()
    session.ended()
    assert session.desktop.taken_back == [1]


def test_a_desktop_without_buttons_goes_straight_to_the_dialog(world) -> None:
    world.session(Desktop(capabilities=()))
    assert world.asker.consent("") is Consent.NOW


def test_the_passphrase_comes_from_the_dialog(world) -> None:
    world.session(dialog=Dialog(Secret("pä ss".encode())))
    assert world.asker.passphrase("Enter passphrase: ", 1) == Secret("pä ss".encode())
    assert world.console.asked == 0


def test_bytes_that_are_no_utf8_arrive_as_they_were_typed(world) -> None:
    world.session(dialog=Dialog(Secret(b"p\xff\n\\ss")))
    assert world.asker.passphrase("Enter passphrase: ", 1) == Secret(b"p\xff\n\\ss")


def test_the_second_try_says_why(world) -> None:
    session = world.session(dialog=Dialog(Secret(b"wrong"), Secret(b"right")))
    world.asker.passphrase("Enter passphrase: ", 1)
    world.asker.passphrase("Enter passphrase: ", 2)
    assert session.dialog.errors == ["", "Not accepted, try again (2 of 3)."]


# --- the desktop's keyring

RIGHT = Secret(b"correct horse")


def test_a_passphrase_in_the_keyring_opens_no_dialog(world) -> None:
    session = world.session(keyring=Keyring(RIGHT))
    world.asker.keyring = True
    assert world.asker.passphrase("Enter passphrase: ", 1) == RIGHT
    assert session.dialog.errors == []


def test_what_is_typed_is_kept_once_it_has_opened_the_drive(world) -> None:
    session = world.session(dialog=Dialog(RIGHT), keyring=Keyring())
    world.asker.keyring = True
    assert world.asker.passphrase("Enter passphrase: ", 1) == RIGHT
    assert session.keyring.held is None
    world.asker.keep()
    assert session.keyring.kept.wait(LATE)
    assert session.keyring.held == RIGHT


def test_a_kept_passphrase_that_opens_nothing_any_more_is_asked_for_and_replaced(world) -> None:
    session = world.session(dialog=Dialog(RIGHT), keyring=Keyring(Secret(b"of last year")))
    world.asker.keyring = True
    assert world.asker.passphrase("Enter passphrase: ", 1) == Secret(b"of last year")
    assert world.asker.passphrase("Enter passphrase: ", 2) == RIGHT
    world.asker.keep()
    assert session.keyring.kept.wait(LATE)
    assert session.keyring.held == RIGHT


def test_nothing_is_looked_for_or_kept_where_that_was_not_wished(world) -> None:
    session = world.session(dialog=Dialog(RIGHT), keyring=Keyring(Secret(b"other")))
    assert world.asker.passphrase("Enter passphrase: ", 1) == RIGHT
    world.asker.keep()
    world.links.say(do="keep")  # not even if it is told to
    world.links.hang_up()
    session.ended()
    assert session.keyring.held == Secret(b"other")


def test_a_keyring_that_cannot_be_reached_leaves_the_dialog(world) -> None:
    session = world.session(dialog=Dialog(RIGHT), keyring=Keyring(broken=True))
    world.asker.keyring = True
    assert world.asker.passphrase("Enter passphrase: ", 1) == RIGHT
    world.asker.keep()
    assert session.keyring.kept.wait(LATE)


def test_a_question_can_be_withdrawn_while_the_keyring_waits_to_be_unlocked(world) -> None:
    keyring = Keyring(RIGHT)
    keyring.unlocked.clear()
    session = world.session(keyring=keyring)
    world.asker.keyring = True
    world.asker.seconds = 0.3
    assert world.asker.passphrase("Enter passphrase: ", 1) is None
    world.links.hang_up()
    session.ended()
    keyring.unlocked.set()


def test_a_closed_dialog_is_a_no(world) -> None:
    world.session(dialog=Dialog(None))
    assert world.asker.passphrase("Enter passphrase: ", 1) is None
    assert (world.asker.declined, world.asker.unanswered) == (True, False)


def test_whoever_said_no_is_not_told_that_nothing_was_done(world) -> None:
    session = world.session(dialog=Dialog(None))
    world.asker.passphrase("Enter passphrase: ", 1)
    world.asker.notice("trouble", "red: not backed up", "no passphrase was given")
    world.links.hang_up()
    session.ended()
    assert session.desktop.shown == []


def test_where_no_dialog_can_be_shown_the_console_is_asked(world) -> None:
    world.session(dialog=Dialog(Missing("no dialog is installed")))
    world.console.answer = Secret(b"typed there")
    assert world.asker.passphrase("Enter passphrase: ", 1) == Secret(b"typed there")


def test_a_session_whose_screen_comes_up_while_the_console_is_asked_is_asked_too(world, monkeypatch) -> None:
    """Whoever logs in is connected seconds before a dialog can be shown."""
    monkeypatch.setattr(session_side, "AGAIN", 0.0)
    session = world.session(dialog=Dialog(Missing("no display"), Secret(b"wrong"), Secret(b"right")))
    given_up = time.monotonic() + LATE

    def ask(_question, _attempt, watch):
        while time.monotonic() < given_up:
            watch()

    world.console.ask = ask
    assert world.asker.passphrase("Enter passphrase: ", 1) == Secret(b"wrong")
    assert world.asker.passphrase("Enter passphrase: ", 2) == Secret(b"right")
    assert session.dialog.errors == ["", "", "Not accepted, try again (2 of 3)."]


def test_what_no_dialog_could_be_shown_for_is_not_asked_for_once_it_was_answered_elsewhere(world, monkeypatch) -> None:
    monkeypatch.setattr(session_side, "AGAIN", 0.3)
    session = world.session(dialog=Dialog(Missing("no display"), Secret(b"too late")))
    world.console.answer = Secret(b"typed there")
    assert world.asker.passphrase("Enter passphrase: ", 1) == Secret(b"typed there")
    time.sleep(0.6)
    world.links.hang_up()
    session.ended()
    assert session.dialog.errors == [""]


def test_a_desktop_that_comes_up_during_the_backup_shows_how_it_ended() -> None:
    ours, theirs = socket.socketpair()
    desktops = [Desktop()]
    talk = Talk(Wire(theirs), None, Dialog(), lambda _uuid: None, find=lambda: desktops[0] if talk.drive else None)
    unit = Wire(ours)
    unit.say(do="notice", kind="progress", summary="red: copying", body="")
    unit.say(do="hello", drive="red", uuid=UUID)
    unit.say(do="notice", kind="done", summary="red: safe to remove", body="")
    unit.hang_up()
    talk.hold()
    assert [summary for summary, _body in desktops[0].shown] == ["red: safe to remove"]


def test_without_a_session_the_console_is_asked(world) -> None:
    world.console.answer = Secret(b"typed there")
    assert world.asker.consent("") is Consent.NOW
    assert world.asker.passphrase("Enter passphrase: ", 1) == Secret(b"typed there")


def test_a_console_that_nobody_answers_is_remembered_as_that(world) -> None:
    assert world.asker.passphrase("Enter passphrase: ", 1) is None
    assert (world.asker.declined, world.asker.unanswered) == (False, True)


def test_a_session_that_appears_while_the_console_is_asked_is_asked_too(world) -> None:
    def ask(_question, _attempt, watch):
        world.session(dialog=Dialog(Secret(b"from the desk")))
        while True:
            watch()

    world.console.ask = ask
    assert world.asker.passphrase("Enter passphrase: ", 1) == Secret(b"from the desk")


def test_a_session_that_appears_just_before_the_console_is_asked_is_asked_too(world, monkeypatch) -> None:
    looked = 0

    def look(links):
        nonlocal looked
        looked += 1
        if looked == 2:
            world.session(dialog=Dialog(Secret(b"from the desk")))
        return list(_looked(links))

    def ask(_question, _attempt, watch):
        while True:
            watch()

    _looked = Links.look
    monkeypatch.setattr(Links, "look", look)
    world.console.ask = ask
    assert world.asker.passphrase("Enter passphrase: ", 1) == Secret(b"from the desk")


def test_a_question_that_is_cancelled_on_the_console_still_stands_in_a_session(world) -> None:
    dialog = Dialog(Secret(b"from the desk"))
    asked = threading.Event()

    def ask(_question, _attempt, watch):
        world.session(dialog=slow)
        while not world.links.able:
            watch()
        asked.set()

    def slow(**words):
        assert asked.wait(LATE)
        return dialog(**words)

    world.console.ask = ask
    assert world.asker.passphrase("Enter passphrase: ", 1) == Secret(b"from the desk")
    assert not world.asker.unanswered


def test_a_question_stands_for_as_long_as_it_is_told_on_a_desk_and_on_a_console(world) -> None:
    world.session(dialog=lambda **words: [words["watch"]() for _ever in iter(int, 1)])
    world.asker.stands_for(0)
    assert world.asker.passphrase("Enter passphrase: ", 1) is None
    assert (world.asker.unanswered, world.console.seconds) == (True, 0)


def test_who_does_not_sit_here_is_not_asked(world) -> None:
    world.session(Desktop("now"))
    world.links.people = frozenset
    assert not world.asker.agents


def test_a_socket_of_somebody_else_is_told_nothing(world, monkeypatch) -> None:
    session = world.session(Desktop("now"))
    monkeypatch.setattr("flashback.trigger.links.peer", lambda _connection: ME + 1)
    assert not world.asker.agents
    session.ended()
    assert session.desktop.shown == []


def test_a_notice_that_cannot_be_shown_stops_nothing(world) -> None:
    desktop = Desktop()
    desktop.broken = True
    world.session(desktop, Dialog(Secret(b"right")))
    world.asker.notice("done", "red: safe to remove", "")
    assert world.asker.passphrase("Enter passphrase: ", 1) == Secret(b"right")


def test_a_backup_that_stops_without_a_word_is_told(world) -> None:
    session = world.session()
    world.asker.notice("progress", "red: copying", "")
    world.links.hang_up()
    session.ended()
    assert session.desktop.shown[-1][0] == "red: the backup stopped"


def test_whoever_closes_how_far_it_is_sees_no_more_of_that_but_how_it_ends(world) -> None:
    session = world.session()
    world.asker.notice("progress", "red: copying", "")
    until(lambda: session.desktop.shown)
    session.desktop.happened.append((1, "dismissed"))
    until(lambda: not session.desktop.happened)
    world.asker.progress(10)
    world.asker.notice("progress", "red: closing", "")
    world.asker.notice("done", "red: safe to remove", "")
    world.links.hang_up()
    session.ended()
    assert [summary for summary, _body in session.desktop.shown] == ["red: copying", "red: safe to remove"]


def test_the_last_notice_stays(world) -> None:
    session = world.session()
    world.asker.notice("done", "red: safe to remove", "")
    world.links.hang_up()
    session.ended()
    assert [summary for summary, _body in session.desktop.shown] == ["red: safe to remove"]
    assert session.desktop.taken_back == []


@pytest.mark.parametrize("broken", [False, True])
def test_whether_a_notice_was_shown_is_answered_where_it_is_asked(world, broken) -> None:
    desktop = Desktop()
    desktop.broken = broken
    world.session(desktop)
    world.links.look()
    world.links.say(do="notice", id=1, kind="reminder", summary="Flashback: a backup is due", body="")
    assert world.links.shown(1) is not broken
    assert len(desktop.shown) == (0 if broken else 1)


def test_nobody_has_seen_what_a_session_hung_up_on_or_says_nothing_of(world, tmp_path, monkeypatch) -> None:
    hostile = Hostile(tmp_path, b'{"id": 1, "shown": "yes"}\n', b'{"id": 2, "shown": true}\n')
    world.links.look()
    world.links.say(do="notice", id=1, kind="reminder", summary="", body="")
    assert not world.links.shown(1)
    hostile.listener.close()
    monkeypatch.setattr(links_side, "_SHOWN_WITHIN", 0.3)
    assert not world.links.shown(1)


NONSENSE = [b"{\n", b"[]\n", b"\xff\n", b'{"do": "ask"}\n', b"x" * 70000, b"[" * 60000 + b"\n", b"9" * 9000 + b"\n"]


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_nonsense_on_the_socket_ends_the_talk_or_is_passed_over(nonsense) -> None:
    ours, theirs = socket.socketpair()
    desktop = Desktop()
    talk = threading.Thread(target=Talk(Wire(ours), desktop, Dialog(), list).hold, daemon=True)
    talk.start()
    theirs.sendall(nonsense)
    theirs.close()
    talk.join(LATE)
    assert not talk.is_alive()
    assert desktop.shown == []


class Hostile:
    """A session that says `words` to whatever it is told, and goes on saying them."""

    def __init__(self, folder: Path, *words: bytes) -> None:
        (folder / str(ME)).mkdir(exist_ok=True)
        self.words = words
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(folder / str(ME) / AGENT))
        self.listener.listen()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        connection, _address = self.listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(4096)
            for word in self.words:
                connection.sendall(word)
            connection.recv(65536)


@pytest.mark.parametrize(
    "nonsense", [*NONSENSE, b'{"id": 1, "passphrase": "\\ud800"}\n', b'{"id": 1, "passphrase": 7}\n']
)
def test_a_session_that_talks_nonsense_costs_the_unit_nothing_but_its_answer(world, tmp_path, nonsense) -> None:
    hostile = Hostile(tmp_path, nonsense)
    world.asker.seconds = 0.3
    assert world.asker.passphrase("Enter passphrase: ", 1) is None
    world.links.hang_up()
    hostile.listener.close()


@pytest.mark.parametrize("nonsense", [*NONSENSE, *(b'{"id": 1, "answer": %s}\n' % odd for odd in (b"[]", b"{}", b"7"))])
def test_a_session_that_answers_with_nonsense_has_not_answered(world, tmp_path, nonsense) -> None:
    hostile = Hostile(tmp_path, nonsense)
    world.asker.seconds = 0.3
    assert world.asker.consent("Last backup: never.") in {Consent.NOBODY, Consent.NOW}
    world.links.hang_up()
    hostile.listener.close()


def test_a_session_that_takes_nobody_in_keeps_nobody_waiting(world, tmp_path) -> None:
    (tmp_path / str(ME)).mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, contextlib.ExitStack() as crowd:
        listener.bind(str(tmp_path / str(ME) / AGENT))
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                guest = crowd.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                guest.settimeout(0)
                guest.connect(str(tmp_path / str(ME) / AGENT))
        assert not world.asker.agents


def test_a_link_to_another_persons_socket_is_told_nothing(world, tmp_path, monkeypatch) -> None:
    session = world.session(Desktop("now"))
    other = tmp_path / str(ME + 1)
    other.mkdir()
    (other / AGENT).symlink_to(tmp_path / str(ME) / AGENT)
    world.links.people = lambda: frozenset({ME + 1})
    assert not world.asker.agents
    session.ended()
    assert session.desktop.shown == []


def test_what_somebody_puts_in_place_of_their_socket_keeps_nobody_else_from_being_asked(
    world, tmp_path, monkeypatch
) -> None:
    world.session(Desktop("now"))
    (tmp_path / str(ME)).rename(tmp_path / "5")
    (tmp_path / "4").mkdir()
    (tmp_path / "4" / AGENT).symlink_to("x" * 300)
    world.links.people = lambda: frozenset({4, 5})
    monkeypatch.setattr("flashback.trigger.links.peer", lambda _connection: 5)
    assert world.asker.agents


def test_a_session_cannot_answer_anothers_question(world) -> None:
    ours, theirs = socket.socketpair()
    wire = Wire(ours)
    theirs.sendall(json.dumps({"id": 99, "passphrase": "x"}).encode() + b"\n")
    assert list(wire.heard()) == [{"id": 99, "passphrase": "x"}]
    theirs.close()
    with pytest.raises(Gone):
        list(wire.heard())
    wire.hang_up()


# --- what is shown


def finished(code, state=DriveState.CLOSED, safe=True, **other) -> Finished:
    return Finished(other.pop("result", "failed"), code, "red", state, safe_to_remove=safe, **other)


@pytest.mark.parametrize(
    ("event", "kind", "summary"),
    [
        (StepDone(Step.OPEN, 1.0), "progress", "red: backup started"),
        (StepBegun(Step.COPY), "progress", "red: copying"),
        (finished(Exit.DONE, result="complete"), "done", "red: safe to remove"),
        (finished(Exit.DONE, safe=False), "done", "red: closed, wait a minute before you unplug it"),
        (finished(Exit.UNREAD), "remarks", "red: finished with gaps"),
        (finished(Exit.HELD_BY_GUARD), "held", "red: held, nothing was written"),
        (finished(Exit.DAMAGE), "damage", "red: damage found"),
        (finished(Exit.NOT_FINISHED, DriveState.GONE, safe=False), "trouble", "red: backup not finished"),
        (finished(143, DriveState.GONE, safe=False), "trouble", "red: backup not finished"),
        (finished(Exit.PASSPHRASE, DriveState.NOT_OPENED), "trouble", "red: not backed up"),
        (finished(Exit.STILL_HELD, DriveState.STILL_HELD, safe=False), "danger", "red: still open, DO NOT UNPLUG"),
    ],
)
def test_each_ending_has_its_notice(event, kind, summary) -> None:
    notice = notice_of(event, "red")
    assert (notice.kind, notice.summary) == (kind, summary)


@pytest.mark.parametrize("state", [state for state in DriveState if state is not DriveState.CLOSED])
def test_safe_to_remove_is_said_only_where_it_was_seen(state) -> None:
    for code in (Exit.DONE, Exit.UNREAD, Exit.NOT_FINISHED, Exit.DAMAGE, Exit.STILL_HELD):
        notice = notice_of(finished(code, state, safe=False), "red")
        assert "safe to remove" not in f"{notice.summary} {notice.body}".lower()


def test_a_notice_is_short() -> None:
    notice = notice_of(finished(Exit.UNEXPECTED, error={"what": "x" * 5000}), "red")
    assert len(notice.body) <= LONGEST


def test_progress_is_told_once_a_second() -> None:
    told: list[int] = []
    now = [0.0]
    sessions = SimpleNamespace(progress=told.append, notice=lambda *_given: None)
    teller = PlugTeller(lambda _event: None, sessions, "red", monotonic=lambda: now[0])  # type: ignore[arg-type]
    for moment, done in ((0.0, 10), (0.5, 20), (1.0, 30), (1.1, 40)):
        now[0] = moment
        teller(Progress(Step.COPY, done, 100))
    teller(Progress(Step.COPY, 1, None))
    assert told == [10, 30]


# --- flashback watch


def test_the_unit_of_a_drive_is_escaped_as_systemd_does_it() -> None:
    assert watch.unit_of("11-22") == r"flashback-plug@11\x2d22.service"


def test_the_sessions_environment_is_read_as_a_shell_would() -> None:
    said = 'DISPLAY=:0\nXAUTHORITY="/run/user/1 000/x"\nBROKEN=\'\nA=b c\n'
    assert watch.parsed(said) == {"DISPLAY": ":0", "XAUTHORITY": "/run/user/1 000/x"}


def test_a_watch_without_a_session_says_so() -> None:
    with pytest.raises(Missing, match="no session"):
        watch.Watch({}).wait()


def test_the_socket_is_its_owners_alone_and_goes_with_its_process(tmp_path) -> None:
    path = tmp_path / AGENT
    path.touch()  # left behind by one that was killed
    with watch._listening(path):
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


def test_a_second_watch_is_refused(tmp_path) -> None:
    with (
        watch._listening(tmp_path / AGENT),
        pytest.raises(Exception, match="already"),
        watch._listening(tmp_path / AGENT),
    ):
        pass
