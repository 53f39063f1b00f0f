"""What rsync is told, and what its words mean."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flashback.core.command import ProgramMissing
from flashback.core.errors import FlashbackError, NoSpace, NotFinished
from flashback.tools import rsync
from flashback.tools.rsync import CopyOutcome, CopyRequest, Links, Trouble
from tests.contract.conftest import FakePrograms

WORDS = b"rsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1956)\n"


class Copying:
    """Ask for a copy with whatever differs from the usual; rsync is a fake."""

    def __init__(self, fake: FakePrograms, folder: Path) -> None:
        self.fake = fake
        self.master, self.drive = folder / "master", folder / "drive"
        self.master.mkdir()
        self.drive.mkdir()
        self.names = open(folder / "names", "w+b")  # noqa: SIM115 - closed by the fixture
        self.names.write(b"a\0b\nc\0")
        self.source = os.open(self.master, os.O_RDONLY)
        self.progress: list[tuple[int, int, bytes]] = []
        self.watched = 0
        fake.let_through("setpriv")

    def __call__(self, **more) -> CopyOutcome:
        self.names.seek(0)
        usual = {"uid": 1000, "gid": 100, "groups": True, "links": Links.FOLLOW}
        request = CopyRequest(
            master=self.master, source=self.source, destination=self.drive, names=self.names, **{**usual, **more}
        )
        outcomes: list[CopyOutcome] = []
        rsync.copy(
            self.fake.programs,
            [request],
            on_progress=self._on_progress,
            on_outcome=outcomes.append,
            watch=self._watch,
        )
        return outcomes[0]

    def said(self, err: bytes = b"", code: int = 23, out: bytes = b"") -> CopyOutcome:
        """The outcome when rsync says this. MASTER and DRIVE stand for where they lie."""
        self.fake.write("rsync", out=out, err=self.placed(err), code=code)
        return self()

    def placed(self, text: bytes) -> bytes:
        return text.replace(b"MASTER", os.fsencode(self.master)).replace(b"DRIVE", os.fsencode(self.drive))

    def argv(self, **more) -> list[str]:
        self.fake.write("rsync")
        self(**more)
        return self.fake.argvs("rsync")[-1]

    def _on_progress(self, done: int, files: int, current: bytes) -> None:
        self.progress.append((done, files, current))

    def _watch(self) -> None:
        self.watched += 1


@pytest.fixture
def copying(fake_programs: FakePrograms, tmp_path: Path) -> Iterator[Copying]:
    made = Copying(fake_programs, tmp_path)
    yield made
    made.names.close()
    os.close(made.source)


def test_the_list_comes_by_standard_input_and_the_master_is_where_rsync_stands(copying: Copying) -> None:
    assert "--files-from=-" in copying.argv()
    [call] = copying.fake.calls("rsync")
    assert (call["stdin"], call["cwd"]) == ("a\0b\nc\0", str(copying.master))
    assert call["env"]["HOME"] == "/nonexistent"


def test_the_reading_side_is_the_owner(copying: Copying) -> None:
    argv = copying.argv()
    assert argv[argv.index("-e") + 1].startswith("setpriv --reuid=1000 --regid=100 --init-groups ")
    assert argv[-2:] == ["env:./", f"{copying.drive}/"]


def test_an_owner_whom_the_system_does_not_know_has_no_other_groups(copying: Copying) -> None:
    argv = copying.argv(groups=False)
    assert " --clear-groups " in argv[argv.index("-e") + 1]


def test_root_stays_root_on_the_detour(copying: Copying) -> None:
    argv = copying.argv(uid=0, gid=0)
    assert argv[argv.index("-e") + 1] == "setpriv --no-new-privs --pdeathsig KILL --"
    assert argv[-2:] == ["env:./", f"{copying.drive}/"]


def test_a_restore_takes_the_detour_too_from_the_open_source(copying: Copying) -> None:
    copying.fake.write("rsync")
    request = rsync.RestoreRequest(copying.source, copying.source, "here", copying.source, copying.names)
    rsync.restore(copying.fake.programs, request, on_progress=lambda *_: None, watch=lambda: None)
    argv = copying.fake.argvs("rsync")[-1]
    assert argv[argv.index("-e") + 1] == "setpriv --no-new-privs --pdeathsig KILL --"
    assert argv[-2:] == [f"env:/proc/{os.getpid()}/fd/{copying.source}/", "./"]
    assert "--trust-sender" in argv


@pytest.mark.parametrize(
    ("links", "options"),
    [
        (Links.FOLLOW, ["--copy-links"]),
        (Links.EXTERNAL, ["--links", "--copy-unsafe-links"]),
        (Links.KEEP, ["--links"]),
    ],
)
def test_the_policy_for_links_is_in_the_options(links: Links, options: list[str], copying: Copying) -> None:
    assert [word for word in copying.argv(links=links) if word.startswith("--") and "links" in word] == options


@pytest.mark.parametrize(
    ("how", "there", "not_there"),
    [
        ({}, ["--whole-file"], ["--inplace", "--no-whole-file", "--sparse"]),
        ({"sparse": True}, ["--whole-file", "--sparse"], ["--inplace", "--no-whole-file"]),
        ({"fresh": True}, ["--whole-file", "--inplace"], ["--no-whole-file", "--sparse"]),
        ({"in_place": True}, ["--inplace", "--no-whole-file"], ["--whole-file", "--sparse"]),
    ],
)
def test_how_files_are_written(how: dict[str, bool], there: list[str], not_there: list[str], copying: Copying) -> None:
    argv = copying.argv(**how)
    assert set(there) <= set(argv)
    assert not set(not_there) & set(argv)


def test_a_list_of_the_root_alone_takes_nothing_else_along(copying: Copying) -> None:
    assert "--exclude=/*" in copying.argv(only_root=True)
    assert not [word for word in copying.argv() if "exclude" in word]


def test_nothing_is_ever_deleted_by_rsync(copying: Copying) -> None:
    assert not [word for word in copying.argv() if word.startswith(("--del", "--rem", "--force"))]


def test_a_quiet_copy_has_the_statistics(copying: Copying) -> None:
    out = b"@a\n\nNumber of regular files transferred: 2\nLiteral data: 5 bytes\nMatched data: 7 bytes\n"
    assert copying.said(code=0, out=out) == CopyOutcome(copied=5, same=7, files=2)


def test_progress_is_told_with_the_file_at_hand(copying: Copying) -> None:
    copying.said(code=0, out=b"@d/b\\#012\\#377\\#134#012\n  5000006  50%  1.16GB/s  0:00:00 (xfr#7, to-chk=1/11)\r")
    assert set(copying.progress) == {(5000006, 7, b"d/b\n\xff\\#012")}


def test_progress_is_not_told_more_often_than_people_read(copying: Copying) -> None:
    copying.said(code=0, out=b"".join(b"  %d  50%%  1GB/s  0:00:00 (xfr#7, to-chk=1/11)\r" % n for n in range(1000)))
    assert 1 <= len(copying.progress) < 20


@pytest.mark.parametrize("line", [b'skipping non-regular file "d/x\\#012"', b"skipping directory d/x\\#012"])
def test_what_became_something_that_is_not_copied_is_not_passed_over(line: bytes, copying: Copying) -> None:
    assert copying.said(out=line + b"\n", code=0).vanished == (b"d/x\n",)


def test_a_name_that_looks_like_a_statistic_is_a_name(copying: Copying) -> None:
    assert copying.said(code=0, out=b"@Literal data: 5 bytes\n").copied == 0


SENDER = b"rsync: [sender] "


@pytest.mark.parametrize(
    "line",
    [
        b'file has vanished: "MASTER/d/x"',
        b'symlink has no referent: "MASTER/d/x"',
        SENDER + b'link_stat "MASTER/d/x" failed: No such file or directory (2)',
        SENDER + b'send_files failed to open "MASTER/d/x": No such file or directory (2)',
        SENDER + b'send_files failed to open "MASTER/./d/x": Not a directory (20)',
    ],
)
def test_what_vanished_is_a_remark(line: bytes, copying: Copying) -> None:
    assert copying.said(line + b"\n" + WORDS) == CopyOutcome(vanished=(b"d/x",))


@pytest.mark.parametrize(
    ("line", "path", "why", "number"),
    [
        (SENDER + b'send_files failed to open "MASTER/d/x": Permission denied (13)', b"d/x", "Permission denied", 13),
        (SENDER + b'read errors mapping "MASTER/x": Input/output error (5)', b"x", "Input/output error", 5),
        (SENDER + b'link_stat "MASTER/d/x" failed: File name too long (36)', b"d/x", "File name too long", 36),
        (b"skipping overly long name: MASTER/x", b"x", "File name too long", 36),
        (SENDER + b'readlink_stat("MASTER/x") failed: Permission denied (13)', b"x", "Permission denied", 13),
        (SENDER + b'send_files failed to open "MASTER/a"b": Permission denied (13)', b'a"b', "Permission denied", 13),
        (
            SENDER + b'send_files failed to open "MASTER/a\\#012": Permission denied (13)',
            b"a\n",
            "Permission denied",
            13,
        ),
        (
            SENDER + b'rsync_xal_get: lgetxattr("MASTER/x","user.a",0) failed: Permission denied (13)',
            b"x",
            "Permission denied",
            13,
        ),
    ],
)
def test_what_could_not_be_read_is_named(line: bytes, path: bytes, why: str, number: int, copying: Copying) -> None:
    assert copying.said(line + b"\n" + WORDS) == CopyOutcome(unread=(Trouble(path, why, number),))


@pytest.mark.parametrize("name", [b"MASTER/.", b".", b"/etc/x", b"MASTER/../x", b"MASTER/d//x"])
def test_the_master_itself_and_what_is_no_path_below_it_have_no_name(name: bytes, copying: Copying) -> None:
    """Their copies are looked for by these paths; a disk that is pulled makes rsync 3.5.0 say `MASTER/.`."""
    outcome = copying.said(SENDER + b'readlink_stat("' + name + b'") failed: Input/output error (5)\n' + WORDS)
    assert outcome.unread == (Trouble(b"", "Input/output error", 5),)


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (b'rsync: [receiver] mkstemp "DRIVE/d/.x.Ab1yZ9" failed: Permission denied (13)', b"d/x"),
        (b'rsync: [receiver] rename "DRIVE/d/.x.Ab1yZ9" -> "d/x": Operation not permitted (1)', b"d/x"),
        (b'rsync: [generator] chown "DRIVE/d/x" failed: Operation not permitted (1)', b"d/x"),
        (b'rsync: [generator] recv_generator: mkdir "DRIVE/d/x" failed: Not a directory (20)', b"d/x"),
        (b'rsync: [generator] symlink "DRIVE/d/x" -> "to" failed: File exists (17)', b"d/x"),
        (b"could not make way for new regular file: d/x", b"d/x"),
    ],
)
def test_what_could_not_be_written_is_named(line: bytes, path: bytes, copying: Copying) -> None:
    outcome = copying.said(line + b"\n" + WORDS)
    assert [trouble.path for trouble in outcome.unwritable] == [path]
    assert outcome.unread == outcome.vanished == ()


def test_what_was_left_half_new_is_named(copying: Copying) -> None:
    err = (
        b'rsync: [sender] read errors mapping "MASTER/d/big": Input/output error (5)\n'
        b"WARNING: d/big failed verification -- update retained (will try again).\n"
        b'rsync: [sender] read errors mapping "MASTER/d/big": Input/output error (5)\n'
        b"ERROR: d/big failed verification -- update retained.\n"
    )
    outcome = copying.said(err + WORDS)
    assert outcome.retained == (b"d/big",)
    assert outcome.unread == (Trouble(b"d/big", "Input/output error", 5),)


def test_what_was_right_at_the_second_try_is_no_trouble(copying: Copying) -> None:
    err = b"WARNING: d/big failed verification -- update retained (will try again).\n"
    assert copying.said(err, code=0) == CopyOutcome()


def test_what_was_discarded_was_not_read_but_is_whole(copying: Copying) -> None:
    outcome = copying.said(b"ERROR: d/x failed verification -- update discarded.\n" + WORDS)
    assert [trouble.path for trouble in outcome.unread] == [b"d/x"]
    assert outcome.retained == ()


RACED = b'rsync: [receiver] rsync_xal_set: fremovexattr("DRIVE/d","user.a") failed: No data available (61)\n'


@pytest.mark.parametrize(
    "line",
    [
        RACED,
        b'rsync: [generator] rsync_xal_set: lremovexattr("DRIVE/d","user.a") failed: No data available (61)\n',
        b'rsync: [generator] get_xattr_data: lgetxattr("DRIVE/d","user.a",0) failed: No data available (61)\n',
        b'rsync: [generator] get_xattr_data: lgetxattr("DRIVE/d","user.a",9) failed: Numerical result out of range (34)\n',
    ],
)
def test_an_attribute_that_another_rsync_has_changed_meanwhile_is_no_trouble(line: bytes, copying: Copying) -> None:
    assert copying.said(line + WORDS) == CopyOutcome()


def test_what_is_not_understood_counts_also_beside_such_an_attribute(copying: Copying) -> None:
    assert copying.said(RACED + b"something new\n" + WORDS).unwritable == (Trouble(b"", "something new", 0),)


def test_an_attribute_that_vanishes_in_the_master_is_named(copying: Copying) -> None:
    line = b'rsync: [sender] get_xattr_data: lgetxattr("MASTER/d","user.a",0) failed: No data available (61)\n'
    assert [trouble.path for trouble in copying.said(line + WORDS).unread] == [b"d"]


def several(copying: Copying, *lists: bytes, on_progress: Any = lambda *_: None) -> list[CopyOutcome]:
    """What came of several rsyncs, an error included; what the fake says goes by their lists."""
    outcomes: list[CopyOutcome] = []
    with contextlib.ExitStack() as opened:
        common = {"master": copying.master, "source": copying.source, "destination": copying.drive, "links": Links.KEEP}

        def requests() -> Iterator[CopyRequest]:
            for names in lists:
                given = opened.enter_context(tempfile.TemporaryFile())
                given.write(names)
                given.seek(0)
                yield CopyRequest(**common, names=given, uid=0, gid=0, groups=True)

        with contextlib.suppress(FlashbackError):
            rsync.copy(
                copying.fake.programs,
                requests(),
                on_progress=on_progress,
                on_outcome=outcomes.append,
                watch=lambda: None,
            )
    return outcomes


FULL = """
mark = %r
if stdin == b"full":
    with open(mark + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(mark + ".new", mark)
    err.write(b'rsync: [receiver] write failed on "x": No space left on device (28)\\n')
    err.flush()
    raise SystemExit(11)
while not os.path.exists(mark) or os.path.exists("/proc/" + open(mark).read()):
    time.sleep(0.01)
out.write(b"Literal data: 5 bytes\\n")
"""
"""The other one ends when the first one was seen to have ended."""


def test_when_one_rsync_finds_the_drive_full_another_comes_to_its_end_and_no_other_is_begun(
    copying: Copying, tmp_path: Path
) -> None:
    copying.fake.write("rsync", FULL % str(tmp_path / "mark"))
    outcomes = several(copying, b"full", b"other", b"third")
    assert [outcome.copied for outcome in outcomes] == [0, 5]
    assert len(copying.fake.calls("rsync")) == 2


def test_a_drive_that_one_of_several_finds_full_is_named_as_such(copying: Copying) -> None:
    copying.fake.write("rsync", err=b'rsync: [receiver] write failed on "x": No space left on device (28)\n', code=11)
    with pytest.raises(NoSpace):
        copying()


def test_progress_is_the_sum_of_what_several_rsyncs_say(copying: Copying) -> None:
    progress = b"@a\n  50  50%  1GB/s  0:00:00 (xfr#3, to-chk=1/11)\r"
    copying.fake.write("rsync", out=progress + b"Number of regular files transferred: 3\nLiteral data: 50 bytes\n")
    told: list[tuple[int, int]] = []
    several(copying, b"a", b"b", on_progress=lambda done, files, _current: told.append((done, files)))
    assert max(told) == (100, 6)


def test_exit_23_without_a_reason_is_never_a_success(copying: Copying) -> None:
    outcome = copying.said(b"something new\n" + WORDS)
    assert outcome.unwritable == (Trouble(b"", "something new", 0),)
    assert copying.said(WORDS).unwritable[0].path == b""


@pytest.mark.parametrize(
    ("err", "code"),
    [
        (b'rsync: [receiver] write failed on "DRIVE/x": No space left on device (28)\n', 11),
        (b'rsync: [generator] recv_generator: mkdir "DRIVE/x" failed: No space left on device (28)\n', 23),
        (b'rsync: [receiver] mkstemp "DRIVE/.x.abcdef" failed: Disk quota exceeded (122)\n', 23),
    ],
)
def test_a_full_drive_is_named_as_such(err: bytes, code: int, copying: Copying) -> None:
    with pytest.raises(NoSpace, match="the drive is full"):
        copying.said(err, code)


@pytest.mark.parametrize("code", [11, 23])
def test_a_drive_that_became_read_only_stops_the_run(code: int, copying: Copying) -> None:
    with pytest.raises(NotFinished, match="read-only"):
        copying.said(b'rsync: [receiver] mkstemp "DRIVE/.x.abcdef" failed: Read-only file system (30)\n', code)


@pytest.mark.parametrize("code", [1, 2, 3, 11, 12, 14, 20, 25, 30, 127, 255])
def test_every_other_exit_code_stops_the_run(code: int, copying: Copying) -> None:
    with pytest.raises(NotFinished, match=f"exit code {code}.*last words") as caught:
        copying.said(b"first words\nrsync error: last words\n", code)
    assert type(caught.value) is NotFinished
    assert caught.value.hint


def test_an_ending_by_a_signal_is_named(copying: Copying) -> None:
    copying.fake.write("rsync", "os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(NotFinished, match="ended by signal 9"):
        copying()


def test_what_rsync_says_cannot_reach_the_terminal_as_it_is(copying: Copying) -> None:
    with pytest.raises(FlashbackError) as caught:
        copying.said(b"rsync error: \x1b[2J\n", 12)
    assert "\x1b" not in str(caught.value)


def test_a_drive_that_is_gone_is_the_better_explanation(copying: Copying, monkeypatch: pytest.MonkeyPatch) -> None:
    copying.fake.write("rsync", code=11)

    def gone() -> None:
        raise ConnectionResetError

    monkeypatch.setattr(copying, "_watch", gone)
    with pytest.raises(ConnectionResetError):
        copying()


def test_without_rsync_its_absence_is_the_error(copying: Copying) -> None:
    with pytest.raises(ProgramMissing, match="rsync is not installed"):
        copying()
