"""The recovery key: a second key slot's passphrase that no person thought up, to be kept on paper."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from flashback.core.errors import UsageError
from flashback.core.secret import Secret

ALPHABET: Final = "cbdefghijklnrtuv"
"""Modhex: sixteen letters that lie at the same place on most keyboard layouts (as systemd-cryptenroll's recovery keys,
systemd src/shared/recovery-key.h)."""
GROUPS: Final = 8
LETTERS: Final = 8


def new_recovery_key() -> Secret:
    """256 random bits as eight groups of eight letters, joined by dashes."""
    groups = ("".join(secrets.choice(ALPHABET) for _ in range(LETTERS)) for _ in range(GROUPS))
    return Secret("-".join(groups).encode("ascii"))


def as_lines(key: Secret) -> tuple[str, ...]:
    """The key as it is shown: two lines of four groups. Typed as one, with the dash between."""
    words = key.reveal().decode("ascii").split("-")
    return "-".join(words[: GROUPS // 2]) + "-", "-".join(words[GROUPS // 2 :])


def refuse_existing(file: Path) -> None:
    """Raise `UsageError` when `file` cannot become a new file; asked before anything is erased."""
    if os.path.lexists(file):
        raise UsageError(f"{file} exists already", hint="name a new file for the recovery key")
    if not file.parent.is_dir():
        raise UsageError(f"there is no directory {file.parent}", hint="make it first, or name another file")


def save(file: Path, text: str) -> None:
    """Write the page to a new file that only its owner may read.

    Raises `UsageError` when there is one already, or when it cannot be written.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise UsageError(f"{file} exists already", hint="name a new file for the recovery key") from None
    except OSError as problem:
        raise UsageError(f"{file} cannot be written: {problem.strerror}", hint="name another file") from problem
    try:
        with open(descriptor, "w", encoding="utf-8") as out:
            os.fchmod(descriptor, 0o600)
            out.write(text)
            out.flush()
            os.fsync(descriptor)
    except OSError as problem:
        file.unlink(missing_ok=True)
        raise UsageError(f"{file} cannot be written: {problem.strerror}", hint="name another file") from problem
