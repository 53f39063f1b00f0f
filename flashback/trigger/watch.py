"""`flashback watch`: waits in a person's session for the units of drives, each of which it talks with in a thread."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flashback.core.command import Command, Programs
from flashback.core.errors import FlashbackError, Locked, Missing
from flashback.tools import secret_service, systemctl, udev
from flashback.tools.dbus import Notices
from flashback.trigger.dialog import ask
from flashback.trigger.plug import LABEL, LATER
from flashback.trigger.session import Dialog, Talk
from flashback.trigger.words import AGENT, Wire, peer

_SHOWN_WHERE: Final = frozenset(
    {
        *("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "XDG_SESSION_TYPE", "XDG_CURRENT_DESKTOP"),
        *("DBUS_SESSION_BUS_ADDRESS", "HOME", "LANG", "LC_ALL", "LC_MESSAGES", "XDG_DATA_DIRS"),
    }
)
"""What a dialog needs of the session's environment, and nothing else of it."""
_GRACE: Final = 5.0
"""Seconds after an hour's "later", so that it is over by the unit's clock, too."""


def unit_of(uuid: str) -> str:
    """The unit's instance for a drive, escaped as systemd-escape(1) does it."""
    return f"flashback-plug@{uuid.replace('-', chr(92) + 'x2d')}.service"


@dataclass(slots=True)
class Watch:
    """`environment` is the session's; `trusted` the uid whose units are talked with."""

    environment: Mapping[str, str]
    trusted: int = 0

    def wait(self) -> None:
        """For ever; what ends it is a signal. Raises `Missing` without a session, `Locked` if another one waits."""
        folder = self.environment.get("XDG_RUNTIME_DIR", "")
        if not folder:
            raise Missing(
                "there is no session here", hint="flashback watch runs in a person's session; enable sees to it"
            )
        with _listening(Path(folder) / AGENT) as listener:
            threading.Thread(target=self._ask_about_those_here, daemon=True).start()
            while True:
                select.select([listener], [], [])
                connection, _address = listener.accept()
                if peer(connection) != self.trusted:
                    connection.close()
                    continue
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with contextlib.ExitStack() as stack:

            def find() -> Notices | None:
                with contextlib.suppress(Missing):
                    return stack.enter_context(Notices())
                return None

            Talk(Wire(connection), find(), self._dialog(), self._later, secret_service, find).hold()

    def _dialog(self) -> Dialog:
        def dialog(**words: object) -> object:
            return ask(self.programs(), **words)  # type: ignore[arg-type]

        return dialog  # type: ignore[return-value]

    def programs(self) -> Programs:
        """Programs that find the person's screen: the session's manager knows it, also if we were started earlier."""
        run = Programs()
        run.environment |= _wanted(self.environment)
        with contextlib.suppress(FlashbackError):
            said = run(Command(("systemctl", "--user", "show-environment"), timeout=5)).text
            run.environment |= _wanted(parsed(said))
        return run

    def _later(self, uuid: str) -> None:
        timer = threading.Timer(LATER.total_seconds() + _GRACE, self._start, (uuid,))
        timer.daemon = True
        timer.start()

    def _start(self, uuid: str) -> None:
        with contextlib.suppress(FlashbackError):  # unplugged meanwhile, or not allowed: nothing to ask about
            systemctl.start(Programs(), unit_of(uuid))

    def _ask_about_those_here(self) -> None:
        """What was plugged in before somebody sat here; the unit knows whether it was asked about."""
        for uuid in udev.luks_uuids(LABEL):
            self._start(uuid)


def _wanted(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name in _SHOWN_WHERE}


def parsed(said: str) -> dict[str, str]:
    """What `systemctl show-environment` prints: a shell's words, one variable on a line."""
    found = {}
    for line in said.splitlines():
        try:
            words = shlex.split(line)
        except ValueError:
            continue
        if len(words) == 1 and "=" in words[0]:
            name, _is, value = words[0].partition("=")
            found[name] = value
    return found


@contextlib.contextmanager
def _listening(path: Path):  # type: ignore[no-untyped-def]  # noqa: ANN202
    """The session's socket, taken over from a process that is dead. Raises `Locked` while another one listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.connect(str(path))
            raise Locked("flashback watch is running in this session already")
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(16)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)
