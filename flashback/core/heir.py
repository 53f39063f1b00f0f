"""Who does what is left to do should this process be killed, with whatever signal."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Final, Self

from flashback.core.command import Programs

_WHEN_WE_ARE_GONE: Final = 'trap "" HUP INT TERM; read -r word || exec "$@"'
"""For sh(1): nothing can be read any more when nobody is left who could write."""


class Heir:
    """What is done should this process be killed, from `begin` on and until `let_go`. To be used in a `with`.

    The kernel closes our descriptors, whatever kills us. A shell reads from a pipe of which we, and the programs that
    inherit `descriptor`, hold the other end, and runs `argv` when all of them are gone. Leaving the `with` by an
    exception does the same.
    """

    def __init__(self, programs: Programs, argv: tuple[str, ...]) -> None:
        self._programs = programs
        self._argv = argv
        self._wait: Callable[[], None] | None = None
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
        if self._wait is None:
            program, *rest = self._argv
            shell = ("/bin/sh", "-c", _WHEN_WE_ARE_GONE, "flashback", self._programs.found(program), *rest)
            self._wait = self._programs.begun(shell, self._reading)

    def let_go(self) -> None:
        """No longer: what it was for is seen to."""
        if self._wait is not None and self.descriptor >= 0:
            with contextlib.suppress(OSError):
                os.write(self.descriptor, b"\n")
        self._end()

    def __exit__(self, *_raised: object) -> None:
        self._end()

    def _end(self) -> None:
        for descriptor in {self._reading, self.descriptor} - {-1}:
            os.close(descriptor)
        self._reading = self.descriptor = -1
        if self._wait is not None:
            self._wait()
