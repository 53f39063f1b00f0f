"""Where a drive's passphrase comes from when nobody types it. The ledger keeps the way to it, never the secret."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from flashback.config.trust import read_file
from flashback.core.command import Command, CommandFailed, Runner
from flashback.core.errors import ConfigError, UsageError
from flashback.core.secret import LONGEST, Secret, without_final_newline
from flashback.core.text import shown

ASK: Final = "ask"
WITHIN: Final = 120.0
"""Seconds that a command is given: it may unlock a store of its own."""
_CREDENTIAL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Way(StrEnum):
    """`ask` is a person; `keyring` their desktop's store, which their session asks; the others need nobody."""

    ASK = "ask"
    FILE = "file"
    COMMAND = "command"
    CREDENTIAL = "credential"
    KEYRING = "keyring"


@dataclass(frozen=True, slots=True)
class Source:
    """`words` are the file's path, the command's words, or the credential's name."""

    way: Way
    words: tuple[str, ...] = ()


def parse(text: str) -> Source:
    """What `ask`, `keyring`, `file:PATH`, `command:PROGRAM ARGUMENTS`, `credential:NAME` mean. Raises `ValueError`."""
    way, _colon, rest = text.partition(":")
    if text in {ASK, Way.KEYRING}:
        return Source(Way(text))
    if way == Way.FILE and rest.startswith("/") and rest.isprintable():
        return Source(Way.FILE, (rest,))
    if way == Way.CREDENTIAL and _CREDENTIAL.fullmatch(rest):
        return Source(Way.CREDENTIAL, (rest,))
    if way == Way.COMMAND and rest.isprintable():
        words = tuple(shlex.split(rest))  # an unclosed quotation mark is a ValueError, too
        if words and words[0].startswith("/"):
            return Source(Way.COMMAND, words)
    raise ValueError("expected ask, keyring, file:/PATH, command:/PROGRAM ARGUMENTS or credential:NAME")


def passphrase_from(source: Source, run: Runner, *, credentials: str = "") -> Secret | None:
    """The passphrase, `None` for `ask` and `keyring`. One trailing newline is dropped.

    Files and programs are followed only if nobody but root (or whoever runs this) can change them, and a file only if
    nobody else can read it. `credentials` is the directory where systemd put those of the unit (systemd.exec(5)).
    Raises `ConfigError`, `UsageError`; no text of theirs has what a file or a program said.
    """
    match source:
        case Source(Way.FILE, (path,)):
            return _of_file(Path(path))
        case Source(Way.COMMAND, words):
            return _of_command(run, words)
        case Source(Way.CREDENTIAL, (name,)):
            return _of_credential(credentials, name)
    return None


def _of_file(path: Path) -> Secret:
    content = read_file(path, limit=LONGEST, trusted_by=os.geteuid())
    if os.stat(path).st_mode & 0o077:
        raise UsageError(f"others can read {shown(str(path))}", hint=f"chmod 600 {shlex.quote(str(path))}")
    return _secret(content, shown(str(path)))


def _of_command(run: Runner, words: tuple[str, ...]) -> Secret:
    read_file(Path(words[0]), limit=0, trusted_by=os.geteuid())
    try:
        said = run(Command(words, timeout=WITHIN)).out
    except CommandFailed as problem:  # what it said may be half a secret
        raise UsageError(f"{shown(words[0])}, which gives the passphrase, exited with {problem.result.code}") from None
    return _secret(said, shown(words[0]))


def _of_credential(credentials: str, name: str) -> Secret:
    hint = (
        "in a file that `systemctl edit flashback-plug@.service` opens: LoadCredentialEncrypted=, see systemd-creds(1)"
    )
    if not credentials:
        raise UsageError(f"the unit was given no credential {name}", hint=hint)
    try:
        with open(Path(credentials) / name, "rb") as file:
            return _secret(file.read(LONGEST + 1), f"the credential {name}")
    except OSError as problem:
        raise UsageError(f"the credential {name} cannot be read: {problem.strerror}", hint=hint) from problem


def _secret(content: bytes, place: str) -> Secret:
    secret = without_final_newline(content)
    if not secret or len(content) > LONGEST:
        raise ConfigError(f"{place} holds no passphrase", hint="it is empty, or far too long")
    return Secret(secret)
