"""The walk of a master and of a drive's copy, on real files, in this process."""

import gc
import os
import socket
import struct
import subprocess
import tempfile

import pytest

from flashback.config.values import Rule, Symlinks
from flashback.core.events import RemarkKind
from flashback.walk.filter import Filter
from flashback.walk.listing import Entry, Kept, Kind, order
from flashback.walk.markers import CACHE_SIGNATURE
from flashback.walk.master import walk_incumbent, walk_master

pytestmark = pytest.mark.tools

ODD = [b"new\nline", b"[", b"\\", b"*", b" blank ", b"\xff\xfe", b"-x", b"#x", b"x" * 255, b"\xc3\xa9", b"\x01"]


class Walked:
    def __init__(self, root, patterns=(), symlinks=Symlinks.FOLLOW, **more):
        self.remarks = []
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        rules = Filter([Rule(pattern) for pattern in patterns])
        gc.collect()  # what an earlier test left to it must not be closed in between
        before = len(os.listdir("/proc/self/fd"))
        self.items = list(walk_master(fd, filter=rules, symlinks=symlinks, remark=self.remarks.append, **more))
        assert len(os.listdir("/proc/self/fd")) == before
        os.close(fd)
        self.entries = {item.path: item for item in self.items if isinstance(item, Entry)}
        self.kept = {item.path for item in self.items if isinstance(item, Kept)}

    def kinds(self):
        return {path: entry.kind for path, entry in self.entries.items() if path}

    def said(self):
        return {(remark.kind, remark.path) for remark in self.remarks}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "master").mkdir()
    return tmp_path / "master"


def write(root, *paths, content=b"x"):
    for path in paths:
        full = os.path.join(os.fsencode(root), os.fsencode(path))
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "wb") as file:
            file.write(content)


def test_odd_names_are_listed_as_they_are(root):
    write(root, *ODD, *(b"dir\n" + name + b"/" + name for name in ODD[:-4]))
    assert set(Walked(root).entries) >= {*ODD, *(b"dir\n" + name + b"/" + name for name in ODD[:-4])}


def test_the_stream_is_sorted_and_begins_with_the_root(root):
    write(root, *ODD, "a/x", "a b", "a.b", "a/y/z", "ab/c")
    os.symlink("nowhere", root / "a.c")
    paths = [item.path for item in Walked(root).items]
    assert paths[0] == b""
    assert paths == sorted(set(paths), key=order)


def test_an_entry_holds_what_the_file_system_says(root):
    write(root, "f", content=b"x" * 5000)
    os.chmod(root / "f", 0o4751)
    os.chown(root / "f", 12, 34)
    os.link(root / "f", root / "g")
    at = os.stat(root / "f")
    f = Walked(root).entries[b"f"]
    assert (f.kind, f.mode, f.uid, f.gid, f.size, f.nlink) == (Kind.FILE, at.st_mode & 0o7777, 12, 34, 5000, 2)
    assert (f.mtime_ns, f.ctime_ns, f.dev, f.ino, f.blocks) == (
        at.st_mtime_ns,
        at.st_ctime_ns,
        at.st_dev,
        at.st_ino,
        at.st_blocks,
    )
    assert Walked(root).entries[b"g"].ino == f.ino


def test_excluded_paths_are_in_no_listing_and_nothing_below_them_is(root):
    write(root, "a.o", "build/x", "keep/build", "keep/y")
    walked = Walked(root, [b"*.o", b"build/"])
    assert set(walked.entries) == {b"", b"keep", b"keep/build", b"keep/y"}
    assert not walked.kept


def test_a_followed_link_appears_as_its_target(root, tmp_path):
    write(tmp_path, "outside/x", content=b"12345")
    os.symlink(tmp_path / "outside", root / "dir")
    os.symlink(tmp_path / "outside/x", root / "file")
    walked = Walked(root)
    assert walked.kinds() == {b"dir": Kind.DIRECTORY, b"dir/x": Kind.FILE, b"file": Kind.FILE}
    assert walked.entries[b"file"].size == 5
    assert walked.entries[b"file"].ino == os.stat(tmp_path / "outside/x").st_ino


def test_a_rule_for_directories_meets_a_followed_link_to_one(root, tmp_path):
    write(tmp_path, "outside/x")
    os.symlink(tmp_path / "outside", root / "build")
    os.symlink(tmp_path / "outside/x", root / "dist")
    assert Walked(root, [b"build/", b"dist/"]).kinds() == {b"dist": Kind.FILE}


def test_a_rule_for_directories_spares_a_link_that_is_kept(root, tmp_path):
    os.symlink(tmp_path, root / "build")
    assert Walked(root, [b"build/"], Symlinks.KEEP).kinds() == {b"build": Kind.SYMLINK}


def test_a_dangling_link_is_a_remark_and_its_copy_is_kept(root):
    os.symlink("nowhere", root / "l")
    walked = Walked(root)
    assert walked.kept == {b"l"}
    assert walked.said() == {(RemarkKind.DANGLING_LINK, b"l")}


@pytest.mark.parametrize("pattern", [b"l", b"l/"])
def test_an_excluded_dangling_link_is_not_mentioned(root, pattern):
    os.symlink("nowhere", root / "l")
    walked = Walked(root, [pattern])
    assert not walked.remarks
    assert not walked.kept


def test_links_that_loop_are_remarks(root):
    write(root, "d/x")
    os.symlink("self", root / "self")
    os.symlink("..", root / "d/up")
    os.symlink(".", root / "here")
    walked = Walked(root)
    assert walked.kept == {b"self", b"d/up", b"here"}
    assert {kind for kind, _path in walked.said()} == {RemarkKind.LOOPING_LINK}
    assert walked.kinds() == {b"d": Kind.DIRECTORY, b"d/x": Kind.FILE}


def test_a_loop_that_a_plain_directory_closes_is_found(root, tmp_path):
    write(tmp_path, "beside")
    os.symlink(tmp_path, root / "l")
    walked = Walked(root)
    assert walked.kinds() == {b"l": Kind.DIRECTORY, b"l/beside": Kind.FILE}
    assert walked.said() == {(RemarkKind.LOOPING_LINK, b"l/master")}


def test_two_links_to_one_directory_are_two_copies(root):
    write(root, "d/x")
    os.symlink("d", root / "e")
    assert Walked(root).kinds()[b"e/x"] is Kind.FILE


def test_more_links_on_a_way_than_the_kernel_follows_are_left_out(root, tmp_path):
    for number in range(45):
        os.mkdir(tmp_path / f"d{number}")
    for number in range(44):
        os.symlink(tmp_path / f"d{number + 1}", tmp_path / f"d{number}" / "l")
    os.symlink(tmp_path / "d0", root / "l")
    walked = Walked(root)
    assert walked.kept == {b"/".join([b"l"] * 41)}
    assert os.path.isdir(os.fsencode(root) + b"/" + b"/".join([b"l"] * 40))
    assert not os.path.isdir(os.fsencode(root) + b"/" + b"/".join([b"l"] * 41))


def test_external_follows_only_what_leaves_the_master(root, tmp_path):
    write(root, "d/x")
    write(tmp_path, "out")
    for name, target in [
        ("abs", tmp_path / "out"),
        ("up", "../out"),
        ("in", "d/x"),
        ("d/in", "../d"),
        ("dangling", "no"),
        ("gone", "/no"),
    ]:
        os.symlink(target, root / name)
    walked = Walked(root, symlinks=Symlinks.EXTERNAL)
    link, file = Kind.SYMLINK, Kind.FILE
    assert walked.kinds() == {
        b"abs": file, b"up": file, b"in": link, b"d": Kind.DIRECTORY, b"d/in": link, b"d/x": file, b"dangling": link,
    }  # fmt: skip
    assert walked.said() == {(RemarkKind.DANGLING_LINK, b"gone")}
    assert walked.entries[b"d/in"].target == b"../d"


def test_keep_keeps_every_link_and_remarks_nothing(root):
    os.symlink(b"\xff\n", os.fsencode(root) + b"/l")
    os.symlink("l2", root / "l2")
    walked = Walked(root, symlinks=Symlinks.KEEP)
    assert walked.entries[b"l"].target == b"\xff\n"
    assert walked.entries[b"l"].size == 0
    assert set(walked.kinds().values()) == {Kind.SYMLINK}
    assert not walked.remarks


def test_a_tagged_cache_keeps_only_its_tag(root):
    write(root, "c/CACHEDIR.TAG", content=CACHE_SIGNATURE + b"\n# more")
    write(root, "c/x", "c/d/y")
    assert set(Walked(root).entries) == {b"", b"c", b"c/CACHEDIR.TAG"}
    assert not Walked(root).kept


def test_an_excluded_tag_still_counts(root):
    write(root, "c/CACHEDIR.TAG", content=CACHE_SIGNATURE)
    write(root, "c/x")
    assert set(Walked(root, [b"CACHEDIR.TAG"]).entries) == {b"", b"c"}


@pytest.mark.parametrize("content", [b"", CACHE_SIGNATURE[:-1], b" " + CACHE_SIGNATURE])
def test_a_tag_without_the_signature_means_nothing(root, content):
    write(root, "c/CACHEDIR.TAG", content=content)
    write(root, "c/x")
    assert b"c/x" in Walked(root).entries


def test_a_tag_that_is_a_link_or_a_pipe_means_nothing(root):
    write(root, "tag", content=CACHE_SIGNATURE)
    write(root, "c/x", "d/x")
    os.symlink("../tag", root / "c/CACHEDIR.TAG")
    os.mkfifo(root / "d/CACHEDIR.TAG")
    assert {b"c/x", b"d/x"} <= set(Walked(root).entries)


def test_nobackup_keeps_out_everything_but_itself(root):
    write(root, "d/.nobackup", "d/x", "d/sub/y", "e/x")
    assert set(Walked(root).entries) == {b"", b"d", b"d/.nobackup", b"e", b"e/x"}


def test_nobackup_as_a_directory_is_kept_empty(root):
    write(root, "d/.nobackup/x", "d/y")
    assert set(Walked(root).entries) == {b"", b"d", b"d/.nobackup"}


@pytest.mark.parametrize("marker", [".nobackup", "CACHEDIR.TAG"])
def test_a_marker_in_the_master_itself_is_ignored_with_a_remark(root, marker):
    write(root, marker, content=CACHE_SIGNATURE)
    write(root, "x")
    walked = Walked(root)
    assert b"x" in walked.entries
    assert walked.said() == {(RemarkKind.GENERAL, os.fsencode(marker))}


def test_pipes_and_devices_are_remarks_and_sockets_one_remark_together(root):
    os.mkfifo(root / "pipe")
    os.mknod(root / "null", 0o020666, os.makedev(1, 3))
    for name in ("s1", "s2"):
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(root / name))
    walked = Walked(root)
    assert walked.kept == {b"pipe", b"null", b"s1", b"s2"}
    assert walked.said() == {(RemarkKind.SPECIAL_FILE, path) for path in (b"pipe", b"null", b"")}
    assert walked.remarks[-1].detail == "2 sockets left out"


def test_a_link_to_a_device_is_left_out_too(root):
    os.symlink("/dev/null", root / "l")
    assert Walked(root).kept == {b"l"}


def test_a_directory_to_be_avoided_is_not_entered_by_whatever_way(root):
    write(root, "mnt/x", "y")
    os.symlink("mnt", root / "l")
    at = os.stat(root / "mnt")
    walked = Walked(root, avoid=frozenset({(at.st_dev, at.st_ino)}))
    assert walked.kept == {b"mnt", b"l"}
    assert {(remark.kind, remark.path) for remark in walked.remarks} == {
        (RemarkKind.GENERAL, b"mnt"),
        (RemarkKind.GENERAL, b"l"),
    }


def deep(root, length, leaf=b"f"):
    """A file whose path has `length` bytes; returns it."""
    fd = os.open(root, os.O_RDONLY)
    path = b""
    while length - len(path) > 250:
        os.mkdir(b"d" * 199, dir_fd=fd)
        below = os.open(b"d" * 199, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd, path = below, path + b"d" * 199 + b"/"
    name = leaf * (length - len(path))
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    return path + name


@pytest.mark.parametrize(("length", "copied"), [(4090, True), (4091, False), (4300, False)])
def test_a_path_longer_than_rsync_can_copy_is_kept_with_a_remark(root, length, copied):
    path = deep(root, length)
    walked = Walked(root)
    assert (path in walked.entries) is copied
    assert bool(walked.kept) is not copied
    assert {kind for kind, _path in walked.said()} == (set() if copied else {RemarkKind.NAME_TOO_LONG})


@pytest.fixture
def deep_root():
    """A tree that Python's own rmtree, which pytest clears up with, is too deep in."""
    root = tempfile.mkdtemp(prefix="flashback-deep-")
    fd = os.open(root, os.O_RDONLY)
    for _ in range(2040):
        os.mkdir(b"d", dir_fd=fd)
        below = os.open(b"d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    yield root
    subprocess.run(["rm", "-rf", "--", root], check=True)


def test_a_tree_of_two_thousand_levels_is_walked(deep_root):
    assert b"/".join([b"d"] * 2040) in Walked(deep_root).entries
    fd = os.open(deep_root, os.O_RDONLY)
    assert sum(1 for _ in walk_incumbent(fd)) == 2041
    os.close(fd)


def acl(*users):
    """A POSIX ACL as its attribute holds it (linux/posix_acl_xattr.h)."""
    entries = [(1, 6, -1), *((2, 6, user) for user in users), (4, 4, -1), (16, 6, -1), (32, 4, -1)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


def test_attributes_and_acls_show_in_the_digest_and_others_do_not(root):
    write(root, "plain", "a", "b", "c", "d")
    os.setxattr(root / "a", "user.x", b"1")
    os.setxattr(root / "b", "user.x", b"2")
    os.setxattr(root / "c", "system.posix_acl_access", acl(7))
    os.setxattr(root / "d", "trusted.x", b"1")
    digests = {path: entry.xattrs for path, entry in Walked(root).entries.items()}
    assert digests[b"plain"] == digests[b"d"] == b""
    assert len({digests[b"a"], digests[b"b"], digests[b"c"], b""}) == 4
    assert len(digests[b"a"]) == 16


def test_equal_attributes_have_equal_digests_on_both_sides(root):
    write(root, "a")
    for name in ("user.b", "user.a", "security.x"):
        os.setxattr(root / "a", name, name.encode())
    os.setxattr(root, "system.posix_acl_default", acl(7, 8))
    fd = os.open(root, os.O_RDONLY)
    copy = {entry.path: entry.xattrs for entry in walk_incumbent(fd)}
    os.close(fd)
    assert copy == {path: entry.xattrs for path, entry in Walked(root).entries.items()}
    assert copy[b""]


def test_of_what_a_followed_link_leads_to_the_acl_counts_and_nothing_that_rsync_does_not_carry(root):
    write(root, "a", "d/x")
    os.setxattr(root / "a", "user.x", b"1")
    os.setxattr(root / "d", "user.x", b"1")
    os.symlink("a", root / "l")
    os.symlink("d", root / "m")
    entries = Walked(root).entries
    assert entries[b"a"].xattrs != b"" == entries[b"l"].xattrs
    assert entries[b"d"].xattrs != b"" == entries[b"m"].xattrs
    subprocess.run(["setfacl", "-m", "u:12:r", root / "a", root / "d"], check=True)
    with_acl = Walked(root).entries
    assert with_acl[b"l"].xattrs != b"" != with_acl[b"m"].xattrs
    os.removexattr(root / "a", "user.x")
    assert Walked(root).entries[b"a"].xattrs == with_acl[b"l"].xattrs
    assert Walked(root, symlinks=Symlinks.KEEP).entries[b"l"].xattrs == b""


def test_attributes_are_not_asked_for_when_nobody_wants_them(root):
    write(root, "a")
    os.setxattr(root / "a", "user.x", b"1")
    assert not any(entry.xattrs for entry in Walked(root, with_xattrs=False).entries.values())


def test_a_file_that_vanishes_while_its_directory_is_read_is_a_remark(root):
    write(root, "a", "b", "d/x")
    remarks = []
    fd = os.open(root, os.O_RDONLY)
    walk = walk_master(fd, filter=Filter([]), symlinks=Symlinks.FOLLOW, remark=remarks.append)
    assert next(walk).path == b""
    os.unlink(root / "b")
    os.unlink(root / "d/x")
    os.rmdir(root / "d")
    assert [type(item) for item in walk] == [Entry, Kept, Kept]
    assert [(remark.kind, remark.path) for remark in remarks] == [
        (RemarkKind.VANISHED, b"b"),
        (RemarkKind.VANISHED, b"d"),
    ]
    os.close(fd)


def test_a_walk_that_is_left_early_closes_what_it_opened(root):
    write(root, "a/b/c/d")
    fd = os.open(root, os.O_RDONLY)
    before = os.listdir("/proc/self/fd")
    walk = walk_master(fd, filter=Filter([]), symlinks=Symlinks.FOLLOW, remark=print)
    for _ in range(4):
        next(walk)
    walk.close()
    assert os.listdir("/proc/self/fd") == before
    os.close(fd)


def test_the_working_directory_stays_where_it_was(root):
    write(root, "a/b")
    before = os.getcwd()
    Walked(root)
    assert os.getcwd() == before


def test_a_drive_shows_everything_that_is_on_it(root):
    write(root, ".nobackup", "x/CACHEDIR.TAG", "x/y", content=CACHE_SIGNATURE)
    os.symlink("/", root / "l")
    os.mkfifo(root / "pipe")
    fd = os.open(root, os.O_RDONLY)
    kinds = {entry.path: entry.kind for entry in walk_incumbent(fd)}
    os.close(fd)
    assert kinds == {
        b"": Kind.DIRECTORY, b".nobackup": Kind.FILE, b"x": Kind.DIRECTORY, b"x/CACHEDIR.TAG": Kind.FILE,
        b"x/y": Kind.FILE, b"l": Kind.SYMLINK, b"pipe": Kind.OTHER,
    }  # fmt: skip


def test_another_file_system_on_a_drive_is_not_entered():
    fd = os.open("/", os.O_RDONLY)
    walk = walk_incumbent(fd, with_xattrs=False)
    for entry in walk:
        if entry.path == b"proc":
            break
        assert not entry.path.startswith(b"proc/")
    assert entry.kind is Kind.OTHER
    assert not next(walk).path.startswith(b"proc/")
    walk.close()
    os.close(fd)
