"""Which paths a master's exclusion rules leave out, decided as rsync decides it, about a microsecond for each.

A rule that looks at a path as `a/b*` does is split at its last slash: whether `a` fits is asked once per directory
(`Filter.within`), and what remains is asked of names only. Rules whose `**` cannot be split off are matched against
whole paths. See `flashback.walk.pattern` for the language.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from flashback.config.values import Rule
from flashback.core.errors import ConfigError
from flashback.core.text import shown
from flashback.walk.pattern import SLASH, Pattern, Token, Wild, components, expression, literal, parsed

LONGEST: Final = 4095
"""Bytes; a longer pattern is thrown away by rsync (MAXPATHLEN)."""
MOST_PLACES: Final = 1000
"""So many different sets of rules that apply within a directory are remembered; a tree has a handful."""

Match = Callable[[bytes], Rule | None]
_Search = Callable[[bytes], "re.Match[bytes] | None"]


@dataclass(frozen=True, slots=True)
class Place:
    """What the rules say of the names in one directory: the rule that decides, or `None`."""

    file: Match
    directory: Match


@dataclass(frozen=True, slots=True)
class _Clause:
    """A condition of the rule with number `rule`: within a directory that `parent` fits, a name that is `name`.

    `parent` is a regular expression for a directory's path; `None`: any directory.
    """

    rule: int
    name: tuple[Token, ...]
    directories_only: bool = False
    parent: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Wide:
    """A condition on a whole path, given with a slash before it and, if it is a directory, one after it."""

    rule: int
    of_file: bytes
    of_directory: bytes


class Filter:
    """The rules of one master, compiled. Raises `ConfigError` on a rule that rsync would not take."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._general: list[_Clause] = []
        self._placed: list[_Clause] = []
        self._wide: list[_Wide] = []
        for number, rule in enumerate(self.rules):
            _refuse(rule)
            pattern = parsed(rule.pattern)
            if pattern is not None:
                self._add(number, pattern)
        parents = [clause.parent or b"" for clause in self._placed]
        self._parents = [re.compile(parent, re.DOTALL).match for parent in parents]
        self._any_parent: _Search = re.compile(b"|".join(parents), re.DOTALL).match if parents else _nothing
        self._files = _any_of(self._wide, directories=False)
        self._directories = _any_of(self._wide, directories=True)
        self._names: dict[tuple[int, ...], tuple[_Names, _Names]] = {}
        self._places: dict[tuple[int, ...], Place] = {}
        self._last: tuple[bytes, Place] | None = None

    def verdict(self, path: bytes, *, is_directory: bool) -> Rule | None:
        """The first rule that matches `path` (relative to the master, no slash before or after it), or `None`.

        A path below an excluded directory is excluded as well, which is not asked here: whoever walks does not enter.
        """
        parent, _slash, name = path.rpartition(b"/")
        if self._last is None or self._last[0] != parent:
            self._last = (parent, self.within(parent))
        place = self._last[1]
        return place.directory(name) if is_directory else place.file(name)

    def excluded(self, path: bytes, *, is_directory: bool) -> bool:
        """Whether the deciding rule excludes `path`; nothing matching means that it is not excluded."""
        rule = self.verdict(path, is_directory=is_directory)
        return rule is not None and not rule.include

    def within(self, directory: bytes) -> Place:
        """The verdicts on what is in `directory` (`b""`: the master itself)."""
        applying: tuple[int, ...] = ()
        if self._any_parent(directory):
            applying = tuple(number for number, fits in enumerate(self._parents) if fits(directory))
        place = self._places.get(applying)
        if place is None:
            place = self._place(applying, directory)
            if not self._wide and len(self._places) < MOST_PLACES:
                self._places[applying] = place
        return place

    def _place(self, applying: tuple[int, ...], directory: bytes) -> Place:
        names = self._names.get(applying)
        if names is None:
            clauses = self._general + [self._placed[number] for number in applying]
            names = _Names([each for each in clauses if not each.directories_only]), _Names(clauses)
            if len(self._names) < MOST_PLACES:
                self._names[applying] = names
        before = b"/" + directory + b"/" if directory else b"/"
        return Place(
            names[0].matcher(self.rules, self._files, before, b""),
            names[1].matcher(self.rules, self._directories, before, b"/"),
        )

    def _add(self, number: int, pattern: Pattern) -> None:
        """File the pattern under the cheapest form that means the same."""
        tokens, only = pattern.tokens, pattern.directories_only
        if not pattern.deep:
            self._add_parts(number, tokens, only=only, anchored=pattern.anchored, slashes=pattern.slashes)
        elif pattern.deep_start and not pattern.ends_in_three and _splits_after_stars(tokens):
            # `**/a/b` is matched against the path with a slash before it, so that it fits wherever `a/b` does.
            self._add_parts(number, tokens[2:], only=only, anchored=False, slashes=None)
        elif not pattern.deep_start and _splits_before_stars(tokens):
            above = tokens[:-2]
            name = f"p{len(self._placed)}"
            below = _directory(above, name, anchored=pattern.anchored, then=b"(?:/.*)?")
            self._placed.append(_Clause(number, (Wild.STAR,), only, below))
            if pattern.ends_in_three:
                self._add_parts(number, above, only=True, anchored=pattern.anchored, slashes=None)
        else:
            self._wide.append(_wide(number, pattern))

    def _add_parts(
        self,
        number: int,
        tokens: tuple[Token, ...],
        *,
        only: bool,
        anchored: bool,
        slashes: int | None,
    ) -> None:
        """A pattern whose components fit one component of the path each.

        `slashes` is how many the text had where rsync takes that many components off the path's end: one that stands
        inside brackets counts there, but can match nothing.
        """
        parts = components(tokens)
        if not all(parts) or (slashes is not None and not anchored and slashes != len(parts) - 1):
            return
        parent = None
        if len(parts) > 1:
            parent = _directory(tokens[: -len(parts[-1]) - 1], f"p{len(self._placed)}", anchored=anchored)
        elif anchored:
            parent = rb"\Z"
        clause = _Clause(number, parts[-1], only, parent)
        (self._general if parent is None else self._placed).append(clause)


def _refuse(rule: Rule) -> None:
    if not rule.pattern or b"\0" in rule.pattern or len(rule.pattern) > LONGEST:
        what = "is empty" if not rule.pattern else "has a NUL byte" if b"\0" in rule.pattern else "is too long"
        raise ConfigError(f"{rule.origin}: a pattern {what}: {shown(rule.pattern[:80])}", hint="correct this line")


def _directory(tokens: Sequence[Token], name: str, *, anchored: bool, then: bytes = b"") -> bytes:
    """An expression that says whether the tokens fit (the end of) a directory's path, never the master's empty one."""
    where = b"(?!\\Z)" if anchored else b"(?!\\Z)(?:.*/)?"
    return where + expression(tokens, name) + then + rb"\Z"


def _splits_after_stars(tokens: Sequence[Token]) -> bool:
    return tokens[:1] == (Wild.STARS,) and tokens[1:2] == (SLASH,) and len(tokens) > 2 and Wild.STARS not in tokens[1:]


def _splits_before_stars(tokens: Sequence[Token]) -> bool:
    return tokens[-2:] == (SLASH, Wild.STARS) and len(tokens) > 2 and Wild.STARS not in tokens[:-1]


def _wide(number: int, pattern: Pattern) -> _Wide:
    """As rsync: `**` in front may match the path's own leading slash; else the pattern may begin after any slash."""
    inner = expression(pattern.tokens, f"w{number}")
    where = b"/" if pattern.anchored else b"" if pattern.deep_start else b".*/"
    end = b"" if pattern.ends_in_three else b"/"  # `***` may also match the slash that follows a directory's name
    never = b"(?!)"
    return _Wide(number, never if pattern.directories_only else where + inner, where + inner + end)


def _any_of(wide: Sequence[_Wide], *, directories: bool) -> tuple[_Search, tuple[int, ...]] | None:
    if not wide:
        return None
    return _alternatives([(each.rule, each.of_directory if directories else each.of_file) for each in wide])


def _alternatives(rules: Sequence[tuple[int, bytes]]) -> tuple[_Search, tuple[int, ...]]:
    """One expression for all, and the rule's number for each of its groups (`lastindex` is the outermost one).

    Alternatives are tried in order, so that the first rule is the one that is found.
    """
    compiled = re.compile(b"|".join(rb"(%b\Z)" % text for _rule, text in rules), re.DOTALL)
    groups = [-1] * (compiled.groups + 1)
    place = 1
    for rule, text in rules:
        groups[place] = rule
        place += 1 + re.compile(text, re.DOTALL).groups
    return compiled.match, tuple(groups)


class _Names:
    """Conditions on names by what they cost: a dictionary, one `endswith`, one `startswith`, one expression."""

    def __init__(self, clauses: Iterable[_Clause]) -> None:
        self.exact: dict[bytes, int] = {}
        self.suffixes: dict[bytes, int] = {}
        self.prefixes: dict[bytes, int] = {}
        wild: list[tuple[int, bytes]] = []
        for place, clause in enumerate(sorted(clauses, key=lambda each: each.rule)):
            tokens = clause.name
            if (text := literal(tokens)) is not None:
                self.exact.setdefault(text, clause.rule)
            elif tokens[0] is Wild.STAR and (text := literal(tokens[1:])) is not None:
                self.suffixes.setdefault(text, clause.rule)
            elif tokens[-1] is Wild.STAR and (text := literal(tokens[:-1])) is not None:
                self.prefixes.setdefault(text, clause.rule)
            else:
                wild.append((clause.rule, expression(tokens, f"n{place}")))
        self.ends, self.starts = tuple(self.suffixes), tuple(self.prefixes)
        self.wild = _alternatives(wild) if wild else None

    def first(self, name: bytes) -> int | None:
        """The number of the first rule that `name` meets."""
        found = []
        if name.endswith(self.ends):
            found += [number for suffix, number in self.suffixes.items() if name.endswith(suffix)]
        if name.startswith(self.starts):
            found += [number for prefix, number in self.prefixes.items() if name.startswith(prefix)]
        if name in self.exact:
            found.append(self.exact[name])
        if self.wild is not None and (match := self.wild[0](name)) is not None:
            found.append(self.wild[1][match.lastindex or 0])
        return min(found, default=None)

    def matcher(
        self, rules: Sequence[Rule], wide: tuple[_Search, tuple[int, ...]] | None, before: bytes, after: bytes
    ) -> Match:
        """A function of names: nearly all names meet no rule, which four calls into C find out."""
        exact, ends, starts, first = self.exact, self.ends, self.starts, self.first
        wild = self.wild[0] if self.wild is not None else _nothing

        def by_name(name: bytes) -> Rule | None:
            if name in exact or name.endswith(ends) or name.startswith(starts) or wild(name):
                number = first(name)
                return None if number is None else rules[number]
            return None

        if wide is None:
            return by_name
        search, groups = wide

        def by_path(name: bytes) -> Rule | None:
            rule = by_name(name)
            match = search(before + name + after)
            if match is None:
                return rule
            number, other = first(name), groups[match.lastindex or 0]
            return rules[other if number is None else min(number, other)]

        return by_path


def says_the_same_of_a_file(rule: Rule) -> bool:
    """Whether a rule that decides about a directory would also decide about a file in its place."""
    return not rule.pattern.endswith(b"/") and b"**" not in rule.pattern


def _nothing(_name: bytes) -> None:
    return None


NO_RULE: Final = Place(_nothing, _nothing)
"""Where nothing is left out."""
