"""A drive is opened, used and put away: whatever goes wrong wherever, nothing stays held, and the state told is true."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace

import pytest

from flashback.core.errors import (
    DriveError,
    DriveGone,
    DriveState,
    FlashbackError,
    Locked,
    NotFinished,
    PassphraseRefused,
    StillHeld,
)
from flashback.core.locks import locked
from flashback.core.secret import Secret
from flashback.core.signals import Interrupted
from flashback.drive import marker
from flashback.drive.gone import wait_until_gone
from flashback.drive.recognise import Candidate
from flashback.drive.session import Session, check_marker, mapping_name, prove_destination, put_away
from flashback.rotation.values import Standing
from tests.unit.drives import OTHER, PASSPHRASE, RED, UUID, VOLUME, Person, a_context, a_signal

BEFORE_OPENING = ("digest", "protected", "presence", "counters", "namespace")
AFTER_OPENING = ("open", "defer", "mount", "fsid", "errors", "look")
WRONG = Secret(b"battery staple")


@pytest.fixture
def use(kernel, tmp_path):
    """`use()` opens the drive, calls `body(drive)` and puts it away; `use.session` is the session."""

    def use(body: Callable = lambda drive: None, person: Person | None = None, *, read_only: bool = False) -> Session:
        context = a_context(tmp_path, person, use.told)
        use.session = Session(context, kernel.candidate)
        with context.signals, use.session.held(purpose="test", read_only=read_only) as drive:
            body(drive)
        return use.session

    use.told = []
    return use


def fail() -> None:
    raise DriveError("the drive does not want to")


def fail_unexpectedly() -> None:
    raise RuntimeError("nobody thought of this")


def open_descriptors() -> list[str]:
    return sorted(link for each in os.listdir("/proc/self/fd") if "sdx" in (link := where(each)) or "/run/" in link)


def where(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


# --- all goes well


def test_the_drive_is_mounted_in_the_block(use, kernel, tmp_path) -> None:
    seen = []
    use(lambda drive: seen.append((drive.mount_point, list(kernel.mounted))))
    assert seen == [(tmp_path / "run/mnt/red", [tmp_path / "run/mnt/red"])]


def test_nothing_is_held_after_the_block(use, kernel) -> None:
    use()
    assert kernel.holds_nothing
    assert open_descriptors() == []


def test_the_state_is_closed_after_the_block(use) -> None:
    assert use().state is DriveState.CLOSED


def test_the_device_is_flushed_after_the_mapping_is_gone(use, kernel) -> None:
    held = []
    kernel.trouble["flush"] = lambda: held.append(dict(kernel.mappings))
    use()
    assert held == [{}]


def test_what_the_device_took_is_counted(use) -> None:
    assert use().bytes_written > 0


def test_a_read_only_use_opens_the_mapping_read_only(use, kernel) -> None:
    use(read_only=True)
    assert kernel.read_only == [True]


def test_a_write_protected_drive_can_be_looked_at(use, kernel) -> None:
    kernel.write_protected = True
    assert use(read_only=True).state is DriveState.CLOSED


def test_the_mapping_closes_by_itself_from_the_mount_on(use, kernel) -> None:
    use(lambda drive: kernel.steps.append("used"))
    assert kernel.steps.index("defer") < kernel.steps.index("mount") < kernel.steps.index("used")


def test_the_header_is_held_against_its_digest_before_the_passphrase_is_asked_for(use, kernel) -> None:
    kernel.digest = "ee" * 32
    person = Person(PASSPHRASE)
    with pytest.raises(DriveError, match="header"):
        use(person=person)
    assert person.asked == []


def test_a_second_use_finds_the_lock_free(use) -> None:
    use()
    assert use().state is DriveState.CLOSED


# --- something fails


@pytest.mark.parametrize("trouble", [fail, fail_unexpectedly])
@pytest.mark.parametrize("step", [*BEFORE_OPENING, *AFTER_OPENING])
def test_a_step_that_fails_leaves_nothing_held(use, kernel, step, trouble) -> None:
    kernel.trouble[step] = trouble
    with pytest.raises((DriveError, RuntimeError)):
        use()
    assert kernel.holds_nothing
    assert open_descriptors() == []


@pytest.mark.parametrize("step", AFTER_OPENING)
def test_a_step_that_fails_after_its_deed_leaves_nothing_held(use, kernel, step) -> None:
    kernel.trouble_after[step] = fail
    with pytest.raises(DriveError):
        use()
    assert kernel.holds_nothing


@pytest.mark.parametrize("step", BEFORE_OPENING)
def test_an_error_before_the_opening_says_not_opened(use, kernel, step) -> None:
    kernel.trouble[step] = fail
    with pytest.raises(DriveError) as caught:
        use()
    assert caught.value.drive_state is DriveState.NOT_OPENED


@pytest.mark.parametrize("step", BEFORE_OPENING)
def test_pulled_before_the_opening_it_is_gone_and_nothing_is_called_safe(use, kernel, step) -> None:
    def pulled() -> None:
        kernel.device.unlink()
        fail()

    kernel.trouble[step] = pulled
    with pytest.raises(DriveError) as caught:
        use()
    assert caught.value.drive_state is DriveState.GONE


@pytest.mark.parametrize("trouble", [fail, fail_unexpectedly])
@pytest.mark.parametrize("step", AFTER_OPENING)
def test_an_error_after_the_opening_says_closed(use, kernel, step, trouble) -> None:
    kernel.trouble[step] = trouble
    with pytest.raises((DriveError, RuntimeError)) as caught:
        use()
    assert caught.value.drive_state is DriveState.CLOSED


@pytest.mark.parametrize("step", [*BEFORE_OPENING, *AFTER_OPENING, "unmount", "close", "flush"])
def test_a_signal_at_any_step_leaves_nothing_held(use, kernel, step) -> None:
    kernel.trouble[step] = a_signal
    with pytest.raises(Interrupted):
        use()
    assert kernel.holds_nothing
    assert open_descriptors() == []


@pytest.mark.parametrize("step", AFTER_OPENING)
def test_a_signal_just_after_a_deed_leaves_nothing_held(use, kernel, step) -> None:
    kernel.trouble_after[step] = a_signal
    with pytest.raises(Interrupted) as caught:
        use()
    assert kernel.holds_nothing
    assert caught.value.drive_state is DriveState.CLOSED


def test_a_signal_while_the_top_directory_is_opened_leaves_no_descriptor(use, kernel, monkeypatch, tmp_path) -> None:
    real = os.open

    def open_and_be_told(path, *more, **named):
        opened = real(path, *more, **named)
        if path == tmp_path / "run/mnt/red":
            a_signal()
        return opened

    monkeypatch.setattr(os, "open", open_and_be_told)
    with pytest.raises(Interrupted):
        use()
    assert open_descriptors() == []


def test_a_signal_before_the_opening_says_not_opened(use, kernel) -> None:
    kernel.trouble["presence"] = a_signal
    with pytest.raises(Interrupted) as caught:
        use()
    assert caught.value.drive_state is DriveState.NOT_OPENED


def test_a_signal_in_the_block_puts_the_drive_away(use, kernel) -> None:
    with pytest.raises(Interrupted) as caught:
        use(lambda drive: signal.raise_signal(signal.SIGTERM))
    assert kernel.holds_nothing
    assert caught.value.number == signal.SIGTERM


def test_an_error_in_the_block_puts_the_drive_away_and_says_so(use, kernel) -> None:
    with pytest.raises(RuntimeError) as caught:
        use(lambda drive: fail_unexpectedly())
    assert kernel.holds_nothing
    assert caught.value.drive_state is DriveState.CLOSED


def test_a_drive_pulled_in_the_block_is_told_as_gone(use, kernel) -> None:
    def pull(drive) -> None:
        kernel.device.unlink()
        drive.watch()

    with pytest.raises(DriveGone) as caught:
        use(pull)
    assert caught.value.drive_state is DriveState.GONE


def test_a_drive_pulled_after_the_block_is_not_called_closed(use, kernel) -> None:
    kernel.trouble["unmount"] = lambda: kernel.device.unlink(missing_ok=True)
    assert use().state is DriveState.GONE


def test_a_busy_mount_is_told_as_still_held(use, kernel) -> None:
    kernel.busy = True
    with pytest.raises(StillHeld) as caught:
        use()
    assert caught.value.drive_state is DriveState.STILL_HELD


def test_a_busy_mount_is_told_with_the_process_in_the_way(use, kernel) -> None:
    kernel.busy = True
    with pytest.raises(StillHeld, match=r"vim \(process 7\)"):
        use()


def test_a_busy_mount_after_an_error_keeps_the_first_cause(use, kernel) -> None:
    kernel.busy = True
    with pytest.raises(NotFinished) as caught:
        use(lambda drive: (_ for _ in ()).throw(NotFinished("the copy broke off")))
    assert caught.value.drive_state is DriveState.STILL_HELD
    assert any("vim (process 7)" in line for line in caught.value.held)


def test_a_drive_that_is_still_held_is_not_flushed_and_called_safe(use, kernel) -> None:
    kernel.busy = True
    with pytest.raises(StillHeld):
        use()
    assert kernel.flushed == []
    assert use.session.state is DriveState.STILL_HELD


# --- what must not be used


@pytest.mark.parametrize("standing", [Standing.LOST, Standing.RETIRED])
def test_a_lost_or_retired_drive_is_refused_before_anything_is_touched(kernel, tmp_path, standing) -> None:
    session = Session(a_context(tmp_path), Candidate(replace(RED, standing=standing), VOLUME))
    with pytest.raises(DriveError, match=standing.value), session.held(purpose="test"):
        pass
    assert kernel.steps == []


def test_a_drive_that_is_open_already_is_refused(use, kernel) -> None:
    kernel.mappings["luks-by-hand"] = True
    with pytest.raises(StillHeld, match="opened by somebody else, as luks-by-hand"):
        use()


def test_a_drive_that_was_open_already_is_left_open(use, kernel) -> None:
    kernel.mappings["luks-by-hand"] = True
    with pytest.raises(StillHeld) as caught:
        use()
    assert kernel.mappings == {"luks-by-hand": True}
    assert caught.value.drive_state is DriveState.STILL_HELD


def test_another_volume_that_is_open_under_our_name_is_refused_and_left_open(use, kernel, monkeypatch) -> None:
    kernel.mappings["flashback-red"] = True
    monkeypatch.setattr("flashback.tools.cryptsetup.mappings_of", lambda _uuid: ())
    with pytest.raises(DriveError, match="another volume is open as flashback-red") as caught:
        use()
    assert kernel.mappings == {"flashback-red": True}
    assert caught.value.drive_state is DriveState.NOT_OPENED


def test_a_mapping_whose_device_is_gone_is_put_away_first(use, kernel) -> None:
    kernel.mappings["luks-of-yesterday"] = False
    use(lambda drive: kernel.steps.append(sorted(kernel.mappings)))
    assert ["flashback-red"] in kernel.steps


def test_a_refused_drive_that_somebody_has_open_is_not_said_to_be_safe(use, kernel) -> None:
    kernel.mappings["luks-by-hand"] = True
    kernel.digest = "ee" * 32
    with pytest.raises(DriveError) as caught:
        use()
    assert caught.value.drive_state is DriveState.UNKNOWN


def test_a_write_protected_drive_is_refused_for_writing(use, kernel) -> None:
    kernel.write_protected = True
    with pytest.raises(NotFinished, match="write-protected"):
        use()


def test_a_running_run_refuses_the_next(use, kernel, tmp_path) -> None:
    with locked(tmp_path / "run/locks/run.lock", purpose="run red"), pytest.raises(Locked, match="run red"):
        use()
    assert kernel.steps == []


def test_while_another_run_holds_the_lock_the_drive_is_not_said_to_be_safe(use, tmp_path) -> None:
    with locked(tmp_path / "run/locks/run.lock", purpose="run red"), pytest.raises(Locked) as caught:
        use()
    assert caught.value.drive_state is DriveState.UNKNOWN


# --- passphrases


def test_a_right_passphrase_is_asked_for_once(use) -> None:
    person = Person(PASSPHRASE)
    use(person=person)
    assert [attempt for _question, attempt in person.asked] == [1]


def test_a_wrong_passphrase_may_be_corrected(use) -> None:
    person = Person(WRONG, PASSPHRASE)
    assert use(person=person).state is DriveState.CLOSED
    assert [attempt for _question, attempt in person.asked] == [1, 2]


def test_three_wrong_passphrases_are_enough(use) -> None:
    person = Person(WRONG, WRONG, WRONG, PASSPHRASE)
    with pytest.raises(PassphraseRefused):
        use(person=person)
    assert [attempt for _question, attempt in person.asked] == [1, 2, 3]


def test_who_gives_up_is_not_asked_again(use) -> None:
    person = Person(WRONG, None, PASSPHRASE)
    with pytest.raises(PassphraseRefused):
        use(person=person)
    assert len(person.asked) == 2


def test_a_refused_passphrase_leaves_the_drive_closed(use, kernel) -> None:
    with pytest.raises(PassphraseRefused) as caught:
        use(person=Person())
    assert kernel.holds_nothing
    assert caught.value.drive_state is DriveState.CLOSED


def test_a_passphrase_that_is_known_is_tried_without_asking(use) -> None:
    person = Person(known=PASSPHRASE)
    use(person=person)
    assert person.asked == []


def test_a_wrong_passphrase_that_is_known_is_tried_once(use, kernel) -> None:
    with pytest.raises(PassphraseRefused):
        use(person=Person(PASSPHRASE, known=WRONG))
    assert kernel.steps.count("open") == 1


# --- is it the drive


def test_a_marker_of_another_drive_is_refused(use, kernel) -> None:
    kernel.says_uuid = OTHER
    with pytest.raises(DriveError, match="names another drive"):
        use()


def test_a_drive_without_a_marker_is_refused(use, kernel, tmp_path) -> None:
    kernel.trouble_after["mount"] = (tmp_path / "run/mnt/red/.flashback/drive.yaml").unlink
    with pytest.raises(DriveError, match="does not carry Flashback's marker"):
        use()


def test_a_planted_link_instead_of_the_markers_folder_is_refused(use, kernel, tmp_path) -> None:
    def plant() -> None:
        ours = tmp_path / "run/mnt/red/.flashback"
        ours.rename(tmp_path / "elsewhere")
        ours.symlink_to(tmp_path / "elsewhere")

    kernel.trouble_after["mount"] = plant
    with pytest.raises(DriveError, match="not a directory of its own"):
        use()


def test_the_marker_says_which_drive_it_is(use) -> None:
    said = []
    use(lambda drive: said.append(check_marker(drive)))
    assert said == [marker.Marker("red", UUID, "2026-01-01T00:00:00Z", "here")]


def test_a_place_where_nothing_is_mounted_any_more_is_refused(use, kernel) -> None:
    def body(drive) -> None:
        kernel.mounted.clear()
        prove_destination(drive)

    with pytest.raises(DriveError, match="is not red"):
        use(body)


def test_a_mapping_of_another_volume_is_refused(use, kernel) -> None:
    def body(drive) -> None:
        kernel.mappings.clear()
        prove_destination(drive)

    with pytest.raises(DriveError, match="is not red"):
        use(body)


def test_a_runtime_folder_behind_a_link_is_the_same_place(kernel, tmp_path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "real")
    session = Session(a_context(tmp_path), kernel.candidate)
    with session.held(purpose="test"):
        pass
    assert session.state is DriveState.CLOSED


def test_another_directory_at_the_mount_point_is_refused(use, kernel, tmp_path) -> None:
    def body(drive) -> None:
        drive.root = os.open("/proc", os.O_RDONLY)
        try:
            prove_destination(drive)
        finally:
            os.close(drive.root)
            drive.root = -1

    with pytest.raises(DriveError, match="is not red"):
        use(body)


# --- the small ones


def test_the_mapping_is_named_after_the_drive() -> None:
    assert mapping_name(RED) == "flashback-red"


def test_putting_away_unmounts_every_place_before_closing(kernel, tmp_path) -> None:
    kernel.mappings["flashback-red"] = True
    kernel.mounted = [tmp_path / "a", tmp_path / "b"]
    put_away(a_context(tmp_path), "flashback-red")
    assert kernel.holds_nothing
    assert kernel.steps == ["look", "unmount", "unmount", "close"]


def test_what_closes_by_itself_before_it_is_put_away_is_put_away(kernel, tmp_path, monkeypatch) -> None:
    gone = tmp_path / "dev-mapper-flashback-red"
    monkeypatch.setattr("flashback.drive.session.device_number", lambda _mapping: str(gone.stat().st_rdev))
    put_away(a_context(tmp_path), "flashback-red")
    assert kernel.holds_nothing


def test_waiting_for_a_mapping_that_stays_ends_with_its_name(kernel) -> None:
    kernel.mappings["luks-x"] = True
    with pytest.raises(StillHeld, match="luks-x"):
        wait_until_gone(RED)


def test_every_error_of_the_house_can_carry_the_state() -> None:
    assert FlashbackError("x").drive_state is DriveState.NOT_INVOLVED
