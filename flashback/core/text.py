"""Numbers and untrusted names as people read them."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(count: int) -> str:
    """Bytes in binary units with three figures at most: 0 B, 999 B, 1.5 KiB, 12.3 MiB, 931 GiB."""
    value = float(count)
    for unit in _UNITS:
        if abs(value) < 999.5 or unit == _UNITS[-1]:  # 999.5 would be rounded to four figures
            break
        value /= 1024
    if unit == "B":
        return f"{count} B"
    return f"{value:.0f} {unit}" if abs(value) >= 99.95 else f"{value:.1f} {unit}"


def number(count: int, one: str, many: str | None = None) -> str:
    """`1 file`, `12,345 files`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def age(then: datetime, now: datetime) -> str:
    """How long ago, in one unit: `just now`, `5 min ago`, `3 hours ago`, `12 days ago`; the future is named as such."""
    passed = now - then
    if passed < timedelta(minutes=-5):
        return "in the future"
    if passed < timedelta(minutes=1):
        return "just now"
    if passed < timedelta(hours=1):
        return f"{passed // timedelta(minutes=1)} min ago"
    if passed < timedelta(days=2):
        return f"{number(passed // timedelta(hours=1), 'hour')} ago"
    return f"{number(passed // timedelta(days=1), 'day')} ago"


def local(moment: datetime, *, seconds: bool = False) -> str:
    """A moment as the clock on this machine's wall had it: `2026-05-02 16:10 CEST`; at the ends of the calendar, where
    there may be none, as it is.
    """
    with suppress(OverflowError, OSError, ValueError):
        moment = moment.astimezone()
    return moment.strftime(f"%Y-%m-%d %H:%M{':%S' if seconds else ''} %Z").rstrip()


def shown(name: bytes | str) -> str:
    r"""A name from outside, made safe for a terminal, a notice or a log: control characters, direction marks and
    bytes that are not UTF-8 appear as `\n`, `\x1b`, `\u202e`, `\xff`; a backslash as itself.
    """
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}:
        return character.encode("unicode_escape").decode("ascii") if code > 0x1F else repr(character)[1:-1]
    return character


def folded(text: str, width: int | None) -> str:
    """Sentences broken between words where a line is longer than `width` columns (`None`: there is no edge).

    Further lines are indented by two more. What stands between backticks is a command and stays in one piece.
    """
    if width is None:
        return text
    return "\n".join(part for line in text.split("\n") for part in _folded(line, width))


def _folded(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    indent = " " * (len(line) - len(line.lstrip(" ")))
    whole = re.sub("`[^`]+`", lambda command: command[0].replace(" ", "\0"), line[len(indent) :])
    parts = textwrap.wrap(
        whole,
        max(width, len(indent) + 20),
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [part.replace("\0", " ") for part in parts]


STAMP: Final = "%Y%m%dT%H%M%SZ"
"""How snapshots are named: the moment their state was completed, in UTC."""


def stamp(moment: datetime) -> str:
    """`20260102T030405Z` for a moment in any time zone."""
    return moment.astimezone(UTC).strftime(STAMP)


def parse_stamp(name: str) -> datetime | None:
    """The moment a snapshot's name says, or `None` when it is not a name of ours."""
    try:
        moment = datetime.strptime(name, STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
    return moment if stamp(moment) == name else None


_RFC3339: Final = re.compile(r"[1-9]\d{3}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\dZ", re.ASCII)


def rfc3339(moment: datetime) -> str:
    """UTC with seconds: `2026-01-02T03:04:05Z`."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def parse_rfc3339(text: str) -> datetime:
    """The moment that `rfc3339` wrote, and nothing else. Raises `ValueError`.

    A drive's journal has thousands, and is read at each run; `strptime` would take ten times as long.
    """
    if _RFC3339.fullmatch(text) is None:
        raise ValueError(f"not a moment as Flashback writes it: {text!r}")
    return datetime.fromisoformat(text)
