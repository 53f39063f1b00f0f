"""What sfdisk is told, and how long we wait for what it made."""

from __future__ import annotations

import pytest

from flashback.core import sysfs
from flashback.core.errors import DriveError
from flashback.tools import partition
from tests.contract.conftest import FakePrograms


def test_sfdisk_is_told_to_make_one_luks_partition_at_4_mib(
    fake_programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_programs.write("sfdisk")
    monkeypatch.setattr(sysfs, "udev_runs", lambda: False)
    monkeypatch.setattr(partition, "_first_partition", lambda disk: disk + "1")
    assert partition.partition(fake_programs.programs, "/dev/sdx", name="flashback-red") == "/dev/sdx1"
    (call,) = fake_programs.calls()
    assert call["argv"] == ["-q", "--wipe", "always", "--wipe-partitions", "always", "/dev/sdx"]
    assert call["stdin"] == (
        'label: gpt\nstart=4MiB, type=CA7D7CCB-63ED-4C53-861C-1742536059CC, name="flashback-red"\n'
    )


def test_where_udev_runs_it_is_waited_for(fake_programs: FakePrograms, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_programs.write("sfdisk")
    fake_programs.write("udevadm", code=1)
    monkeypatch.setattr(sysfs, "udev_runs", lambda: True)
    monkeypatch.setattr(partition, "_first_partition", lambda disk: disk + "1")
    partition.partition(fake_programs.programs, "/dev/sdx", name="x")
    assert fake_programs.argvs("udevadm") == [["settle", "--timeout=10"]]


def test_sfdisks_refusal_is_an_error_with_its_words(fake_programs: FakePrograms) -> None:
    fake_programs.write("sfdisk", err=b"sfdisk: cannot open /dev/sdx: Permission denied\n", code=1)
    with pytest.raises(DriveError, match=r"cannot be partitioned: .*Permission denied"):
        partition.partition(fake_programs.programs, "/dev/sdx", name="x")


def test_a_partition_that_does_not_come_is_an_error(
    fake_programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_programs.write("sfdisk")
    monkeypatch.setattr(sysfs, "udev_runs", lambda: False)
    monkeypatch.setattr(partition, "APPEARS_WITHIN", 0.0)
    with pytest.raises(DriveError, match="did not show itself"):
        partition.partition(fake_programs.programs, "/dev/none", name="x")
