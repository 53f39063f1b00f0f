"""The walk lists what rsync copies: the same master is copied by the real rsync, and kinds are compared path by path.

rsync stumbles over what the walk leaves out beforehand (loops, dangling links); these are told to it as exclusions.
"""

import os
import random
import re
import shutil
import stat
import subprocess

import pytest

from flashback.config.values import Rule, Symlinks
from flashback.walk.filter import Filter
from flashback.walk.listing import Entry, Kept, Kind
from flashback.walk.master import walk_master

pytestmark = pytest.mark.tools

ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}
OPTIONS = {Symlinks.FOLLOW: "--copy-links", Symlinks.EXTERNAL: "--copy-unsafe-links", Symlinks.KEEP: "--links"}
NAMES = [
    b"a",
    b"b",
    b"new\nline",
    b"[x]",
    b"back\\slash",
    b"*",
    b" ",
    b"\xff",
    b"-dash",
    b"#hash",
    b"x.o",
    b"build",
    b"a b",
    b"a.b",
]
RULES = [Rule(b"*.o"), Rule(b"build/"), Rule(b"/a/b"), Rule(b"b/a/*", include=True), Rule(b"\\[x]/**/b")]
KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.SYMLINK}


def planted(root, outside, seed):
    """A random master with links of every sort into itself and to `outside`."""
    chance = random.Random(seed)
    folders = [b""]
    for _ in range(14):
        folder = os.path.join(chance.choice(folders), chance.choice(NAMES))
        if not os.path.lexists(os.path.join(root, folder)):
            os.mkdir(os.path.join(root, folder))
            folders.append(folder)
    made = list(folders)
    for _ in range(40):
        path = os.path.join(chance.choice(folders), chance.choice(NAMES))
        full = os.path.join(root, path)
        if os.path.lexists(full):
            continue
        if chance.random() < 0.5:
            with open(full, "wb") as file:
                file.write(b"x" * chance.randrange(9000))
            made.append(path)
        else:
            os.symlink(_target(chance, root, outside, made, path), full)


def _target(chance, root, outside, made, path):
    inside = os.path.join(root, chance.choice(made))
    up = b"../" * path.count(b"/")
    return chance.choice(
        [
            os.path.relpath(inside, os.path.dirname(os.path.join(root, path))),
            inside,
            os.path.join(outside, chance.choice([b"d", b"f", b"d/inner", b"gone"])),
            up + b"../outside/" + chance.choice([b"d", b"f"]),
            up + b"a/../b",
            b"nowhere",
            b"..",
            b".",
            b"a",
        ]
    )


@pytest.fixture
def master(tmp_path):
    outside = tmp_path / "outside"
    (outside / "d" / "inner").mkdir(parents=True)
    (outside / "f").write_bytes(b"f")
    (outside / "d" / "inner" / "g").write_bytes(b"g")
    (outside / "d" / "l").symlink_to("inner")
    (outside / "d" / "out").symlink_to("/etc/hostname")
    (tmp_path / "master").mkdir()
    return os.fsencode(tmp_path / "master")


def listed(master, symlinks, rules):
    fd = os.open(master, os.O_RDONLY)
    items = list(walk_master(fd, filter=Filter(rules), symlinks=symlinks, remark=lambda _remark: None))
    os.close(fd)
    entries = {item.path: item for item in items if isinstance(item, Entry)}
    return entries, [item.path for item in items if isinstance(item, Kept)]


def exactly(path):
    """An exclusion of this path and nothing else (LINUX.md 5.1)."""
    return b"- /" + (re.sub(rb"([*?\[\\])", rb"\\\1", path) if re.search(rb"[*?\[]", path) else path)


def on_disk(root):
    found = {}
    for top, folders, files in os.walk(root):
        for name in folders + files:
            full = os.path.join(top, name)
            found[os.path.relpath(full, root)] = KINDS[stat.S_IFMT(os.lstat(full).st_mode)]
    return found


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("symlinks", Symlinks)
def test_rsync_copies_what_the_walk_lists(master, tmp_path, symlinks, seed):
    planted(master, os.fsencode(tmp_path / "outside"), seed)
    rules = RULES[: seed % (len(RULES) + 1)]
    entries, kept = listed(master, symlinks, rules)
    told = [exactly(path) for path in kept] + [(b"+ " if rule.include else b"- ") + rule.pattern for rule in rules]
    argv = [
        "rsync",
        "-a",
        "--modify-window=-1",
        OPTIONS[symlinks],
        "-0",
        "--exclude-from=-",
        "--",
        master + b"/",
        tmp_path / "copy",
    ]
    answer = subprocess.run(argv, input=b"\0".join(told), capture_output=True, env=ENVIRONMENT, check=False)
    assert (answer.returncode, answer.stderr) == (0, b"")
    copied = on_disk(os.fsencode(tmp_path / "copy"))
    assert {path: entry.kind for path, entry in entries.items() if path} == copied
    for path, entry in entries.items():
        at = os.lstat(os.path.join(os.fsencode(tmp_path / "copy"), path))
        assert (path, entry.mode, entry.uid, entry.gid, entry.mtime_ns) == (
            path,
            at.st_mode & 0o7777,
            at.st_uid,
            at.st_gid,
            at.st_mtime_ns,
        )
        assert entry.kind is not Kind.FILE or entry.size == at.st_size


@pytest.mark.parametrize("symlinks", Symlinks)
def test_rsync_takes_the_listed_paths_one_by_one(master, tmp_path, symlinks):
    planted(master, os.fsencode(tmp_path / "outside"), 99)
    entries, _kept = listed(master, symlinks, [])
    argv = ["rsync", "-a", OPTIONS[symlinks], "--from0", "--files-from=-", "--", master + b"/", tmp_path / "copy"]
    # `./`, since rsync takes a name that begins with `#` or `;` for a comment, NUL-separated or not.
    names = b"\0".join(b"./" + path for path in entries if path)
    answer = subprocess.run(argv, input=names, capture_output=True, env=ENVIRONMENT, check=False)
    assert (answer.returncode, answer.stderr) == (0, b"")
    assert on_disk(os.fsencode(tmp_path / "copy")) == {path: entry.kind for path, entry in entries.items() if path}


def test_rsync_and_the_walk_agree_which_links_leave_the_master(master, tmp_path):
    chance = random.Random(5)
    steps = [b"..", b".", b"a", b"b", b"", b"..b"]
    folders = [b"", b"a/", b"a/b/"]
    os.makedirs(os.path.join(master, b"a/b/a/b"))
    for number in range(300):
        target = b"/".join(chance.choice(steps) for _ in range(chance.randint(1, 5)))
        if target and not target.startswith(b"/"):
            os.symlink(target, os.path.join(master, folders[number % 3], b"l%d" % number))
    entries, kept = listed(master, Symlinks.EXTERNAL, [Rule(b"l*/*")])
    told = b"\0".join([*map(exactly, kept), b"l*/*"])
    argv = ["rsync", "-a", "--copy-unsafe-links", "-0", "--exclude-from=-", "--", master + b"/", tmp_path / "copy"]
    subprocess.run(argv, input=told, capture_output=True, env=ENVIRONMENT, check=True)
    assert on_disk(os.fsencode(tmp_path / "copy")) == {path: entry.kind for path, entry in entries.items() if path}
    shutil.rmtree(tmp_path / "copy")
