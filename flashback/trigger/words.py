"""What the system's unit and the session say to each other: one JSON object per line over a Unix socket.

The unit connects to the session, never the other way: there is no socket of root's that anybody could knock at. Each
side asks the kernel who the other is (SO_PEERCRED) before it says a word.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any, Final

AGENT: Final = "flashback-agent"
"""The session's socket, in its XDG_RUNTIME_DIR, which is 0700."""
LONGEST: Final = 64 * 1024
PATIENCE: Final = 2.0
"""Seconds within which the other side has taken what it is told."""
_CREDENTIALS: Final = struct.Struct("3i")


def peer(connection: socket.socket) -> int:
    """The uid of the process at the other end, as the kernel knows it (unix(7), SO_PEERCRED)."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])


class Gone(Exception):
    """The other side hung up, or says what cannot be meant."""


class Wire:
    """One connection. Nothing here waits for longer than a moment: nobody's backup hangs on a session that hangs."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.settimeout(0)
        self._rest = b""

    def fileno(self) -> int:
        """For select."""
        return self.connection.fileno()

    def say(self, **words: Any) -> None:  # noqa: ANN401 - what JSON can say
        """Say one thing. Raises `Gone`."""
        try:
            self.connection.settimeout(PATIENCE)
            self.connection.sendall(json.dumps(words, ensure_ascii=True).encode("ascii") + b"\n")
            self.connection.settimeout(0)
        except OSError as problem:
            raise Gone from problem

    def heard(self) -> Iterator[dict[str, Any]]:
        """What was said since, without waiting. Raises `Gone` at the end of it."""
        gone = False
        while not gone:
            try:
                data = self.connection.recv(LONGEST)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            gone = not data
            self._rest += data
            if len(self._rest) > LONGEST:
                raise Gone
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            try:
                words = json.loads(line)
            except (ValueError, RecursionError) as problem:
                raise Gone from problem
            if not isinstance(words, dict):
                raise Gone
            yield words
        if gone:
            raise Gone

    def hang_up(self) -> None:
        """End it."""
        self.connection.close()
