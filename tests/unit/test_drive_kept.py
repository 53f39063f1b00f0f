"""The copies of LUKS headers: where they cannot be written, that is said."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from flashback.core.errors import Missing
from flashback.drive.kept import keep_header, writing_to
from flashback.tools import cryptsetup
from tests.unit.drives import a_context


def no_room(*_given: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


def test_a_state_directory_that_cannot_be_written_to_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cryptsetup, "backup_header", no_room)
    with pytest.raises(Missing, match=r"no copy of the LUKS header can be written to .*u\.luks: Read-only file system"):
        keep_header(a_context(tmp_path), "/dev/sdx1", "u")


def test_so_is_a_file_that_the_person_named(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="Read-only"), writing_to(tmp_path / "header"):
        no_room()
