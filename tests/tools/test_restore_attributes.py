"""ACLs and extended attributes are part of what is there: what lost them is not taken for equal, and comes back."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from flashback.core.events import Remarked
from flashback.recover.parts import Owner
from tests.conftest import run
from tests.tools.test_restore import Rig, in_place

NOTE = "user.note"


@pytest.fixture
def rig(btrfs_image: Path, tmp_path: Path) -> Rig:
    """A file and a directory with an attribute and an ACL each, as they are on the drive; the same in the master."""
    (tmp_path / "home").mkdir()
    rig = Rig(btrfs_image, tmp_path / "home")
    (rig.copy / "folder").mkdir()
    (rig.copy / "file").write_bytes(b"1")
    (rig.copy / "link").symlink_to("file")
    for path in (rig.copy / "folder", rig.copy / "file"):
        os.setxattr(path, NOTE, b"\0\xff")
        os.setxattr(path, "user.empty", b"")
        os.setxattr(path, "trusted.note", b"1")
        run("setfacl", "-m", "u:4321:rx,m::rx", path)
    run("setfacl", "-m", "d:u:4321:rwx", rig.copy / "folder")
    os.setxattr(rig.copy / "link", "trusted.note", b"1", follow_symlinks=False)
    os.setxattr(rig.copy / "file", "security.capability", bytes.fromhex("0000000200040000000000000000000000000000"))
    run("rsync", "-aAX", f"{rig.copy}/", f"{rig.master}/")
    return rig


def lost(rig: Rig, path: str, what: str) -> None:
    os.removexattr(rig.master / path, what, follow_symlinks=False)


OF_FILES = [NOTE, "user.empty", "trusted.note", "security.capability", "system.posix_acl_access"]
OF_DIRECTORIES = [NOTE, "trusted.note", "system.posix_acl_access", "system.posix_acl_default"]


@pytest.mark.parametrize("what", OF_FILES)
def test_a_file_that_lost_an_attribute_comes_beside_once(rig: Rig, what: str) -> None:
    assert rig.restore("file")[0].part.already == b"file"
    lost(rig, "file", what)
    (rig.master / "file").chmod(stat.S_IMODE((rig.copy / "file").stat().st_mode))
    assert rig.restore("file")[0].name == b"file.restored-20260103T000000Z"
    assert rig.restore("file")[0].part.already == b"file.restored-20260103T000000Z"


@pytest.mark.parametrize(
    ("path", "how", "what"),
    [("link", "replaced", "trusted.note")]
    + [("file", "replaced", each) for each in OF_FILES]
    + [("folder", "attributes", each) for each in OF_DIRECTORIES],
)
def test_a_lost_attribute_comes_back_in_place_once(rig: Rig, path: str, how: str, what: str) -> None:
    assert in_place(rig)[0] == []
    value = os.getxattr(rig.master / path, what, follow_symlinks=False)
    lost(rig, path, what)
    changes, (done,) = in_place(rig)
    assert (changes, done.troubles) == ([(how, os.fsencode(path))], [])
    assert os.getxattr(rig.master / path, what, follow_symlinks=False) == value
    assert in_place(rig)[0] == []


@pytest.mark.parametrize(("path", "how"), [("file", "replaced"), ("folder", "attributes")])
def test_what_was_added_is_not_there_after_a_restore_in_place(rig: Rig, path: str, how: str) -> None:
    os.setxattr(rig.master / path, "user.added", b"1")
    run("setfacl", "-m", "u:77:rwx", rig.master / path)
    assert in_place(rig)[0] == [(how, os.fsencode(path))]
    assert "user.added" not in os.listxattr(rig.master / path)
    assert (rig.master / path).stat().st_mode == (rig.copy / path).stat().st_mode
    assert in_place(rig)[0] == []


def test_a_directory_that_has_no_acl_on_the_drive_loses_the_one_it_has(rig: Rig) -> None:
    run("setfacl", "-b", "-k", rig.copy / "folder")
    (rig.copy / "folder").chmod(0o750)
    assert in_place(rig)[0] == [("attributes", b"folder")]
    assert not any("acl" in each for each in os.listxattr(rig.master / "folder"))
    assert stat.S_IMODE((rig.master / "folder").stat().st_mode) == 0o750
    assert in_place(rig)[0] == []


def test_what_a_directory_hands_down_is_not_left_on_what_comes_into_it(rig: Rig) -> None:
    run("setfacl", "-m", "d:u:99:rwx", rig.home)
    rig.restore(to=rig.home)
    assert rig.restore(to=rig.home)[0].part.already == b"documents"


def test_what_was_given_to_another_owner_is_not_restored_again(rig: Rig) -> None:
    rig.restore(to=rig.home, owner=Owner(77, 88))
    assert rig.restore(to=rig.home, owner=Owner(77, 88))[0].part.already == b"documents"


def test_the_label_that_a_machine_gives_is_no_difference(rig: Rig) -> None:
    os.setxattr(rig.copy / "file", "security.note", b"1")
    assert in_place(rig)[0] == []


def test_where_the_file_system_keeps_no_attributes_that_is_said_and_a_second_restore_has_nothing_to_do(
    rig: Rig, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    run("mount", "-t", "ramfs", "none", plain)
    try:
        rig.restore(to=plain)
        assert any(isinstance(each, Remarked) and "all attributes" in each.remark.detail for each in rig.events)
        assert rig.restore(to=plain)[0].part.already == b"documents"
    finally:
        run("umount", plain)
