"""A hold is shown to the person at the terminal: what it is, a few files, all of them on one key, then yes or no."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, Protocol

from flashback.core.context import Doubt
from flashback.core.text import shown

QUESTION: Final = "Press l to list it all, y to go on nevertheless, any other key to stop: "
MORE: Final = "-- space for more, any other key to end the list --"


class Keys(Protocol):
    """Somebody who presses a key."""

    def key(self, question: str, keys: str) -> str:
        """One of `keys`, or nothing for any other."""
        ...


def decide(doubt: Doubt, asker: Keys, show: Callable[[str], None], *, height: int) -> bool:
    """Whether the person lets the run go on. `height` is how many lines the terminal has."""
    show(f"\n{shown(doubt.drive)} is held by the guard {doubt.name}:\n  {doubt.why}.")
    if doubt.examples:
        show("For instance:\n" + "\n".join(f"  {path}" for path in doubt.examples))
    show("Nothing has been written yet.")
    while True:
        answer = asker.key(QUESTION, "ly")
        if answer != "l":
            return answer == "y"
        _page(doubt.listing(), asker, show, height=max(height - 2, 5))


def _page(lines: Iterator[str], asker: Keys, show: Callable[[str], None], *, height: int) -> None:
    """Show the lines, a screenful at a time."""
    page = list(islice(lines, height))
    if not page:
        show("  There is no list: it is not about files in this plan.")
    while page:
        show("\n".join(f"  {line}" for line in page))
        page = list(islice(lines, height))
        if page and asker.key(MORE, " ") != " ":
            return
