"""Seeded random trees, changed at random, copied over and over: the copy always equals the master."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from flashback.compare import spool
from flashback.config.values import Symlinks
from tests.conftest import run
from tests.tools.test_copy import MIB, Rig, folder, rig  # noqa: F401 - fixtures


@pytest.fixture(autouse=True)
def many_pieces(monkeypatch):
    """So that several rsyncs work on the same directories at the same time."""
    monkeypatch.setattr(spool, "PIECE", 5)


NAMES = [b"a", b"b", b"a b", b"a-", b"\xff", b"new\nline", b"B", b"#x", b"[y]", b"long" * 60]


class Gardener:
    """Changes a tree in one of many ways, as told by a seeded random generator."""

    def __init__(self, top: Path, seed: int) -> None:
        self.top = os.fsencode(top)
        self.random = random.Random(seed)
        self.ways = [
            *(self.new_file, self.new_file, self.new_directory, self.new_link, self.hard_link, self.append, self.rewrite),
            *(self.touch, self.chmod, self.chown, self.xattr, self.acl, self.remove, self.rename, self.big, self.hole),
        ]  # fmt: skip

    def work(self, steps: int) -> None:
        for _step in range(steps):
            try:
                self.random.choice(self.ways)()
            except FileExistsError:
                pass

    def everything(self) -> list[tuple[bytes, str]]:
        found = []
        for where, directories, files in os.walk(self.top):
            for name in directories + files:
                path = os.path.join(where, name)
                kind = "l" if os.path.islink(path) else "d" if os.path.isdir(path) else "f"
                found.append((path, kind))
        return sorted(found)

    def one(self, kinds: str) -> bytes:
        found = [path for path, kind in self.everything() if kind in kinds]
        return self.random.choice(found) if found else self.new_file()

    def place(self) -> bytes:
        directories = [self.top, *(path for path, kind in self.everything() if kind == "d" and path.count(b"/") < 12)]
        return os.path.join(self.random.choice(directories), self.random.choice(NAMES))

    def new_file(self) -> bytes:
        path = self.place()
        with open(path, "xb") as file:
            file.write(self.random.randbytes(self.random.choice([0, 1, 100, 5000, 70_000])))
        return path

    def new_directory(self) -> None:
        os.mkdir(self.place())

    def new_link(self) -> None:
        os.symlink(self.random.choice([b"a", b"../b", b"/etc/shadow", b"nowhere\n"]), self.place())

    def hard_link(self) -> None:
        os.link(self.one("fl"), self.place(), follow_symlinks=False)

    def append(self) -> None:
        with open(self.one("f"), "ab") as file:
            file.write(self.random.randbytes(self.random.choice([1, 5000])))

    def rewrite(self) -> None:
        """The same size within the same second."""
        path = self.one("f")
        at = os.stat(path)
        with open(path, "r+b") as file:
            file.write(self.random.randbytes(at.st_size))
        os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns // 10**9 * 10**9 + self.random.randrange(10**9)))

    def big(self) -> None:
        path = self.one("f")
        with open(path, "r+b") as file:
            file.seek(self.random.randrange(5 * MIB))
            file.write(self.random.randbytes(MIB))

    def hole(self) -> None:
        os.truncate(self.one("f"), self.random.choice([0, 1, 5 * MIB, 6 * MIB]))

    def touch(self) -> None:
        moment = self.random.randrange(10**18)
        os.utime(self.one("fdl"), ns=(moment, moment), follow_symlinks=False)

    def chmod(self) -> None:
        os.chmod(self.one("fd"), self.random.choice([0o600, 0o755, 0o4755, 0o1777, 0o2700, 0o000]))

    def chown(self) -> None:
        os.chown(self.one("fdl"), self.random.choice([0, 1, 1000]), self.random.choice([0, 7]), follow_symlinks=False)

    def xattr(self) -> None:
        path = self.one("fd")
        if b"user.a" in map(os.fsencode, os.listxattr(path)) and self.random.random() < 0.5:
            os.removexattr(path, "user.a")
        else:
            os.setxattr(path, "user.a", self.random.randbytes(self.random.randrange(40)))

    def acl(self) -> None:
        run("setfacl", *self.random.choice([("-m", "u:7:rx"), ("-m", "g:9:w"), ("-b",)]), os.fsdecode(self.one("fd")))

    def remove(self) -> None:
        path = self.one("fdl")
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)

    def rename(self) -> None:
        old, new = self.one("fdl"), self.place()
        if not new.startswith(old + b"/") and old != new:
            if os.path.lexists(new):
                is_directory = os.path.isdir(new) and not os.path.islink(new)
                if old.startswith(new + b"/"):
                    return
                shutil.rmtree(new) if is_directory else os.unlink(new)
            os.rename(old, new)


@pytest.mark.parametrize("seed", range(4))
def test_a_copy_equals_its_master_after_every_run(rig: Rig, seed: int) -> None:  # noqa: F811
    rig.symlinks = Symlinks.KEEP
    gardener = Gardener(rig.master, seed)
    gardener.work(60)
    for turn in range(8):
        result = rig.copy()
        assert result.remarks == ()
        assert rig.is_equal(), [list(rig.plan().whole), list(rig.plan().in_place), list(rig.plan().remove_after)]
        rig.snapshot(f"snapshot{turn}")
        gardener.work(15)


@pytest.mark.parametrize("seed", range(100, 102))
def test_a_drive_that_was_changed_by_hand_is_made_equal_again(rig: Rig, seed: int) -> None:  # noqa: F811
    Gardener(rig.master, seed).work(60)
    rig.copy()
    meddler = Gardener(rig.current, seed + 1000)
    for _turn in range(5):
        meddler.work(12)
        assert rig.copy().remarks == ()
        assert rig.is_equal()
