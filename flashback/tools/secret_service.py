"""The desktop's own store of passwords: org.freedesktop.secrets (SecretStorage's one owner).

What crosses the session's bus is encrypted between us and the store where that can do so (the specification's
dh-ietf1024-sha256-aes128-cbc-pkcs7, which SecretStorage asks for first). Used in a person's session only.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import Any, Final

from flashback.core.errors import Missing
from flashback.core.secret import Secret

UNLOCKED_WITHIN: Final = 120.0
"""Seconds for the desktop's own question, where the store is locked."""
_HINT: Final = "pipx inject flashback-drive SecretStorage, or install flashback-drive[keyring]"


def installed() -> bool:
    """Whether the package is there. It is not imported."""
    return importlib.util.find_spec("secretstorage") is not None


def needed() -> Missing:
    """The error for an installation without it."""
    return Missing("the Python package SecretStorage, which speaks to the desktop's keyring, is missing", hint=_HINT)


def find(uuid: str) -> Secret | None:
    """The passphrase kept for the drive with this LUKS UUID, `None` where there is none, or the person keeps the store
    locked. Raises `Missing` where no store can be reached.
    """
    with _store() as (library, bus):
        for item in library.search_items(bus, _named(uuid)):
            if item.is_locked() and item.unlock(timeout=UNLOCKED_WITHIN):
                return None
            return Secret(item.get_secret())
    return None


def keep(uuid: str, drive: str, passphrase: Secret) -> None:
    """Keep it in the person's own collection, in place of an older one. Raises `Missing`."""
    with _store() as (library, bus):
        collection = library.get_default_collection(bus)
        if collection.is_locked() and collection.unlock(timeout=UNLOCKED_WITHIN):
            raise Missing("the desktop's keyring stayed locked")
        collection.create_item(f"Flashback: {drive}", _named(uuid), passphrase.reveal(), replace=True)


def _named(uuid: str) -> dict[str, str]:
    return {"application": "flashback", "drive": uuid}


@contextlib.contextmanager
def _store() -> Iterator[tuple[Any, Any]]:
    """The library and a connection; whatever fails inside becomes `Missing`, without what was read or written."""
    try:
        import secretstorage
    except ImportError:
        raise needed() from None
    try:
        with contextlib.closing(secretstorage.dbus_init()) as bus:
            yield secretstorage, bus
    except Missing:
        raise
    except Exception as problem:
        raise Missing(f"the desktop's keyring cannot be used: {type(problem).__name__}") from problem
