"""One drive is worked on at a time, and nobody's work waits for an answer that another one owes."""

from __future__ import annotations

import contextlib

import pytest

from flashback.core.errors import DriveError, DriveGone, Locked, PassphraseRefused, StillHeld
from flashback.core.events import Note
from flashback.core.locks import locked
from flashback.core.secret import Secret
from flashback.drive import turn
from flashback.drive.leftover import guarded
from flashback.drive.session import Session
from flashback.trigger.notices import Notice, notice_of
from tests.unit.drives import PASSPHRASE, Person, a_context

WRONG = Secret(b"battery staple")


class Others:
    """Another drive's run: at work until it has been waited for `ticks` times."""

    def __init__(self, lock, monkeypatch) -> None:
        self._lock = lock
        self._held = contextlib.ExitStack()
        self.ticks = 1
        self.while_waiting = lambda: None
        monkeypatch.setattr(turn.time, "sleep", self._sleep)

    def begin(self) -> None:
        self._held.enter_context(locked(self._lock, purpose="run blue"))

    def end(self) -> None:
        self._held.close()

    def _sleep(self, _seconds: float) -> None:
        self.ticks -= 1
        self.while_waiting()
        if not self.ticks:
            self.end()


@pytest.fixture
def others(tmp_path, monkeypatch):
    others = Others(tmp_path / "run/locks/run.lock", monkeypatch)
    yield others
    others.end()


@pytest.fixture
def use(kernel, tmp_path):
    """`use(person)` opens and closes the drive as plugging it in does; `use.told` is what was said."""

    def use(person: Person, *, waits: bool = True) -> None:
        context = a_context(tmp_path, person, use.told)
        with Session(context, kernel.candidate, waits=waits).held(purpose="test"):
            kernel.step("used")

    use.told = []
    return use


class Asked(Person):
    """`asked_now` is called while the question stands."""

    def __init__(self, *answers, asked_now) -> None:
        super().__init__(*answers)
        self._asked_now = asked_now

    def passphrase(self, question, attempt):
        self._asked_now()
        return super().passphrase(question, attempt)


def test_the_lock_is_free_while_a_person_is_asked(use, others) -> None:
    def another_drive() -> None:
        others.begin()
        others.end()

    person = Asked(PASSPHRASE, asked_now=another_drive)
    use(person, waits=False)
    assert len(person.asked) == 1


def test_the_question_is_put_while_another_drive_is_worked_on(use, others, kernel) -> None:
    others.begin()
    others.while_waiting = lambda: kernel.step("waited")
    person = Person(PASSPHRASE)
    use(person)
    assert len(person.asked) == 1
    assert kernel.steps.index("waited") < kernel.steps.index("open")


def test_who_waits_is_told_for_what(use, others) -> None:
    others.begin()
    use(Person(PASSPHRASE))
    (said,) = [each for each in use.told if isinstance(each, Note) and each.waiting]
    assert "red waits for its turn: flashback run blue" in said.text
    assert notice_of(said, "red") == Notice(
        "progress",
        "red: waits for its turn",
        "Another drive is at work. This one is not open yet; its backup follows by itself.",
    )


def test_a_wrong_passphrase_is_asked_for_again_before_the_waiting(use, others, kernel) -> None:
    others.begin()
    asked_after: list[int] = []
    person = Person(WRONG, PASSPHRASE)
    others.while_waiting = lambda: asked_after.append(len(person.asked))
    use(person)
    assert asked_after == [2]


def test_three_wrong_passphrases_wait_for_nobody(use, others, kernel) -> None:
    others.begin()
    with pytest.raises(PassphraseRefused):
        use(Person(WRONG, WRONG, WRONG))
    assert others.ticks == 1
    assert kernel.holds_nothing


def test_who_gives_up_waits_for_nobody(use, others) -> None:
    others.begin()
    with pytest.raises(PassphraseRefused):
        use(Person())
    assert others.ticks == 1


def test_a_passphrase_that_is_known_waits_for_the_turn_before_it_opens_anything(use, others, kernel) -> None:
    others.begin()
    others.while_waiting = lambda: kernel.step("waited")
    use(Person(known=PASSPHRASE))
    assert kernel.steps.index("waited") < kernel.steps.index("open")


def test_a_drive_that_a_token_opens_waits_before_anybody_is_asked(use, others, kernel) -> None:
    kernel.tokens["1"] = {"type": "systemd-fido2", "keyslots": ["1"]}
    others.begin()
    person = Person(PASSPHRASE)
    asked: list[int] = []
    others.while_waiting = lambda: asked.append(len(person.asked))
    use(person)
    assert asked == [0]


def test_a_drive_that_is_pulled_while_it_waits_waits_no_longer(use, others, kernel) -> None:
    others.begin()
    others.ticks = 99
    others.while_waiting = kernel.device.unlink
    with pytest.raises(DriveGone, match="before it was its turn"):
        use(Person(PASSPHRASE))
    assert kernel.holds_nothing


def test_what_was_opened_by_hand_while_the_question_stood_is_seen(use, others, kernel) -> None:
    def by_hand() -> None:
        kernel.mappings["luks-by-hand"] = True

    with pytest.raises(StillHeld, match="luks-by-hand"):
        use(Asked(PASSPHRASE, asked_now=by_hand))
    assert kernel.mappings == {"luks-by-hand": True}


def test_a_mapping_of_our_name_that_another_made_while_the_question_stood_is_left_open(use, others, kernel) -> None:
    def practice() -> None:
        others.begin()
        kernel.mappings["flashback-red"] = True

    with pytest.raises(PassphraseRefused):
        use(Asked(None, asked_now=practice))
    assert kernel.mappings == {"flashback-red": True}


def test_who_does_not_wait_is_refused_before_anybody_is_asked(use, others) -> None:
    others.begin()
    person = Person(PASSPHRASE)
    with pytest.raises(Locked, match="run blue"):
        use(person, waits=False)
    assert person.asked == []


def test_who_has_taken_the_lock_otherwise_is_not_waited_for(kernel, others, tmp_path) -> None:
    others.begin()
    person = Person(PASSPHRASE)
    context, mapping = a_context(tmp_path, person), "flashback-red-browse"
    with guarded(context, mapping) as heir:
        Session(context, kernel.candidate).unlock(mapping, read_only=True, heir=heir)
    assert mapping in kernel.mappings


# --- the machine is kept awake


def test_the_machine_is_kept_awake_from_the_opening_until_the_drive_is_closed_and_flushed(use, kernel) -> None:
    use(Person(PASSPHRASE))
    steps = [step for step in kernel.steps if step in {"open", "awake", "used", "unmount", "flush", "asleep"}]
    assert steps == ["open", "awake", "used", "unmount", "flush", "asleep"]


def test_the_machine_may_sleep_again_after_a_failure(use, kernel) -> None:
    kernel.trouble["mount"] = lambda: (_ for _ in ()).throw(DriveError("no"))
    with pytest.raises(DriveError):
        use(Person(PASSPHRASE))
    assert ("asleep" in kernel.steps, kernel.awake) == (True, [])


def test_the_machine_is_not_kept_awake_by_a_question(use, kernel) -> None:
    awake: list[bool] = []
    use(Asked(PASSPHRASE, asked_now=lambda: awake.append(bool(kernel.awake))))
    assert awake == [False]
