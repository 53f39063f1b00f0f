"""What programs say, line by line as it comes, from several of them at once."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from typing import IO, Final, Self, cast

PAUSE: Final = 0.01
"""Seconds for which talkative programs are left to themselves: rsync says two lines for each file, and being woken for
each takes as long as the copying of a small one."""


class Ears:
    """Listens to open pipes. To be used in a `with`; the pipes stay the caller's."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._rests: dict[IO[bytes], bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._selector.close()

    def add(self, pipe: IO[bytes], hear: Callable[[bytes], None]) -> None:
        """From now on `hear` gets its lines (ended by newline or carriage return, without it) but for empty ones."""
        self._selector.register(pipe, selectors.EVENT_READ, hear)
        self._rests[pipe] = b""

    def hears(self, pipe: IO[bytes]) -> bool:
        """Whether more may come from it."""
        return pipe in self._rests

    def listen(self, seconds: float) -> None:
        """Give away what has been said; wait for it so long at most."""
        heard = False
        for key, _events in self._selector.select(seconds):
            pipe = cast("IO[bytes]", key.fileobj)
            data = os.read(pipe.fileno(), 65536)
            lines = (self._rests[pipe] + data).replace(b"\r", b"\n").split(b"\n")
            self._rests[pipe] = lines.pop()
            if not data:
                self._selector.unregister(pipe)
                lines.append(self._rests.pop(pipe))
            for line in filter(None, lines):
                key.data(line)
            heard = heard or bool(data)
        if heard:
            time.sleep(PAUSE)
