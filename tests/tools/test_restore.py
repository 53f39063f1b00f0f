"""Files come back from a real Btrfs, and other programs look whether they are what they were."""

from __future__ import annotations

import mmap
import os
import re
import resource
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from flashback.app import Unattended
from flashback.core.command import Programs
from flashback.core.context import Context, Paths
from flashback.core.errors import DriveState, NoSpace, NotFinished, UsageError
from flashback.core.events import Event, Finished, Remarked, Step, StepBegun
from flashback.core.signals import StopSignals
from flashback.drive import browse, journal
from flashback.drive.proofs import Proofs
from flashback.drive.states import OnDrive
from flashback.recover import destination
from flashback.recover import in_place as over
from flashback.recover.destination import PREFIX
from flashback.recover.errand import RestoreRequest
from flashback.recover.parts import Owner, Part, Planner
from flashback.recover.service import restore_from
from flashback.recover.source import Held
from flashback.recover.wanted import Wanted, When
from flashback.recover.work import Done, Work
from flashback.rotation.contents import Contents
from tests.conftest import run

OLD, NEW = "20260101T000000Z", "20260102T000000Z"
ALICE = 1234


class Rig:
    """A drive on a Btrfs, a home on another file system, and what a restore needs."""

    def __init__(self, drive: Path, home: Path) -> None:
        self.drive, self.home = drive, home
        self.master = home / "Documents"
        self.master.mkdir()
        self.copy = drive / "documents/current"
        self.copy.parent.mkdir()
        run("btrfs", "subvolume", "create", self.copy)
        (drive / "documents/snapshots").mkdir(mode=0o700)
        (drive / ".flashback").mkdir(mode=0o700)
        self.complete("2026-01-03T00:00:00Z")
        self.events: list[Event] = []
        self.tell: Callable[[Event], None] = self.events.append

    def complete(self, at: str, mark: journal.Mark = journal.Mark.COMPLETE) -> None:
        line = journal.Line(sequence=1, run="r", at=at, mark=mark, master="documents")
        with (self.drive / ".flashback/runs.jsonl").open("ab") as file:
            file.write(journal.encode(line) + b"\n")

    def snapshot(self, name: str) -> None:
        run("btrfs", "subvolume", "snapshot", "-r", self.copy, self.drive / "documents/snapshots" / name)

    def wanted(self, path: str | bytes = b"", *, at_home: bool = True) -> Wanted:
        return Wanted("documents", os.fsencode(path), self.master if at_home else None)

    def restore(
        self,
        *paths: str | bytes,
        to: Path | None = None,
        when: When | None = None,
        owner: Owner | None = None,
        trusted: frozenset[int] = frozenset(),
    ) -> list[Done]:
        root = os.open(self.drive, os.O_RDONLY)
        try:
            with ExitStack() as opened:
                planner = Planner(OnDrive(root), opened, when or When(), to, trusted, owner)
                parts = [self.part(planner, self.wanted(path)) for path in paths or (b"",)]
                proofs = opened.enter_context(self.proofs())
                doing = Work(Programs(), self.tell, lambda: None, "uuid", self.home, owner, proofs)
                doing.expect(parts)
                return [doing.restore(part) for part in parts]
        finally:
            os.close(root)

    @contextmanager
    def proofs(self, drive: str = "red") -> Iterator[Proofs]:
        """One reading of the drive, which remembers what was read before."""
        with Contents.open(self.home.parent / "contents.sqlite", datetime(2026, 5, 2, 14, 10, tzinfo=UTC)) as contents:
            yield Proofs(contents, drive, str)

    @staticmethod
    def part(planner: Planner, wanted: Wanted) -> Part:
        found = planner.find(wanted)
        assert found is not None, f"{wanted.said} was not found"
        return planner.part(wanted, found[0])


@pytest.fixture
def rig(btrfs_image: Path, tmp_path: Path) -> Rig:
    (tmp_path / "home").mkdir()
    return Rig(btrfs_image, tmp_path / "home")


def staged(place: Path) -> list[str]:
    return [name for name in os.listdir(place) if name.startswith(PREFIX)]


def state_of(top: Path) -> list[str]:
    """Everything about a tree that others can tell: rsync by content, and getfacl, getfattr and find beside it."""
    acls = run("getfacl", "-Rpn", "--absolute-names", top).replace(str(top), "")
    attributes = run("getfattr", "-Rhdm", "-", "--absolute-names", top).replace(str(top), "")
    same = "%P %y %m %U %G %T@ %l"
    looks = run("find", top, "-type", "d", "-printf", rf"{same}\0", "-o", "-printf", rf"{same} %s %n\0").split("\0")
    return [*sorted(acls.split("\n\n")), *sorted(attributes.split("\n\n")), *sorted(looks)]


def odd_tree(top: Path) -> None:
    """Names and attributes that programs stumble over."""
    names = [b"a", b"two words", b"new\nline", b"\xff\xfe", b"#comment", b";semi", b"-rf", b"*?[x]", b"back\\slash",
             b"  blank ", b"\\#012", "ümläut".encode(), b"x" * 255, b":colon", b"~", b"{a,b}"]  # fmt: skip
    for count, name in enumerate(names):
        path = os.fsencode(top) + b"/" + name
        with open(path, "wb") as file:
            file.write(name * (count + 1))
        os.chmod(path, 0o600 + count)
        os.chown(path, ALICE + count, ALICE)
        os.utime(path, ns=(0, 1_000_000_000_123_456_789 + count))
    deep = top / "directory" / "#deeper" / "deepest"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"x" * 100_000)
    os.link(deep / "file", top / "directory/second name")
    (top / "link").symlink_to("/etc/passwd")
    (top / "dangling").symlink_to(b"nowhere\xff".decode(errors="surrogateescape"))
    with (top / "sparse").open("wb") as file:
        file.seek(8 << 20)
        file.write(b"end")
    (top / "set-uid").write_bytes(b"")
    (top / "set-uid").chmod(0o4755)
    os.setxattr(top / "a", "user.note", b"\0binary\xff")
    run("setfacl", "-m", "u:4321:r,m::r", top / "a")
    run("setfacl", "-m", "d:u:4321:rwx", deep)
    os.chown(top / "link", ALICE, ALICE, follow_symlinks=False)
    deep.chmod(0o2750)
    for path in (deep, deep.parent, top / "directory"):
        os.utime(path, ns=(0, 1_500_000_000_987_654_321))


# --- what comes back


def test_a_tree_with_odd_names_and_attributes_comes_back_as_it_was(rig: Rig) -> None:
    odd_tree(rig.copy)
    rig.copy.chmod(0o750)
    (done,) = rig.restore(to=rig.home)
    back = rig.home / "documents"
    assert (done.name, done.troubles) == (b"documents", [])
    assert state_of(back) == state_of(rig.copy)
    assert run("rsync", "-aHAXnic", "--delete", f"{rig.copy}/", f"{back}/") == ""
    assert (back / "sparse").stat().st_blocks * 512 < 1 << 20
    assert staged(rig.home) == []


def test_a_file_goes_back_to_where_it_was_and_into_the_directories_that_are_gone(rig: Rig) -> None:
    odd_tree(rig.copy)
    (rig.copy / "directory/second name").unlink()
    (rig.master / "directory").mkdir(mode=0o700)
    (done,) = rig.restore("directory/#deeper/deepest/file")
    assert (done.name, done.files) == (b"#deeper", 1)
    assert state_of(rig.master / "directory/#deeper") == state_of(rig.copy / "directory/#deeper")


def test_a_file_that_is_there_and_differs_is_left_and_the_version_comes_beside_it(rig: Rig) -> None:
    (rig.copy / "file").write_bytes(b"old")
    rig.snapshot(OLD)
    (rig.master / "file").write_bytes(b"mine")
    (done,) = rig.restore("file", when=When(snapshot=OLD))
    assert done.name == f"file.restored-{OLD}".encode()
    assert (rig.master / "file").read_bytes() == b"mine"
    assert (rig.master / f"file.restored-{OLD}").read_bytes() == b"old"
    assert [each.name for each in rig.restore("file", when=When(snapshot=OLD))] == [done.name]  # it is found there
    (rig.master / f"file.restored-{OLD}").write_bytes(b"edited")
    assert rig.restore("file", when=When(snapshot=OLD))[0].name == f"file.restored-{OLD}-2".encode()


def test_an_empty_directory_gives_way_and_one_with_anything_in_it_does_not(rig: Rig) -> None:
    (rig.copy / "file").write_bytes(b"1")
    rig.copy.chmod(0o750)
    (done,) = rig.restore()
    assert (done.name, (rig.master / "file").read_bytes()) == (b"Documents", b"1")
    assert stat.S_IMODE(rig.master.stat().st_mode) == 0o750
    (rig.master / "file").rename(rig.master / "mine")
    assert rig.restore()[0].name == b"Documents.restored-20260103T000000Z"
    assert os.listdir(rig.master) == ["mine"]


def test_an_empty_directory_does_not_give_way_to_a_file(rig: Rig) -> None:
    (rig.copy / "name").write_bytes(b"1")
    (rig.master / "name").mkdir()
    assert rig.restore("name")[0].name == b"name.restored-20260103T000000Z"


def test_what_is_there_and_equal_is_not_restored_again(rig: Rig) -> None:
    odd_tree(rig.copy)
    rig.restore(to=rig.home)
    before = os.stat(rig.home / "documents/a").st_ino
    (done,) = rig.restore(to=rig.home)
    assert (done.part.already, os.stat(rig.home / "documents/a").st_ino) == (b"documents", before)
    assert sorted(os.listdir(rig.home)) == ["Documents", "documents"]


def test_a_file_whose_content_alone_differs_is_not_taken_for_equal(rig: Rig) -> None:
    for place, content in ((rig.copy, b"good"), (rig.master, b"bad!")):
        (place / "file").write_bytes(content)
        os.utime(place / "file", ns=(1, 1))
    assert rig.restore("file")[0].name == b"file.restored-20260103T000000Z"


def test_all_can_be_given_to_another_owner(rig: Rig) -> None:
    odd_tree(rig.copy)
    (done,) = rig.restore(to=rig.home, owner=Owner(77, 88))
    assert done.troubles == []
    assert set(run("find", rig.home / "documents", "-printf", "%U:%G\n").split()) == {"77:88"}


# --- which state


def test_the_newest_state_that_holds_the_path_is_taken(rig: Rig) -> None:
    (rig.copy / "file").write_bytes(b"1")
    rig.snapshot(OLD)
    (rig.copy / "file").write_bytes(b"2")
    rig.snapshot(NEW)
    (rig.copy / "file").unlink()
    assert rig.restore("file", to=rig.home)[0].part.state.name == NEW
    assert (rig.home / "file").read_bytes() == b"2"


def test_the_state_of_a_moment_is_the_newest_one_before_it(rig: Rig) -> None:
    (rig.copy / "file").write_bytes(b"1")
    rig.snapshot(OLD)
    rig.snapshot(NEW)
    assert (
        rig.restore("file", to=rig.home, when=When(at=datetime(2026, 1, 1, 23, 59, 59, tzinfo=UTC)))[0].part.state.name
        == OLD
    )


def test_a_copy_in_the_middle_of_a_run_comes_after_the_snapshots(rig: Rig) -> None:
    (rig.copy / "file").write_bytes(b"whole")
    rig.snapshot(OLD)
    (rig.copy / "file").write_bytes(b"half")
    (rig.copy / "new").write_bytes(b"new")
    rig.complete("2026-01-04T00:00:00Z", journal.Mark.COPYING)
    assert rig.restore("file", to=rig.home)[0].part.state.name == OLD
    assert rig.restore("new", to=rig.home)[0].part.state.complete is False


# --- nobody leads root elsewhere


def test_a_link_on_the_drive_is_not_followed_out_of_it(rig: Rig) -> None:
    (rig.copy / "door").symlink_to("/etc")
    root = os.open(rig.drive, os.O_RDONLY)
    with ExitStack() as opened:
        assert Planner(OnDrive(root), opened, When(), rig.home, ()).find(rig.wanted("door/passwd")) is None
    os.close(root)


def test_a_link_that_another_user_planted_on_the_way_back_is_refused(rig: Rig) -> None:
    outside = rig.home / "outside"
    outside.mkdir()
    (rig.copy / "photos").mkdir()
    (rig.copy / "photos/1.jpg").write_bytes(b"1")
    (rig.master / "photos").symlink_to(outside)
    with pytest.raises(UsageError, match="is a link now"):
        rig.restore("photos/1.jpg")
    assert os.listdir(outside) == []


def test_a_destination_behind_a_link_of_another_user_is_refused_and_behind_ones_own_is_taken(rig: Rig) -> None:
    (rig.copy / "file").write_bytes(b"1")
    (rig.home / "real").mkdir()
    (rig.home / "link").symlink_to("real")
    os.chown(rig.home / "link", ALICE, ALICE, follow_symlinks=False)
    with pytest.raises(UsageError, match="another user made"):
        rig.restore("file", to=rig.home / "link")
    rig.restore("file", to=rig.home / "link", trusted=frozenset({ALICE}))
    assert (rig.home / "real/file").read_bytes() == b"1"


def test_nobody_else_can_enter_where_files_wait_for_their_name(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    (rig.copy / "file").write_bytes(b"1")
    run("setfacl", "-m", f"d:u:{ALICE}:rwx", rig.home)
    modes: list[tuple[int, int]] = []
    put = destination.Staging.put

    def seen(self: destination.Staging, *words: object) -> None:
        at = os.stat(rig.home / self.name)
        modes.append((stat.S_IMODE(at.st_mode), at.st_uid))
        assert "mask::---" in run("getfacl", "-p", rig.home / self.name)
        put(self, *words)

    monkeypatch.setattr(destination.Staging, "put", seen)
    rig.restore("file", to=rig.home)
    assert modes == [(0o700, 0)]


def test_a_directory_of_another_user_with_the_name_of_ours_is_not_used(rig: Rig) -> None:
    (rig.copy / "file").write_bytes(b"1")
    root = os.open(rig.drive, os.O_RDONLY)
    with ExitStack() as opened:
        key = rig.part(Planner(OnDrive(root), opened, When(), rig.home, ()), rig.wanted("file")).key("uuid")
    os.close(root)
    trap = rig.home / f"{PREFIX}{key}"
    trap.mkdir(mode=0o700)
    os.chown(trap, ALICE, ALICE)
    with pytest.raises(NotFinished, match="not ours"):
        rig.restore("file", to=rig.home)
    os.chown(trap, 0, 0)
    (trap / "somebody's").touch()
    with pytest.raises(NotFinished, match="not ours"):
        rig.restore("file", to=rig.home)


# --- damage and interruption


def test_what_cannot_be_read_is_named_and_the_rest_is_restored(rig: Rig) -> None:
    for name in ("good", "rotten", "also good"):
        (rig.copy / name).write_bytes(os.urandom(200_000))
    rot(rig, rig.copy / "rotten")
    (done,) = rig.restore(to=rig.home)
    assert [(each.path, each.damage) for each in done.troubles] == [(b"current/rotten", True)]
    assert sorted(os.listdir(rig.home / "documents")) == ["also good", "good"]


def rot(rig: Rig, file: Path) -> None:
    """Write over a file's extent in the image below the file system, so that its checksum does not fit any more."""
    run("sync", "-f", rig.drive)
    content, image = file.read_bytes()[:4096], rig.drive.parent / "btrfs.img"
    run("umount", rig.drive)
    with open(image, "r+b") as device, mmap.mmap(device.fileno(), 0) as whole:
        at = whole.find(content)
        whole[at : at + 3] = b"rot"
    run("mount", "-o", "loop,nosuid,nodev,noexec,noatime", image, rig.drive)


def test_where_both_copies_of_metadata_are_bad_the_rest_is_restored_and_what_is_lost_is_named(
    two: tuple[Rig, Rig], context: Context
) -> None:
    rig = two[0]
    for number in range(40):
        (rig.copy / f"d{number}").mkdir()
        for count in range(40):
            (rig.copy / f"d{number}/{count}").write_bytes(b"%d of %d, inline" % (count, number) * 20)
    kept = {path.relative_to(rig.copy): path.read_bytes() for path in rig.copy.rglob("*") if path.is_file()}
    rot_metadata(rig, b"7 of 20, inline" * 20)
    code, last = restored_from(two, context, "")
    lost = {row["path"] for row in last.facts["unread"]}
    back = rig.home / "back/documents"
    assert code == 14
    assert "d20/7" in lost or "d20" in lost
    given = {path.relative_to(back): path.read_bytes() for path in back.rglob("*") if path.is_file()}
    assert given.items() <= kept.items()
    assert len(given) > len(kept) // 2
    unnamed = [path for path in kept.keys() - given.keys() if not lost & {str(path), str(path.parent)}]
    assert unnamed == []


def test_a_copy_that_cannot_be_looked_into_at_all_gives_way_to_the_newest_snapshot(
    two: tuple[Rig, Rig], context: Context
) -> None:
    rig = two[0]
    (rig.copy / "file").write_bytes(b"old")
    rig.snapshot(OLD)
    for count in range(500):
        (rig.copy / f"{count}").write_bytes(b"new" * 50)
    rot_top(rig, run("btrfs", "inspect-internal", "rootid", rig.copy).strip())
    code, last = restored_from(two, context, "file")
    assert (code, (rig.home / "back/file").read_bytes(), last.facts["restored"][0]["state"]) == (14, b"old", OLD)
    (row,) = last.facts["unread"]
    assert row["why"].endswith("cannot be looked into: Input/output error")
    assert str(last.error and last.error["what"]).endswith("what is restored comes from an earlier state")


def test_a_drive_that_gives_no_state_of_what_is_wanted_is_said_to_be_damaged(
    two: tuple[Rig, Rig], context: Context
) -> None:
    for count in range(500):
        (two[0].copy / f"{count}").write_bytes(b"new" * 50)
    rot_top(two[0], run("btrfs", "inspect-internal", "rootid", two[0].copy).strip())
    source = [Lying("red", two[0])]
    told: list[Event] = []
    request = RestoreRequest((two[0].wanted("7"),), to=two[0].home / "back")
    assert restore_from(replace(context, tell=told.append), source, [], request, elsewhere="") == 14
    (two[1].copy / "7").write_bytes(b"another drive has it")
    assert restored_from(two, context, "7")[0] == 14
    assert (two[0].home / "back/7").read_bytes() == b"another drive has it"


def test_a_state_that_cannot_be_looked_into_is_told_and_the_others_are_shown(rig: Rig, context: Context) -> None:
    rig.snapshot(OLD)
    for count in range(500):
        (rig.copy / f"{count}").write_bytes(b"new" * 50)
    rot_top(rig, run("btrfs", "inspect-internal", "rootid", rig.copy).strip())
    root = os.open(rig.drive, os.O_RDONLY)
    try:
        drive = SimpleNamespace(root=root, watch=lambda: None)
        shown = browse._folders(replace(context, tell=rig.tell), drive)
    finally:
        os.close(root)
    assert [each.folder.state.name for each in shown] == [OLD]
    (remark,) = [event.remark for event in rig.events if isinstance(event, Remarked)]
    assert remark.detail.endswith("cannot be looked into: Input/output error")


def rot_top(rig: Rig, tree: str) -> None:
    """Spoil both copies of the topmost block of a subvolume."""
    run("sync", "-f", rig.drive)
    image = rig.drive.parent / "btrfs.img"
    run("umount", rig.drive)
    dump = run("btrfs", "inspect-internal", "dump-tree", "-t", tree, image)
    (logical,) = re.findall(r"^(?:node|leaf) (\d+)", dump, re.MULTILINE)[:1]
    places = re.findall(r"physical (\d+)", run("btrfs-map-logical", "-l", logical, image))
    assert len(places) == 2
    with open(image, "r+b") as device:
        for place in places:
            device.seek(int(place) + 200)
            device.write(b"rot")
    run("mount", "-o", "loop,nosuid,nodev,noexec,noatime", image, rig.drive)


def rot_metadata(rig: Rig, content: bytes) -> None:
    """Spoil both copies of the block of metadata in which a small file lies."""
    run("sync", "-f", rig.drive)
    image = rig.drive.parent / "btrfs.img"
    run("umount", rig.drive)
    with open(image, "r+b") as device, mmap.mmap(device.fileno(), 0) as whole:
        at, found = whole.find(content), 0
        while at >= 0:
            whole[at : at + 3], found = b"rot", found + 1
            at = whole.find(content)
        assert found >= 2
    run("mount", "-o", "loop,nosuid,nodev,noexec,noatime", image, rig.drive)


class Stop(Exception):
    """Somebody pressed Ctrl-C."""


def test_a_restore_that_was_stopped_goes_on_where_it_was_and_leaves_no_half_file(rig: Rig) -> None:
    for count in range(20):
        (rig.copy / f"{count}").write_bytes(os.urandom(100_000))

    def stop(event: Event) -> None:
        if isinstance(event, StepBegun) and event.step is Step.VERIFY:
            raise Stop

    rig.tell = stop
    with pytest.raises(Stop):
        rig.restore(to=rig.home)
    (waiting,) = staged(rig.home)
    assert not (rig.home / "documents").exists()
    inodes = {path.name: path.stat().st_ino for path in (rig.home / waiting / "files/current").iterdir()}
    assert len(inodes) == 20
    rig.tell = rig.events.append
    rig.restore(to=rig.home)
    assert {path.name: path.stat().st_ino for path in (rig.home / "documents").iterdir()} == inodes
    assert staged(rig.home) == []


def test_where_there_is_no_room_that_is_said_of_the_place_and_not_of_the_drive(
    rig: Rig, make_btrfs: Callable[[str], Path]
) -> None:
    small = make_btrfs("120M")
    (rig.copy / "large").write_bytes(os.urandom(130 << 20))
    with pytest.raises(NoSpace, match=f"{small} is full"):
        rig.restore("large", to=small)
    assert not (small / "large").exists()


def test_what_was_written_wrongly_is_found_and_not_given_its_name(rig: Rig) -> None:
    (rig.copy / "file").write_bytes(b"good")
    (rig.copy / "other").write_bytes(b"good")

    def spoil(event: Event) -> None:
        if isinstance(event, StepBegun) and event.step is Step.VERIFY:
            (waiting,) = (rig.home / staged(rig.home)[0]).glob("files/current/file")
            at = waiting.stat()
            waiting.write_bytes(b"bad!")
            os.utime(waiting, ns=(at.st_atime_ns, at.st_mtime_ns))

    rig.tell = spoil
    (done,) = rig.restore(to=rig.home)
    assert [(each.path, each.damage) for each in done.troubles] == [(b"current/file", False)]
    assert os.listdir(rig.home / "documents") == ["other"]


# --- over what is there


def in_place(rig: Rig, *paths: str) -> tuple[list[tuple[str, bytes]], list[Done]]:
    """What would change, and what came of changing it."""
    root = os.open(rig.drive, os.O_RDONLY)
    try:
        with ExitStack() as opened:
            planner = Planner(OnDrive(root), opened, When(), None, ())
            plans = []
            for path in paths or (b"",):
                wanted = rig.wanted(path)
                found = planner.find(wanted)
                assert found is not None
                plans.append(over.plan(planner, wanted, found[0], None))
            doing = Work(Programs(), rig.tell, lambda: None, "uuid", rig.home)
            done = [doing.restore(each.part, each.put) for each in plans]
            return [(c.how.value, c.path) for each in plans for c in each.changes], done
    finally:
        os.close(root)


def test_over_what_is_there_only_what_differs_is_exchanged_and_the_rest_stays(rig: Rig) -> None:
    odd_tree(rig.copy)
    rig.restore(to=rig.home)
    rig.master.rmdir()
    (rig.home / "documents").rename(rig.master)
    (rig.master / "mine").write_bytes(b"mine")
    (rig.master / "a").write_bytes(b"A")
    (rig.master / "~").unlink()
    shutil.rmtree(rig.master / "directory/#deeper")
    (rig.master / "link").unlink()
    (rig.master / "link").symlink_to("elsewhere")
    (rig.master / "two words").unlink()
    (rig.master / "two words").mkdir()
    untouched = (rig.master / "sparse").stat().st_ino
    changes, (done,) = in_place(rig)
    assert ("replaced", b"a") in changes
    assert ("new", b"~") in changes
    assert ("put-aside", b"two words") in changes
    assert ("replaced", b"link") in changes
    assert done.troubles == []
    assert (rig.master / "mine").read_bytes() == b"mine"
    assert (rig.master / "two words.before-restore-20260103T000000Z").is_dir()
    assert (rig.master / "sparse").stat().st_ino == untouched
    shutil.rmtree(rig.master / "two words.before-restore-20260103T000000Z")
    (rig.master / "mine").unlink()
    left = run("rsync", "-aAXnic", "--omit-dir-times", "--delete", f"{rig.copy}/", f"{rig.master}/")
    assert left == ""
    assert in_place(rig)[0] == []
    assert staged(rig.master) == []


def test_a_content_that_rotted_while_its_time_stayed_is_exchanged_in_place(rig: Rig) -> None:
    for place, content in ((rig.copy, b"good"), (rig.master, b"bad!")):
        (place / "file").write_bytes(content)
        os.utime(place / "file", ns=(1, 1))
    assert in_place(rig, "file")[0] == [("replaced", b"file")]
    assert (rig.master / "file").read_bytes() == b"good"


def test_a_link_on_the_way_is_not_followed_in_place(rig: Rig) -> None:
    (rig.copy / "photos").mkdir()
    (rig.copy / "photos/1.jpg").write_bytes(b"1")
    outside = rig.home / "outside"
    outside.mkdir()
    (rig.master / "photos").symlink_to(outside)
    changes, (done,) = in_place(rig, "photos/1.jpg")
    assert ("link-put-aside", b"photos") in changes
    assert os.listdir(outside) == []
    assert (rig.master / "photos/1.jpg").read_bytes() == b"1"
    assert (rig.master / "photos.before-restore-20260103T000000Z").is_symlink()
    assert done.troubles == []


def test_a_link_that_leads_to_what_was_copied_stays_and_any_other_is_named(rig: Rig) -> None:
    for name, content in (("same", b"1"), ("other", b"22"), ("gone", b"333")):
        (rig.copy / name).write_bytes(content)
        (rig.master / name).symlink_to(rig.home / name)
    shutil.copy2(rig.copy / "same", rig.home / "same")
    (rig.home / "other").write_bytes(b"xx")
    changes, (done,) = in_place(rig)
    assert changes == [("link-replaced", b"gone"), ("link-replaced", b"other")]
    assert done.troubles == []
    assert (rig.master / "same").is_symlink()
    assert (rig.master / "other").read_bytes() == b"22"
    assert (rig.home / "other").read_bytes() == b"xx"


def test_names_of_one_file_are_one_file_again_in_place(rig: Rig) -> None:
    (rig.copy / "a").write_bytes(b"1")
    (rig.copy / "sub").mkdir()
    os.link(rig.copy / "a", rig.copy / "sub/b")
    shutil.copytree(rig.copy, rig.master, dirs_exist_ok=True)
    assert in_place(rig)[0] == [("replaced", b"a"), ("replaced", b"sub/b")]
    assert (rig.master / "a").stat().st_ino == (rig.master / "sub/b").stat().st_ino
    assert in_place(rig)[0] == []
    (rig.master / "a").unlink()
    assert in_place(rig)[0] == [("new", b"a"), ("replaced", b"sub/b")]
    assert (rig.master / "a").stat().st_ino == (rig.master / "sub/b").stat().st_ino


# --- several drives, and what was left


class Lying:
    """A drive that lies open; see `recover.source.Source`."""

    state, safe_to_remove = DriveState.CLOSED, True

    def __init__(self, name: str, rig: Rig) -> None:
        self.name, self.uuid, self.top = name, f"uuid of {name}", rig.drive
        self.proofs = lambda: rig.proofs(name)

    @contextmanager
    def held(self) -> Iterator[Held]:
        root = os.open(self.top, os.O_RDONLY)
        try:
            yield Held(OnDrive(root), lambda: None)
        finally:
            os.close(root)


@pytest.fixture
def context(programs: Programs, clock: Callable[[], datetime], tmp_path: Path) -> Context:
    return Context(programs, StopSignals(), clock, lambda _event: None, Unattended(None), Paths(), "here")


@pytest.fixture
def two(make_btrfs: Callable[[str], Path], tmp_path: Path) -> tuple[Rig, Rig]:
    homes = [tmp_path / "one", tmp_path / "two"]
    for each in homes:
        each.mkdir()
    return Rig(make_btrfs("120M"), homes[0]), Rig(make_btrfs("120M"), homes[1])


def restored_from(rigs: tuple[Rig, Rig], context: Context, *paths: str) -> tuple[int, Finished]:
    told: list[Event] = []
    request = RestoreRequest(tuple(rigs[0].wanted(path) for path in paths), to=rigs[0].home / "back")
    context = replace(context, tell=told.append)
    sources = [Lying("green" if rig.home.name == "two" else "red", rig) for rig in rigs]
    code = restore_from(context, sources, [], request, elsewhere="plug in blue")
    last = told[-1]
    assert isinstance(last, Finished)
    assert last.exit_code == code
    return code, last


def test_what_the_first_drive_does_not_hold_comes_from_the_second(two: tuple[Rig, Rig], context: Context) -> None:
    (two[0].copy / "here").write_bytes(b"1")
    (two[1].copy / "there").write_bytes(b"22")
    code, last = restored_from(two, context, "here", "there")
    assert (code, last.result, last.safe_to_remove) == (0, "complete", True)
    assert [(each["path"], each["drive"]) for each in last.facts["restored"]] == [("here", "red"), ("there", "green")]
    assert sorted(os.listdir(two[0].home / "back")) == ["here", "there"]


@pytest.mark.parametrize("over", [False, True])
def test_several_files_go_back_into_one_directory_that_is_gone(
    two: tuple[Rig, Rig], context: Context, over: bool
) -> None:
    (two[0].copy / "photos/deep").mkdir(parents=True)
    names = ["photos/1.jpg", "photos/2.jpg", "photos/deep/3.jpg", "photos/deep/4.jpg"]
    for name in names:
        (two[0].copy / name).write_text(name)
    told: list[Event] = []
    request = RestoreRequest(tuple(map(two[0].wanted, names)), in_place=over, agreed=lambda: True)
    assert restore_from(replace(context, tell=told.append), [Lying("red", two[0])], [], request, elsewhere="") == 0
    assert os.listdir(two[0].master) == ["photos"]
    assert [(two[0].master / name).read_text() for name in names] == names
    assert isinstance(told[-1], Finished)
    assert told[-1].facts["restored"][1]["to"] == str(two[0].master / "photos/2.jpg")
    assert not staged(two[0].master)


def test_as_many_paths_as_a_shell_hands_over_are_planned(two: tuple[Rig, Rig], context: Context) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    names = [f"{count}.jpg" for count in range(800)]
    for name in names:
        (two[0].copy / name).touch()
    request = RestoreRequest(tuple(map(two[0].wanted, names)), dry_run=True)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    try:
        assert restore_from(context, [Lying("red", two[0])], [], request, elsewhere="") == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_file_that_is_not_what_another_drive_gave_is_restored_and_named(
    two: tuple[Rig, Rig], context: Context
) -> None:
    for rig, content in zip(two, (b"good", b"gOod"), strict=True):
        (rig.copy / "file").write_bytes(content)
        os.utime(rig.copy / "file", ns=(1, 1))
    assert restored_from(two, context, "file")[0] == 0
    code, last = restored_from(two[::-1], context, "file")
    (row,) = last.facts["unread"]
    assert (code, row["path"], len(last.facts["restored"])) == (14, "file", 1)
    assert "its content is not what was read on red on 2026-05-02" in row["why"]
    assert (two[1].home / "back/file").read_bytes() == b"gOod"


def test_what_no_drive_holds_is_named_and_the_rest_is_restored(two: tuple[Rig, Rig], context: Context) -> None:
    (two[1].copy / "there").write_bytes(b"22")
    code, last = restored_from(two, context, "there", "nowhere")
    assert (code, last.result, last.next_step) == (11, "incomplete", "plug in blue")
    assert [each["path"] for each in last.facts["unread"]] == ["nowhere"]
    assert os.listdir(two[0].home / "back") == ["there"]


def test_what_waits_of_a_restore_that_was_broken_off_is_named_until_it_is_gone(
    two: tuple[Rig, Rig], context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "other"):
        (two[0].copy / name).write_bytes(b"1")

    def broken(*_words: object) -> None:
        raise NotFinished("the disk went away")

    with monkeypatch.context() as patched:
        patched.setattr(Work, "_put", broken)
        code, last = restored_from(two, context, "one")
    (left,) = (two[0].home / "back").iterdir()
    assert (code, str(left) in last.next_step) == (10, True)
    told: list[Event] = []
    request = RestoreRequest((two[0].wanted("other"),), to=two[0].home / "back")
    noted = replace(context, tell=told.append)
    assert restore_from(noted, [Lying("red", two[0])], [], request, elsewhere="") == 0
    (remark,) = [each.remark.detail for each in told if isinstance(each, Remarked)]
    assert remark.startswith(f"{left} was left by a restore that was broken off")
    restored_from(two, context, "one")
    assert sorted(os.listdir(two[0].home / "back")) == ["one", "other"]
