"""A new passphrase is chosen: typed twice, and a weak one only against advice."""

from __future__ import annotations

from flashback.core.secret import Secret
from flashback.prepare.ask import Ask
from flashback.prepare.strength import weakness

FIRST = "Passphrase for the drive (it is not shown):"


def new_passphrase(asker: Ask, *, about: tuple[str, ...], question: str = FIRST) -> Secret:
    """What was typed twice alike. `about` are words that a thief tries first."""
    while True:
        typed, again = _typed_twice(asker, about, question)
        if again == typed:
            return typed
        asker.show("The two were not the same. From the beginning, then.")


def _typed_twice(asker: Ask, about: tuple[str, ...], question: str) -> tuple[Secret, Secret]:
    """What was typed first, and what was typed to confirm it; a weak one is kept only when it is typed again."""
    typed = _typed(asker, question)
    while (why := weakness(typed, about=about)) is not None:
        asker.show(f"That is weak: {why}. Four or five unrelated words are strong and easy to remember.")
        again = _typed(asker, "Another one, or the same once more to keep it:")
        if again == typed:
            return typed, again
        typed = again
    return typed, _typed(asker, "The same once more:")


def _typed(asker: Ask, question: str) -> Secret:
    while not (typed := asker.secret(question)):
        asker.show("A passphrase cannot be empty.")
    return typed
