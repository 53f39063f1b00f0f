"""What is wrong with a file that people wrote: collected, never thrown one by one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from flashback.core.text import shown

_LONGEST_QUOTE = 60
_MOST_SHOWN = 200


class Place(NamedTuple):
    """Where something stands in a text file; both count from 1, columns in characters (bytes in exclusion files)."""

    line: int
    column: int


@dataclass(slots=True)
class Findings:
    """The findings in one file, in the order of their places when asked for."""

    file: Path
    _found: list[tuple[Place, str]] = field(default_factory=list)
    _elsewhere: list[str] = field(default_factory=list)
    _settled: frozenset[Place] = frozenset()

    def add(self, place: Place, path: str, what: str) -> None:
        """Note one. `path` is the setting's (`keep.last`), or empty when the text itself is at fault."""
        if place not in self._settled:
            self._found.append((place, f"{path}: {what}" if path else what))

    def settle(self) -> None:
        """End a pass: where it found something, later passes have nothing to add."""
        self._settled = frozenset(place for place, _ in self._found)

    def add_lines(self, lines: Iterable[str]) -> None:
        """Note findings of other files, finished lines; the same line is noted once."""
        self._elsewhere += [line for line in lines if line not in self._elsewhere]

    def __bool__(self) -> bool:
        return bool(self._found or self._elsewhere)

    def lines(self) -> tuple[str, ...]:
        """`file:line:column: path: what is wrong`, sorted by place, each once; then other files'; 200 at most."""
        own = [
            f"{shown(str(self.file))}:{place.line}:{place.column}: {what}"
            for place, what in sorted(set(self._found), key=lambda found: found[0])
        ]
        lines = (*own, *self._elsewhere)
        more = len(lines) - _MOST_SHOWN
        return (*lines[:_MOST_SHOWN], f"{shown(str(self.file))}: and {more} more") if more > 0 else lines


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the nearest known word, else an empty text."""
    near = difflib.get_close_matches(word[:_LONGEST_QUOTE].lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def quoted(text: str) -> str:
    r"""A text from the file as a finding repeats it: safe for a terminal, cut when long, in single quotes.

    Blanks that are not the usual one are escaped too: nobody would see why `7\xa0d` is refused.
    """
    cut = text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "…"
    return "'" + "".join(one if one.isprintable() else ascii(one)[1:-1] for one in shown(cut)) + "'"
