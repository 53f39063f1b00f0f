"""The first pass: bytes to a small tree that knows its places.

PyYAML's parser gives events with marks; the tree is built from these here, so that depth, anchors, tags and further
documents are refused before anything is built from them. No YAML type is guessed: a scalar stays the text that was
written, with a note whether it was quoted (YAML 1.1 would read `no` as a boolean and `12:30` as 750).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from flashback.config.findings import Findings, Place, quoted

if TYPE_CHECKING:
    import yaml

LARGEST_FILE: Final = 128 * 1024
"""Bytes. A configuration of a hundred masters has 20 KiB."""
_DEEPEST: Final = 10
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True, slots=True)
class Scalar:
    """A word as it was written. `plain`: without quotes."""

    place: Place
    text: str
    plain: bool

    @property
    def is_null(self) -> bool:
        """Nothing was given, or `null` or `~`."""
        return self.plain and self.text in _NULLS


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    place: Place
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Entries:
    """Names with values, in the order of the file; no name occurs twice."""

    place: Place
    entries: tuple[tuple[Scalar, Node], ...]


Node = Scalar | Items | Entries


def parse(text: bytes, findings: Findings) -> Node | None:
    """The tree of the only document in `text`, or `None` where there is none. What is wrong goes into `findings`;
    a tree beside findings is sound apart from the places that these name.
    """
    decoded = _decode(text, findings)
    if decoded is None or not _usable(decoded, findings):
        return None
    import yaml

    # The pure Python scanner, since the C one counts columns in bytes.
    loader = yaml.SafeLoader(decoded)
    try:
        return _Builder(_events(loader), findings).document()
    except _TooDeep as error:
        findings.add(error.place, "", "nested too deeply; no setting is")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        findings.add(_place(mark), "", _sentence(error.problem or error.context or "not YAML"))
    except (yaml.YAMLError, ValueError, OverflowError):
        # ValueError: PyYAML hands `"\UFFFFFFFF"` and `%YAML 9…9.9` to chr() and int() unchecked.
        findings.add(_place(loader.get_mark()), "", "not YAML: a character or number that does not exist")
    finally:
        loader.dispose()
    return None


def _events(loader: yaml.SafeLoader) -> Iterator[yaml.Event]:
    while loader.check_event():
        event: yaml.Event = loader.get_event()  # type: ignore[no-untyped-call]
        yield event


class _Mark(Protocol):
    line: int
    column: int


def _place(mark: _Mark | None) -> Place:
    return Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)


def _decode(text: bytes, findings: Findings) -> str | None:
    if len(text) > LARGEST_FILE:
        findings.add(Place(1, 1), "", f"the file is larger than {LARGEST_FILE // 1024} KiB: not a configuration")
        return None
    try:
        return text.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = text[: error.start].decode("utf-8")
        what = f"not UTF-8: byte 0x{text[error.start]:02x}; save the file as UTF-8"
        findings.add(_end_of(before), "", what)
        return None


def _end_of(before: str) -> Place:
    lines = before.split("\n")
    return Place(len(lines), len(lines[-1].removeprefix("\ufeff")) + 1)


def _usable(text: str, findings: Findings) -> bool:
    """No character that YAML forbids, no tab where a line begins (each is a finding)."""
    from yaml.reader import Reader

    for match in Reader.NON_PRINTABLE.finditer(text):
        findings.add(_end_of(text[: match.start()]), "", f"a character that YAML forbids: {quoted(match[0])}")
        break
    for number, line in enumerate(text.split("\n"), start=1):
        indent = line[: len(line) - len(line.lstrip(" \t"))]
        if "\t" in indent and not line.lstrip().startswith("#") and line.strip():
            findings.add(Place(number, indent.index("\t") + 1), "", "a tab; YAML wants blanks for indentation")
    return not findings


def _sentence(problem: str) -> str:
    if "'\\t'" in problem:
        return "a tab; YAML wants blanks here"
    known = {
        "mapping values are not allowed here": "a second ':' in one line, or a line indented too far; "
        "a text with ': ' in it needs quotes",
        "could not find expected ':'": "expected 'name: value'",
        "found unexpected end of stream": "a quote or bracket that is opened is never closed",
    }
    if problem.startswith(("expected ',' or '}'", "expected ',' or ']'")):
        return "a bracket that is opened is never closed, or a ',' is missing"
    return known.get(problem, f"not YAML: {problem}")


class _TooDeep(Exception):
    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.place = place


class _Builder:
    """Builds the tree from events; forbidden things become findings and are read past where that is possible."""

    def __init__(self, events: Iterator[yaml.Event], findings: Findings) -> None:
        self._events = events
        self._findings = findings

    def document(self) -> Node | None:
        import yaml

        root: Node | None = None
        documents = 0
        for event in self._events:
            if not isinstance(event, yaml.DocumentStartEvent):
                continue
            documents += 1
            if documents > 1:
                self._findings.add(_place(event.start_mark), "", "a second document; one file is one configuration")
                break
            root = self._node(next(self._events), depth=0)
        return root

    def _node(self, event: yaml.Event, *, depth: int) -> Node:
        import yaml

        place = _place(event.start_mark)
        self._refuse_tricks(event, place)
        if depth > _DEEPEST:
            raise _TooDeep(place)
        match event:
            case yaml.ScalarEvent():
                return Scalar(place, event.value, plain=event.style is None)
            case yaml.SequenceStartEvent():
                return Items(place, tuple(self._items(depth)))
            case yaml.MappingStartEvent():
                return Entries(place, tuple(self._entries(depth)))
            case _:
                return Scalar(place, "", plain=True)

    def _refuse_tricks(self, event: yaml.Event, place: Place) -> None:
        import yaml

        if isinstance(event, yaml.AliasEvent):
            self._findings.add(place, "", f"an alias ({quoted(f'*{event.anchor}')}); write the value out")
        elif isinstance(event, yaml.NodeEvent):
            if event.anchor is not None:
                self._findings.add(place, "", f"an anchor ({quoted(f'&{event.anchor}')}); anchors are not read here")
            if (tag := getattr(event, "tag", None)) is not None:
                self._findings.add(place, "", f"a tag ({quoted(tag)}); a text that begins with '!' needs quotes")

    def _items(self, depth: int) -> Iterator[Node]:
        import yaml

        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                return
            yield self._node(event, depth=depth + 1)

    def _entries(self, depth: int) -> Iterator[tuple[Scalar, Node]]:
        import yaml

        seen: dict[str, int] = {}
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                return
            key = self._node(event, depth=depth + 1)
            value = self._node(next(self._events), depth=depth + 1)
            if self._is_name(key, seen) and isinstance(key, Scalar):
                seen[key.text] = key.place.line
                yield key, value

    def _is_name(self, key: Node, seen: dict[str, int]) -> bool:
        if not isinstance(key, Scalar):
            self._findings.add(key.place, "", "expected a name, found a list or a section")
        elif key.plain and key.text == "<<":
            self._findings.add(key.place, "", "merge keys (<<) are not read here; write the settings out")
        elif key.text in seen:
            what = f"{quoted(key.text)} is given twice; the first is in line {seen[key.text]}"
            self._findings.add(key.place, "", what)
        else:
            return True
        return False
