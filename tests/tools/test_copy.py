"""Master and drive on real file systems: walked, compared, copied, and looked at with rsync's own eyes."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flashback.backup.copy import CopyResult, bring_up_to_date
from flashback.compare.changes import ChangeSet
from flashback.compare.comparison import compare
from flashback.config.values import Symlinks
from flashback.core.command import Programs, Result, Stream
from flashback.core.errors import NoSpace, NotFinished
from flashback.core.events import Event, Progress, Remark, RemarkKind, Step, StepBegun
from flashback.walk.filter import Filter
from flashback.walk.incumbent import walk_incumbent
from flashback.walk.reader import Owner, reading_master
from tests.conftest import run

ROOT = Owner("root", 0, 0)
NOBODY = Owner("nobody", 65534, 65534)
MIB = 1024 * 1024


class Rig:
    """One master and its copy on a Btrfs."""

    def __init__(self, master: Path, drive: Path) -> None:
        self.master, self.drive, self.current = master, drive, drive / "current"
        run("btrfs", "subvolume", "create", self.current)
        self.owner, self.symlinks = ROOT, Symlinks.KEEP
        self.run = Programs()
        self.newest: Path | None = None
        self.events: list[Event] = []
        self.left_out: list[Remark] = []
        self.before_copy: Callable[[], object] = lambda: None

    def plan(self) -> ChangeSet:
        self.left_out.clear()
        current = os.open(self.current, os.O_RDONLY)
        try:
            with reading_master(
                self.master, self.owner, filter=Filter(()), symlinks=self.symlinks, remark=self.left_out.append
            ) as items:
                return ChangeSet.collect(compare(items, walk_incumbent(current)), directory=self.drive.parent)
        finally:
            os.close(current)

    def copy(self, changes: ChangeSet | None = None) -> CopyResult:
        changes = changes or self.plan()
        self.before_copy()
        current = os.open(self.current, os.O_RDONLY)
        try:
            return bring_up_to_date(
                self.run,
                master=self.master,
                owner=self.owner,
                incumbent=current,
                incumbent_path=self.current,
                changes=changes,
                symlinks=self.symlinks,
                newest_snapshot=self.newest,
                tell=self.events.append,
                watch=lambda: None,
            )
        finally:
            os.close(current)

    def snapshot(self, name: str = "snapshot") -> None:
        self.newest = self.drive / name
        run("btrfs", "subvolume", "snapshot", "-r", self.current, self.newest)

    def differences(self, *more: str) -> str:
        """What rsync would do to make the copy equal, content and all metadata looked at."""
        follow = ["--copy-links"] if self.symlinks is Symlinks.FOLLOW else []
        options = ["-aHAXni", "--delete", "--checksum", "--numeric-ids", "--modify-window=-1", *follow, *more]
        return run("rsync", *options, f"{self.master}/", f"{self.current}/")

    def is_equal(self) -> bool:
        """By rsync's eyes, which miss a hard link too many, and by our own second look."""
        assert self.differences() == ""
        assert hard_links(self.current) == hard_links(self.master)
        return self.plan().is_empty


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that others than root may enter, as pytest's own may not."""
    made = Path(tempfile.mkdtemp(prefix="flashback-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def rig(folder: Path, btrfs_image: Path) -> Rig:
    (folder / "master").mkdir()
    return Rig(folder / "master", btrfs_image)


def owned(path: Path, owner: Owner) -> None:
    for each in [path, *path.rglob("*")]:
        os.chown(each, owner.uid, owner.gid, follow_symlinks=False)


def hard_links(top: Path) -> set[frozenset[str]]:
    """The groups of names that are one file, where there are several."""
    groups: dict[int, set[str]] = {}
    for path in top.rglob("*"):
        if not path.is_dir() or path.is_symlink():
            groups.setdefault(path.lstat().st_ino, set()).add(str(path.relative_to(top)))
    return {frozenset(group) for group in groups.values() if len(group) > 1}


def inode(path: Path) -> int:
    return path.lstat().st_ino


def used(drive: Path) -> int:
    run("btrfs", "filesystem", "sync", drive)
    lines = run("btrfs", "filesystem", "df", "--raw", drive).splitlines()
    return sum(int(line.rpartition("used=")[2]) for line in lines if line.startswith("Data"))


def test_a_first_copy_is_whole_and_a_second_finds_nothing_to_do(rig: Rig) -> None:
    (rig.master / "d/e").mkdir(parents=True)
    (rig.master / "d/e/f").write_text("x")
    (rig.master / "empty").mkdir()
    (rig.master / "l").symlink_to("nowhere")
    result = rig.copy()
    assert rig.is_equal()
    assert (result.remarks, result.files_copied, result.bytes_copied) == ((), 1, 1)


def test_nothing_to_do_starts_no_process(rig: Rig) -> None:
    (rig.master / "a").write_text("x")
    rig.copy()
    rig.run = Programs("/nonexistent")
    assert rig.copy() == CopyResult()


ODD = [b"new\nline", b"\xff\xfe", b"-rf", b"#comment", b"a*?[b]", b"back\\slash", b"\\#012", b" ", b"%n @", b"x" * 255]


def test_odd_names_are_copied_and_deleted(rig: Rig) -> None:
    top = os.fsencode(rig.master)
    for name in ODD:
        os.mkdir(top + b"/" + name)
        with open(top + b"/" + name + b"/" + name, "w") as file:
            file.write("x")
    rig.copy()
    assert rig.is_equal()
    for name in ODD[::2]:
        shutil.rmtree(top + b"/" + name)
    rig.copy()
    assert rig.is_equal()


def test_all_metadata_survives(rig: Rig) -> None:
    file, directory, link = rig.master / "f", rig.master / "d", rig.master / "l"
    file.write_text("x")
    directory.mkdir()
    link.symlink_to("f")
    for path in (file, directory):
        os.setxattr(path, "user.note", b"\0\xff")
        run("setfacl", "-m", "u:7:rwx,g:9:r", path)
    run("setfacl", "-d", "-m", "u:7:rx", directory)
    for number, path in enumerate((file, directory, link)):
        os.chown(path, 100 + number, 200 + number, follow_symlinks=False)
    file.chmod(0o6751)
    directory.chmod(0o3755)
    run("setcap", "cap_net_raw+ep", file)
    for path in (file, directory, link):
        os.utime(path, ns=(1_600_000_000_123_456_789, 1_500_000_000_987_654_321), follow_symlinks=False)
    rig.copy()
    assert rig.is_equal()
    assert (
        run("getfattr", "-h", "-d", "-m", "-", "--absolute-names", file).splitlines()[1:]
        == (run("getfattr", "-h", "-d", "-m", "-", "--absolute-names", rig.current / "f").splitlines()[1:])
    )
    assert (rig.current / "d").lstat().st_mtime_ns == 1_500_000_000_987_654_321
    assert stat.S_IMODE((rig.current / "f").lstat().st_mode) == 0o6751


def test_attributes_alone_are_copied_without_content(rig: Rig) -> None:
    (rig.master / "f").write_text("x")
    (rig.master / "d").mkdir()
    rig.copy()
    before = inode(rig.current / "f")
    (rig.master / "f").chmod(0o600)
    os.chown(rig.master / "d", 5, 5)
    os.setxattr(rig.master / "d", "user.a", b"b")
    result = rig.copy()
    assert rig.is_equal()
    assert (inode(rig.current / "f"), result.bytes_copied) == (before, 0)


def test_an_attribute_that_is_gone_goes_from_the_copy(rig: Rig) -> None:
    (rig.master / "f").write_text("x")
    os.setxattr(rig.master / "f", "user.a", b"b")
    rig.copy()
    os.removexattr(rig.master / "f", "user.a")
    rig.copy()
    assert os.listxattr(rig.current / "f") == []


def test_the_masters_own_attributes_are_copied_and_nothing_else_with_them(rig: Rig) -> None:
    (rig.master / "f").write_text("x")
    rig.copy()
    changes = rig.plan()
    assert changes.is_empty
    rig.master.chmod(0o750)
    changes = rig.plan()
    (rig.master / "not planned").write_text("x")
    rig.copy(changes)
    assert stat.S_IMODE(rig.current.stat().st_mode) == 0o750
    assert os.listdir(rig.current) == ["f"]


def test_nothing_that_was_not_planned_is_copied(rig: Rig) -> None:
    (rig.master / "d").mkdir()
    (rig.master / "a").write_text("x")
    changes = rig.plan()
    for name in ("later", "d/later"):
        (rig.master / name).write_text("x")
    rig.copy(changes)
    assert sorted(path.name for path in rig.current.rglob("*")) == ["a", "d"]


def test_directories_keep_their_times_whatever_is_written_or_deleted_in_them(rig: Rig) -> None:
    for directory in ("d", "e"):
        (rig.master / directory).mkdir()
        for name in ("a", "b"):
            (rig.master / directory / name).write_text("x")
    rig.copy()
    (rig.master / "d/a").write_text("other")  # does not touch the directory's own time
    (rig.master / "e/a").unlink()
    os.utime(rig.master / "e", ns=(5, 5))
    rig.copy()
    assert rig.is_equal()


def test_a_sparse_file_stays_sparse(rig: Rig) -> None:
    with (rig.master / "f").open("wb") as file:
        file.seek(64 * MIB)
        file.write(b"x")
    changes = rig.plan()
    assert changes.lower_bound_bytes < MIB
    rig.copy(changes)
    assert rig.is_equal()
    assert (rig.current / "f").stat().st_blocks * 512 < MIB


def test_one_mib_in_64_costs_less_than_two_under_a_snapshot(rig: Rig) -> None:
    with (rig.master / "f").open("wb") as file:
        file.write(os.urandom(64 * MIB))
    rig.copy()
    rig.snapshot()
    before = used(rig.drive)
    with (rig.master / "f").open("r+b") as file:
        file.seek(30 * MIB)
        file.write(os.urandom(MIB))
    result = rig.copy()
    assert rig.is_equal()
    assert used(rig.drive) - before < 2 * MIB
    assert result.bytes_copied < 2 * MIB
    assert result.bytes_same > 62 * MIB


def test_a_renamed_kind_makes_way(rig: Rig) -> None:
    kinds: list[Callable[[Path], object]] = [
        lambda path: path.write_text("x"),
        lambda path: ((path / "in").mkdir(parents=True), (path / "in/x").write_text("y")),
        lambda path: path.symlink_to("/etc"),
    ]
    pairs = [(old, new) for old in range(3) for new in range(3) if old != new]
    for old, new in pairs:
        kinds[old](rig.master / f"{old}{new}")
    rig.copy()
    for old, new in pairs:
        path = rig.master / f"{old}{new}"
        shutil.rmtree(path) if old == 1 else path.unlink()
        kinds[new](path)
    rig.copy()
    assert rig.is_equal()
    assert Path("/etc/passwd").exists()


def test_hard_links_form_move_and_break(rig: Rig) -> None:
    def group(*names: str) -> None:
        for name in names:
            (rig.master / name).unlink(missing_ok=True)
        (rig.master / names[0]).write_text(names[0])
        for name in names[1:]:
            os.link(rig.master / names[0], rig.master / name)

    for groups in (
        [("a", "b"), ("c",), ("d", "e", "f")],
        [("a", "b", "c"), ("d",), ("e", "f")],
        [("a",), ("b", "c", "d"), ("e",), ("f",)],
        [("a", "f"), ("b", "e"), ("c", "d")],
    ):
        for names in groups:
            group(*names)
        rig.copy()
        assert rig.is_equal()
        for names in groups:
            assert len({inode(rig.current / name) for name in names}) == 1
        assert len({inode(rig.current / names[0]) for names in groups}) == len(groups)


def test_an_attribute_is_never_written_through_a_link_that_the_master_does_not_have(rig: Rig) -> None:
    for name in "ab":
        (rig.master / name).write_text("x")
        os.utime(rig.master / name, ns=(5, 5))
    rig.copy()
    (rig.current / "b").unlink()
    os.link(rig.current / "a", rig.current / "b")
    (rig.master / "b").chmod(0o600)
    rig.copy()
    assert rig.is_equal()
    assert stat.S_IMODE((rig.current / "a").stat().st_mode) == 0o644


def test_parting_hard_links_costs_no_space_and_leaves_the_times_alone(rig: Rig) -> None:
    content = os.urandom(8 * MIB)
    (rig.master / "a").write_bytes(content)
    os.link(rig.master / "a", rig.master / "b")
    rig.copy()
    before = used(rig.drive)
    shutil.copy2(rig.master / "a", rig.master / "new")
    at = rig.master.stat()
    os.rename(rig.master / "new", rig.master / "b")
    os.utime(rig.master, ns=(at.st_atime_ns, at.st_mtime_ns))
    rig.copy()
    assert rig.is_equal()
    assert used(rig.drive) - before < MIB


def test_a_link_to_what_the_owner_may_not_read_is_not_followed(rig: Rig) -> None:
    rig.owner, rig.symlinks = NOBODY, Symlinks.FOLLOW
    (rig.master / "mine").write_text("x")
    (rig.master / "shadow").symlink_to("/etc/shadow")
    owned(rig.master, NOBODY)
    rig.copy()
    assert os.listdir(rig.current) == ["mine"]
    assert [(remark.kind, remark.path) for remark in rig.left_out] == [(RemarkKind.UNREADABLE, b"shadow")]


def test_a_link_that_is_turned_to_a_root_only_file_after_the_walk_is_not_followed(rig: Rig) -> None:
    rig.owner, rig.symlinks = NOBODY, Symlinks.FOLLOW
    (rig.master / "f").write_text("x")
    (rig.master / "l").symlink_to("f")
    owned(rig.master, NOBODY)
    changes = rig.plan()
    (rig.master / "l").unlink()
    (rig.master / "l").symlink_to("/etc/shadow")
    result = rig.copy(changes)
    assert os.listdir(rig.current) == ["f"]
    assert [(remark.kind, remark.path) for remark in result.remarks] == [(RemarkKind.UNREADABLE, b"l")]
    assert "Permission denied" in result.remarks[0].detail
    assert result.unread == (b"l",)


def test_an_owners_tree_is_copied_with_owners_and_followed_links(rig: Rig, folder: Path) -> None:
    rig.owner, rig.symlinks = NOBODY, Symlinks.FOLLOW
    (folder / "outside/deep").mkdir(parents=True)
    (folder / "outside/deep/x").write_text("x")
    (rig.master / "f").write_text("x")
    (rig.master / "l").symlink_to("f")
    (rig.master / "out").symlink_to(folder / "outside")
    (rig.master / "private").mkdir(0o700)
    (rig.master / "private/y").write_text("y")
    owned(rig.master, NOBODY)
    os.setxattr(rig.master / "private/y", "user.a", b"b")
    assert rig.copy().remarks == ()
    assert rig.is_equal()
    assert (rig.current / "out/deep/x").read_text() == "x"
    assert (rig.current / "private/y").stat().st_uid == 65534


def test_only_links_that_leave_the_master_are_followed_on_request(rig: Rig, folder: Path) -> None:
    rig.symlinks = Symlinks.EXTERNAL
    (folder / "outside").mkdir()
    (folder / "outside/x").write_text("x")
    (rig.master / "f").write_text("x")
    (rig.master / "inside").symlink_to("f")
    (rig.master / "out").symlink_to(folder / "outside")
    rig.copy()
    assert rig.plan().is_empty
    assert os.readlink(rig.current / "inside") == "f"
    assert (rig.current / "out/x").read_text() == "x"


def test_a_file_that_became_unreadable_keeps_its_earlier_copy(rig: Rig) -> None:
    rig.owner = NOBODY
    (rig.master / "f").write_text("old")
    (rig.master / "big").write_bytes(b"old!" * 2 * MIB)
    owned(rig.master, NOBODY)
    rig.copy()
    (rig.master / "f").write_text("newer")
    (rig.master / "big").write_bytes(b"new!" * 2 * MIB)
    changes = rig.plan()
    for name in ("f", "big"):
        os.chown(rig.master / name, 0, 0)
        (rig.master / name).chmod(0o600)
    result = rig.copy(changes)
    assert {remark.path: remark.kind for remark in result.remarks} == dict.fromkeys(
        (b"f", b"big"), RemarkKind.UNREADABLE
    )
    assert (rig.current / "f").read_text() == "old"
    assert (rig.current / "big").read_bytes() == b"old!" * 2 * MIB
    assert rig.plan().is_empty  # what the walk cannot read is kept


def test_what_vanishes_between_walk_and_copy_is_a_remark(rig: Rig) -> None:
    (rig.master / "d").mkdir()
    for name in ("a", "b", "d/c"):
        (rig.master / name).write_text("x")
    changes = rig.plan()
    (rig.master / "a").unlink()
    shutil.rmtree(rig.master / "d")
    result = rig.copy(changes)
    assert {remark.kind for remark in result.remarks} == {RemarkKind.VANISHED}
    assert {remark.path for remark in result.remarks} >= {b"a", b"d/c"}
    assert result.unread == ()
    assert (rig.current / "b").exists()


@pytest.mark.parametrize("kind", [os.mkfifo, os.mkdir])
def test_what_became_something_else_between_walk_and_copy_is_a_remark(kind: Callable[[Path], None], rig: Rig) -> None:
    (rig.master / "a").write_text("x")
    changes = rig.plan()
    (rig.master / "a").unlink()
    kind(rig.master / "a")
    result = rig.copy(changes)
    assert [remark.kind for remark in result.remarks] == ([RemarkKind.VANISHED] if kind is os.mkfifo else [])
    assert os.listdir(rig.current) == ([] if kind is os.mkfifo else ["a"])


def test_a_master_that_is_another_directory_by_now_stops_the_run(rig: Rig) -> None:
    (rig.master / "a").write_text("x")
    rig.copy()
    (rig.master / "a").unlink()
    changes = rig.plan()
    rig.master.rename(rig.master.with_name("away"))
    rig.master.mkdir()
    with pytest.raises(NotFinished, match="unmounted"):
        rig.copy(changes)
    assert (rig.current / "a").exists()
    rig.master.rmdir()
    with pytest.raises(NotFinished, match="cannot be opened"):
        rig.copy(changes)


def test_a_master_that_went_while_its_files_were_copied_stops_the_run_before_anything_is_deleted(rig: Rig) -> None:
    """As after `umount --lazy`: rsync finds nothing any more where the files were, and calls them vanished."""
    (rig.master / "old").write_text("x")
    rig.copy()
    (rig.master / "old").unlink()
    (rig.master / "new").write_text("x")

    class Unmounting(Programs):
        def streams(self, streams: Iterable[Stream], **how: Any) -> None:
            (rig.master / "new").unlink()
            rig.master.rename(rig.master.with_name("away"))
            rig.master.mkdir()
            super().streams(streams, **how)

    rig.run = Unmounting()
    with pytest.raises(NotFinished, match="unmounted"):
        rig.copy()
    assert os.listdir(rig.current) == ["old"]


def test_a_full_drive_is_said_to_be_full(rig: Rig, make_btrfs: Callable[[str], Path]) -> None:
    small = Rig(rig.master, make_btrfs("120M"))
    (rig.master / "big").write_bytes(os.urandom(150 * MIB))
    with pytest.raises(NoSpace, match="the drive is full"):
        small.copy()


def test_a_drive_that_is_read_only_stops_the_run(rig: Rig) -> None:
    (rig.master / "a").write_text("x")
    changes = rig.plan()
    run("mount", "-o", "remount,ro", rig.drive)
    with pytest.raises(NotFinished, match="read-only"):
        rig.copy(changes)


def test_deletions_on_a_read_only_drive_stop_the_run(rig: Rig) -> None:
    (rig.current / "gone").mkdir()
    (rig.current / "gone/x").write_text("x")
    changes = rig.plan()
    os.utime(rig.current, ns=(rig.master.stat().st_atime_ns, rig.master.stat().st_mtime_ns))
    run("mount", "-o", "remount,ro", rig.drive)
    with pytest.raises(NotFinished):
        rig.copy(changes)


def test_what_cannot_be_deleted_is_named_and_the_rest_goes(rig: Rig) -> None:
    for name in ("a", "immutable", "z"):
        (rig.current / name).write_text("x")
    run("btrfs", "subvolume", "create", rig.current / "nested")
    run("chattr", "+i", rig.current / "immutable")
    try:
        result = rig.copy()
    finally:
        run("chattr", "-i", rig.current / "immutable")
    assert {remark.path: remark.kind for remark in result.remarks} == {
        b"immutable": RemarkKind.UNWRITABLE,
        b"nested": RemarkKind.UNWRITABLE,
    }
    assert sorted(os.listdir(rig.current)) == ["immutable", "nested"]
    assert result.removed == 2


def test_a_deletion_never_goes_through_a_link_that_was_planted_since(rig: Rig, folder: Path) -> None:
    (folder / "precious").mkdir()
    (folder / "precious/x").write_text("x")
    (rig.master / "d").mkdir()
    (rig.current / "d").mkdir()
    (rig.current / "d/x").write_text("x")
    changes = rig.plan()
    shutil.rmtree(rig.current / "d")
    (rig.current / "d").symlink_to(folder / "precious")
    rig.copy(changes)
    assert (folder / "precious/x").exists()


def test_progress_counts_over_both_rsyncs(rig: Rig) -> None:
    (rig.master / "big").write_bytes(bytes(5 * MIB))
    rig.copy()
    (rig.master / "big").write_bytes(b"x" * (5 * MIB))
    (rig.master / "small").write_bytes(b"x" * 1000)
    rig.events.clear()
    rig.copy()
    shown = [event for event in rig.events if isinstance(event, Progress)]
    assert {(event.step, event.bytes_total, event.files_total) for event in shown} == {(Step.COPY, 5 * MIB + 1000, 2)}
    assert (shown[-1].bytes_done, shown[-1].files_done) == (5 * MIB + 1000, 2)
    assert {event.current for event in shown} <= {b"big", b"small"}
    assert [event.step for event in rig.events if isinstance(event, StepBegun)] == [Step.COPY]


class Retaining(Programs):
    """Programs in which the in-place rsync could not read `names`: their copies hold zeros, and it says so."""

    def __init__(self, current: Path, *names: str) -> None:
        super().__init__()
        self.current, self.names = current, names

    def streams(self, streams: Iterable[Stream], **more) -> None:  # type: ignore[override]
        super().streams(map(self._spoilt, streams), **more)

    def _spoilt(self, stream: Stream) -> Stream:
        if "--inplace" not in stream.command.argv:
            return stream

        def end(result: Result) -> None:
            for name in self.names:
                with (self.current / name).open("r+b") as file:
                    file.write(bytes(MIB))
                stream.on_err(b"ERROR: %s failed verification -- update retained." % name.encode())
            stream.on_end(replace(result, code=23))

        return replace(stream, on_end=end)


@pytest.fixture
def half_new(rig: Rig) -> Rig:
    """A big file with every kind of metadata that has changed since its copy, and cannot be read to its end."""
    big = rig.master / "big"
    big.write_bytes(os.urandom(8 * MIB))
    big.chmod(0o640)
    os.chown(big, 12, 34)
    os.setxattr(big, "user.a", b"b")
    run("setfacl", "-m", "u:7:rwx", big)
    rig.copy()
    (rig.drive / "expected").mkdir()
    run("cp", "-a", "--reflink=always", rig.current / "big", rig.drive / "expected/big")
    with big.open("r+b") as file:
        file.seek(7 * MIB)
        file.write(b"new")
    rig.run = Retaining(rig.current, "big")
    return rig


def test_zeros_are_replaced_by_what_the_last_snapshot_has(half_new: Rig) -> None:
    half_new.snapshot()
    before = used(half_new.drive)
    result = half_new.copy()
    assert [(remark.kind, remark.path) for remark in result.remarks] == [(RemarkKind.UNREADABLE, b"big")]
    assert "last snapshot was put back" in result.remarks[0].detail
    options = ["-aAXnii", "--checksum", "--numeric-ids", "--modify-window=-1"]
    assert run("rsync", *options, half_new.drive / "expected/big", f"{half_new.current}/").startswith(".f   ")
    assert sorted(os.listdir(half_new.current)) == ["big"]
    assert used(half_new.drive) - before < MIB


def test_zeros_without_a_snapshot_are_removed(half_new: Rig) -> None:
    result = half_new.copy()
    assert "no earlier copy" in result.remarks[0].detail
    assert result.unread == (b"big",)
    assert os.listdir(half_new.current) == []


def test_zeros_of_a_file_that_the_snapshot_does_not_have_are_removed(half_new: Rig) -> None:
    run("mv", half_new.current / "big", half_new.drive / "away")
    half_new.snapshot()
    run("mv", half_new.drive / "away", half_new.current / "big")
    half_new.copy()
    assert os.listdir(half_new.current) == []


def test_a_file_that_was_mended_is_copied_by_the_next_run(half_new: Rig) -> None:
    half_new.snapshot()
    half_new.copy()
    half_new.run = Programs()
    half_new.copy()
    assert half_new.is_equal()
