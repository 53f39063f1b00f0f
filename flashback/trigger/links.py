"""The unit's side of the talk with sessions: finding those that can be asked, asking, hearing."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from flashback.trigger.words import AGENT, Gone, Wire, peer

SESSIONS: Final = Path("/run/user")
"""Where each person has a directory of their own (XDG base directories, pam_systemd(8))."""
_LOOK_AGAIN: Final = 2.0
_SHOWN_WITHIN: Final = 20.0
"""Seconds within which a desktop has shown a notice. Each of its calls takes at most `tools.dbus.ANSWER_WITHIN`."""
_POLL: Final = 0.1


@dataclass(slots=True, eq=False)
class Link:
    """A session that is connected. `able` until it says that it cannot ask."""

    uid: int
    wire: Wire
    able: bool = True


@dataclass(slots=True)
class Links:
    """`people` gives the uids of those who sit here now; only they are ever asked. `drive` opens every talk."""

    people: Callable[[], frozenset[int]]
    drive: dict[str, str]
    sessions: Path = SESSIONS
    _links: dict[int, Link] = field(default_factory=dict)
    _refused: dict[int, float] = field(default_factory=dict)

    @property
    def able(self) -> list[Link]:
        """Those that can be asked."""
        return [link for link in self._links.values() if link.able]

    def look(self) -> list[Link]:
        """Connect to sessions that have appeared; return those."""
        return [link for uid, path in self._sockets() if (link := self._connected(uid, path)) is not None]

    def _sockets(self) -> Iterator[tuple[int, Path]]:
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(self.sessions)):
                path = self.sessions / name / AGENT
                # os.path: whatever somebody has put there, it keeps nobody else from being asked
                if name.isdecimal() and int(name) not in self._links and os.path.exists(path):
                    yield int(name), path

    def _connected(self, uid: int, path: Path) -> Link | None:
        if time.monotonic() < self._refused.get(uid, 0.0):
            return None
        self._refused[uid] = time.monotonic() + _LOOK_AGAIN
        if uid not in self.people():
            return None
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link = Link(uid, Wire(connection))
        try:
            connection.connect(str(path))
            if peer(connection) != uid:  # a link to somebody else's socket: not a word is said there
                raise Gone
            link.wire.say(do="hello", **self.drive)
        except (OSError, Gone):
            connection.close()
            return None
        self._links[uid] = link
        return link

    def say(self, **words: Any) -> None:  # noqa: ANN401
        """Tell all of them."""
        for link in list(self._links.values()):
            self.say_to(link, **words)

    def say_to(self, link: Link, **words: Any) -> None:  # noqa: ANN401
        """Tell one; if it is gone, it is forgotten."""
        try:
            link.wire.say(**words)
        except Gone:
            self._forget(link)

    def heard(self) -> list[tuple[Link, dict[str, Any]]]:
        """What they have said since, without waiting."""
        said = []
        for link in list(self._links.values()):
            try:
                for words in link.wire.heard():
                    said.append((link, words))  # noqa: PERF401 - what was said before it hung up counts
            except Gone:
                self._forget(link)
        return said

    def shown(self, number: int) -> bool:
        """Whether anybody's desktop has shown the notice that was said with this `id`; waits until that is known."""
        waiting = set(self._links)
        deadline = time.monotonic() + _SHOWN_WITHIN
        while waiting & set(self._links) and time.monotonic() < deadline:
            for link, words in self.heard():
                if words.get("id") != number:
                    continue
                if words.get("shown") is True:
                    return True
                waiting.discard(link.uid)
            time.sleep(_POLL)
        return False

    def _forget(self, link: Link) -> None:
        link.wire.hang_up()
        self._links.pop(link.uid, None)

    def hang_up(self) -> None:
        """End every talk: what is still asked there is withdrawn."""
        for link in list(self._links.values()):
            self._forget(link)
