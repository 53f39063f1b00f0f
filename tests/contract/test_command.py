"""The room that starts programs, against fake programs that note what they were given."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import time
import traceback
from pathlib import Path

import pytest

from flashback.core import command
from flashback.core.command import (
    SECOND_SECRET,
    Command,
    CommandFailed,
    CommandTimedOut,
    ProgramMissing,
    Programs,
    Stream,
)
from flashback.core.secret import Secret
from flashback.core.signals import Interrupted, StopSignals

SECRET = Secret(b"tr0ub4dor&3\xff\n ")


@pytest.fixture(autouse=True)
def little_patience(monkeypatch):
    monkeypatch.setattr(command, "PATIENCE", 0.5)
    monkeypatch.setattr(command, "TICK", 0.02)


def ignore(*_anything: object) -> None:
    pass


def stream(programs, asked, *, on_out=ignore, on_err=ignore, watch=ignore):
    return programs.stream(asked, on_out=on_out, on_err=on_err, watch=watch)


def is_alive(process: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    return False


def wait_until(condition) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "waited 20 s in vain"
        time.sleep(0.01)


# What the program gets.


def test_words_reach_the_program_as_they_are(fake_programs):
    fake_programs.write("rsync")
    words = ["-a", "two words", "*[?\\", "", "-", "new\nline", "caf\u00e9", "$HOME"]
    fake_programs.programs(Command(("rsync", *words)))
    assert fake_programs.argvs("rsync") == [words]


def test_the_environment_is_ours_alone(fake_programs, monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("RSYNC_RSH", "evil")
    fake_programs.write("rsync")
    fake_programs.programs(Command(("rsync",)))
    environment = fake_programs.calls()[0]["env"]
    environment.pop("LC_CTYPE", None)  # Python's own
    expected = {"PATH": fake_programs.path, "LC_ALL": "C.UTF-8", "LANGUAGE": "C", "HOME": "/nonexistent", "TZ": "UTC0"}
    assert environment == expected


def test_the_callers_own_path_is_never_searched(fake_programs, monkeypatch, tmp_path):
    (tmp_path / "evil").write_text("#!/bin/sh\n")
    (tmp_path / "evil").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProgramMissing, match="the program evil is not installed"):
        fake_programs.programs(Command(("evil",)))


def test_without_a_secret_standard_input_is_empty(fake_programs):
    fake_programs.write("btrfs")
    fake_programs.programs(Command(("btrfs",)))
    assert fake_programs.calls()[0]["stdin"] == ""


def test_an_open_file_becomes_standard_input(fake_programs, tmp_path):
    fake_programs.write("rsync")
    (tmp_path / "list").write_bytes(b"a\0b\0")
    with (tmp_path / "list").open("rb") as given:
        fake_programs.programs(Command(("rsync",), stdin=given))
    assert fake_programs.calls()[0]["stdin"] == "a\0b\0"


def test_the_program_runs_in_a_session_of_its_own_and_where_it_was_told(fake_programs, tmp_path):
    fake_programs.write("btrfs")
    fake_programs.programs(Command(("btrfs",), cwd=str(tmp_path)))
    call = fake_programs.calls()[0]
    assert (call["session"], call["cwd"]) == (call["pid"], str(tmp_path))


def test_a_child_that_dies_with_us_gets_the_same_words(fake_programs):
    fake_programs.let_through("setpriv")
    fake_programs.write("rsync", "out.write(json.dumps(argv).encode())")
    result = fake_programs.programs(Command(("rsync", "--", "-x"), dies_with_us=True))
    assert result.text == '["--", "-x"]'


def test_a_child_that_dies_with_us_is_killed_when_we_are(fake_programs, tmp_path):
    fake_programs.let_through("setpriv")
    fake_programs.write("rsync", f"open({str(tmp_path / 'begun')!r}, 'w').close(); time.sleep(60)", reads=False)
    us = os.fork()
    if not us:
        with contextlib.suppress(BaseException):
            fake_programs.programs(Command(("rsync",), dies_with_us=True))
        os._exit(1)
    wait_until((tmp_path / "begun").exists)
    os.kill(us, signal.SIGKILL)
    os.waitpid(us, 0)
    wait_until(lambda: not is_alive(fake_programs.calls()[0]["pid"]))


# Secrets.


def test_a_secret_reaches_standard_input_byte_for_byte_and_nothing_else(fake_programs):
    fake_programs.write("cryptsetup")
    fake_programs.programs(Command(("cryptsetup", "open", "--key-file=-"), secret=SECRET))
    call = fake_programs.calls()[0]
    assert call["stdin"].encode("latin-1") == SECRET.reveal()
    assert "tr0ub4dor" not in repr(call["argv"]) + repr(call["env"])


def test_an_empty_secret_is_given_as_nothing(fake_programs):
    fake_programs.write("cryptsetup")
    fake_programs.programs(Command(("cryptsetup",), secret=Secret(b"")))
    assert fake_programs.calls()[0]["stdin"] == ""


def test_a_second_secret_comes_by_a_descriptor_whose_path_stands_in_the_argv(fake_programs):
    fake_programs.write("cryptsetup", "out.write(open(argv[-1], 'rb').read() + b'|' + stdin)")
    asked = Command(("cryptsetup", "luksAddKey", SECOND_SECRET), secret=SECRET, second_secret=Secret(b"\0recovery\n"))
    assert fake_programs.programs(asked).out == b"\0recovery\n|" + SECRET.reveal()
    assert fake_programs.argvs()[0][1].startswith("/proc/self/fd/")


def test_no_descriptor_is_left_open_after_a_second_secret(fake_programs):
    fake_programs.write("cryptsetup", code=1)
    before = sorted(os.listdir("/dev/fd"))
    with pytest.raises(CommandFailed):
        fake_programs.programs(Command(("cryptsetup", SECOND_SECRET), second_secret=SECRET))
    assert sorted(os.listdir("/dev/fd")) == before


def test_a_second_secret_that_fits_into_no_pipe_is_refused(fake_programs):
    fake_programs.write("cryptsetup")
    with pytest.raises(ValueError, match="must fit into a pipe"):
        fake_programs.programs(Command(("cryptsetup", SECOND_SECRET), second_secret=Secret(b"x" * 70_000)))


@pytest.mark.parametrize("how", ["exit", "time out", "missing"])
def test_no_text_of_a_failure_holds_a_secret(fake_programs, how):
    if how != "missing":
        fake_programs.write("cryptsetup", "time.sleep(60)" if how == "time out" else "", code=2)
    asked = Command(("cryptsetup", SECOND_SECRET), secret=SECRET, second_secret=SECRET, timeout=0.3)
    with pytest.raises((CommandFailed, CommandTimedOut, ProgramMissing)) as caught:
        fake_programs.programs(asked)
    texts = [str(asked), repr(asked), str(caught.value), repr(caught.value), repr(vars(caught.value))]
    texts += traceback.format_exception(caught.value)
    assert "tr0ub4dor" not in "".join(texts)
    assert str(asked).endswith("<secret")


def test_a_command_with_a_secret_cannot_be_written_to_a_file():
    with pytest.raises(TypeError, match="not written anywhere"):
        pickle.dumps(Command(("cryptsetup",), secret=SECRET))


# What comes back.


def test_what_the_program_said_and_its_code_come_back(fake_programs):
    fake_programs.write("btrfs", out=b"caf\xe9\n", err=b"careful\n", code=3)
    result = fake_programs.programs(Command(("btrfs", "scrub"), ok=frozenset({0, 3})))
    assert (result.code, result.out, result.err, result.text) == (3, b"caf\xe9\n", b"careful\n", "caf\udce9\n")


def test_a_code_that_is_not_fine_is_an_error_with_the_result_inside(fake_programs):
    fake_programs.write("btrfs", err=b"first\nERROR: not a btrfs\n\n", code=1)
    with pytest.raises(CommandFailed, match=r"btrfs exited with 1: ERROR: not a btrfs$") as caught:
        fake_programs.programs(Command(("btrfs",)))
    assert caught.value.result.code == 1


def test_an_end_by_a_signal_is_named_as_such(fake_programs):
    fake_programs.write("rsync", "os.kill(os.getpid(), 9)")
    with pytest.raises(CommandFailed, match=r"rsync was ended by signal 9: it said nothing"):
        fake_programs.programs(Command(("rsync",)))


# Nothing outlives us.

STUBBORN = """
child = os.fork()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if child:
    open(argv[0] + ".new", "w").write(f"{os.getpid()} {child}")
    os.rename(argv[0] + ".new", argv[0])
while True:
    time.sleep(60)
"""
MILD_WITH_A_STUBBORN_CHILD = STUBBORN.replace("signal.signal", "child or signal.signal")


def processes(path: Path) -> list[int]:
    return [int(word) for word in path.read_text("ascii").split()]


@pytest.mark.parametrize("script", [STUBBORN, MILD_WITH_A_STUBBORN_CHILD], ids=["stubborn", "mild with stubborn child"])
def test_a_program_that_takes_too_long_is_stopped_with_its_children(fake_programs, tmp_path, script):
    fake_programs.write("cryptsetup", script, reads=False)
    with pytest.raises(CommandTimedOut, match="did not end within 2 s and was stopped"):
        fake_programs.programs(Command(("cryptsetup", str(tmp_path / "ids")), timeout=2))
    wait_until(lambda: not any(is_alive(process) for process in processes(tmp_path / "ids")))


@pytest.mark.parametrize("number", StopSignals.NUMBERS)
@pytest.mark.parametrize("way", ["call", "stream"])
def test_a_signal_stops_the_program_and_its_children_and_is_raised(fake_programs, tmp_path, number, way):
    script = STUBBORN.replace("while True", f"child and os.kill({os.getpid()}, {number:d})\nwhile True")
    fake_programs.write("rsync", script, reads=False)
    asked = Command(("rsync", str(tmp_path / "ids")))
    with StopSignals() as signals, pytest.raises(Interrupted) as caught:
        programs = Programs(fake_programs.path, signals.held)
        programs(asked) if way == "call" else stream(programs, asked)
    assert caught.value.number == number
    wait_until(lambda: not any(is_alive(process) for process in processes(tmp_path / "ids")))


def test_a_signal_while_a_program_is_being_started_leaves_no_program_behind(fake_programs, monkeypatch):
    fake_programs.write("rsync", "time.sleep(60)", reads=False)
    started = []

    class Popen(subprocess.Popen):
        def __init__(self, *words, **settings):
            super().__init__(*words, **settings)
            started.append(self.pid)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    with StopSignals() as signals, pytest.raises(Interrupted):
        Programs(fake_programs.path, signals.held)(Command(("rsync",)))
    assert len(started) == 1
    assert not is_alive(started[0])


# Streams.


def test_a_stream_gives_lines_as_they_come_split_at_newline_and_carriage_return(fake_programs):
    fake_programs.write("rsync", out=b"one\ntwo\r\n  3%\r 44%\rlast", err=b"\noops\nagain")
    out, err = [], []
    result = stream(fake_programs.programs, Command(("rsync",)), on_out=out.append, on_err=err.append)
    assert out == [b"one", b"two", b"  3%", b" 44%", b"last"]
    assert err == [b"oops", b"again"]
    assert (result.code, result.out, result.err) == (0, b"", b"oops\nagain\n")


def test_a_line_that_comes_in_pieces_is_given_as_one(fake_programs, tmp_path):
    os.mkfifo(tmp_path / "go")
    script = f"out.write(b'half '); out.flush(); err.write(b'now\\n'); err.flush(); open({str(tmp_path / 'go')!r}).read(); out.write(b'whole\\n')"
    fake_programs.write("rsync", script)
    out = []
    stream(
        fake_programs.programs,
        Command(("rsync",)),
        on_out=out.append,
        on_err=lambda _: (tmp_path / "go").write_text(""),
    )
    assert out == [b"half whole"]


def test_a_long_stream_keeps_only_the_end_of_the_errors(fake_programs):
    fake_programs.write("rsync", "err.write(b''.join(b'%099d\\n' % n for n in range(2000)))", code=23)
    with pytest.raises(CommandFailed) as caught:
        stream(fake_programs.programs, Command(("rsync",)))
    assert len(caught.value.result.err) == 64 * 1024
    assert caught.value.result.last_words.endswith("1999")


def test_a_silent_program_is_watched_and_stopped_when_the_watcher_raises(fake_programs, tmp_path):
    fake_programs.write("rsync", STUBBORN, reads=False)
    looks = []

    def watch():
        looks.append(1)
        if len(looks) > 3 and (tmp_path / "ids").exists():
            raise ZeroDivisionError("the drive is gone")

    with pytest.raises(ZeroDivisionError):
        stream(fake_programs.programs, Command(("rsync", str(tmp_path / "ids"))), watch=watch)
    wait_until(lambda: not any(is_alive(process) for process in processes(tmp_path / "ids")))


def test_a_program_that_closed_its_output_is_still_watched(fake_programs, tmp_path):
    fake_programs.write("rsync", "os.closerange(0, 3); os.mkdir(argv[0]); time.sleep(60)")
    looks = []

    def watch():
        looks.extend([1] if (tmp_path / "closed").exists() else [])
        if len(looks) > 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stream(fake_programs.programs, Command(("rsync", str(tmp_path / "closed"))), watch=watch)


def test_an_error_of_the_listener_stops_the_program(fake_programs):
    def on_out(_line):
        raise ZeroDivisionError

    fake_programs.write("rsync", "out.flush(); time.sleep(60)", out=b"line\n")
    with pytest.raises(ZeroDivisionError):
        stream(fake_programs.programs, Command(("rsync",)), on_out=on_out)
    assert not is_alive(fake_programs.calls()[0]["pid"])


# Several streams.


def together(programs, *words, at_once=2, on_end=ignore, watch=ignore):
    streams = (Stream(Command(("rsync", *map(str, each))), ignore, ignore, on_end) for each in words)
    programs.streams(streams, at_once=at_once, watch=watch)


MEET = """
os.mkdir(argv[0])
for _ in range(2000):
    if os.path.exists(argv[1]):
        break
    time.sleep(0.01)
else:
    raise SystemExit(7)
"""


def test_streams_run_at_the_same_time(fake_programs, tmp_path):
    fake_programs.write("rsync", MEET, reads=False)
    codes = []
    one, other = tmp_path / "one", tmp_path / "other"
    together(fake_programs.programs, (one, other), (other, one), on_end=lambda result: codes.append(result.code))
    assert codes == [0, 0]


def test_the_next_stream_is_asked_for_when_there_is_a_place_for_it(fake_programs):
    fake_programs.write("rsync")
    said = []

    def streams():
        for number in range(4):
            said.append(f"asked {number}")
            yield Stream(
                Command(("rsync",)), ignore, ignore, lambda _result, number=number: said.append(f"end {number}")
            )

    fake_programs.programs.streams(streams(), at_once=1, watch=ignore)
    assert said == [f"{what} {number}" for number in range(4) for what in ("asked", "end")]


def test_what_one_stream_raises_stops_the_others(fake_programs, tmp_path):
    script = "os.mkdir(argv[0]); time.sleep(60 if argv[1] == 'on' else 0)"
    fake_programs.write("rsync", script, reads=False)

    def on_end(_result):
        wait_until((tmp_path / "on").exists)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        together(fake_programs.programs, (tmp_path / "on", "on"), (tmp_path / "off", "off"), on_end=on_end)
    wait_until(lambda: not any(is_alive(call["pid"]) for call in fake_programs.calls()))


def test_a_code_that_is_not_fine_is_for_the_listener_to_judge(fake_programs):
    fake_programs.write("rsync", code=23, err=b"oops\n")
    ended = []
    together(fake_programs.programs, (), on_end=ended.append)
    assert [(result.code, result.err) for result in ended] == [(23, b"oops\n")]
