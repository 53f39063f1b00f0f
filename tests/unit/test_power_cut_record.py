"""The record of writes of dm-log-writes, read and replayed as far as a power cut: the part that needs no kernel."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path

import pytest

from tests.guest.powercut import SECTOR, Cuts, Write, entries, telling

FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8


def log(*rows: tuple[int, int, bytes]) -> bytes:
    """A log with these entries: flags, sector on the disk, data (of a mark: its text)."""
    said = struct.pack("<QQQI", 0x6A736677736872, 1, len(rows), SECTOR).ljust(SECTOR, b"\0")
    for flags, at, data in rows:
        if flags & MARK:
            said += (struct.pack("<QQQQ", 0, 0, flags, len(data)) + data).ljust(SECTOR, b"\0")
        else:
            said += struct.pack("<QQQQ", at, len(data) // SECTOR, flags, 0).ljust(SECTOR, b"\0")
            said += b"" if flags & DISCARD else data
    return said


def sector(letter: str, count: int = 1) -> bytes:
    return letter.encode() * SECTOR * count


ROWS = ((0, 0, sector("a")), (FLUSH, 0, b""), (0, 1, sector("b", 2)), (MARK, 0, b"here"), (FUA, 3, sector("c")))


class Drive:
    """What `Cuts` needs of a drive."""

    def __init__(self, folder: Path, content: bytes) -> None:
        self.log, self.base = folder / "log", folder / "base"
        self.log.write_bytes(content)
        self.base.write_bytes(bytes(4 * SECTOR))


@pytest.fixture
def cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cuts:
    monkeypatch.setattr(
        "tests.guest.powercut.run", lambda *argv: Path(argv[-1]).write_bytes(Path(argv[-2]).read_bytes())
    )
    drive = Drive(tmp_path, log(*ROWS))
    made = Cuts(drive, list(entries(io.BytesIO(log(*ROWS)))), tmp_path)  # type: ignore[arg-type]
    yield made
    made.close()


def letters(cuts: Cuts) -> str:
    content = cuts.image.read_bytes()
    return "".join(chr(content[at]) if content[at] else "." for at in range(0, len(content), SECTOR))


def test_the_record_is_read_in_its_order() -> None:
    found = list(entries(io.BytesIO(log(*ROWS))))
    assert [(each.at // SECTOR, each.size // SECTOR) for each in found] == [(0, 1), (0, 0), (1, 2), (0, 0), (3, 1)]
    assert [each.mark for each in found] == ["", "", "", "here", ""]
    assert [each.is_flush for each in found] == [False, True, False, False, False]


def test_what_was_flushed_is_there_after_any_cut(cuts: Cuts) -> None:
    for seed in range(50):
        cuts.cut(3, random.Random(seed))
        assert letters(cuts)[0] == "a"


def test_what_was_not_flushed_may_be_there_missing_or_torn(cuts: Cuts) -> None:
    seen = set()
    for seed in range(50):
        cuts.cut(3, random.Random(seed))
        seen.add(letters(cuts))
    assert seen == {"a...", "ab..", "abb."}


def test_what_was_forced_is_there_at_once(cuts: Cuts) -> None:
    for seed in range(20):
        cuts.cut(5, random.Random(seed))
        assert letters(cuts)[3] == "c"


def test_the_places_around_a_mark_are_always_cut_at() -> None:
    record = [Write(0, 0, SECTOR, 0), Write(FLUSH, 0, 0, 0), Write(MARK, 0, 0, 0, "here"), Write(0, 0, SECTOR, 0)]
    assert {1, 2, 3} <= set(telling(record, 0, random.Random(1)))
