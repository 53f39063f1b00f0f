"""Answers as aligned text: what `status`, `snapshots` and the like print for people."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from flashback.core.text import age, number, rfc3339, shown, size
from flashback.tell.summary import Tone

GAP: Final = 2


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of a table; `right` aligned for numbers."""

    text: str
    tone: Tone = Tone.PLAIN
    right: bool = False


@dataclass(frozen=True, slots=True)
class StatusRow:
    """A drive of the rotation. `state` is what its age means (`fresh`, `due`, `overdue`, `never`, `retired`, …);
    `health` whether it gives back what was written to it (`good`, `errors`, `damaged`; `unknown` where nobody looked).
    Sizes in bytes; `comes_next` marks the drive that should be plugged in next.
    """

    drive: str
    state: str
    last_complete: datetime | None = None
    size: int | None = None
    free: int | None = None
    health: str = ""
    place: str = ""
    plugged_in: bool = False
    comes_next: bool = False


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A snapshot: on which drive, of which master, its name, and the moment its state was completed."""

    drive: str
    master: str
    name: str
    completed: datetime | None = None
    pinned: bool = False


STATE_TONES: Final = {
    "fresh": Tone.GOOD,
    "due": Tone.WARN,
    "overdue": Tone.BAD,
    "never": Tone.BAD,
    "lost": Tone.FAINT,
    "retired": Tone.FAINT,
}


HEALTH_TONES: Final = {"good": Tone.GOOD, "errors": Tone.WARN, "damaged": Tone.BAD}


def status_table(rows: Iterable[StatusRow], now: datetime, *, colour: bool = False, width: int | None = None) -> str:
    """The rotation at a glance, the drive that comes next with an arrow before it."""
    headers = ("", "drive", "state", "last complete", "free", "health", "place", "here")
    table = [
        (
            Cell("->" if row.comes_next else ""),
            Cell(shown(row.drive)),
            Cell(shown(row.state), STATE_TONES.get(row.state, Tone.PLAIN)),
            Cell(age(row.last_complete, now) if row.last_complete else "never"),
            Cell(_free(row), right=True),
            Cell("" if row.health == "unknown" else shown(row.health), HEALTH_TONES.get(row.health, Tone.PLAIN)),
            Cell(shown(row.place)),
            Cell("plugged in" if row.plugged_in else ""),
        )
        for row in rows
    ]
    return render(headers, table, colour=colour, width=width)


def snapshots_table(
    rows: Iterable[SnapshotRow], now: datetime, *, colour: bool = False, width: int | None = None
) -> str:
    """One line per snapshot, in the order given."""
    table = [
        (
            Cell(shown(row.drive)),
            Cell(shown(row.master)),
            Cell(shown(row.name)),
            Cell(rfc3339(row.completed).replace("T", " ").replace("Z", " UTC") if row.completed else ""),
            Cell(age(row.completed, now) if row.completed else "", Tone.FAINT),
            Cell("pinned" if row.pinned else ""),
        )
        for row in rows
    ]
    return render(("drive", "master", "snapshot", "completed", "age", ""), table, colour=colour, width=width)


def render(
    headers: Sequence[str], rows: Sequence[Sequence[Cell]], *, colour: bool = False, width: int | None = None
) -> str:
    """Aligned columns, those that are empty left out; where they do not fit into `width`, a block per row instead.

    Ends without a newline. Cells must have been made safe to print (`shown`).
    """
    used = [index for index in range(len(headers)) if any(row[index].text for row in rows)]
    rows = [[row[index] for index in used] for row in rows]
    titles = [headers[index] for index in used]
    head = [[Cell(title, Tone.FAINT, row.right) for title, row in zip(titles, rows[0], strict=True)] if rows else []]
    table = [*head, *rows]
    wides = [max(cells(row[column].text) for row in table) for column in range(len(used))]
    if width is not None and sum(wides) + GAP * (len(wides) - 1) > width:
        return _blocks(titles, rows, colour=colour)
    padded = [
        [Cell(_padded(cell, wide), cell.tone) for cell, wide in zip(row, wides, strict=True)] for row in table if row
    ]
    return _painted([_spaced(row) for row in padded], colour=colour)


def cells(text: str) -> int:
    """How many columns a terminal needs for `text`: wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


def _free(row: StatusRow) -> str:
    if row.free is None:
        return ""
    return f"{size(row.free)} of {size(row.size)}" if row.size is not None else size(row.free)


def _padded(cell: Cell, wide: int) -> str:
    space = " " * (wide - cells(cell.text))
    return space + cell.text if cell.right else cell.text + space


def _spaced(row: Sequence[Cell]) -> list[Cell]:
    gaps = [Cell(" " * GAP)] * len(row)
    return [cell for pair in zip(row, gaps, strict=True) for cell in pair][:-1]


def _blocks(titles: Sequence[str], rows: Sequence[Sequence[Cell]], *, colour: bool) -> str:
    """For a narrow terminal: a row is a block of `name  value`."""
    wide = max((cells(title) for title in titles), default=0)
    lines: list[list[Cell]] = []
    for position, row in enumerate(rows):
        lines += [[]] if position else []
        for title, cell in zip(titles, row, strict=True):
            if cell.text:
                lines.append(_spaced([Cell(_padded(Cell(title), wide), Tone.FAINT), Cell(cell.text, cell.tone)]))
    return _painted(lines, colour=colour)


def _painted(lines: Sequence[Sequence[Cell]], *, colour: bool) -> str:
    if not colour:
        return "\n".join("".join(cell.text for cell in line).rstrip() for line in lines)
    from rich.style import Style

    from flashback.tell.terminal import STYLES

    def paint(cell: Cell) -> str:
        style = STYLES[cell.tone]
        return Style.parse(style).render(cell.text) if style else cell.text

    return "\n".join("".join(paint(cell) for cell in line).rstrip() for line in lines)


def counted(count: int, one: str, many: str | None = None) -> str:
    """A heading such as `3 snapshots`, or `no snapshots`."""
    return number(count, one, many) if count else f"no {many or one + 's'}"
