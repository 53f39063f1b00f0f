"""Whether a master is there, and what is said where it is not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from flashback.config.values import Master
from flashback.core.errors import ConfigError
from flashback.walk.there import absence


def opening_fails(monkeypatch, number: int) -> None:
    def refused(path: Path, _flags: int) -> int:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "open", refused)


def test_a_directory_is_there_and_not_left_open(tmp_path) -> None:
    before = os.listdir("/proc/self/fd")
    assert absence(Master("documents", tmp_path)) == ""
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("what", ["gone", "link to nothing"])
def test_what_is_gone_and_what_a_link_leads_to_in_vain_is_not_there(tmp_path, what) -> None:
    (tmp_path / "link to nothing").symlink_to("unmounted")
    assert absence(Master("documents", tmp_path / what)) == "is not there"


@pytest.mark.parametrize("what", ["file", "file/below"])
def test_a_file_cannot_be_meant(tmp_path, what) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is not a directory"):
        absence(Master("documents", tmp_path / what))


def test_a_file_system_whose_server_is_gone_is_told_as_that(tmp_path, monkeypatch) -> None:
    opening_fails(monkeypatch, errno.ENOTCONN)
    assert absence(Master("documents", tmp_path)) == "cannot be opened: Transport endpoint is not connected"


def test_one_that_keeps_root_out_is_not_taken_for_missing(tmp_path, monkeypatch) -> None:
    opening_fails(monkeypatch, errno.EACCES)
    with pytest.raises(ConfigError, match="does not let root in"):
        absence(Master("documents", tmp_path))
