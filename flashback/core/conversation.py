"""The other room that starts programs: those which ask a person something on a terminal (pexpect's one owner)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from flashback.core.command import ProgramMissing
from flashback.core.secret import Secret

OVER: Final = 2
SILENT_AFTER: Final = 2.0
"""Seconds within which a program that asks for a secret has switched echo off."""


def _spawned(argv: tuple[str, ...], environment: Mapping[str, str], inherits: int | None) -> Any:  # noqa: ANN401
    import pexpect

    handed = () if inherits is None else (inherits,)

    class Spawn(pexpect.spawn):  # type: ignore[type-arg]
        """Gets the descriptor, too: pexpect has all others closed in the new process, before it can do anything."""

        def _spawnpty(self, args: Any, **more: Any) -> Any:  # noqa: ANN401
            return super()._spawnpty(args, pass_fds=handed, **more)  # type: ignore[misc]

    def handing() -> None:
        for descriptor in handed:
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - positional only

    return Spawn(argv[0], list(argv[1:]), env=dict(environment), timeout=None, preexec_fn=handing)


def converse(
    argv: tuple[str, ...],
    *,
    environment: Mapping[str, str],
    answer: Callable[[str], Secret | None],
    hear: Callable[[str], None],
    inherits: int | None = None,
) -> int:
    """Run `argv` on a terminal of its own and return its exit code (below zero: ended by that signal).

    Whatever it asks without echo (a passphrase, a token's PIN) goes to `answer`, word for word; `None` means that the
    person gave up, and the program is ended. Every other line goes to `hear` ("touch your key").
    Nothing is typed before the program has switched echo off: cryptsetup throws away what came earlier, and the
    terminal would show it. `inherits` is a descriptor that it gets (see `heir.Heir`). Raises `ProgramMissing`.
    """
    import pexpect

    try:
        child = _spawned(argv, environment, inherits)
    except pexpect.ExceptionPexpect as problem:
        raise ProgramMissing(argv[0]) from problem
    child.delaybeforesend = None
    try:
        while True:
            if child.expect([rb"[^\r\n]*\r?\n", rb"[^\r\n]+: ?$", pexpect.EOF]) == OVER:
                if last := child.before.decode("utf-8", "replace").strip():
                    hear(last)
                child.wait()  # it has let go of the terminal, but may still be at work
                break
            said: bytes = child.after
            line = said.decode("utf-8", "replace").strip()
            if said.endswith(b"\n") or not child.waitnoecho(SILENT_AFTER):
                if line:
                    hear(line)
                continue
            given = answer(line)
            if given is None:
                break
            child.send(given.reveal() + b"\n")
    finally:
        with contextlib.suppress(Exception):
            child.close(force=True)
    if child.signalstatus is not None:
        return -int(child.signalstatus)
    return int(child.exitstatus or 0)
