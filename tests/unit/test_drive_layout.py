"""On a drive nothing planted is ever followed, and what is written is whole, private and on the medium."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from flashback.core.errors import DriveError
from flashback.drive import layout

SECRET = b"root's own"


@pytest.fixture
def drive(tmp_path) -> Path:
    path = tmp_path / "drive"
    path.mkdir()
    return path


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A place outside of the drive to which a hostile drive would lead."""
    path = tmp_path / "elsewhere"
    path.mkdir()
    (path / "file").write_bytes(SECRET)
    return path


@pytest.fixture
def root(drive) -> Iterator[int]:
    descriptor = os.open(drive, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=oct)
def umask(request) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# --- nothing planted is followed


@pytest.mark.parametrize("name", [layout.OURS, "documents", layout.CURRENT, layout.SNAPSHOTS, layout.CONFIG_COPY])
def test_a_planted_link_is_no_directory(drive, root, elsewhere, name) -> None:
    (drive / name).symlink_to(elsewhere)
    with pytest.raises(DriveError, match="not a directory of its own"), layout.directory(root, name):
        pass


@pytest.mark.parametrize("name", [layout.OURS, "documents", layout.CURRENT, layout.SNAPSHOTS, layout.CONFIG_COPY])
def test_a_planted_link_is_not_made_a_directory(drive, root, elsewhere, name) -> None:
    (drive / name).symlink_to(elsewhere)
    with pytest.raises(DriveError), layout.made_directory(root, name):
        pass
    assert sorted(os.listdir(elsewhere)) == ["file"]


@pytest.mark.parametrize("name", [layout.JOURNAL, layout.MARKER, layout.README])
def test_a_planted_link_is_not_read(drive, root, elsewhere, name) -> None:
    (drive / name).symlink_to(elsewhere / "file")
    with pytest.raises(DriveError, match="is a link"):
        layout.read_text(root, name)


@pytest.mark.parametrize("name", [layout.JOURNAL, layout.MARKER])
def test_a_planted_link_is_not_appended_to(drive, root, elsewhere, name) -> None:
    (drive / name).symlink_to(elsewhere / "file")
    with pytest.raises(OSError, match="symbolic links"):
        layout.append_line(root, name, b"line")
    assert (elsewhere / "file").read_bytes() == SECRET


@pytest.mark.parametrize("name", [layout.MARKER, f".{layout.MARKER}.new"])
def test_a_planted_link_is_replaced_not_written_through(drive, root, elsewhere, name) -> None:
    (drive / name).symlink_to(elsewhere / "file")
    layout.write_text(root, layout.MARKER, b"new")
    assert (elsewhere / "file").read_bytes() == SECRET
    assert (drive / layout.MARKER).read_bytes() == b"new"
    assert not (drive / layout.MARKER).is_symlink()


def test_a_planted_hard_link_is_replaced_not_written_through(drive, root, elsewhere) -> None:
    (drive / layout.MARKER).hardlink_to(elsewhere / "file")
    layout.write_text(root, layout.MARKER, b"new")
    assert (elsewhere / "file").read_bytes() == SECRET


def test_a_planted_file_is_no_directory(drive, root) -> None:
    (drive / layout.OURS).write_bytes(b"")
    with pytest.raises(DriveError), layout.directory(root, layout.OURS):
        pass


def test_a_planted_fifo_is_not_waited_for(drive, root) -> None:
    os.mkfifo(drive / layout.MARKER)
    with pytest.raises(DriveError, match="not a file of the size"):
        layout.read_text(root, layout.MARKER)


def test_a_planted_fifo_is_not_appended_to(drive, root) -> None:
    os.mkfifo(drive / layout.JOURNAL)
    with pytest.raises(OSError):
        layout.append_line(root, layout.JOURNAL, b"line")


def test_a_file_of_impossible_size_is_not_read(drive, root) -> None:
    with (drive / layout.MARKER).open("wb") as file:
        file.truncate(layout.LARGEST_TEXT + 1)
    with pytest.raises(DriveError, match="size"):
        layout.read_text(root, layout.MARKER)


def test_of_a_journal_that_has_become_very_long_the_last_whole_lines_are_read(drive, root) -> None:
    with (drive / layout.JOURNAL).open("wb") as file:
        file.truncate(layout.LONGEST_JOURNAL)
        file.seek(0, 2)
        file.write(b" of this line the beginning is not read\nlast but one\nlast\n")
    assert layout.read_lines(root, layout.JOURNAL) == b"last but one\nlast\n"


def test_a_journal_that_is_not_there_has_no_lines(root) -> None:
    assert layout.read_lines(root, layout.JOURNAL) == b""


def test_an_error_shows_a_planted_name_without_its_control_characters(drive, root, elsewhere) -> None:
    (drive / "\x1b[2J").symlink_to(elsewhere)
    with pytest.raises(DriveError) as caught, layout.directory(root, "\x1b[2J"):
        pass
    assert "\x1b" not in caught.value.what


def test_a_directory_that_is_not_there_is_told_as_such(root) -> None:
    with pytest.raises(FileNotFoundError), layout.directory(root, layout.OURS):
        pass


# --- reading and writing


def test_a_file_that_is_not_there_reads_as_none(root) -> None:
    assert layout.read_text(root, layout.MARKER) is None


def test_what_was_written_is_read_again(root) -> None:
    layout.write_text(root, layout.MARKER, b"a\x00b\n")
    assert layout.read_text(root, layout.MARKER) == b"a\x00b\n"


def test_a_file_has_its_mode_whatever_the_umask(drive, root, umask) -> None:
    layout.write_text(root, layout.README, b"", 0o644)
    layout.write_text(root, layout.MARKER, b"")
    assert (mode(drive / layout.README), mode(drive / layout.MARKER)) == (0o644, 0o600)


def test_a_new_directory_has_its_mode_whatever_the_umask(drive, root, umask) -> None:
    with layout.made_directory(root, "documents", 0o755), layout.made_directory(root, layout.OURS):
        pass
    assert (mode(drive / "documents"), mode(drive / layout.OURS)) == (0o755, 0o700)


def test_a_directory_that_is_there_keeps_its_mode(drive, root) -> None:
    (drive / "documents").mkdir(mode=0o711)
    with layout.made_directory(root, "documents", 0o755):
        pass
    assert mode(drive / "documents") == 0o711


def test_a_write_that_fails_leaves_the_old_file(drive, root, monkeypatch) -> None:
    layout.write_text(root, layout.MARKER, b"old")
    monkeypatch.setattr(os, "fsync", failing(OSError(errno.EIO, "input/output error")))
    with pytest.raises(OSError):
        layout.write_text(root, layout.MARKER, b"new")
    assert (drive / layout.MARKER).read_bytes() == b"old"


def test_the_rest_of_an_earlier_try_is_in_nobodys_way(drive, root) -> None:
    (drive / f".{layout.MARKER}.new").write_bytes(b"half")
    layout.write_text(root, layout.MARKER, b"whole")
    assert sorted(os.listdir(drive)) == [layout.MARKER]


def test_no_descriptor_stays_open(drive, root) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with layout.made_directory(root, layout.OURS) as ours:
        layout.write_text(ours, layout.MARKER, b"x")
        layout.append_line(ours, layout.JOURNAL, b"x")
        layout.read_text(ours, layout.MARKER)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_ballast_is_as_long_as_it_should_be(drive, root) -> None:
    layout.write_ballast(root, 5000)
    assert (drive / layout.BALLAST).stat().st_size == 5000


# --- the journal's lines


def test_lines_come_one_after_the_other(drive, root) -> None:
    layout.append_line(root, layout.JOURNAL, b"one")
    layout.append_line(root, layout.JOURNAL, b"two")
    assert (drive / layout.JOURNAL).read_bytes() == b"one\ntwo\n"


def test_a_torn_last_line_does_not_swallow_the_next(drive, root) -> None:
    (drive / layout.JOURNAL).write_bytes(b"one\ntw")
    layout.append_line(root, layout.JOURNAL, b"three")
    assert (drive / layout.JOURNAL).read_bytes() == b"one\ntw\nthree\n"


def test_the_journal_is_private_whatever_the_umask_adds(drive, root) -> None:
    before = os.umask(0)
    try:
        layout.append_line(root, layout.JOURNAL, b"one")
    finally:
        os.umask(before)
    assert mode(drive / layout.JOURNAL) == 0o600


def test_a_line_that_does_not_reach_the_medium_is_an_error(root, monkeypatch) -> None:
    monkeypatch.setattr(os, "fsync", failing(OSError(errno.EIO, "input/output error")))
    with pytest.raises(OSError, match="input/output"):
        layout.append_line(root, layout.JOURNAL, b"one")


# --- a full drive


def failing(error: OSError) -> Callable:
    def fail(*_any: object) -> None:
        raise error

    return fail


@pytest.fixture
def full(drive, monkeypatch) -> Iterator[None]:
    """Only half a line fits as long as the ballast is there."""

    def write(file: io.FileIO, content: bytes) -> None:
        if (drive / layout.BALLAST).exists():
            os.write(file.fileno(), content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "no space left on device")
        os.write(file.fileno(), content)

    monkeypatch.setattr(layout, "_write_all", write)
    with ExitStack() as stack:
        monkeypatch.setattr(os, "sync", lambda: None)
        yield
        stack.close()


def test_on_a_full_drive_the_ballast_is_given_up_for_a_line(drive, root, full) -> None:
    layout.write_ballast(root, 100)
    layout.append_line_even_when_full(root, layout.JOURNAL, b"complete")
    assert b"complete" in (drive / layout.JOURNAL).read_bytes().split(b"\n")
    assert not (drive / layout.BALLAST).exists()


def test_with_room_enough_the_ballast_stays(drive, root) -> None:
    layout.write_ballast(root, 100)
    layout.append_line_even_when_full(root, layout.JOURNAL, b"complete")
    assert (drive / layout.BALLAST).exists()


def test_on_a_full_drive_without_ballast_the_line_is_an_error(root, monkeypatch) -> None:
    monkeypatch.setattr(layout, "_write_all", failing(OSError(errno.ENOSPC, "no space left on device")))
    with pytest.raises(OSError) as caught:
        layout.append_line_even_when_full(root, layout.JOURNAL, b"complete")
    assert caught.value.errno == errno.ENOSPC


def test_for_another_error_the_ballast_is_kept(drive, root, monkeypatch) -> None:
    layout.write_ballast(root, 100)
    monkeypatch.setattr(layout, "_write_all", failing(OSError(errno.EIO, "input/output error")))
    with pytest.raises(OSError, match="input/output"):
        layout.append_line_even_when_full(root, layout.JOURNAL, b"complete")
    assert (drive / layout.BALLAST).exists()


# --- snapshots


def test_only_names_of_ours_are_snapshots_oldest_first(drive, root, elsewhere) -> None:
    for name in ("20260102T030405Z", "20250102T030405Z", "by hand", "20261302T030405Z", "20260102T030405Z.bak"):
        (drive / name).mkdir()
    (drive / "20240102T030405Z").symlink_to(elsewhere)
    (drive / "20230102T030405Z").write_bytes(b"")
    assert layout.snapshot_names(root) == ("20250102T030405Z", "20260102T030405Z")


def test_a_name_that_is_no_text_is_left_alone(drive, root) -> None:
    os.mkdir(os.fsencode(drive) + b"/\xff\xfe")
    assert layout.snapshot_names(root) == ()
