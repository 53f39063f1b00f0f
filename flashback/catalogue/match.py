"""Patterns that people search with: wildcards as in a shell, text without any, regular expressions.

Without a slash a pattern is about names, with one about whole paths as people know them. Names are matched as text, so
that `?` is one character and not one byte of it; bytes that are not UTF-8 are characters of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flashback.core.errors import UsageError
from flashback.core.text import shown

WILD: Final = re.compile(r"[*?\[]")
_TOKEN: Final = re.compile(
    r"(?P<deep>\*\*+)|(?P<star>\*)|(?P<one>\?)|\[(?P<set>[!^]?\]?[^\]]*)\]|\\(?P<quoted>.)|(?P<plain>.)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Matcher:
    """`name` says whether a name can be meant, `path` whether a whole path is (`None`: the name decides). `literal` is
    in every name that is meant, in lower case if `ignore_case`; `directories` says that only directories are.
    """

    name: Callable[[str], object]
    path: Callable[[str], object] | None
    literal: bytes
    ignore_case: bool
    directories: bool = False


def matcher(pattern: str, *, regex: bool = False, ignore_case: bool = False) -> Matcher:
    """What `find` looks for. Raises `UsageError` for an expression that is none.

    Without a wildcard, whatever contains the text; with one, a name as a whole. With a slash the same of a whole path:
    a text has to end in the name, a pattern may begin at any directory unless it begins with the slash; `*` stays
    within a directory, `**` does not. A regular expression may match anywhere in the whole path.
    """
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    if regex:
        try:
            return Matcher(_anything, re.compile(pattern, flags).search, b"", ignore_case)
        except re.error as problem:
            raise UsageError(f"{shown(pattern)} is no regular expression: {problem}") from None
    directories = len(pattern) > 1 and pattern.endswith("/")
    pattern = pattern.rstrip("/") if directories else pattern
    if not pattern:
        raise UsageError("an empty pattern matches nothing", hint="for everything: '*'")
    last = pattern.rpartition("/")[2]
    if not WILD.search(pattern):
        literal = _literal([last], ignore_case=ignore_case)
        if "/" not in pattern:
            return Matcher(re.compile(re.escape(pattern), flags).search, None, literal, ignore_case, directories)
        found = re.compile(re.escape(pattern) + r"[^/]*\Z", flags).search
        return Matcher(_anything, found, literal, ignore_case, directories)
    expression, literals = _translated(pattern)
    if "/" not in pattern:
        meant = re.compile(expression, flags).fullmatch
        return Matcher(meant, None, _literal(literals, ignore_case=ignore_case), ignore_case, directories)
    whole = expression if pattern.startswith("/") else f"(?:.*/)?{expression}"
    literals = [] if "**" in last else _translated(last)[1]
    return Matcher(
        _anything,
        re.compile(whole, flags).fullmatch,
        _literal(literals, ignore_case=ignore_case),
        ignore_case,
        directories,
    )


def _anything(_name: str) -> bool:
    return True


def _translated(pattern: str) -> tuple[str, list[str]]:
    """A regular expression, and the pieces of the pattern that stand for themselves."""
    parts: list[str] = []
    literals = [""]
    for token in _TOKEN.finditer(pattern):
        plain = token["quoted"] or token["plain"]
        if plain is not None:
            parts.append(re.escape(plain))
            literals[-1] += plain
            continue
        literals.append("")
        if token["deep"]:
            parts.append(".*")
        elif token["star"]:
            parts.append("[^/]*")
        elif token["one"]:
            parts.append("[^/]")
        else:
            parts.append(_set(token["set"]))
    return "".join(parts), literals


def _set(inside: str) -> str:
    """What stands in brackets. An empty one matches nothing, as in a shell, nor does a range from high to low; a slash
    is in none.
    """
    negated = inside[:1] in {"!", "^"}
    members, parts = inside[negated:], ""
    while members:
        low, high = members[0], members[2:3] if members[1:2] == "-" else ""
        members = members[3 if high else 1 :]
        if not high:
            parts += re.escape(low)
        elif low <= high:
            parts += f"{re.escape(low)}-{re.escape(high)}"
    if not parts:
        return "[^/]" if negated and inside[1:] else "(?!)"
    return f"(?!/)[{'^' if negated else ''}{parts}]"


def _literal(pieces: list[str], *, ignore_case: bool) -> bytes:
    """The longest piece. Where case does not count only ASCII letters are sure to be found in lower case."""
    if ignore_case:
        pieces = [part for piece in pieces for part in re.split(r"[^\x00-\x7f]|[ksKS]", piece)]
        return max(pieces, key=len, default="").lower().encode("ascii")
    return max(pieces, key=len, default="").encode("utf-8", "surrogateescape")
