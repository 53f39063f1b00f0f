"""A passphrase that shows itself nowhere: no repr, no str, no pickle, no traceback with its value."""

from __future__ import annotations

import resource
from typing import Final, NoReturn

LONGEST: Final = 8 * 1024 * 1024
"""cryptsetup's own limit for a key file is 8 MiB (`cryptsetup --help`)."""
TRIES: Final = 3
"""How often a passphrase is asked for before it counts as refused."""

_PR_SET_DUMPABLE: Final = 4


class Secret:
    """Bytes that are only given away by `reveal()`, and only to the standard input of a program."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        forbid_core_dumps()
        self._value = value

    def reveal(self) -> bytes:
        """Return the bytes themselves."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written anywhere")


def forbid_core_dumps() -> None:
    """From now on nobody but root can look into this process, and a crash leaves no core in which a passphrase is.

    A limit alone is not enough: it does not hold where cores go to a program (core(5), "Piping core dumps"), as on
    every desktop. A process that is not dumpable has none, and its own user cannot attach to it either, nor read its
    memory (prctl(2), PR_SET_DUMPABLE). What it starts is dumpable again, and is given secrets through pipes alone.
    """
    import ctypes

    _soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def without_final_newline(text: bytes) -> bytes:
    """Drop one trailing newline, as editors and `echo` leave it; nothing else is stripped (LUKS takes any byte)."""
    return text[:-1] if text.endswith(b"\n") else text
