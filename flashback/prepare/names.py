"""What a drive may be called, and what it is called when nobody says."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

SUGGESTIONS: Final = ("red", "green", "blue", "yellow", "orange", "violet", "white", "black", "silver", "brown")


def suggestion(taken: Collection[str]) -> str:
    """The first colour that no drive bears yet; after the colours, drive-11, drive-12 ..."""
    folded = {name.casefold() for name in taken}
    for name in SUGGESTIONS:
        if name not in folded:
            return name
    number = len(SUGGESTIONS) + 1
    while f"drive-{number}" in folded:
        number += 1
    return f"drive-{number}"
