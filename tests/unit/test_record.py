"""What a run leaves on the drive beside the copy: a failure there is told as what it is, and ends no complete backup."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from flashback.backup.record import keep_configuration
from flashback.core.errors import NotFinished
from flashback.drive import configuration, layout
from tests.unit.drives import RED


class Drive:
    """A folder that stands for an open drive."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.known, self.watched = folder, RED, 0
        (folder / layout.OURS).mkdir(parents=True)
        self.root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def watch(self) -> None:
        self.watched += 1


@pytest.fixture
def drive(tmp_path) -> Iterator[Drive]:
    drive = Drive(tmp_path / "drive")
    yield drive
    os.close(drive.root)


@pytest.fixture
def config(tmp_path) -> SimpleNamespace:
    file = tmp_path / "flashback.yaml"
    file.write_text("masters: {}\n")
    return SimpleNamespace(file=file, masters=())


def refusing(number: int):
    def write(*_args) -> None:
        raise OSError(number, os.strerror(number))

    return write


def test_the_configuration_is_kept_on_the_drive(drive, config) -> None:
    keep_configuration(drive, config)
    assert (drive.folder / ".flashback/config/flashback.yaml").read_text() == "masters: {}\n"


def test_on_a_full_drive_it_is_kept_the_next_time(drive, config, monkeypatch) -> None:
    monkeypatch.setattr(layout, "write_text", refusing(errno.ENOSPC))
    keep_configuration(drive, config)
    assert drive.watched == 1


def test_a_drive_that_does_not_take_it_is_not_an_unexpected_error(drive, config, monkeypatch) -> None:
    monkeypatch.setattr(layout, "write_text", refusing(errno.EIO))
    with pytest.raises(NotFinished, match="configuration on red"):
        keep_configuration(drive, config)


def test_two_exclusion_files_of_one_name_are_both_kept(drive, config, tmp_path) -> None:
    files = [tmp_path / "a/exclusions.txt", tmp_path / "b/exclusions.txt"]
    for file in files:
        file.parent.mkdir()
        file.write_text(str(file.parent))
    keep_configuration(drive, SimpleNamespace(file=config.file, masters=[SimpleNamespace(exclusion_files=files)]))
    folder = drive.folder / ".flashback/config"
    index = configuration.decode((folder / "index.json").read_bytes())
    assert {path: (folder / name).read_text() for name, path in index.origins.items() if "exclusions" in name} == {
        str(file): str(file.parent) for file in files
    }
