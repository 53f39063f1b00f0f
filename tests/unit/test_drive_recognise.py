"""Which drive is this? By LUKS UUID and header, never by a name that the device gives itself."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from flashback.core.command import Programs
from flashback.core.errors import DriveError, FlashbackError, UsageError
from flashback.drive import recognise
from flashback.drive.recognise import Candidate, by_name, check_identity, known_by_name, plugged_in, refuse_unwanted
from flashback.rotation.values import Standing
from flashback.tools import block, cryptsetup
from tests.unit.drives import DIGEST, GREEN, OTHER, RED, UUID, VOLUME

KNOWN = [RED, GREEN]
COPY = replace(VOLUME, path="/dev/sdy1", disk="/dev/sdy", serial="S2")
GREEN_VOLUME = replace(VOLUME, uuid=OTHER, path="/dev/sdz1", disk="/dev/sdz")
STRANGER = replace(VOLUME, uuid="00000000-0000-4000-8000-000000000000")


@pytest.fixture
def plug(monkeypatch):
    """`plug(volumes...)`: these LUKS volumes are plugged in, and every path is a block device."""
    monkeypatch.setattr(recognise, "block_device", os.path.normpath)

    def plug(*volumes: block.LuksVolume) -> Programs:
        monkeypatch.setattr(block, "luks_volumes", lambda _run: volumes)
        monkeypatch.setattr(block, "scan", lambda _run: ())
        return Programs()

    return plug


# --- by name, UUID, device


@pytest.mark.parametrize("wanted", ["red", "RED", UUID, UUID.upper(), "/dev/sdx1", "/dev/sdx"])
def test_a_drive_is_found_by(plug, wanted) -> None:
    assert by_name(plug(VOLUME, GREEN_VOLUME), KNOWN, wanted) == Candidate(RED, VOLUME)


@pytest.mark.parametrize("wanted", ["green", OTHER])
def test_a_known_drive_that_is_not_plugged_in_is_named(plug, wanted) -> None:
    with pytest.raises(DriveError, match="green is not plugged in"):
        by_name(plug(VOLUME), KNOWN, wanted)


@pytest.mark.parametrize("wanted", ["rde", "redd", "grene"])
def test_a_name_that_is_nearly_right_gets_a_proposal(plug, wanted) -> None:
    with pytest.raises(DriveError, match=r"did you mean (red|green)\?"):
        by_name(plug(VOLUME), KNOWN, wanted)


def test_a_name_that_is_far_from_any_gets_no_proposal(plug) -> None:
    with pytest.raises(DriveError, match=r"no drive called violet is known here$"):
        by_name(plug(VOLUME), KNOWN, "violet")


def test_an_unknown_name_is_shown_without_its_control_characters(plug) -> None:
    with pytest.raises(DriveError) as caught:
        by_name(plug(VOLUME), KNOWN, "\x1b[2Jred")
    assert "\x1b" not in caught.value.what


def test_a_drive_in_the_safe_is_known_by_name_too() -> None:
    assert known_by_name(KNOWN, "Green") is GREEN


def test_a_name_that_no_drive_has_is_refused() -> None:
    with pytest.raises(DriveError):
        known_by_name(KNOWN, "violet")


# --- two with one UUID


@pytest.mark.parametrize("wanted", ["red", "/dev/sdx1", "/dev/sdy1"])
def test_two_devices_with_one_uuid_are_refused(plug, wanted) -> None:
    with pytest.raises(DriveError, match="carry the same LUKS UUID"):
        by_name(plug(VOLUME, COPY), KNOWN, wanted)


def test_two_devices_with_one_uuid_are_refused_without_a_name_too(plug) -> None:
    with pytest.raises(DriveError, match="carry the same LUKS UUID"):
        plugged_in(plug(VOLUME, COPY), KNOWN)


def test_two_devices_with_one_uuid_are_told_apart_by_serial(plug) -> None:
    with pytest.raises(DriveError, match=r"/dev/sdx1 \(Stick, S1\) and /dev/sdy1 \(Stick, S2\)"):
        by_name(plug(VOLUME, COPY), KNOWN, "red")


def test_copies_of_a_stranger_are_nobodys_business(plug) -> None:
    two = (STRANGER, replace(STRANGER, path="/dev/sdy1"))
    assert plugged_in(plug(*two, GREEN_VOLUME), KNOWN) == (Candidate(GREEN, GREEN_VOLUME),)


# --- what is on a device


@pytest.mark.parametrize(
    ("volumes", "words"),
    [
        pytest.param((), "holds no LUKS2 volume", id="nothing"),
        pytest.param((replace(STRANGER, version=1),), "LUKS1 volume", id="LUKS1"),
        pytest.param((STRANGER,), "not a drive of this machine's rotation", id="another LUKS2"),
        pytest.param((replace(VOLUME, uuid=""),), "not a drive of this machine's rotation", id="a UUID that is none"),
        pytest.param(
            (replace(VOLUME, path="/dev/sdx1"), replace(STRANGER, path="/dev/sdx2")),
            "several LUKS volumes",
            id="two partitions",
        ),
    ],
)
def test_a_device_that_is_no_known_drive_is_refused(plug, volumes, words) -> None:
    with pytest.raises(DriveError, match=words):
        by_name(plug(*volumes), KNOWN, "/dev/sdx")


def test_a_label_does_not_make_a_drive_known(plug) -> None:
    with pytest.raises(DriveError, match="not a drive of this machine's rotation"):
        by_name(plug(replace(STRANGER, label="flashback-red")), KNOWN, "/dev/sdx1")


def test_a_device_that_is_not_there_is_told_as_such(tmp_path) -> None:
    with pytest.raises(DriveError, match="there is no device"):
        recognise.block_device(str(tmp_path / "sdq"))


def test_a_device_without_its_folder_is_guessed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DriveError) as caught:
        recognise.block_device("null")
    assert "did you mean /dev/null?" in caught.value.hint


@pytest.mark.parametrize(("make", "words"), [("mkdir", "a directory"), ("touch", "not a block device")])
def test_something_else_than_a_device_is_a_usage_error(tmp_path, make, words) -> None:
    path = tmp_path / "thing"
    getattr(path, make)()
    with pytest.raises(UsageError, match=words):
        recognise.block_device(str(path))


# --- what is plugged in


def test_the_plugged_in_come_by_name(plug) -> None:
    assert [each.known.name for each in plugged_in(plug(VOLUME, STRANGER, GREEN_VOLUME), KNOWN)] == ["green", "red"]


def test_strangers_are_not_among_the_plugged_in(plug) -> None:
    assert plugged_in(plug(STRANGER), KNOWN) == ()


# --- is it really the one


def test_the_header_of_enrolment_passes(monkeypatch) -> None:
    monkeypatch.setattr(cryptsetup, "header_digest", lambda path, length: DIGEST)
    check_identity(Candidate(RED, VOLUME))


def test_the_digest_is_taken_of_the_length_of_enrolment(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(cryptsetup, "header_digest", lambda *given: asked.append(given) or DIGEST)
    check_identity(Candidate(RED, VOLUME))
    assert asked == [("/dev/sdx1", RED.header_length)]


def test_a_changed_header_is_refused_with_a_warning(monkeypatch) -> None:
    monkeypatch.setattr(cryptsetup, "header_digest", lambda path, length: "ee" * 32)
    with pytest.raises(DriveError, match="is not the one") as caught:
        check_identity(Candidate(RED, VOLUME))
    assert "do not type the passphrase" in caught.value.hint


@pytest.mark.parametrize("version", [0, 1])
def test_a_volume_that_is_not_luks2_any_more_is_refused(version) -> None:
    with pytest.raises(DriveError, match="no LUKS2 volume any more"):
        check_identity(Candidate(RED, replace(VOLUME, version=version)))


def test_an_active_drive_is_wanted() -> None:
    refuse_unwanted(RED)


@pytest.mark.parametrize("standing", [Standing.LOST, Standing.RETIRED])
def test_a_lost_or_retired_drive_is_refused(standing) -> None:
    with pytest.raises(FlashbackError, match=f"red was marked {standing.value}"):
        refuse_unwanted(replace(RED, standing=standing))
