"""The command in a process forked off the tests, since to start Python takes seconds in a guest's kernel.

It has the environment, the descriptors and the arguments of a started one, and its own copy of modules that are
imported already. That the two say the same and end with the same exit code is tested (test_forked.py).
"""

from __future__ import annotations

import functools
import gc
import os
import select
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import NoReturn

PRELOADED = (
    *("_strptime", "jeepney.io.blocking", "typer.main", "yaml"),
    *("flashback.app", "flashback.backup.service", "flashback.backup.trim", "flashback.cli", "flashback.config.reader"),
    *("flashback.drive.choose", "flashback.drive.close", "flashback.drive.status", "flashback.health.service"),
    *("flashback.prepare.adopt", "flashback.prepare.init", "flashback.prepare.keys", "flashback.proof.prove"),
    *("flashback.recover.service", "flashback.tell.jsonlines", "flashback.tell.plain", "flashback.tell.summary"),
)
"""What commands import."""


@functools.cache
def preload() -> None:
    """Import all that a run imports, once, and have the command line made."""
    for name in PRELOADED:
        import_module(name)
    from typer import main as command_line

    from flashback.cli import app

    command_line.get_command = functools.cache(command_line.get_command)
    command_line.get_command(app)
    gc.collect()
    gc.freeze()  # a collection in a forked process would copy every page of what is imported


def main(argv: tuple[str, ...]) -> int:
    """What `flashback` does when it is started."""
    from flashback.cli import main

    sys.argv = ["flashback", *argv]
    main()
    return 0


def with_cheap_keys() -> None:
    """From now on, in this process, a passphrase costs nothing to derive a key from."""
    from flashback.tools import cryptsetup

    for name in ("format_volume", "add_key"):
        setattr(cryptsetup, name, _cheaply(getattr(cryptsetup, name), cryptsetup.PRACTICE))


def _cheaply(make: Callable[..., None], kdf: object) -> Callable[..., None]:
    def made(*args: object, **more: object) -> None:
        make(*args, **(more | {"kdf": kdf}))

    return made


def forked(work: Callable[[], int], environment: Mapping[str, str], descriptors: tuple[int, int, int]) -> int:
    """Run `work` in a process of its own, which has these as its standard input, output and error; its number."""
    preload()
    pid = os.fork()
    if pid == 0:
        _be_it(work, environment, descriptors)
    return pid


def run_forked(
    work: Callable[[], int], environment: Mapping[str, str], given: str, patience: float
) -> subprocess.CompletedProcess[str]:
    """The same to its end, as `subprocess.run` would do. Raises `TimeoutExpired`, with the process killed."""
    with tempfile.TemporaryFile() as typed, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        typed.write(given.encode())
        typed.seek(0)
        pid = forked(work, environment, (typed.fileno(), out.fileno(), err.fileno()))
        in_time = False
        try:
            in_time = _ends(pid, patience)
        finally:
            if not in_time:
                os.kill(pid, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said = [file.seek(0) or file.read().decode() for file in (out, err)]
    if not in_time:
        raise subprocess.TimeoutExpired("flashback", patience, *said)
    return subprocess.CompletedProcess(["flashback"], code, *said)


def _ends(pid: int, patience: float) -> bool:
    """Whether the process ends within so many seconds."""
    ending = os.pidfd_open(pid)
    try:
        watched = select.poll()
        watched.register(ending, select.POLLIN)
        return bool(watched.poll(patience * 1000))
    finally:
        os.close(ending)


def _be_it(work: Callable[[], int], environment: Mapping[str, str], descriptors: tuple[int, int, int]) -> NoReturn:
    code = 99
    try:
        _settle(environment, descriptors)
        code = work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException as problem:  # noqa: BLE001 - a traceback says more than an assertion in the parent
        import traceback

        traceback.print_exception(problem)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _settle(environment: Mapping[str, str], descriptors: tuple[int, int, int]) -> None:
    """Put everything in place that a started process would find."""
    os.setsid()
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    warnings.simplefilter("ignore")
    os.environ.clear()
    os.environ.update(environment)
