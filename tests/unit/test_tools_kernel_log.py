"""Lines of the kernel log, as Linux 6.1 and 6.18 wrote them, and names of damaged files in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from flashback.tools import kernel_log
from flashback.tools.kernel_log import DamagedFile, KernelLog

OLD = (
    b"4,1234,5678,-;BTRFS warning (device dm-0): checksum error at logical 298844160 on dev /dev/mapper/x, physical "
    b"277872640, root 256, inode 257, offset 0, length 4096, links 1 (path: a b/f6)\n SUBSYSTEM=block\n DEVICE=b254:0\n"
)
NEW = (
    b"4,1234,5678,-;BTRFS warning (device loop0): checksum error at logical 298844160 on dev /dev/loop0, physical "
    b"277872640 root 5 inode 257 offset 0 length 4096 links 1 (path: f)\n"
)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KernelLog:
    """A log that gives one record at each read, as /dev/kmsg does."""
    monkeypatch.setattr(kernel_log, "KMSG", tmp_path / "none")
    return KernelLog.from_now()


def saying(log: KernelLog, *records: bytes) -> KernelLog:
    log._lines.extend(kernel_log.message(each) for each in records)
    return log


def test_damaged_files_are_named_by_subvolume_inode_and_path(log: KernelLog) -> None:
    assert saying(log, OLD, OLD).damaged("dm-0") == (DamagedFile(256, 257, b"a b/f6"),)


def test_the_wording_of_newer_kernels_is_known(log: KernelLog) -> None:
    assert saying(log, NEW).damaged_files("/dev/loop0") == (b"f",)


def test_damage_on_another_drive_is_not_ours(log: KernelLog) -> None:
    assert saying(log, OLD).damaged_files("dm-1") == ()


def test_a_drive_in_trouble_bears_a_state_behind_its_name(log: KernelLog) -> None:
    assert saying(log, OLD.replace(b"(device dm-0)", b"(device dm-0 state EA)")).damaged_files("dm-0") == (b"a b/f6",)


def test_escaped_bytes_and_brackets_in_a_name_are_kept(log: KernelLog) -> None:
    record = OLD.replace(b"a b/f6", b"x)\\x0a\\xff\\x5c(path: y)")
    assert saying(log, record).damaged_files("dm-0") == (b"x)\n\xff\\(path: y)",)


def test_other_messages_name_no_files(log: KernelLog) -> None:
    other = (
        b"4,1,2,-;BTRFS warning (device dm-0): csum failed root 5 ino 257 off 0 csum 0x1 expected csum 0x2 mirror 1\n"
    )
    assert saying(log, other, b"", b";", b"garbage").damaged_files("dm-0") == ()


def test_a_log_that_may_not_be_read_is_empty_and_says_so(log: KernelLog) -> None:
    assert not log.readable
    assert log.damaged_files("dm-0") == ()
