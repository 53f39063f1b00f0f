"""The one room that starts programs (for a program that talks with a person see `conversation`).

Everything a caller may ask is in a `Command`, everything that came back in a `Result`; a `CommandFailed` holds the
result. Exit codes are translated into meanings by the tool's own file in `flashback.tools`, nowhere else.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Final, Protocol, cast

from flashback.core.ears import Ears
from flashback.core.errors import FlashbackError, Missing
from flashback.core.secret import Secret

SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SECOND_SECRET: Final = "{second-secret}"  # noqa: S105 - a place-holder, not a secret
"""Stands in an argv for the path of a descriptor from which `Command.second_secret` is read."""
PATIENCE: Final = 5.0
"""Seconds between asking a child to end and killing it."""
_IF_WE_LIVE: Final = '[ "$PPID" = "$0" ] && exec "$@"'
"""For sh(1): a parent that was killed before the kernel was asked to pass its death on is not the parent any more."""
TICK: Final = 0.5
"""Seconds between two looks at `watch` while a child is silent."""


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


@dataclass(frozen=True, slots=True)
class Stream:
    """A program that is listened to: `on_out` and `on_err` get each line as it comes (ended by newline or carriage
    return, without it), `on_end` the result, whatever its code. Each may raise.
    """

    command: Command
    on_out: Callable[[bytes], None]
    on_err: Callable[[bytes], None]
    on_end: Callable[[Result], None]


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
        """Run, giving each line away as it comes.

        `watch` is called at least every `TICK` seconds and may raise: the child is then stopped.
        """
        ...

    def streams(self, streams: Iterable[Stream], *, at_once: int, watch: Callable[[], None]) -> None:
        """Run several, `at_once` at a time, each begun when there is a place for it. What is raised stops them all."""
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
        """See `Runner`."""
        ended: list[Result] = []
        self.streams([Stream(command, on_out, on_err, ended.append)], at_once=1, watch=watch)
        return _judged(ended[0])

    def streams(self, streams: Iterable[Stream], *, at_once: int, watch: Callable[[], None]) -> None:
        """See `Runner`. The results keep no output but the last 64 KiB of standard error."""
        waiting, running, looked = iter(streams), list[_Running](), time.monotonic()
        with contextlib.ExitStack() as all_of_them, Ears() as ears:
            while True:
                while len(running) < at_once and (stream := next(waiting, None)) is not None:
                    one = all_of_them.enter_context(contextlib.ExitStack())
                    with self._held():  # a signal must not come before it is noted that the child is to be stopped
                        running.append(_Running(stream, one.enter_context(self._started(stream.command)), one))
                    running[-1].be_heard(ears)
                if not running:
                    return
                ears.listen(TICK)
                if time.monotonic() - looked >= TICK:
                    looked = time.monotonic()
                    watch()
                for each in [each for each in running if each.is_silent(ears)]:
                    running.remove(each)
                    each.end(watch)

    @contextlib.contextmanager
    def _started(self, command: Command) -> Iterator[subprocess.Popen[bytes]]:
        argv = [self.found(command.argv[0]), *command.argv[1:]]
        inherited: tuple[int, ...] = ()
        if command.dies_with_us:
            shell = ("/bin/sh", "-c", _IF_WE_LIVE, str(os.getpid()))
            argv = [self.found("setpriv"), "--pdeathsig", "KILL", "--", *shell, *argv]
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

    def begun(self, argv: tuple[str, ...], stdin: int) -> Callable[[], None]:
        """Start what outlives us, by its path. The answer waits for its end, `PATIENCE` seconds at most."""
        nowhere = subprocess.DEVNULL
        with self._held():
            child = subprocess.Popen(
                argv, stdin=stdin, stdout=nowhere, stderr=nowhere, env=self.environment, start_new_session=True
            )

        def wait() -> None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(PATIENCE)

        return wait

    def found(self, program: str) -> str:
        """Its path. Raises `ProgramMissing`."""
        found = shutil.which(program, path=self.environment["PATH"])
        if found is None:
            raise ProgramMissing(program)
        return found


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


@dataclass(slots=True)
class _Running:
    """A program that is listened to; `started` gives the child back."""

    stream: Stream
    child: subprocess.Popen[bytes]
    started: contextlib.ExitStack
    kept: bytearray = field(default_factory=bytearray)

    @property
    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        return cast("IO[bytes]", self.child.stdout), cast("IO[bytes]", self.child.stderr)

    def be_heard(self, ears: Ears) -> None:
        out, err = self._pipes
        ears.add(out, self.stream.on_out)
        ears.add(err, self._complain)

    def _complain(self, line: bytes) -> None:
        self.kept.extend(line + b"\n")
        del self.kept[: -64 * 1024]
        self.stream.on_err(line)

    def is_silent(self, ears: Ears) -> bool:
        return not any(map(ears.hears, self._pipes))

    def end(self, watch: Callable[[], None]) -> None:
        """Wait for its end, and tell it."""
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(TICK)
                break
            watch()
        self.started.close()
        self.stream.on_end(Result(self.stream.command, self.child.returncode, b"", bytes(self.kept)))


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
