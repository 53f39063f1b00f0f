"""The recovery key, the strength of passphrases, names, and the text on the drive."""

from __future__ import annotations

import errno
import math
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashback.core.errors import UsageError
from flashback.core.secret import Secret
from flashback.drive.readme import readme
from flashback.prepare import recovery
from flashback.prepare.names import SUGGESTIONS, suggestion
from flashback.prepare.strength import weakness
from flashback.rotation.values import valid_name
from tests.unit.drives import UUID

# --- the key


def letters(key: Secret) -> str:
    return key.reveal().decode("ascii")


def test_a_key_is_eight_groups_of_eight_letters() -> None:
    assert [len(group) for group in letters(recovery.new_recovery_key()).split("-")] == [8] * 8


def test_a_key_has_only_letters_that_lie_at_the_same_place_on_most_keyboards() -> None:
    assert set(letters(recovery.new_recovery_key())) <= {*"cbdefghijklnrtuv", "-"}


def test_a_key_has_256_bits() -> None:
    assert len(set(recovery.ALPHABET)) == 16
    assert recovery.GROUPS * recovery.LETTERS * math.log2(16) == 256


def test_no_two_keys_are_alike() -> None:
    assert len({letters(recovery.new_recovery_key()) for _ in range(50)}) == 50


def test_the_lines_joined_are_the_key() -> None:
    key = recovery.new_recovery_key()
    assert "".join(recovery.as_lines(key)) == letters(key)


@pytest.fixture(params=[0o000, 0o777], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


def test_the_file_is_its_owners_whatever_the_umask(tmp_path, umask) -> None:
    recovery.save(tmp_path / "key.txt", "page\n")
    assert stat.S_IMODE((tmp_path / "key.txt").stat().st_mode) == 0o600


def test_the_file_holds_the_page(tmp_path) -> None:
    recovery.save(tmp_path / "key.txt", "page\n")
    assert (tmp_path / "key.txt").read_text() == "page\n"


@pytest.mark.parametrize("check", [recovery.refuse_existing, lambda file: recovery.save(file, "new")])
@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_what_is_there_is_not_overwritten(tmp_path, check, kind) -> None:
    file, target = tmp_path / "key.txt", tmp_path / "target"
    if kind != "dangling link":
        target.write_text("old")
    file.symlink_to(target) if kind != "file" else file.write_text("old")
    with pytest.raises(UsageError, match="exists already"):
        check(file)
    assert not target.exists() or target.read_text() == "old"


def test_a_directory_that_is_not_there_is_told_before_anything_is_erased(tmp_path) -> None:
    with pytest.raises(UsageError, match="there is no directory"):
        recovery.refuse_existing(tmp_path / "nowhere/key.txt")


def full(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_that_cannot_be_written_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left on device"):
        recovery.save(tmp_path / "key.txt", "page\n")


def test_half_a_file_is_not_left_behind(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError):
        recovery.save(tmp_path / "key.txt", "page\n")
    assert not (tmp_path / "key.txt").exists()


def test_a_folder_that_is_no_folder_is_told(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        recovery.save(tmp_path / "file/key.txt", "page\n")


def test_a_new_file_in_a_directory_is_fine(tmp_path) -> None:
    recovery.refuse_existing(tmp_path / "key.txt")


# --- strength


@pytest.mark.parametrize("text", ["password1", "12345678", "qwertz", "secret", "a", "Monday2026", "iloveyou"])
def test_weak(text) -> None:
    assert weakness(Secret(text.encode()))


@pytest.mark.parametrize("text", ["correct horse battery staple", "violin turnip gravel monsoon", "k7#Qv!p2Zx&w9"])
def test_strong(text) -> None:
    assert weakness(Secret(text.encode())) is None


@pytest.mark.parametrize("text", [b" ", b"\t ", b"\xc2\xa0"])
def test_blank(text) -> None:
    assert weakness(Secret(text)) == "it is blank"


def test_a_recovery_key_is_strong() -> None:
    assert weakness(recovery.new_recovery_key()) is None


def test_words_about_the_drive_make_it_weak() -> None:
    text = Secret(b"xuvoqatilemorb")
    assert weakness(text) is None
    assert weakness(text, about=("xuvoqatilemorb",))


@given(st.binary(min_size=1, max_size=120))
def test_any_passphrase_is_judged_in_words_or_not_at_all(value: bytes) -> None:
    why = weakness(Secret(value))
    assert why is None or (why.strip() == why and "None" not in why)


def test_a_very_long_one_is_strong_without_long_thought() -> None:
    assert weakness(Secret(b"ab" * 500_000)) is None


# --- names


def test_the_first_name_is_a_colour() -> None:
    assert suggestion(()) == "red"


def test_a_taken_colour_is_not_proposed_whatever_its_case() -> None:
    assert suggestion(("RED", "green")) == "blue"


def test_after_the_colours_come_numbers() -> None:
    assert suggestion(SUGGESTIONS) == "drive-11"


def test_taken_numbers_are_passed_over() -> None:
    assert suggestion((*SUGGESTIONS, "drive-11", "Drive-12")) == "drive-13"


def test_every_proposal_is_a_good_name() -> None:
    taken: list[str] = []
    for _ in range(15):
        taken.append(suggestion(taken))
    assert all(valid_name(name) for name in taken)
    assert len(set(taken)) == 15


# --- the text on the drive


@pytest.mark.parametrize(
    "words",
    [
        '"red"',
        f"cryptsetup open --readonly /dev/disk/by-uuid/{UUID} flashback",
        "mount -o ro /dev/mapper/flashback",
        "rescue=nologreplay",
        "cryptsetup close flashback",
        "NAME/current",
        "NAME/snapshots/",
    ],
)
def test_the_readme_says_how_to_read_the_drive_without_flashback(words) -> None:
    assert words in readme(name="red", uuid=UUID)


def test_the_readme_fits_a_terminal_of_120_columns() -> None:
    assert max(len(line) for line in readme(name="a" * 32, uuid=UUID).splitlines()) <= 120
