"""rsync's pattern language, read once into tokens and turned into regular expressions over bytes.

What is matched how was read in rsync's manual page ("PATTERN MATCHING RULES") and in its behaviour (`lib/wildmatch.c`,
`rule_matches` in `exclude.c`, 3.5.0); tests/tools/test_filter_against_rsync.py compares with the program itself.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Wild(Enum):
    """The tokens that are no byte: any byte but a slash, any number of these, any number of any bytes."""

    ONE = "?"
    STAR = "*"
    STARS = "**"


Token = int | frozenset[int] | Wild
"""A byte, a set of bytes of which one has to come (it may be empty: then nothing matches), or a wildcard."""

SLASH: Final = 0x2F
_BACKSLASH: Final = 0x5C
_ANY_OF: Final = frozenset(range(1, 256)) - {SLASH}
_PRINTED: Final = frozenset(range(0x21, 0x7F))
CLASSES: Final = {
    b"alnum": frozenset((string.ascii_letters + string.digits).encode()),
    b"alpha": frozenset(string.ascii_letters.encode()),
    b"blank": frozenset(b" \t"),
    b"cntrl": frozenset(range(1, 0x20)) | {0x7F},
    b"digit": frozenset(string.digits.encode()),
    b"graph": _PRINTED,
    b"lower": frozenset(string.ascii_lowercase.encode()),
    b"print": _PRINTED | {0x20},
    b"punct": frozenset(string.punctuation.encode()),
    b"space": frozenset(b" \t\n\v\f\r"),
    b"upper": frozenset(string.ascii_uppercase.encode()),
    b"xdigit": frozenset(string.hexdigits.encode()),
}
"""The POSIX classes as the C locale has them: rsync is run with LC_ALL=C.UTF-8, where bytes above 127 are in none."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern's `tokens` without its leading slash (`anchored`) and its trailing one (`directories_only`).

    `slashes` is how many slashes the text had, those inside brackets and a leading one included; `deep` says that it
    had two stars in a row anywhere, `deep_start` that it began with them, `ends_in_three` that it ended with three.
    """

    tokens: tuple[Token, ...]
    anchored: bool
    directories_only: bool
    slashes: int
    deep: bool
    deep_start: bool
    ends_in_three: bool


def parsed(text: bytes) -> Pattern | None:
    """Read one pattern; `None` when no path can ever match it (a bracket that is not closed, an unknown class)."""
    directories_only = len(text) > 1 and text.endswith(b"/")
    if directories_only:
        text = text[:-1]
    anchored = text.startswith(b"/")
    wild = any(sign in text for sign in (b"*", b"?", b"["))
    tokens = _tokens(text[anchored:]) if wild else tuple(text[anchored:])
    if tokens is None:
        return None
    deep = b"**" in text
    return Pattern(
        tokens,
        anchored=anchored,
        directories_only=directories_only,
        slashes=text.count(b"/"),
        deep=deep,
        deep_start=text.startswith(b"**"),
        ends_in_three=deep and text.endswith(b"***"),
    )


def _tokens(text: bytes) -> tuple[Token, ...] | None:
    """Read a text that has a wildcard, hence backslashes that quote."""
    found: list[Token] = []
    at = 0
    while at < len(text):
        byte = text[at]
        at += 1
        if byte == _BACKSLASH:
            if at == len(text):
                return None  # a quoted nothing
            found.append(text[at])
            at += 1
        elif byte == ord("*"):
            stars = len(text) - at + 1 - len(text[at - 1 :].lstrip(b"*"))
            found.append(Wild.STARS if stars > 1 else Wild.STAR)
            at += stars - 1
        elif byte == ord("?"):
            found.append(Wild.ONE)
        elif byte == ord("["):
            bracket = _bracket(text, at)
            if bracket is None:
                return None
            chosen, at = bracket
            found.append(chosen)
        else:
            found.append(byte)
    return tuple(found)


def _bracket(text: bytes, at: int) -> tuple[frozenset[int], int] | None:
    """Read what follows an opening bracket at `at`; return the set and where the text goes on."""
    inverted = text[at : at + 1] in {b"!", b"^"}
    at += inverted
    chosen: set[int] = set()
    previous = 0  # what a range could begin with; 0: nothing
    first = True
    while first or text[at : at + 1] != b"]":
        first = False
        member = _member(text, at, previous)
        if member is None:
            return None
        bytes_meant, previous, at = member
        chosen |= bytes_meant
    return (_ANY_OF - chosen if inverted else _ANY_OF & chosen), at + 1


def _member(text: bytes, at: int, previous: int) -> tuple[frozenset[int] | set[int], int, int] | None:
    """Read one member of a bracket: the bytes it means, what a range may begin with now, where the text goes on."""
    byte = text[at : at + 1]
    if not byte:
        return None
    if byte == b"-" and previous and text[at + 1 : at + 2] not in {b"", b"]"}:
        end = _quoted(text, at + 1)
        return None if end is None else (set(range(previous, end[0] + 1)), 0, end[1])
    if text[at : at + 2] == b"[:":
        close = text.find(b"]", at + 2)
        if close < 0:
            return None
        if close > at + 2 and text[close - 1] == ord(":"):
            meant = CLASSES.get(text[at + 2 : close - 1])
            return None if meant is None else (meant, 0, close + 1)
    single = _quoted(text, at)
    return None if single is None else ({single[0]}, single[0], single[1])


def _quoted(text: bytes, at: int) -> tuple[int, int] | None:
    """The byte at `at`, or the one after it if that is a backslash, and where the text goes on."""
    if text[at] == _BACKSLASH:
        at += 1
    return (text[at], at + 1) if at < len(text) else None


def components(tokens: Sequence[Token]) -> list[tuple[Token, ...]]:
    """Split tokens at their slashes."""
    parts: list[tuple[Token, ...]] = []
    start = 0
    for place, token in enumerate(tokens):
        if token == SLASH:
            parts.append(tuple(tokens[start:place]))
            start = place + 1
    parts.append(tuple(tokens[start:]))
    return parts


def literal(tokens: Sequence[Token]) -> bytes | None:
    """The bytes that the tokens stand for, or `None` when one of them is a wildcard or a set."""
    return bytes(token for token in tokens if isinstance(token, int)) if _all_bytes(tokens) else None


def _all_bytes(tokens: Sequence[Token]) -> bool:
    return all(isinstance(token, int) for token in tokens)


def expression(tokens: Sequence[Token], name: str) -> bytes:
    """A regular expression for the tokens; groups in it are called `name` and a number.

    What stands between two stars is looked for at its first place only, as a look-ahead that is not entered again:
    a later place can never match what the first one cannot, so that hostile patterns cost no more than they do rsync.
    """
    regions = _split(tokens, Wild.STARS)
    result = _region(regions[0], f"{name}_0", last=len(regions) == 1)
    for number, region in enumerate(regions[1:], 1):
        last = number == len(regions) - 1
        inner = b".*" + (b"?" if region else b"") + _region(region, f"{name}_{number}", last=last)
        result += inner if last else _once(inner, f"{name}_{number}")
    return result


def _region(tokens: Sequence[Token], name: str, *, last: bool) -> bytes:
    """What stands between two `**`: pieces of fixed length with `*` between them."""
    pieces = _split(tokens, Wild.STAR)
    result = _piece(pieces[0])
    for number, piece in enumerate(pieces[1:], 1):
        if last and number == len(pieces) - 1:
            result += b"[^/]*" + _piece(piece)
        else:
            result += _once(b"[^/]*?" + _piece(piece), f"{name}_{number}")
    return result


def _once(inner: bytes, name: str) -> bytes:
    return b"(?=(?P<%b>%b))(?P=%b)" % (name.encode(), inner, name.encode())


def _piece(tokens: Sequence[Token]) -> bytes:
    return b"".join(_single(token) for token in tokens)


def _single(token: Token) -> bytes:
    if token is Wild.ONE:
        return b"[^/]"
    if isinstance(token, int):
        return re.escape(bytes([token]))
    assert isinstance(token, frozenset)  # noqa: S101 - stars were split off
    return b"[" + b"".join(b"\\x%02x" % byte for byte in sorted(token)) + b"]" if token else b"(?!)"


def _split(tokens: Sequence[Token], at: Wild) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token is at:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts
