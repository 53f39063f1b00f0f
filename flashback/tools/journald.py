"""The system's journal, with fields of its own (systemd.journal-fields(7); Native Journal Protocol on systemd.io)."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from typing import Final

SOCKET: Final = "/run/systemd/journal/socket"
_LONGEST: Final = 8 * 1024
"""Bytes of one field: a datagram has to hold them all, and nothing said here is longer."""


class Journal:
    """Where structured lines go. What cannot be sent is dropped: nobody's backup fails over a log."""

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path

    def send(self, message: str, *, priority: int, fields: Mapping[str, object]) -> None:
        """One entry. `priority` as in syslog(3): 3 an error, 4 a warning, 5 a notice, 6 information."""
        entry = {"MESSAGE": message, "PRIORITY": priority, "SYSLOG_IDENTIFIER": "flashback", **fields}
        datagram = b"".join(_field(name, str(value)) for name, value in entry.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, contextlib.suppress(OSError):
            sender.settimeout(0)
            sender.sendto(datagram, self._path)


def _field(name: str, value: str) -> bytes:
    """In the form with a length, which takes any byte: nobody can end a field early and begin one of their own."""
    encoded = value.encode("utf-8", "surrogateescape")[:_LONGEST]
    return name.encode("ascii") + b"\n" + len(encoded).to_bytes(8, "little") + encoded + b"\n"
