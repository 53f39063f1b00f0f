"""The kernel's answers about a real Btrfs, compared with what btrfs-progs say."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flashback.core.command import Programs
from flashback.core.errors import DriveError
from flashback.tools import btrfs
from flashback.tools.kernel_log import KernelLog
from tests.conftest import run

NAMES = (
    *("data_extents_scrubbed", "tree_extents_scrubbed", "data_bytes_scrubbed", "tree_bytes_scrubbed", "read_errors"),
    *("csum_errors", "verify_errors", "no_csum", "csum_discards", "super_errors", "malloc_errors"),
    *("uncorrectable_errors", "corrected_errors", "last_physical", "unverified_errors"),
)
"""The words of `btrfs scrub -R`, in the order of our fields."""


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def shown(path: Path) -> dict[str, str]:
    lines = run("btrfs", "subvolume", "show", path).splitlines()
    return {name.strip(): value.strip() for name, _colon, value in (line.partition(":") for line in lines)}


def test_a_file_system_is_made_as_designed(tmp_path: Path, programs: Programs) -> None:
    image = tmp_path / "new.img"
    image.touch()
    os.truncate(image, 256 << 20)
    btrfs.make_filesystem(programs, str(image))
    dump = run("btrfs", "inspect-internal", "dump-super", image)
    assert re.search(r"csum_type\s+3 \(blake2", dump)
    assert re.search(r"^label\s+Backup$", dump, re.MULTILINE)


def test_the_smallest_size_is_the_one_that_mkfs_takes(tmp_path: Path, programs: Programs) -> None:
    image = tmp_path / "small.img"
    image.touch()
    os.truncate(image, btrfs.SMALLEST)
    btrfs.make_filesystem(programs, str(image))


def test_a_subvolume_is_described_as_btrfs_show_does(btrfs_image: Path, programs: Programs) -> None:
    btrfs.create_subvolume(programs, btrfs_image / "current")
    (btrfs_image / "current/f").write_text("x")
    btrfs.snapshot(programs, btrfs_image / "current", btrfs_image / "s1")
    for name in ("current", "s1"):
        said = shown(btrfs_image / name)
        with opened(btrfs_image / name) as fd:
            found = btrfs.subvolume(fd)
        assert (found.id, found.generation) == (int(said["Subvolume ID"]), int(said["Generation"]))
        assert (found.uuid, found.parent_uuid or "-") == (said["UUID"], said["Parent UUID"])
        assert found.otransid == int(said["Gen at creation"])
        assert found.read_only == (said["Flags"] == "readonly")
    assert found.read_only


def test_an_unchanged_subvolume_keeps_the_generation_of_its_snapshot(btrfs_image: Path, programs: Programs) -> None:
    current, newest = btrfs_image / "current", btrfs_image / "s1"
    btrfs.create_subvolume(programs, current)
    btrfs.snapshot(programs, current, newest)
    (btrfs_image / "elsewhere").write_text("x")
    with opened(current) as fd, opened(newest) as snapshot_fd:
        btrfs.sync(fd)
        assert btrfs.subvolume(fd).generation == btrfs.subvolume(snapshot_fd).otransid
        (current / "f").write_text("x")
        btrfs.sync(fd)
        changed = btrfs.subvolume(fd)
        assert changed.generation > btrfs.subvolume(snapshot_fd).otransid
        assert changed.ctransid == changed.generation > changed.otransid


def test_a_snapshot_cannot_be_written_to(btrfs_image: Path, programs: Programs) -> None:
    btrfs.create_subvolume(programs, btrfs_image / "current")
    btrfs.snapshot(programs, btrfs_image / "current", btrfs_image / "s1")
    with pytest.raises(OSError, match="Read-only"):
        (btrfs_image / "s1/f").touch()


def test_uuid_counters_and_space_are_those_of_the_file_system(btrfs_image: Path) -> None:
    with opened(btrfs_image) as fd:
        fsid = btrfs.filesystem_uuid(fd)
    said = run("btrfs", "filesystem", "usage", "--raw", btrfs_image)
    assert fsid in run("btrfs", "filesystem", "show", btrfs_image)
    assert set(btrfs.error_counts(fsid).values()) == {0}
    assert "write_errs" in btrfs.error_counts(fsid)
    space = btrfs.space(btrfs_image, fsid)
    assert space.size == int(re.findall(r"Device size:\s+(\d+)", said)[0])
    assert space.unallocated == int(re.findall(r"Device unallocated:\s+(\d+)", said)[0])
    assert (space.metadata_total, space.metadata_used) == tuple(
        int(each) for each in re.findall(r"Metadata,DUP: Size:(\d+), Used:(\d+)", said)[0]
    )


def test_as_much_is_free_on_a_drive_that_is_mounted_read_only(btrfs_image: Path) -> None:
    (btrfs_image / "file").write_bytes(os.urandom(5_000_000))
    run("sync", "-f", btrfs_image)
    fsid = run("findmnt", "-n", "-o", "UUID", btrfs_image).strip()
    free = btrfs.space(btrfs_image, fsid).free_estimate
    image = btrfs_image.parent / "btrfs.img"
    run("umount", btrfs_image)
    run("mount", "-o", "loop,ro", image, btrfs_image)
    assert btrfs.space(btrfs_image, fsid).free_estimate == free


def test_another_file_system_is_no_btrfs() -> None:
    with opened(Path("/proc")) as fd, pytest.raises(OSError, match="ioctl"):
        btrfs.subvolume(fd)


# --- scrub


def quiet() -> None:
    """A watch that sees nothing wrong."""


def ignore(_done: int, _size: int) -> None:
    """A listener that does not listen."""


@pytest.fixture
def image_with_rot(tmp_path: Path) -> Iterator[Path]:
    """A mounted Btrfs in which one file (`folder/a b`) has one wrong byte."""
    image, where = tmp_path / "rot.img", tmp_path / "rot"
    where.mkdir()
    image.touch()
    os.truncate(image, 200 << 20)
    run("mkfs.btrfs", "-q", "--csum", "blake2", "-m", "dup", "-d", "single", image)
    run("mount", "-o", "loop", image, where)
    (where / "folder").mkdir()
    (where / "folder/a b").write_bytes(b"FINDME" + os.urandom(1 << 20))
    (where / "sound").write_bytes(os.urandom(1 << 20))
    run("umount", where)
    place = image.read_bytes().index(b"FINDME")
    with image.open("r+b") as raw:
        raw.seek(place)
        raw.write(b"x")
    run("mount", "-o", "loop", image, where)
    yield where
    run("umount", where)
    until = time.monotonic() + 10  # udev may hold the loop device a moment longer
    while str(image) in run("losetup", "--list", "--noheadings", "--output", "BACK-FILE"):
        assert time.monotonic() < until
        time.sleep(0.05)


def counted(where: Path) -> dict[str, int]:
    """The raw counters of btrfs-progs' own scrub, read-only so that nothing changes between the two."""
    said = run("sh", "-c", 'btrfs scrub start -BrR "$1" 2>/dev/null || true', "sh", where)
    return {name: int(value) for name, value in re.findall(r"^\s*(\w+): (\d+)$", said, re.MULTILINE)}


def test_a_scrub_counts_what_btrfs_scrub_counts(image_with_rot: Path) -> None:
    for _try in range(5):  # the kernel may write metadata between two scrubs: only between two equal ones it did not
        before = counted(image_with_rot)
        with opened(image_with_rot) as fd:
            found = btrfs.Scrub(fd, read_only=True).run(ignore, quiet, 1)
        if counted(image_with_rot) == before:
            break
    ours = {
        name: getattr(found, field) for name, field in zip(NAMES, btrfs.ScrubCounts.__dataclass_fields__, strict=True)
    }
    assert ours == {name: before[name] for name in NAMES}
    assert found.csum_errors == 1


def test_the_damaged_file_is_named_by_the_kernel_log(image_with_rot: Path) -> None:
    device = run("findmnt", "-no", "SOURCE", image_with_rot).strip()
    with KernelLog.from_now() as log, opened(image_with_rot) as fd:
        assert log.readable
        found = btrfs.Scrub(fd).run(ignore, quiet, 1)
        assert (found.csum_errors, found.uncorrectable, found.corrected) == (1, 1, 0)
        assert log.damaged_files(device) == (b"folder/a b",)
    with KernelLog.from_now() as later:
        assert later.damaged_files(device) == ()


def test_a_sound_drive_has_no_errors_and_progress_reaches_the_end(btrfs_image: Path) -> None:
    (btrfs_image / "f").write_bytes(os.urandom(8 << 20))
    os.sync()
    with opened(btrfs_image) as fd:
        found = btrfs.Scrub(fd).run(ignore, quiet, 1)
    assert (found.read_errors, found.csum_errors, found.uncorrectable, found.super_errors) == (0, 0, 0, 0)
    assert found.data_bytes >= 8 << 20


def limit(where: Path, speed: int) -> None:
    """Bytes a second for scrubs, 0 for all: so slow that none ends by itself while a test looks at it (Linux 5.14)."""
    with opened(where) as fd:
        fsid = btrfs.filesystem_uuid(fd)
    Path(f"/sys/fs/btrfs/{fsid}/devinfo/1/scrub_speed_max").write_text(str(speed))


class Enough(BaseException):
    """Stands for a signal."""


def test_a_scrub_tells_how_far_it_is_and_ends_when_the_watch_raises(btrfs_image: Path) -> None:
    (btrfs_image / "f").write_bytes(os.urandom(64 << 20))
    os.sync()
    limit(btrfs_image, 1 << 20)
    told: list[tuple[int, int]] = []

    def watch() -> None:
        if told:
            raise Enough

    with opened(btrfs_image) as fd, pytest.raises(Enough):
        btrfs.Scrub(fd).run(lambda done, size: told.append((done, size)), watch, 64 << 20)
    assert 0 < told[0][0] < told[0][1] == 64 << 20
    limit(btrfs_image, 0)
    run("btrfs", "scrub", "start", "-B", btrfs_image)  # refused while another one is running


def test_a_second_scrub_is_refused(btrfs_image: Path) -> None:
    (btrfs_image / "f").write_bytes(os.urandom(64 << 20))
    os.sync()
    limit(btrfs_image, 1 << 20)

    with opened(btrfs_image) as fd:

        def second(_done: int, _size: int) -> None:
            btrfs.Scrub(fd).run(ignore, quiet, 1)

        with pytest.raises(DriveError, match="running on this drive already"):
            btrfs.Scrub(fd).run(second, quiet, 1)


def test_a_read_only_mount_can_only_be_looked_at(btrfs_image: Path) -> None:
    run("mount", "-o", "remount,ro", btrfs_image)
    with opened(btrfs_image) as fd:
        with pytest.raises(DriveError, match="Read-only"):
            btrfs.Scrub(fd).run(ignore, quiet, 1)
        assert btrfs.Scrub(fd, read_only=True).run(ignore, quiet, 1).csum_errors == 0
