"""Every drive carries the others' headers: written where they differ, never in the way of a backup."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from flashback.backup import siblings
from flashback.backup.siblings import keep_siblings
from flashback.core.errors import NotFinished
from flashback.drive import layout
from flashback.prepare.lost_header import carried
from flashback.rotation.ledger import Ledger
from tests.unit.drives import GREEN, OTHER, RED, UUID, VOLUME, a_context

HEADER = b"header of green" * 1000


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "state/ledger.sqlite") as opened:
        opened.enrol(RED)
        opened.enrol(GREEN)
        yield opened


@pytest.fixture
def world(tmp_path: Path, ledger: Ledger) -> Iterator[SimpleNamespace]:
    """Red is open; this machine keeps the headers of both drives."""
    folder = tmp_path / "drive"
    (folder / ".flashback").mkdir(parents=True)
    kept = tmp_path / "state/headers"
    kept.mkdir(parents=True)
    (kept / f"{UUID}.luks").write_bytes(b"header of red")
    (kept / f"{OTHER}.luks").write_bytes(HEADER)
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    volume = replace(VOLUME, partition_uuid="aaaa-1")
    drive = SimpleNamespace(known=RED, volume=volume, filesystem="fs", root=root, watch=lambda: None)
    context = a_context(tmp_path)
    yield SimpleNamespace(
        keep=lambda: keep_siblings(context, ledger, drive),
        carried=folder / ".flashback/headers",
        kept=kept / f"{OTHER}.luks",
        root=root,
    )
    os.close(root)


def test_the_header_of_the_other_drive_is_carried_and_not_its_own(world: SimpleNamespace) -> None:
    world.keep()
    (file,) = world.carried.iterdir()
    assert (file.name, file.read_bytes()) == (f"{OTHER}.luks", HEADER)
    assert file.stat().st_mode & 0o777 == 0o400


@pytest.mark.parametrize("length", [16 << 20, 64 << 20])
def test_a_header_as_long_as_they_can_be_is_read_back_from_the_drive_that_carries_it(
    world: SimpleNamespace, length: int
) -> None:
    with world.kept.open("r+b") as file:
        file.truncate(length)
    world.keep()
    found = carried(world.root, OTHER)
    assert (len(found or b""), (found or b"")[: len(HEADER)]) == (length, HEADER)
    assert carried(world.root, UUID) is None


def test_what_is_there_already_is_not_written_again(world: SimpleNamespace) -> None:
    world.keep()
    before = (world.carried / f"{OTHER}.luks").stat()
    world.keep()
    assert (world.carried / f"{OTHER}.luks").stat() == before


def test_a_header_that_was_renewed_takes_the_place_of_the_older(world: SimpleNamespace) -> None:
    world.keep()
    world.kept.write_bytes(HEADER[::-1])
    os.utime(world.kept, ns=(1, 1))
    world.keep()
    assert (world.carried / f"{OTHER}.luks").read_bytes() == HEADER[::-1]


def test_where_room_is_short_backups_come_first(world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siblings, "ROOM", 1 << 60)
    world.keep()
    assert list(world.carried.iterdir()) == []


def failing(number: int):
    def write(folder: int, name: str, *_more: object) -> None:
        os.close(os.open(f".{name}.new", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
        raise OSError(number, os.strerror(number))

    return write


def test_on_a_full_drive_it_waits_for_the_next_time_and_leaves_nothing_half(
    world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "write_text", failing(errno.ENOSPC))
    world.keep()
    assert list(world.carried.iterdir()) == []


def test_a_drive_that_does_not_take_it_ends_the_run(world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "write_text", failing(errno.EIO))
    with pytest.raises(NotFinished, match="headers could not be written to red"):
        world.keep()


def test_the_ledger_learns_by_what_the_drive_can_be_recognised(world: SimpleNamespace, ledger: Ledger) -> None:
    world.keep()
    known = ledger.drive(UUID)
    assert known is not None
    assert (known.filesystem_uuid, known.partition_uuid) == ("fs", "aaaa-1")
