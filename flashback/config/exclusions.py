r"""Exclusion files in rsync's syntax (rsync(1), "FILTER RULES" and `--exclude-from`; LINUX.md 5.2).

What was seen with rsync 3.5.0, and is held by tests/tools/test_exclusions_example.py: a line ends at LF or CR; `#` and
`;` begin a comment only in the first column; an empty line says nothing; `- ` and `+ ` in front make a rule exclude or
include; a line that is `!` alone forgets every rule above it, also those of the files before; all else, blanks at both
ends included, is a pattern. rsync stops at `- ` with nothing after it, cuts a line at a NUL byte, drops a pattern of
4096 bytes or more with a message, and silently never matches a set `[` that is not closed.

The words of rsync's longer filter rules (`merge`, `hide`, …) are taken literally in an exclude file. Such a line is
refused where it cannot well be a name (`include *.c`, `merge ../rules`), and doubtful where it can (`show notes.txt`).
With `- ` in front any name is taken as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from flashback.config.findings import Findings, Place, quoted
from flashback.config.values import Rule
from flashback.core.errors import ConfigError
from flashback.core.text import shown

LARGEST_FILE: Final = 1024 * 1024
"""Bytes."""
_LONGEST_PATTERN: Final = 4095

_LINE_END: Final = re.compile(rb"[\r\n]")
_FILTER_WORDS: Final = re.compile(rb"(dir-merge|exclude|include|merge|hide|show|protect|risk)[ ,]")
_NAMED_SETS: Final = frozenset(
    b"alnum alpha blank cntrl digit graph lower print punct space upper xdigit".split()  # rsync's lib/wildmatch.c
)


class _Line(NamedTuple):
    """A line that says something. `column` (from 1, in bytes) is where its pattern begins."""

    number: int
    column: int
    text: bytes
    pattern: bytes
    include: bool = False


def read_rules(file: Path, text: bytes, above: Sequence[Rule] = ()) -> tuple[Rule, ...]:
    """The rules of `above` (the files before this one) and of `text`, in order; `!` forgets what stands above.

    Raises `ConfigError` with every bad line as `file:line:column: what is wrong`.
    """
    findings = Findings(file)
    rules = check_rules(text, findings, above)
    if findings:
        raise ConfigError(f"{shown(str(file))} has lines that cannot be used", findings=findings.lines())
    return rules


def check_rules(text: bytes, findings: Findings, above: Sequence[Rule] = ()) -> tuple[Rule, ...]:
    """As `read_rules`, with the bad lines noted in `findings` and left out of the result."""
    rules = list(above)
    for line in _lines(text):
        if line.text == b"!":
            rules.clear()
        elif problem := _problem(line):
            offset, what = problem
            findings.add(Place(line.number, line.column + offset), "", what)
        else:
            rules.append(Rule(line.pattern, line.include, str(findings.file), line.number))
    return tuple(rules)


def doubtful_lines(file: Path, text: bytes, *, master: Path | None = None) -> tuple[str, ...]:
    """Lines that rsync accepts and that probably mean something else to whoever wrote them, as `file:line:column: …`.

    For `flashback config check`; `master` is the directory the rules are for, to find patterns that repeat its path.
    """
    findings = Findings(file)
    for line in _lines(text):
        if line.text != b"!" and not _problem(line):
            for offset, what in _doubts(line, master):
                findings.add(Place(line.number, line.column + offset), "", what)
    return findings.lines()


def _lines(text: bytes) -> Iterator[_Line]:
    # CRLF is one end of line to people, hence to the line numbers; a lone CR ends a line as it does for rsync.
    for number, line in enumerate(text.replace(b"\r\n", b"\n").split(b"\n"), start=1):
        column = 1
        for part in _LINE_END.split(line):
            if part and part[:1] not in {b"#", b";"}:
                yield _ruled(number, column, part)
            column += len(part) + 1


def _ruled(number: int, column: int, text: bytes) -> _Line:
    if text[:2] in {b"- ", b"+ "}:
        return _Line(number, column + 2, text, text[2:], text[:1] == b"+")
    return _Line(number, column, text, text)


def _problem(line: _Line) -> tuple[int, str] | None:
    """Why a line cannot be used, and at which byte of its pattern."""
    pattern = line.pattern
    if not pattern:
        return 0, f"a pattern is missing after {quoted(line.text.decode())}"
    if (nul := pattern.find(b"\0")) >= 0:
        return nul, "a NUL byte; no file name contains one"
    if line.number == 1 and pattern.startswith(b"\xef\xbb\xbf"):
        return 0, "a byte order mark; rsync takes it as part of the pattern: save the file without it"
    if len(pattern) > _LONGEST_PATTERN:
        return 0, f"the pattern is longer than any path ({len(pattern)} bytes)"
    return _rule_word(line) or _bad_set(pattern)


def _rule_word(line: _Line) -> tuple[int, str] | None:
    match = _FILTER_WORDS.match(line.text)
    if match is None or not (match[1] == b"dir-merge" or re.search(rb"[*?\[/]", line.text)):
        return None
    word = match[1].decode()
    cure = {"exclude": "write the pattern alone", "include": "write '+ PATTERN'"}.get(word, "it cannot be used here")
    name = quoted("- " + line.text.decode("utf-8", "surrogateescape"))
    return (
        0,
        f"rsync takes the filter rule '{word}' literally in an exclusion file; {cure} (for this very name: {name})",
    )


def _bad_set(pattern: bytes) -> tuple[int, str] | None:
    """A set in `[…]` that never ends or has an unknown class: rsync's wildmatch then matches nothing at all."""
    position = 0
    while position < len(pattern):
        if pattern[position : position + 1] == b"\\":
            position += 2
        elif pattern[position : position + 1] == b"[":
            end = _set_end(pattern, position)
            if isinstance(end, str):
                return position, end
            position = end
        else:
            position += 1
    return None


def _set_end(pattern: bytes, start: int) -> int | str:
    """The position after the set that begins at `start`, or what is wrong with it."""
    position = start + (2 if pattern[start + 1 : start + 2] in {b"!", b"^"} else 1)
    first = position
    while position < len(pattern):
        here = pattern[position : position + 1]
        if here == b"]" and position > first:
            return position + 1
        if here == b"\\":
            position += 2
        elif pattern[position : position + 2] == b"[:" and (name := _class_name(pattern, position)) is not None:
            if name not in _NAMED_SETS:
                return f"there is no class [:{shown(name)}:], so nothing matches"
            position += len(name) + 4
        else:
            position += 1
    return r"'[' is never closed, so nothing matches; for a name with '[' in it write '\['"


def _class_name(pattern: bytes, position: int) -> bytes | None:
    end = pattern.find(b"]", position + 2)
    inside = pattern[position + 2 : end] if end >= 0 else b""
    return inside[:-1] if inside.endswith(b":") else None


def _doubts(line: _Line, master: Path | None) -> Iterator[tuple[int, str]]:
    for expression, what in _DOUBTFUL:
        if match := expression.search(line.pattern):
            yield match.start(), what
    for expression, what in _DOUBTFUL_LINES:
        if expression.match(line.text):
            yield 0, what
    if master is not None and _below(line.pattern, bytes(master)):
        yield 0, f"a leading '/' means the master, {shown(bytes(master))}: leave that part out"


def _below(pattern: bytes, master: bytes) -> bool:
    return master != b"/" and (pattern + b"/").startswith(master.rstrip(b"/") + b"/")


_DOUBTFUL: Final = tuple(
    (re.compile(expression), what)
    for expression, what in (
        (rb"[ \t]+\Z", "blanks at the end are part of the pattern"),
        (rb"\A[ \t]+", "blanks at the beginning are part of the pattern"),
        (rb"[ \t]+[#;]", "a comment stands on a line of its own; here it is part of the pattern"),
        (rb"\A(?:~/|~\Z)|\$(?:HOME|\{|USER)", "'~' and '$NAME' are not replaced here; a leading '/' means the master"),
        (rb"\{[^}]*,[^}]*\}", "rsync has no '{a,b}'; write one line for each"),
        (
            rb"//|(?:\A|/)\.\.?(?=/|\Z)|\A/+\Z",
            "matches nothing: paths contain no '//', './' or '../' and do not end in '/.'",
        ),
        (rb"\[[^\]/]*/[^\]]*\]", "a set in '[…]' never matches '/'"),
        (rb"\A[^*?\[]*\\[^*?\[]*\Z", "without a wildcard a backslash is part of the name"),
        (rb"\A[^\\]*[*?\[](?:[^\\]|\\\\|\\[^\\])*(?<!\\)\\\Z", "matches nothing: a backslash at the end"),
        (rb"\A/?\*+\Z", "this is every file"),
    )
)
"""What to look for in a pattern."""

_DOUBTFUL_LINES: Final = tuple(
    (re.compile(expression), what)
    for expression, what in (
        (
            _FILTER_WORDS.pattern,
            "rsync takes this as a name, not as a rule; with '- ' in front it is certainly meant so",
        ),
        (rb"[.:PHSR] ", "rsync takes this as a name, not as a rule; with '- ' in front it is certainly meant so"),
        (rb"[-+]\t", "a rule needs a blank after '-' or '+', here is a tab: taken as a name"),
        (rb"[-+] +[-+] ", "the second '-' or '+' is part of the pattern"),
        (rb"!.", "'!' does not turn a pattern round; to keep something write '+ PATTERN' above what excludes it"),
    )
)
"""What to look for in a whole line."""
