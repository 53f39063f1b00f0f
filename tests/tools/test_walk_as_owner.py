"""Reading a master in a child that is its owner, and what becomes of the child."""

import errno
import os
import select
import signal
import tempfile
from pathlib import Path

import pytest

from flashback.config.values import Rule, Symlinks
from flashback.core.errors import ConfigError
from flashback.core.events import Remark, RemarkKind
from flashback.walk.filter import Filter
from flashback.walk.listing import Entry, Kept
from flashback.walk.reader import Owner, ReadingFailed, owner_of, reading_as, reading_master

pytestmark = pytest.mark.tools

ALICE = Owner("4711", 4711, 4712)


@pytest.fixture
def room():
    """A directory that others may pass, which those of `tmp_path` are not."""
    with tempfile.TemporaryDirectory(prefix="flashback-walk-") as room:
        os.chmod(room, 0o755)
        yield Path(room)


@pytest.fixture
def master(room):
    path = room / "master"
    path.mkdir()
    os.chown(path, ALICE.uid, ALICE.gid)
    return path


def put(path, mode=0o644, owner=ALICE, content=b"x"):
    path.write_bytes(content)
    os.chown(path, owner.uid, owner.gid)
    os.chmod(path, mode)


def read(master, owner=ALICE, **more):
    remarks = []
    how = {"filter": Filter([]), "symlinks": Symlinks.FOLLOW, **more}
    with reading_master(master, owner, remark=remarks.append, **how) as items:
        items = list(items)
    entries = {item.path for item in items if isinstance(item, Entry)} - {b""}
    return (
        entries,
        {item.path for item in items if isinstance(item, Kept)},
        {(each.kind, each.path) for each in remarks},
    )


ROOT = Owner("root", 0, 0)


def test_the_child_is_the_owner_with_no_group_and_no_capability_of_ours(room):
    def tell(emit):
        with open("/proc/self/status", "rb") as status:
            emit(Remark(RemarkKind.GENERAL, path=status.read()))
        emit(Remark(RemarkKind.GENERAL, path=b"%d %d" % (os.getsid(0), os.getpid())))

    with reading_as(ALICE, tell) as said:
        status, session = (each.path for each in said)
    facts = dict(line.split(b":\t", 1) for line in status.splitlines() if b":\t" in line)
    assert facts[b"Uid"].split() == [b"4711"] * 4
    assert facts[b"Gid"].split() == [b"4712"] * 4
    assert facts[b"Groups"].split() == [b"4712"]
    assert int(facts[b"CapEff"], 16) == int(facts[b"CapPrm"], 16) == 0
    assert facts[b"NoNewPrivs"] == b"1"
    assert len(set(session.split())) == 1


def test_the_child_holds_nothing_open_but_its_end_of_the_pipe(room):
    kept = os.open(room, os.O_RDONLY)
    with reading_as(
        ALICE, lambda emit: emit(Remark(RemarkKind.GENERAL, path=b"%d" % len(os.listdir("/proc/self/fd"))))
    ) as said:
        assert int(next(said).path) == 3 + 1 + 1  # the three of everybody, the pipe, and the one that lists
    os.close(kept)


def test_nobody_may_look_into_the_child(room):
    def show(emit):
        emit(Remark(RemarkKind.GENERAL, path=b"%d" % os.stat("/proc/self/mem").st_uid))

    with reading_as(ALICE, show) as said:
        assert next(said).path == b"0"  # proc(5): root's, since the process is not dumpable


def test_files_that_the_owner_cannot_read_are_kept_with_a_remark(master):
    put(master / "own", 0o600)
    put(master / "group", 0o040, Owner("", 1, ALICE.gid))
    put(master / "world", 0o604, ROOT)
    put(master / "roots", 0o600, ROOT)
    put(master / "forbidden to myself", 0o044)
    (master / "link").symlink_to("roots")
    entries, kept, said = read(master)
    assert entries == {b"own", b"group", b"world"}
    assert kept == {b"roots", b"forbidden to myself", b"link"}
    assert said == {(RemarkKind.UNREADABLE, path) for path in kept}


def test_directories_that_the_owner_cannot_list_or_enter_are_kept_whole(master):
    for name, mode in (("closed", 0o700), ("no-names", 0o711), ("no-way", 0o744), ("open", 0o755)):
        (master / name).mkdir()
        put(master / name / "x", owner=ROOT)
        os.chmod(master / name, mode)
    entries, kept, said = read(master)
    assert entries == {b"open", b"open/x"}
    assert kept == {b"closed", b"no-names", b"no-way"}
    assert said == {(RemarkKind.UNREADABLE, path) for path in kept}


def test_a_link_to_what_only_root_may_see_is_unreadable_not_dangling(master, room):
    (room / "secret").mkdir(mode=0o700)
    put(room / "secret" / "x", 0o644, ROOT)
    (master / "l").symlink_to(room / "secret" / "x")
    assert read(master) == (set(), {b"l"}, {(RemarkKind.UNREADABLE, b"l")})


def test_root_reads_everything(master):
    put(master / "x", 0)
    (master / "d").mkdir(mode=0)
    assert read(master, ROOT)[0] == read(master, None)[0] == {b"x", b"d"}


def test_rules_links_and_many_files_come_through_the_pipe_in_order(master):
    for number in range(1500):
        put(master / f"f{number:04d}")
    put(master / "x.o")
    (master / "gone").symlink_to("nowhere")
    entries, kept, said = read(master, filter=Filter([Rule(b"*.o")]))
    assert entries == {b"f%04d" % number for number in range(1500)}
    assert kept == {b"gone"}
    assert said == {(RemarkKind.DANGLING_LINK, b"gone")}


def test_the_folder_of_mount_points_is_avoided(master):
    (master / "mnt").mkdir()
    put(master / "mnt" / "x")
    assert read(master, avoid=master / "mnt")[:2] == (set(), {b"mnt"})
    assert read(master, avoid=master / "not there")[0] == {b"mnt", b"mnt/x"}


@pytest.mark.parametrize(("mode", "number"), [(0o700, errno.EACCES), (0o711, errno.EACCES), (0o744, errno.EACCES)])
def test_a_master_that_its_owner_cannot_list_is_an_error_with_its_number(master, mode, number):
    put(master / "x", owner=ROOT)
    os.chown(master, 0, 0)
    os.chmod(master, mode)
    with pytest.raises(OSError) as caught:
        read(master)
    assert caught.value.errno == number


@pytest.mark.parametrize(("make", "number"), [(None, errno.ENOENT), ("file", errno.ENOTDIR)])
def test_a_master_that_is_no_directory_is_an_error_with_its_number_and_path(room, make, number):
    if make:
        (room / "m").write_bytes(b"")
    with pytest.raises(OSError) as caught:
        read(room / "m")
    assert (caught.value.errno, caught.value.filename) == (number, str(room / "m"))


def test_parents_that_only_root_may_pass_are_passed_by_nobody_else(master, room):
    (room / "above").mkdir(mode=0o700)
    (room / "above" / "m").mkdir()
    with pytest.raises(PermissionError):
        read(room / "above" / "m")


def test_an_unexpected_error_comes_back_after_what_was_found_before_it():
    def fail(emit):
        emit(Kept(b"first"))
        raise ZeroDivisionError("\udcff no")

    with reading_as(None, fail) as said:
        assert next(said) == Kept(b"first")
        with pytest.raises(ReadingFailed, match="ZeroDivisionError"):
            next(said)


def test_a_child_that_dies_without_a_word_is_an_error():
    with reading_as(None, lambda _emit: os.kill(os.getpid(), signal.SIGKILL)) as said, pytest.raises(ReadingFailed):
        next(said)


def forever(emit):
    while True:
        emit(Remark(RemarkKind.GENERAL, path=b"%d" % os.getpid()))


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_leaving_early_kills_and_reaps_the_child():
    with reading_as(ALICE, forever) as said:
        pid = int(next(said).path)
    assert gone(pid)


def test_an_error_of_the_consumer_kills_and_reaps_the_child():
    pid = 0
    with pytest.raises(KeyError), reading_as(None, forever) as said:
        pid = int(next(said).path)
        raise KeyError
    assert gone(pid)


@pytest.mark.parametrize("owner", [None, ALICE])
def test_the_child_dies_with_its_parent(owner):
    """Even one that waits for ever and writes nothing into the pipe, by which it would notice."""
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:

        def wait(emit):
            for _ in range(400):
                emit(Remark(RemarkKind.GENERAL, path=b"%d" % os.getpid()))
            signal.pause()

        with reading_as(owner, wait) as said:
            os.write(writing, next(said).path)
            os.kill(os.getpid(), signal.SIGKILL)
    child = int(os.read(reading, 20))
    watched = os.pidfd_open(child)
    os.waitpid(parent, 0)
    assert select.select([watched], [], [], 60)[0]
    for each in (reading, writing, watched):
        os.close(each)


def test_the_signals_of_a_terminal_do_not_reach_the_child_and_ours_are_as_before():
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with reading_as(None, lambda emit: emit(Remark(RemarkKind.GENERAL, path=b"%d" % os.getpgid(0)))) as said:
        assert int(next(said).path) != os.getpgid(0)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


def test_the_owner_of_a_directory_reads_it_unless_another_is_named(master):
    assert owner_of(master, None) == Owner("4711", 4711, 4712)
    assert owner_of(master, "root") == Owner("root", 0, 0)
    os.chown(master, 0, 5)
    assert owner_of(master, None) == Owner("root", 0, 0)


def test_a_link_of_somebody_else_does_not_choose_as_whom_a_master_is_read(room, master):
    link = room / "link"
    for target in ("/etc", "../" * 20 + "etc/.", master / "out"):
        (master / "out").unlink(missing_ok=True)
        (master / "out").symlink_to("/etc")
        os.lchown(master / "out", ALICE.uid, ALICE.gid)
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        os.lchown(link, ALICE.uid, ALICE.gid)
        with pytest.raises(ConfigError, match="another user made"):
            owner_of(link, None)
        assert owner_of(link, "root") == ROOT


def test_a_master_that_is_exchanged_after_its_owner_was_looked_at_is_not_read(room, master):
    put(master / "x")
    owner = owner_of(master, None)
    master.rename(room / "before")
    master.symlink_to("/etc")
    with pytest.raises(ReadingFailed, match="exchanged"):
        read(master, owner)
    assert read(room / "before", owner)[0] == {b"x"}


def test_a_link_of_root_or_of_the_owner_to_a_master_is_good(room, master):
    link = room / "link"
    link.symlink_to(master.name)
    assert owner_of(link, None).uid == ALICE.uid
    os.lchown(link, ALICE.uid, ALICE.gid)
    assert owner_of(link, None).uid == ALICE.uid


def test_an_owner_whom_nobody_knows_is_an_error_of_the_configuration(master):
    with pytest.raises(ConfigError, match="nosuchuser"):
        owner_of(master, "nosuchuser")
