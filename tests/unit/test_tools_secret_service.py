"""The desktop's keyring, through a SecretStorage that is made up: what is asked of it, and what its failures become."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from flashback.core.errors import Missing
from flashback.core.secret import Secret
from flashback.drive import manage
from flashback.tools import secret_service
from tests.unit.drives import OTHER, UUID


class Item:
    def __init__(self, label, attributes, secret) -> None:
        self.label, self.attributes, self.secret = label, attributes, secret
        self.store = None

    def is_locked(self) -> bool:
        return self.store.locked

    def unlock(self, timeout) -> bool:
        return self.store.unlock(timeout=timeout)

    def get_secret(self) -> bytes:
        assert not self.store.locked
        return self.secret


class Store:
    """As the package has it, as far as it is used: `unlock` returns whether the person dismissed the question."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.locked = self.dismisses = self.closed = False
        self.fails: Exception | None = None

    def dbus_init(self):
        if self.fails is not None:
            raise self.fails
        return SimpleNamespace(close=lambda: setattr(self, "closed", True))

    def search_items(self, _bus, attributes):
        return iter([item for item in self.items if attributes.items() <= item.attributes.items()])

    def get_default_collection(self, _bus):
        return self

    def is_locked(self) -> bool:
        return self.locked

    def unlock(self, timeout) -> bool:
        assert timeout > 0
        self.locked = self.dismisses
        return self.dismisses

    def create_item(self, label, attributes, secret, replace) -> None:
        assert replace
        self.items = [item for item in self.items if item.attributes != attributes]
        self.items.append(Item(label, attributes, secret))
        self.items[-1].store = self


@pytest.fixture
def store(monkeypatch) -> Store:
    store = Store()
    monkeypatch.setitem(sys.modules, "secretstorage", store)
    return store


def test_what_is_kept_is_found_under_the_drives_uuid_and_no_other(store) -> None:
    secret_service.keep(UUID, "red", Secret(b"p\xff ss\n"))
    assert secret_service.find(UUID) == Secret(b"p\xff ss\n")
    assert secret_service.find(OTHER) is None
    assert store.closed


def test_it_is_listed_under_the_drives_name(store) -> None:
    secret_service.keep(UUID, "red", Secret(b"x"))
    assert store.items[0].label == "Flashback: red"


def test_a_new_passphrase_replaces_the_old_one(store) -> None:
    for word in (b"old", b"new"):
        secret_service.keep(UUID, "red", Secret(word))
    assert (len(store.items), secret_service.find(UUID)) == (1, Secret(b"new"))


def test_a_locked_store_asks_the_person(store) -> None:
    secret_service.keep(UUID, "red", Secret(b"x"))
    store.locked = True
    assert secret_service.find(UUID) == Secret(b"x")


def test_who_keeps_the_store_locked_is_asked_for_the_passphrase_itself(store) -> None:
    secret_service.keep(UUID, "red", Secret(b"x"))
    store.locked = store.dismisses = True
    assert secret_service.find(UUID) is None
    with pytest.raises(Missing, match="stayed locked"):
        secret_service.keep(UUID, "red", Secret(b"y"))


@pytest.mark.parametrize("problem", [RuntimeError("hunter2"), OSError("hunter2"), KeyError("hunter2"), TimeoutError()])
def test_a_failure_says_what_kind_it_was_and_nothing_that_was_read(store, problem) -> None:
    store.fails = problem
    with pytest.raises(Missing) as caught:
        secret_service.find(UUID)
    assert "hunter2" not in str(caught.value)
    assert type(problem).__name__ in str(caught.value)


def test_an_installation_without_the_package_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "secretstorage", None)
    with pytest.raises(Missing) as caught:
        secret_service.find(UUID)
    assert "flashback-drive[keyring]" in caught.value.hint


def test_a_drive_is_not_set_to_a_keyring_that_cannot_be_spoken_to(monkeypatch) -> None:
    monkeypatch.setattr(secret_service, "installed", lambda: False)
    with pytest.raises(Missing, match="SecretStorage"):
        manage._passphrase("keyring", ())
    monkeypatch.setattr(secret_service, "installed", lambda: True)
    assert manage._passphrase("keyring", ()) == "keyring"
