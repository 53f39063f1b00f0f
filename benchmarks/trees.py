"""Trees from a seed, days of work on them, and how two trees are held against each other with tools of others.

`plant` makes a master with every kind of name and metadata that a backup has to carry, `work` does to it what a day
does to a home (and more), `differences` compares two trees by rsync, find, getfacl and getfattr: nothing of Flashback's
has a say in it. Used by benchmarks/copying.py and by tests/tools/test_whole_trees.py.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import struct
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}
OWNERS = [(1000, 1000), (1000, 1000), (1000, 1000), (1000, 100), (1001, 1001), (0, 0), (4_000_000_000, 12)]
RULES = [b"*.o", b"cache/", b"/top only", b"d0*/**/never", b"Thumbs.db"]
"""Exclusions, in rsync's words."""
ODD = [
    b"new\nline",
    b"\xff\xfe",
    b"n" * 255,
    b"\xc3\xa9" * 127,
    b"#hash",
    b";semicolon",
    b"- minus",
    b"+ plus",
    b"-rf",
    b" blank ",
    b"tab\t",
    b"cr\r",
    b"back\\slash",
    b"\\#012",
    b"[x]",
    b"a*",
    b"what?",
    b"...",
    b"..x",
    b".hidden",
    b"~",
    b"$HOME",
    b"\x01",
    b"\x7f",
    b"a" * 200,
    b".a.o.Ab12Cd",
    b"quote\"'",
    b"Caf\xe9",
    b"%n%n",
    b"@",
]
MTIME = 1_700_000_000


@dataclass(slots=True)
class Tree:
    """A master at `root`, and what its links point to outside of it. `deep` paths were made below `root` as well."""

    root: bytes
    outside: bytes
    chance: random.Random
    directories: list[bytes] = field(default_factory=lambda: [b""])
    files: list[bytes] = field(default_factory=list)
    links: list[bytes] = field(default_factory=list)
    blob: bytes = b""
    made: int = 0
    clock: int = MTIME * 10**9

    def at(self, path: bytes) -> bytes:
        return os.path.join(self.root, path) if path else self.root

    def free(self, path: bytes) -> bool:
        return not os.path.lexists(self.at(path))

    def fresh(self, ending: bytes = b"") -> bytes:
        self.made += 1
        return b"%s %06d%s" % (self.chance.choice([b"letter", b"IMG", b"notes", b"invoice"]), self.made, ending)

    def now(self) -> tuple[int, int]:
        """A time with nanoseconds; it goes on by less than a second or by hours."""
        self.clock += self.chance.choice([1, 1000, 10**6, 10**9 + 7, 3600 * 10**9 + 123_456_789])
        return (self.clock, self.clock)

    def content(self, size: int) -> bytes:
        """Half of it can be compressed."""
        start = self.chance.randrange(max(1, len(self.blob) - size)) if size < len(self.blob) else 0
        body = self.blob[start : start + size]
        return body + bytes(size - len(body))


def owner_acl(chance: random.Random) -> bytes:
    """The value of system.posix_acl_access (linux/posix_acl_xattr.h): one user more, readable by all."""
    none = 0xFFFFFFFF
    user = chance.randrange(2000, 2100)
    entries = [(1, 7, none), (2, 6, user), (4, 5, none), (8, 5, 3000), (0x10, 7, none), (0x20, 5, none)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


# --- planting


def plant(root: bytes, outside: bytes, *, files: int, seed: int = 1, bytes_in_all: int | None = None) -> Tree:
    """Make a master of so many files, `bytes_in_all` in size (default: 20 kB each), with every kind of metadata."""
    chance = random.Random(seed)
    tree = Tree(root, outside, chance)
    tree.blob = chance.randbytes(2 << 20) + b"".join(b"%d lines of text\n" % n for n in range(150_000))
    os.makedirs(root, exist_ok=True)
    _outside(tree)
    mean = (bytes_in_all or files * 20_000) / files
    while tree.made < files - 200:
        _folder(tree, mean)
    _zoo(tree, files)
    _links(tree, max(20, files // 200))
    _hard_links(tree, max(12, files // 300))
    _dress(tree, files)
    for directory in sorted(tree.directories, reverse=True):
        os.utime(tree.at(directory), ns=tree.now())
    os.chown(root, 1000, 1000)
    os.chmod(root, 0o755)
    return tree


def _outside(tree: Tree) -> None:
    """What links lead to."""
    folder = os.path.join(tree.outside, b"shared", b"inner")
    os.makedirs(folder)
    for number, name in enumerate([b"one", b"two\n", b"three.o"]):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(b"outside" * (number * 999 + 1))
    os.link(os.path.join(folder, b"one"), os.path.join(tree.outside, b"shared", b"uno"))
    os.symlink(b"inner", os.path.join(tree.outside, b"shared", b"again"))
    for name in (tree.outside, os.path.join(tree.outside, b"shared"), folder):
        os.chmod(name, 0o755)


def _folder(tree: Tree, mean: float) -> None:
    """A directory of a few files, somewhere."""
    chance = tree.chance
    above = chance.choice(tree.directories[-200:])
    if above.count(b"/") > 7:
        above = b""
    folder = os.path.join(above, b"d%05d %s" % (len(tree.directories), chance.choice(ODD)[:40]))
    os.mkdir(tree.at(folder))
    tree.directories.append(folder)
    for _ in range(chance.randrange(0, 40)):
        size = int(chance.lognormvariate(0, 1.7) * mean / 4.24) if chance.random() > 0.03 else 0
        add_file(tree, os.path.join(folder, tree.fresh(chance.choice([b".jpg", b".txt", b".o", b"", b".pdf"]))), size)


def add_file(tree: Tree, path: bytes, size: int) -> None:
    full = tree.at(path)
    with open(full, "wb") as file:
        file.write(tree.content(size))
    os.chown(full, *tree.chance.choice(OWNERS))
    os.chmod(full, tree.chance.choice([0o644, 0o644, 0o664, 0o755, 0o444]))
    os.utime(full, ns=tree.now())
    tree.files.append(path)


def _zoo(tree: Tree, files: int) -> None:
    """Odd names at the top and below, deep paths, empty directories, excluded things, sparse and big files."""
    for folder in (b"", b"odd"):
        if folder:
            _directory(tree, folder)
        for name in ODD:
            add_file(tree, os.path.join(folder, name), 10)
        _directory(tree, os.path.join(folder, b"odd directories"))
        for name in ODD:
            below = os.path.join(folder, b"odd directories", name)
            _directory(tree, below)
            add_file(tree, os.path.join(below, name), 3)
    deep = b""
    while len(deep) < 3400:
        deep = os.path.join(deep, b"level %03d " % deep.count(b"/") + b"-" * 60)
        _directory(tree, deep)
    add_file(tree, os.path.join(deep, b"at the bottom"), 100)
    for number in range(max(5, files // 500)):
        _directory(tree, b"empty %d" % number)
    for path in (b"top only", b"odd/top only", b"odd/Thumbs.db", b"odd/x.o"):
        add_file(tree, path, 9)
    for path in (b"cache", b"odd/cache", b"odd/cache/deep", b"never"):
        _directory(tree, path)
        add_file(tree, os.path.join(path, b"f"), 9)
    sparse(tree, b"sparse", 16 << 20)
    add_file(tree, b"big", 12 << 20)


def _directory(tree: Tree, path: bytes) -> None:
    if tree.free(path):
        os.mkdir(tree.at(path))
        os.chown(tree.at(path), *tree.chance.choice(OWNERS))
        os.chmod(tree.at(path), 0o755)
        tree.directories.append(path)


def sparse(tree: Tree, path: bytes, size: int) -> None:
    with open(tree.at(path), "wb") as file:
        for place in sorted(tree.chance.sample(range(size // 65536), 5)):
            file.seek(place * 65536)
            file.write(tree.content(70_000))
        file.truncate(size)
    os.utime(tree.at(path), ns=tree.now())
    tree.files.append(path)


def _links(tree: Tree, count: int) -> None:
    """Links of every kind that leads somewhere, and does not lead in a circle."""
    chance = tree.chance
    _directory(tree, b"links")
    shared = os.path.join(tree.outside, b"shared")
    targets = [shared, os.path.join(shared, b"inner", b"one"), os.path.join(shared, b"uno"), shared + b"/./inner"]
    for number in range(count):
        inside = chance.choice(tree.files)
        above = os.path.dirname(inside)
        target = chance.choice(
            [
                *targets,
                os.path.relpath(tree.at(inside), tree.at(b"links")),
                tree.at(inside),
                b"../links/../links/" + os.path.relpath(tree.at(inside), tree.at(b"links")),
                b"../" + above if above and above.count(b"/") < 3 and above != b"links" else b"../big",
            ]
        )
        place = os.path.join(b"links", b"%d %s" % (number, chance.choice(ODD)[:200]))
        if len(target) < 4000 and _leads_somewhere(tree, place, target):
            os.symlink(target, tree.at(place))
            os.chown(tree.at(place), *chance.choice(OWNERS), follow_symlinks=False)
            os.utime(tree.at(place), ns=tree.now(), follow_symlinks=False)
            tree.links.append(place)


def _leads_somewhere(tree: Tree, place: bytes, target: bytes) -> bool:
    return os.path.exists(os.path.join(tree.at(os.path.dirname(place)), target))


def _hard_links(tree: Tree, groups: int) -> None:
    """Groups of names of one file, across directories."""
    for path in tree.chance.sample(tree.files, groups):
        for _ in range(tree.chance.randrange(1, 5)):
            another_name(tree, path)


def another_name(tree: Tree, path: bytes) -> None:
    name = os.path.join(_roomy(tree), tree.fresh(b".hl"))
    os.link(tree.at(path), tree.at(name), follow_symlinks=False)
    tree.files.append(name)


def _roomy(tree: Tree) -> bytes:
    """A directory in which a name may be long."""
    while True:
        directory = tree.chance.choice(tree.directories)
        if len(directory) < 3000:
            return directory


def _dress(tree: Tree, files: int) -> None:
    """ACLs, extended attributes, special bits."""
    chance = tree.chance
    for path in chance.sample(tree.files, max(20, files // 100)):
        dress_file(tree, path)
    for path in chance.sample(tree.directories[1:], max(10, len(tree.directories) // 50)):
        chance.choice([_acl, _default_acl, _attribute, _special_directory])(tree, path)


def dress_file(tree: Tree, path: bytes) -> None:
    tree.chance.choice([_acl, _attribute, _attribute, _special_file, _capability])(tree, path)


def _acl(tree: Tree, path: bytes) -> None:
    os.setxattr(tree.at(path), "system.posix_acl_access", owner_acl(tree.chance))


def _default_acl(tree: Tree, path: bytes) -> None:
    os.setxattr(tree.at(path), "system.posix_acl_default", owner_acl(tree.chance))


def _attribute(tree: Tree, path: bytes) -> None:
    chance = tree.chance
    name = chance.choice([b"user.comment", b"user.caf\xc3\xa9", b"user." + b"n" * 100, b"user.e\nl"])
    os.setxattr(tree.at(path), name, chance.randbytes(chance.choice([0, 1, 20, 1500])))


def _special_file(tree: Tree, path: bytes) -> None:
    os.chmod(tree.at(path), tree.chance.choice([0o4755, 0o2755, 0o6711 | 0o444, 0o1644, 0o7777]))


def _special_directory(tree: Tree, path: bytes) -> None:
    os.chmod(tree.at(path), tree.chance.choice([0o2775, 0o1777, 0o3755]))


def _capability(tree: Tree, path: bytes) -> None:
    """CAP_NET_RAW, as ping has it (linux/capability.h, VFS_CAP_REVISION_2)."""
    os.setxattr(tree.at(path), "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))


# --- a day of work


def work(tree: Tree, *, share: float = 0.01) -> None:
    """Change about that share of the tree, in every way there is."""
    count = max(4, int(len(tree.files) * share / 12))
    for kind in (
        _edit,
        _edit_within_the_second,
        _append,
        _only_mode,
        _only_owner,
        _only_attribute,
        _no_attribute,
        _touch,
        _rename,
        _form_hard_link,
        _break_hard_link,
        _join_other_group,
        _swap,
        _delete,
        _save_anew,
    ):
        for _ in range(count):
            kind(tree)
    for _ in range(max(2, count // 10)):
        _rename_directory(tree)
        _delete_directory(tree)
        _add_directory(tree)
        _retarget(tree)
    _big_changes(tree)
    # what leads nowhere any more would be a remark, and its earlier copy be kept
    subprocess.run(["find", tree.root, "-xtype", "l", "-delete"], check=True, env=ENVIRONMENT)


def _any_file(tree: Tree) -> bytes:
    """One that is still there; the lists are not kept in step with deletions."""
    files = tree.files
    while True:
        number = tree.chance.randrange(len(files))
        path = files[number]
        if os.path.isfile(tree.at(path)) and not os.path.islink(tree.at(path)):
            return path
        files[number] = files[-1]
        files.pop()


def _any_directory(tree: Tree) -> bytes:
    directories = tree.directories
    while True:
        number = tree.chance.randrange(1, len(directories))
        path = directories[number]
        if os.path.isdir(tree.at(path)) and not os.path.islink(tree.at(path)) and len(path) < 2500:
            return path
        directories[number] = directories[-1]
        directories.pop()


def _edit(tree: Tree) -> None:
    path = tree.at(_any_file(tree))
    with open(path, "r+b") as file:
        file.truncate(0)
        file.write(tree.content(tree.chance.randrange(40_000)))
    os.utime(path, ns=tree.now())


def _edit_within_the_second(tree: Tree) -> None:
    """The same size, the same second, other nanoseconds."""
    path = tree.at(_any_file(tree))
    at = os.stat(path)
    if 0 < at.st_size < 1 << 20:
        with open(path, "r+b") as file:
            file.write(tree.chance.randbytes(at.st_size))
    second, rest = divmod(at.st_mtime_ns, 10**9)
    mtime = second * 10**9 + (rest + 1) % 10**9
    os.utime(path, ns=(mtime, mtime))


def _append(tree: Tree) -> None:
    with open(tree.at(_any_file(tree)), "ab") as file:
        file.write(b"one line more\n")


def _only_mode(tree: Tree) -> None:
    path = tree.at(_any_file(tree))
    os.chmod(path, os.stat(path).st_mode ^ tree.chance.choice([0o020, 0o002, 0o4000, 0o2000, 0o111]))


def _only_owner(tree: Tree) -> None:
    os.chown(tree.at(_any_file(tree)), *tree.chance.choice(OWNERS))


def _only_attribute(tree: Tree) -> None:
    dress_file(tree, _any_file(tree))


def _no_attribute(tree: Tree) -> None:
    path = tree.at(_any_file(tree))
    for name in os.listxattr(path):
        if name.startswith(("user.", "system.posix")):
            os.removexattr(path, name)


def _touch(tree: Tree) -> None:
    path = tree.chance.choice([_any_file, _any_directory])(tree)
    os.utime(tree.at(path), ns=tree.now())


def _rename(tree: Tree) -> None:
    old, new = _any_file(tree), os.path.join(_roomy_there(tree), tree.fresh(b".moved"))
    os.rename(tree.at(old), tree.at(new))
    tree.files.append(new)


def _roomy_there(tree: Tree) -> bytes:
    return _any_directory(tree)


def _form_hard_link(tree: Tree) -> None:
    path, place = _any_file(tree), os.path.join(_any_directory(tree), tree.fresh(b".hl"))
    os.link(tree.at(path), tree.at(place))
    tree.files.append(place)


def _linked(tree: Tree) -> bytes | None:
    for _ in range(200):
        path = _any_file(tree)
        if os.stat(tree.at(path)).st_nlink > 1:
            return path
    return None


def _break_hard_link(tree: Tree) -> None:
    """One name of a group becomes a file of its own, with the same content and times, or with others."""
    path = _linked(tree)
    if path is not None:
        full = tree.at(path)
        shutil.copy2(full, full + b"~") if len(os.path.basename(path)) < 255 else None
        if os.path.exists(full + b"~"):
            os.rename(full + b"~", full)
        if tree.chance.random() < 0.5:
            os.utime(full, ns=tree.now())


def _join_other_group(tree: Tree) -> None:
    """A name leaves its file and becomes one more of another."""
    path, other = _any_file(tree), _any_file(tree)
    if path != other and not os.path.samefile(tree.at(path), tree.at(other)):
        os.unlink(tree.at(path))
        os.link(tree.at(other), tree.at(path))


def _swap(tree: Tree) -> None:
    """Something becomes something else under the same name."""
    path = _any_directory(tree) if tree.chance.random() < 0.25 else _any_file(tree)
    full = tree.at(path)
    was_directory = os.path.isdir(full)
    if was_directory:
        shutil.rmtree(full)
    else:
        os.unlink(full)
    kinds = ["file", "link to a file", "link to a directory"] if was_directory else ["directory", "link to a file"]
    kind = tree.chance.choice(kinds)
    if kind == "directory":
        os.mkdir(full)
        tree.directories.append(path)
        add_file(tree, os.path.join(path, b"f"), 5)
    elif kind == "file":
        add_file(tree, path, 5)
    else:
        os.symlink(os.path.join(tree.outside, b"shared", b"uno" if kind == "link to a file" else b"inner"), full)
        tree.links.append(path)


def _delete(tree: Tree) -> None:
    os.unlink(tree.at(_any_file(tree)))


def _save_anew(tree: Tree) -> None:
    """As editors save: a new file takes the name."""
    path = _any_file(tree)
    full, at = tree.at(path), os.stat(tree.at(path))
    new = os.path.join(os.path.dirname(full), b".save%d" % tree.made)
    tree.made += 1
    with open(new, "wb") as file:
        file.write(tree.content(tree.chance.randrange(30_000)))
    os.chown(new, at.st_uid, at.st_gid)
    os.chmod(new, stat.S_IMODE(at.st_mode) | 0o444)
    os.rename(new, full)


def _rename_directory(tree: Tree) -> None:
    old = _any_directory(tree)
    new = os.path.join(os.path.dirname(old), tree.fresh(b" moved"))
    os.rename(tree.at(old), tree.at(new))
    tree.directories.append(new)


def _delete_directory(tree: Tree) -> None:
    path = _any_directory(tree)
    if path.count(b"/") and not path.startswith((b"level", b"odd")):
        shutil.rmtree(tree.at(path))


def _add_directory(tree: Tree) -> None:
    path = os.path.join(_any_directory(tree), tree.fresh())
    _directory(tree, path)
    for _ in range(tree.chance.randrange(10)):
        add_file(tree, os.path.join(path, tree.fresh(b".new")), tree.chance.randrange(30_000))


def _retarget(tree: Tree) -> None:
    """A link leads elsewhere, or becomes what it led to."""
    there = [path for path in tree.links if os.path.islink(tree.at(path))]
    if not there:
        return
    path = tree.chance.choice(there)
    os.unlink(tree.at(path))
    if tree.chance.random() < 0.5:
        os.symlink(os.path.join(tree.outside, b"shared", b"inner", b"one"), tree.at(path))
    else:
        add_file(tree, path, 77)


def _big_changes(tree: Tree) -> None:
    """A piece of the big file, a hole of the sparse one; both in place."""
    for name in (b"big", b"sparse"):
        if os.path.isfile(tree.at(name)):
            with open(tree.at(name), "r+b") as file:
                file.seek(tree.chance.randrange(8 << 20))
                file.write(tree.chance.randbytes(300_000))


# --- holding trees against each other


def plain_rsync(source: bytes, target: bytes, links: str, rules: Sequence[bytes], *more: str) -> list[bytes]:
    """What rsync says of copying one tree to the other; its complaints as well."""
    argv = ["rsync", "-aHAX", "--numeric-ids", "--modify-window=-1", links, *more, "-0", "--exclude-from=-", "--"]
    answer = subprocess.run(
        [*argv, source + b"/", target + b"/"],
        input=b"\0".join(rules),
        capture_output=True,
        env=ENVIRONMENT,
        check=False,
    )
    said = [line for line in (answer.stdout + answer.stderr).split(b"\n") if line]
    return said if answer.returncode in {0, 24} else [*said, b"exit code %d" % answer.returncode]


def differences(one: bytes, other: bytes) -> list[str]:
    """Everything in which two trees differ, by rsync with checksums in both directions, find, getfacl and getfattr."""
    found = []
    for source, target in ((one, other), (other, one)):
        lines = plain_rsync(source, target, "--links", [], "-ni", "--delete", "--checksum")
        found += [f"rsync {source!r} -> {target!r}: {line!r}" for line in lines]
    for what in (_listed, _linked_groups, _acls, _attributes):
        mine, theirs = what(one), what(other)
        if mine != theirs:
            found += [f"{what.__name__}: {line!r}" for line in sorted(set(mine) ^ set(theirs))] or [what.__name__]
    return found


def touched(root: bytes) -> list[bytes]:
    """What a backup changes when it touches anything: inode and time of change of everything."""
    return sorted(_find(root, rb"%P\t%i\t%C@\0"))


def _listed(root: bytes) -> list[bytes]:
    folders = _find(root, rb"%P\t%y %m %U %G %T@\0", b"-type", b"d")
    others = _find(root, rb"%P\t%y %m %U %G %T@ %n %s %l\0", b"!", b"-type", b"d")
    return sorted([*folders, *others])


def _linked_groups(root: bytes) -> list[tuple[bytes, ...]]:
    groups: dict[bytes, list[bytes]] = defaultdict(list)
    for line in _find(root, rb"%i/%P\0", b"-type", b"f", b"-links", b"+1"):
        inode, _slash, path = line.partition(b"/")
        groups[inode].append(path)
    return sorted(tuple(sorted(group)) for group in groups.values())


def _find(root: bytes, form: bytes, *tests: bytes) -> Iterator[bytes]:
    argv = [b"find", root, *tests, b"-printf", form]
    return filter(None, subprocess.run(argv, capture_output=True, env=ENVIRONMENT, check=True).stdout.split(b"\0"))


def _acls(root: bytes) -> list[bytes]:
    """Those that say more than the mode does."""
    return _dumped(root, "getfacl", "-R", "-P", "-n", "-s", "-p", ".")


def _attributes(root: bytes) -> list[bytes]:
    return _dumped(root, "getfattr", "-R", "-P", "-h", "-d", "-e", "hex", "-m", "^(user|security)\\.", ".")


def _dumped(root: bytes, *argv: str) -> list[bytes]:
    answer = subprocess.run(argv, cwd=root, capture_output=True, env=ENVIRONMENT, check=False)
    return sorted([*answer.stdout.split(b"\n\n"), *answer.stderr.split(b"\n")])
