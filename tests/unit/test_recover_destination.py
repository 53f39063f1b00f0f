"""The way to where files go back."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from flashback.core.errors import UsageError
from flashback.recover.destination import descended


@pytest.fixture
def top(tmp_path: Path):
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def test_a_place_that_keeps_root_out_is_told_as_that(tmp_path, top, monkeypatch) -> None:
    """As what somebody has mounted with FUSE does: not even what it is can be seen."""
    (tmp_path / "cloud").mkdir()

    def kept_out(*_words: object, **_more: object) -> int:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", kept_out)
    monkeypatch.setattr(os, "stat", kept_out)
    with pytest.raises(UsageError, match="cloud, on the way to where cloud/file was, cannot be entered: Permission"):
        descended(top, b"cloud/file")


@pytest.mark.parametrize(("what", "said"), [("link", "is a link now"), ("file", "is no directory now")])
def test_what_lies_on_the_way_is_named(tmp_path, top, what, said) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=f"{what}, on the way to where {what}/x was, {said}"):
        descended(top, f"{what}/x".encode())
