"""Which snapshot is meant by a name."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from flashback.core.errors import UsageError
from flashback.drive.snapshots import named
from flashback.rotation.values import SnapshotRecord

ONE, TWO = "20260102T030405Z", "20260103T030405Z"


def at(master: str, name: str) -> SnapshotRecord:
    return SnapshotRecord("u", master, name, datetime(2026, 1, 2, tzinfo=UTC))


SNAPSHOTS = (at("documents", ONE), at("photos", ONE), at("photos", TWO))


def test_a_name_that_only_one_master_has_is_enough() -> None:
    assert named(SNAPSHOTS, TWO, drive="red") == at("photos", TWO)


def test_the_beginning_of_a_name_is_enough_and_that_of_several_is_refused() -> None:
    assert named(SNAPSHOTS, "20260103", drive="red") == at("photos", TWO)
    assert named(SNAPSHOTS, "documents/2026", drive="red") == at("documents", ONE)
    with pytest.raises(UsageError, match="one of 2 states"):
        named(SNAPSHOTS, "2026010", drive="red")


def test_a_name_with_its_master_is_found() -> None:
    assert named(SNAPSHOTS, f"documents/{ONE}", drive="red") == at("documents", ONE)


def test_a_name_of_several_masters_is_refused_with_all_of_them() -> None:
    with pytest.raises(UsageError) as caught:
        named(SNAPSHOTS, ONE, drive="red")
    assert caught.value.hint == f"say which: documents/{ONE}, photos/{ONE}"


@pytest.mark.parametrize("wanted", ["20270102T030405Z", f"documents/{TWO}", "", "x\x1b[2J"])
def test_what_is_not_there_is_refused(wanted) -> None:
    with pytest.raises(UsageError, match="holds no snapshot") as caught:
        named(SNAPSHOTS, wanted, drive="red")
    assert "\x1b" not in caught.value.what
    assert TWO in "".join(caught.value.findings) or wanted.startswith("documents/")
