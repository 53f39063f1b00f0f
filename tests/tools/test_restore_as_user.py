"""What an ordinary user gets out of the folders of `flashback mount`: the folders are real, the drive below is not."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flashback.app import Unattended, now
from flashback.core.command import Programs
from flashback.core.context import Context, Paths
from flashback.core.descent import DIRECTORY, Descent
from flashback.core.errors import Missing
from flashback.core.signals import StopSignals
from flashback.drive import browse
from flashback.drive.states import State
from flashback.drive.tree import item_of
from flashback.drive.visible import SHELL, Folder, Visible, visible
from flashback.recover.errand import RestoreRequest
from flashback.recover.ordinary import restore_as_user
from flashback.recover.parts import Owner
from flashback.recover.wanted import Wanted, When
from flashback.recover.work import _take_away
from flashback.tools import btrfs, mount
from tests.conftest import run

ALICE = 1234
OLD = State("documents", "20260102T030405Z", now())
NEW = State("documents", "current", now())
_PR_SET_DUMPABLE = 4  # linux/prctl.h: a process that was root may look into its own /proc again


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that Alice reaches; pytest's own are root's."""
    made = Path(tempfile.mkdtemp(dir="/srv"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def seen(btrfs_image: Path, place: Path) -> Iterator[Visible]:
    """A drive with two states, mounted for Alice, in which one file is root's alone."""
    copy = btrfs_image / "documents/current"
    copy.parent.mkdir()
    run("btrfs", "subvolume", "create", copy)
    (copy / "photos").mkdir()
    for name, content in {"list": b"bread\n", "photos/1": os.urandom(100_000), "photos/roots": b"not hers"}.items():
        (copy / name).write_bytes(content)
    os.link(copy / "photos/1", copy / "photos/same")
    os.setxattr(copy / "list", "user.note", b"\0\xff")
    for path in (copy, *copy.rglob("*")):
        os.chown(path, ALICE, ALICE)
        os.utime(path, ns=(0, 1_000_000_000_123_456_789))
    os.chown(copy / "photos/roots", 0, 0)
    (copy / "photos/roots").chmod(0o600)
    run("btrfs", "subvolume", "snapshot", "-r", copy, btrfs_image / "documents/old")
    (copy / "list").write_bytes(b"bread\nmilk\n")
    shown = []
    for state, where in ((NEW, "current"), (OLD, "old")):
        top = os.open(btrfs_image / "documents" / where, DIRECTORY)
        shown.append(browse.Shown(Folder(state, where), btrfs.subvolume(top).id))
        os.close(top)
    device = next(each.source for each in mount.mounts() if each.target == str(btrfs_image))
    shell = place / "shell"
    shell.mkdir()
    over = os.open(shell, DIRECTORY)
    mount.mount_shell(over, f"{SHELL}the-uuid")
    os.close(over)
    browse._furnish(os.open(shell, DIRECTORY), device, "red", shown, ALICE)
    (mine,) = [each for each in visible() if each.place == shell]
    yield mine
    run("umount", "--recursive", shell)


def as_alice(work: Callable[[], int]) -> int:
    """What comes of it in a process of hers."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        os.setgroups([])
        os.setresgid(ALICE, ALICE, ALICE)
        os.setresuid(ALICE, ALICE, ALICE)
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
        os._exit(work())
    except BaseException as error:  # noqa: BLE001 - pytest must not go on in here
        os.write(2, repr(error).encode())
        os._exit(99)


def restoring(seen: Visible, request: RestoreRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    monkeypatch.setattr(Visible, "watch", lambda _self: None)  # below it is no mapping
    context = Context(Programs(), StopSignals(), now, lambda _event: None, Unattended(None), Paths(), "here")
    return lambda: restore_as_user(context, [seen], None, (), request, again="sudo flashback restore")


def test_she_gets_what_she_may_read_with_times_links_and_attributes(
    seen: Visible, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "hers").mkdir()
    os.chown(place / "hers", ALICE, ALICE)
    request = RestoreRequest((Wanted("documents"),), to=place / "hers/back", trusted=frozenset({ALICE}))
    assert as_alice(restoring(seen, request, monkeypatch)) == 11
    back = place / "hers/back/documents"
    differing = run("rsync", "-aHAXnic", "--delete", f"{seen.place}/documents/current/", f"{back}/").splitlines()
    assert [line.split()[1] for line in differing if not line.startswith(".d")] == ["photos/roots"]
    assert os.listdir(place / "hers") == ["back"]


def test_an_older_state_is_hers_by_its_name(seen: Visible, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "hers").mkdir()
    os.chown(place / "hers", ALICE, ALICE)
    request = RestoreRequest((Wanted("documents", b"list"),), to=place / "hers", trusted=frozenset({ALICE}))
    assert as_alice(restoring(seen, replace(request, when=When(snapshot=OLD.name)), monkeypatch)) == 0
    assert (place / "hers/list").read_bytes() == b"bread\n"
    assert os.getxattr(place / "hers/list", "user.note") == b"\0\xff"


def test_where_she_may_not_write_nothing_is_written(
    seen: Visible, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = RestoreRequest((Wanted("documents", b"list"),), to=place, trusted=frozenset({ALICE}))
    assert as_alice(restoring(seen, request, monkeypatch)) == 10
    assert os.listdir(place) == ["shell"]


def test_without_root_nothing_is_given_to_another_user(
    seen: Visible, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = RestoreRequest((Wanted("documents", b"list"),), to=place, owner=Owner(0, 0))
    with pytest.raises(Missing, match="needs root"):
        restoring(seen, request, monkeypatch)()


@pytest.mark.parametrize("over", [False, True])
def test_a_directory_that_even_its_owner_may_not_write_to_comes_back(
    seen: Visible, place: Path, btrfs_image: Path, monkeypatch: pytest.MonkeyPatch, over: bool
) -> None:
    (btrfs_image / "documents/current/photos").chmod(0o555)
    (place / "hers").mkdir()
    os.chown(place / "hers", ALICE, ALICE)
    wanted = Wanted("documents", b"photos", place / "hers")
    request = RestoreRequest((wanted,), in_place=over, agreed=lambda: True, trusted=frozenset({ALICE}))
    assert as_alice(restoring(seen, request, monkeypatch)) == 11
    back = place / "hers/photos"
    assert (sorted(os.listdir(back)), back.stat().st_mode & 0o777) == (["1", "same"], 0o555)
    assert back.stat().st_mtime_ns == 1_000_000_000_123_456_789
    assert os.listdir(place / "hers") == ["photos"]


def test_what_was_copied_wrongly_is_taken_away_from_a_directory_that_she_may_not_write_to(place: Path) -> None:
    folder = place / "hers/closed"
    folder.mkdir(parents=True)
    (folder / "wrong").write_bytes(b"not what the drive has")
    folder.chmod(0o555)
    for path in (folder.parent, folder, folder / "wrong"):
        os.chown(path, ALICE, ALICE)
    os.utime(folder, ns=(1, 1))
    item = item_of(b"closed/wrong", (folder / "wrong").stat())

    def take_away() -> int:
        top = os.open(folder.parent, DIRECTORY)
        with Descent(top) as below:
            _take_away(below, item)
        return 0

    assert as_alice(take_away) == 0
    assert os.listdir(folder) == []
    assert (folder.stat().st_mode & 0o777, folder.stat().st_mtime_ns) == (0o555, 1)
