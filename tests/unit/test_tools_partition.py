"""What wipefs says as values, the name a partition may have, and which partition is the new one."""

from __future__ import annotations

from pathlib import Path

import pytest

from flashback.core.errors import DriveError
from flashback.tools import partition
from tests.unit.block_devices import Answers, a_disk


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return a_disk(tmp_path, monkeypatch)


def test_signatures_are_read_from_wipefs(tmp_path: Path) -> None:
    rows = {"signatures": [{"device": "x", "offset": "0x1fe", "type": "dos", "uuid": None, "label": "L"}, "nonsense"]}
    (found,) = partition.contents(Answers({"wipefs": rows}), "/dev/none")
    assert found == partition.Signature("/dev/none", "dos", "L", "", 0x1FE)


def test_a_device_that_wipefs_cannot_read_is_an_error() -> None:
    with pytest.raises(DriveError, match="/dev/none cannot be read"):
        partition.contents(Answers({"wipefs": 1}), "/dev/none")


@pytest.mark.parametrize("name", ["", 'a"b', "a\nb", "a b", "x" * 37])
def test_a_partition_name_that_could_be_a_command_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a name for a partition"):
        partition.partition(Answers({}), "/dev/none", name=name)


def test_the_new_partition_is_found_in_sys(disk: Path) -> None:
    assert partition._first_partition("/dev/sdx") == "/dev/sdx1"


@pytest.mark.parametrize(("file", "text"), [("start", "2048"), ("dev", "8:33")])
def test_an_old_partition_is_not_taken_for_the_new_one(file: str, text: str, disk: Path) -> None:
    (disk / "sdx1" / file).write_text(text)
    assert partition._first_partition("/dev/sdx") is None
