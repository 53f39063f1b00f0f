"""The one room that starts programs (for a program that talks with a person see `conversation`).

Everything a caller may ask is in a `Command`, everything that came back in a `Result`; a `CommandFailed` holds the
result. Exit codes are translated into meanings by the tool's own file in `flashback.tools`, nowhere else.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Final, Protocol, Self, cast

from flashback.core.errors import FlashbackError, Missing
from flashback.core.secret import Secret

SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SECOND_SECRET: Final = "{second-secret}"  # noqa: S105 - a place-holder, not a secret
"""Stands in an argv for the path of a descriptor from which `Command.second_secret` is read."""
PATIENCE: Final = 5.0
"""Seconds between asking a child to end and killing it."""
_WHEN_WE_ARE_GONE: Final = 'trap "" HUP INT TERM; read -r word || exec "$@"'
"""For sh(1): nothing can be read any more when nobody is left who could write."""
_IF_WE_LIVE: Final = '[ "$PPID" = "$0" ] && exec "$@"'
"""For sh(1): a parent that was killed before the kernel was asked to pass its death on is not the parent any more."""
TICK: Final = 0.5
"""Seconds between two looks at `watch` while a child is silent."""
PAUSE: Final = 0.01
"""Seconds for which a talkative child is left to itself: rsync says two lines for each file, and being woken for each
takes as long as the copying of a small one."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program to run: `argv`, what its standard input gets (`secret` or the open file `stdin`), which codes are `ok`.

    `dies_with_us` asks the kernel to kill the child should this process be killed, so that nothing goes on writing.
    `timeout` is in seconds.
    """

    argv: tuple[str, ...]
    secret: Secret | None = field(default=None, repr=False)
    second_secret: Secret | None = field(default=None, repr=False)
    stdin: IO[bytes] | None = field(default=None, repr=False)
    ok: frozenset[int] = frozenset({0})
    timeout: float | None = None
    cwd: str | None = None
    dies_with_us: bool = False

    def __str__(self) -> str:
        return shlex.join(self.argv) + (" <secret" if self.secret is not None else "")


@dataclass(frozen=True, slots=True)
class Result:
    """What a program answered. A `code` below zero is the number of the signal that ended it, as in `subprocess`."""

    command: Command
    code: int
    out: bytes = b""
    err: bytes = b""

    @property
    def text(self) -> str:
        """Standard output as text; bytes that are not UTF-8 come as surrogate escapes."""
        return self.out.decode("utf-8", "surrogateescape")

    @property
    def last_words(self) -> str:
        """The last line that says something, of standard error if there is one."""
        for stream in (self.err, self.out):
            lines = [line.strip() for line in stream.decode("utf-8", "replace").splitlines() if line.strip()]
            if lines:
                return lines[-1]
        return "it said nothing"


class CommandFailed(FlashbackError):
    """A program ended with a code that is not `ok`."""

    def __init__(self, result: Result) -> None:
        how = f"exited with {result.code}" if result.code >= 0 else f"was ended by signal {-result.code}"
        super().__init__(f"{result.command.argv[0]} {how}: {result.last_words}")
        self.result = result


class CommandTimedOut(FlashbackError):
    """A program did not end in time and was stopped."""

    def __init__(self, command: Command) -> None:
        super().__init__(f"{command.argv[0]} did not end within {command.timeout:g} s and was stopped")


class ProgramMissing(Missing):
    """A program is not installed. `program` is its name."""

    def __init__(self, program: str) -> None:
        super().__init__(f"the program {program} is not installed", hint="run `flashback doctor`: it names the package")
        self.program = program


class Runner(Protocol):
    """What the tools need of this room."""

    def __call__(self, command: Command) -> Result:
        """Run to the end. Raises `CommandFailed`, `CommandTimedOut`, `ProgramMissing`."""
        ...

    def stream(
        self,
        command: Command,
        *,
        on_out: Callable[[bytes], None],
        on_err: Callable[[bytes], None],
        watch: Callable[[], None],
    ) -> Result:
        """Run, giving each line (ended by newline or carriage return, without it) away as it comes.

        `watch` is called at least every `TICK` seconds and may raise: the child is then stopped.
        """
        ...


class Programs:
    """The real `Runner`. `path` is where programs are looked for; the caller's own PATH is never used.

    `held` is `StopSignals.held`: a signal that arrives while a child is being started is raised when it can be stopped.
    `handed` are descriptors that the children get.
    """

    def __init__(
        self,
        path: str = SYSTEM_PATH,
        held: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
        handed: tuple[int, ...] = (),
    ) -> None:
        self._handed = handed
        self.environment = {"PATH": path, "LC_ALL": "C.UTF-8", "LANGUAGE": "C", "HOME": "/nonexistent", "TZ": "UTC0"}
        self._held = held

    def __call__(self, command: Command) -> Result:
        """See `Runner`."""
        with self._started(command) as child:
            try:
                given = command.secret.reveal() if command.secret is not None else None
                out, err = child.communicate(given, command.timeout)
            except subprocess.TimeoutExpired:
                raise CommandTimedOut(command) from None
        return _judged(Result(command, child.returncode, out, err))

    def stream(
        self,
        command: Command,
        *,
        on_out: Callable[[bytes], None],
        on_err: Callable[[bytes], None],
        watch: Callable[[], None],
    ) -> Result:
        """See `Runner`. The result keeps no output but the last 64 KiB of standard error."""
        kept = bytearray()

        def on_err_kept(line: bytes) -> None:
            kept.extend(line + b"\n")
            del kept[: -64 * 1024]
            on_err(line)

        with self._started(command) as child:
            _pump({cast("IO[bytes]", child.stdout): on_out, cast("IO[bytes]", child.stderr): on_err_kept}, watch)
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(TICK)
                    break
                watch()
        return _judged(Result(command, child.returncode, b"", bytes(kept)))

    @contextlib.contextmanager
    def _started(self, command: Command) -> Iterator[subprocess.Popen[bytes]]:
        argv = [self._found(command.argv[0]), *command.argv[1:]]
        inherited: tuple[int, ...] = ()
        if command.dies_with_us:
            shell = ("/bin/sh", "-c", _IF_WE_LIVE, str(os.getpid()))
            argv = [self._found("setpriv"), "--pdeathsig", "KILL", "--", *shell, *argv]
        if command.second_secret is not None:
            reading = _pipe_holding(command.second_secret)
            inherited = (reading,)
            argv = [f"/proc/self/fd/{reading}" if word == SECOND_SECRET else word for word in argv]
        stdin = subprocess.PIPE if command.secret is not None else command.stdin or subprocess.DEVNULL
        child: subprocess.Popen[bytes] | None = None
        try:
            with self._held():
                child = subprocess.Popen(
                    argv,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=self.environment,
                    cwd=command.cwd,
                    pass_fds=(*inherited, *self._handed),
                    start_new_session=True,  # a Ctrl-C in the terminal must not also kill umount half-way
                )
            yield child
        except BaseException:
            if child is not None:
                stop(child)
            raise
        finally:
            for descriptor in inherited:
                os.close(descriptor)
            if child is not None:
                with child:  # closes its pipes and waits for its end
                    pass

    def handing(self, *descriptors: int) -> Programs:
        """The same, whose children inherit these descriptors."""
        return Programs(self.environment["PATH"], self._held, descriptors)

    def begun(self, argv: tuple[str, ...], stdin: int) -> subprocess.Popen[bytes]:
        """A shell that runs `argv` when nobody is left who could write to `stdin`. Raises `ProgramMissing`."""
        words = ("/bin/sh", "-c", _WHEN_WE_ARE_GONE, "flashback", self._found(argv[0]), *argv[1:])
        nowhere = subprocess.DEVNULL
        with self._held():
            return subprocess.Popen(
                words, stdin=stdin, stdout=nowhere, stderr=nowhere, env=self.environment, start_new_session=True
            )

    def _found(self, program: str) -> str:
        found = shutil.which(program, path=self.environment["PATH"])
        if found is None:
            raise ProgramMissing(program)
        return found


class Heir:
    """What is done should this process be killed, from `begin` on and until `let_go`. To be used in a `with`.

    The kernel closes our descriptors, whatever kills us. A shell reads from a pipe of which we, and the programs that
    inherit `descriptor`, hold the other end, and runs `argv` when all of them are gone. Leaving the `with` by an
    exception does the same.
    """

    def __init__(self, programs: Programs, argv: tuple[str, ...]) -> None:
        self._programs = programs
        self._argv = argv
        self._shell: subprocess.Popen[bytes] | None = None
        self._reading, self.descriptor = -1, -1

    def __enter__(self) -> Self:
        self._reading, self.descriptor = os.pipe()
        return self

    @property
    def run(self) -> Programs:
        """Starts programs that inherit `descriptor`."""
        return self._programs.handing(self.descriptor)

    def begin(self) -> None:
        """From now on. May be called twice. Raises `ProgramMissing`."""
        if self._shell is None:
            self._shell = self._programs.begun(self._argv, self._reading)

    def let_go(self) -> None:
        """No longer: what it was for is seen to."""
        if self._shell is not None and self.descriptor >= 0:
            with contextlib.suppress(OSError):
                os.write(self.descriptor, b"\n")
        self._end()

    def __exit__(self, *_raised: object) -> None:
        self._end()

    def _end(self) -> None:
        for descriptor in {self._reading, self.descriptor} - {-1}:
            os.close(descriptor)
        self._reading = self.descriptor = -1
        if self._shell is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._shell.wait(PATIENCE)


def _pipe_holding(secret: Secret) -> int:
    """Return the reading end of a pipe that already holds the secret; a pipe takes 64 KiB without a reader."""
    value = secret.reveal()
    if len(value) > 64 * 1024:
        raise ValueError("a second secret must fit into a pipe")
    reading, writing = os.pipe()
    with open(writing, "wb") as pipe:
        pipe.write(value)
    return reading


def _judged(result: Result) -> Result:
    if result.code not in result.command.ok:
        raise CommandFailed(result)
    return result


def _pump(streams: dict[IO[bytes], Callable[[bytes], None]], watch: Callable[[], None]) -> None:
    """Give away lines until every stream has ended."""
    rests: dict[IO[bytes], bytes] = dict.fromkeys(streams, b"")
    looked = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for each in streams:
            selector.register(each, selectors.EVENT_READ)
        while selector.get_map():
            for key, _events in selector.select(TICK):
                stream = cast("IO[bytes]", key.fileobj)
                data = os.read(stream.fileno(), 65536)
                lines = (rests[stream] + data).replace(b"\r", b"\n").split(b"\n")
                rests[stream] = lines.pop()
                if not data:
                    selector.unregister(stream)
                    lines.append(rests.pop(stream))
                for line in filter(None, lines):
                    streams[stream](line)
                if data:
                    time.sleep(PAUSE)
            if time.monotonic() - looked >= TICK:
                looked = time.monotonic()
                watch()


def stop(child: subprocess.Popen[bytes]) -> None:
    """End the child and what it started: ask, wait `PATIENCE` seconds, kill. Harmless when it has ended.

    The kill comes in any case: the child may have ended and left something behind that ignores being asked.
    """
    try:
        _tell_group(child, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE)
    finally:
        _tell_group(child, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE)


def _tell_group(child: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)
