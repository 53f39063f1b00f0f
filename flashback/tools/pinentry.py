"""pinentry: GnuPG's passphrase dialogs, by their Assuan protocol (the manual "PIN-Entry", chapter Protocol)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from flashback.core.command import Command, Runner
from flashback.core.errors import Missing
from flashback.core.secret import Secret

_ANY: Final = frozenset(range(-64, 256))
_CANCELLED: Final = {99, 198}
"""GPG_ERR_CANCELED and GPG_ERR_FULLY_CANCELED; the code is in the low 16 bits (libgpg-error)."""


def ask(run: Runner, *, title: str, text: str, prompt: str, error: str, watch: Callable[[], None]) -> Secret | None:
    """The passphrase, or `None`: the person closed the dialog. `error` is shown in its own place, if there is one.

    `watch` is called at least twice a second and may raise: the dialog is then closed. Raises `ProgramMissing`, and
    `Missing` where no dialog can be shown.
    """
    settings = [f"SETTITLE {_told(title)}", f"SETDESC {_told(text)}", f"SETPROMPT {_told(prompt)}"]
    settings += [f"SETERROR {_told(error)}"] if error else []
    said: list[bytes] = []
    with _script("\n".join([*settings, "SETOK Back up", "SETCANCEL Not now", "GETPIN", "BYE", ""])) as script:
        command = Command(("pinentry",), stdin=script, ok=_ANY, dies_with_us=True)
        run.stream(command, on_out=said.append, on_err=lambda _line: None, watch=watch)
    for line in said:
        if line.startswith(b"D "):
            return Secret(_read(line[2:]))
        if line.startswith(b"ERR ") and _code(line) in _CANCELLED:
            return None
    if said and not any(line.startswith(b"ERR ") for line in said) and len(said) > len(settings):
        return Secret(b"")  # OK without a D line: nothing was typed
    raise Missing("pinentry could show no dialog")


def _script(text: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a binary file, whatever open calls it
    """A pipe that holds everything that is said to pinentry, so that nobody need converse with it."""
    reading, writing = os.pipe()
    with open(writing, "wb") as pipe:
        pipe.write(text.encode("utf-8"))
    return open(reading, "rb")


def _told(text: str) -> str:
    """As Assuan wants it: percent signs and line ends are escaped."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _read(data: bytes) -> bytes:
    """What a D line carries."""
    parts = data.split(b"%")
    return parts[0] + b"".join(bytes.fromhex(part[:2].decode("ascii")) + part[2:] for part in parts[1:])


def _code(line: bytes) -> int:
    word = line.split()[1]
    return int(word) & 0xFFFF if word.isdigit() else 0
