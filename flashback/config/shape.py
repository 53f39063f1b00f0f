"""The second pass: what one value must look like, by its kind.

Each reader needs a node and returns the value, or raises `ValueError` whose text completes "SETTING: …".
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from flashback.config.findings import Findings, Place, did_you_mean, quoted
from flashback.config.nodes import Entries, Items, Node, Scalar
from flashback.config.settings import Kind, section
from flashback.config.units import read_count, read_duration, read_space
from flashback.config.values import Btrfs, OnPlug, Symlinks

_Choice = TypeVar("_Choice", bound=StrEnum)

_HOST: Final = re.compile(r"[^/]*[^/:]:|[a-z]+://")
_COMPRESS: Final = re.compile(r"zstd:([1-9]|1[0-5])|no", re.ASCII)
_BOOLEANS: Final = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}
_LIKE_TRUE: Final = {
    "yes": "true",
    "on": "true",
    "y": "true",
    "1": "true",
    "no": "false",
    "off": "false",
    "n": "false",
    "0": "false",
}


class Given(NamedTuple):
    """A value that was read, and where it stands."""

    value: Any
    place: Place


def read_section(name: str, path: str, node: Node, findings: Findings) -> tuple[dict[str, Given], frozenset[str]]:
    """The settings of a section that could be read, and the names of those that were given but wrong.

    `name` is the section's in the table, `path` what findings call it. An empty section is one without settings.
    """
    known = section(name)
    given: dict[str, Given] = {}
    wrong: set[str] = set()
    for key, value in entries(node, path, findings):
        full = f"{path}.{key.text}"
        if key.text not in known:
            findings.add(key.place, _named(full), f"unknown setting{did_you_mean(key.text, known)}")
            continue
        try:
            given[key.text] = Given(READERS[known[key.text].kind](value), value.place)
        except ValueError as problem:
            findings.add(value.place, full, str(problem))
            wrong.add(key.text)
    return given, frozenset(wrong)


def values(given: Mapping[str, Given]) -> dict[str, Any]:
    """The values alone, to make a dataclass from."""
    return {name: one.value for name, one in given.items()}


def entries(node: Node, path: str, findings: Findings) -> tuple[tuple[Scalar, Node], ...]:
    """The names and values of a section; a finding and none where it is not one."""
    if isinstance(node, Entries):
        return node.entries
    if not (isinstance(node, Scalar) and node.is_null):
        findings.add(node.place, path, f"expected settings, one 'name: value' in a line, found {found(node)}")
    return ()


def found(node: Node) -> str:
    """What stands there, as findings say it."""
    match node:
        case Items():
            return "a list"
        case Entries():
            return "a section with names"
        case Scalar(is_null=True):
            return "nothing"
        case Scalar(text=text):
            return quoted(text)


def _named(path: str) -> str:
    return quoted(path)[1:-1]


def _text(node: Node, expected: str) -> str:
    if not isinstance(node, Scalar) or node.is_null:
        raise ValueError(f"expected {expected}, found {found(node)}")
    return node.text


def _unquoted(node: Node, expected: str) -> str:
    text = _text(node, expected)
    if isinstance(node, Scalar) and not node.plain:
        raise ValueError(f"expected {expected}, found the text {quoted(text)} in quotes; did you mean it without them?")
    return text


def _count(node: Node) -> int:
    return read_count(_unquoted(node, "a whole number"))


def _duration(node: Node) -> timedelta:
    return read_duration(_text(node, "a duration such as 7d"))


def _scrub(node: Node) -> timedelta | None:
    if isinstance(node, Scalar) and (node.is_null or node.text == "never"):
        return None
    return _duration(node)


def _space(node: Node) -> float | int:
    return read_space(_text(node, "a share such as 5% or a size such as 10GiB"))


def _share(node: Node) -> float:
    text = _text(node, "a share such as 30%")
    share = read_space(text)
    if not isinstance(share, float):
        raise ValueError(f"expected a share such as 30%, found {quoted(text)}")  # noqa: TRY004
    return share


def _size(node: Node) -> int:
    text = _text(node, "a size such as 20GiB")
    size = read_space(text)
    if not isinstance(size, int):
        raise ValueError(f"expected a size such as 20GiB, found {quoted(text)}")  # noqa: TRY004
    return size


def _boolean(node: Node) -> bool:
    text = _unquoted(node, "true or false")
    if text not in _BOOLEANS:
        near = f"; did you mean {_LIKE_TRUE[text.lower()]}?" if text.lower() in _LIKE_TRUE else ""
        raise ValueError(f"expected true or false, found {quoted(text)}{near or did_you_mean(text, ('true', 'false'))}")
    return _BOOLEANS[text]


def _one_of(choices: type[_Choice]) -> Callable[[Node], _Choice]:
    names = [str(choice) for choice in choices]
    allowed = f"{', '.join(names[:-1])} or {names[-1]}"

    def read(node: Node) -> _Choice:
        text = _text(node, allowed)
        if text not in names:
            raise ValueError(f"expected {allowed}, found {quoted(text)}{did_you_mean(text, names)}")
        return choices(text)

    return read


def _compress(node: Node) -> str:
    text = _text(node, Kind.COMPRESS)
    if not _COMPRESS.fullmatch(text):
        near = {"zstd": "zstd:3", "yes": "zstd:3", "true": "zstd:3", "false": "no", "off": "no", "none": "no"}
        hint = f"; did you mean {near[text.lower()]}?" if text.lower() in near else ""
        raise ValueError(f"expected zstd:1 to zstd:15, or no, found {quoted(text)}{hint}")
    return text


def _user(node: Node) -> str | None:
    if isinstance(node, Scalar) and node.is_null:
        return None
    return _text(node, "a user name")


def _possible(text: str) -> str:
    """A text that can be a path at all."""
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError as error:
        raise ValueError(f"{quoted(text)} has a character that no file name can have") from error
    if b"\0" in encoded or len(encoded) > 4095 or any(len(part) > 255 for part in encoded.split(b"/")):
        raise ValueError(f"{quoted(text)} cannot be a path: a NUL byte, or too long")
    return text


def _path(node: Node) -> Path:
    text = _possible(_text(node, "the absolute path of a directory"))
    if _HOST.match(text):
        raise ValueError(
            f"{quoted(text)} is on another host; pulling over ssh is not yet there, only directories of this machine"
        )
    if text.startswith(("~", "$")):
        raise ValueError(f"'~' and '$NAME' are not replaced here; write the whole path (/home/…), found {quoted(text)}")
    if not text.startswith("/"):
        raise ValueError(f"expected an absolute path, which begins with '/', found {quoted(text)}")
    if ".." in text.split("/"):
        raise ValueError(f"expected a path without '..', found {quoted(text)}")
    return Path("/" + text.lstrip("/"))


def _files(node: Node) -> tuple[Given, ...]:
    match node:
        case Items(items=items):
            return tuple(Given(_file(item), item.place) for item in items)
        case Scalar(is_null=True):
            return ()
        case Scalar(text=text):
            raise ValueError(f"expected a list of files, found {quoted(text)}; did you mean [{quoted(text)[1:-1]}]?")
        case Entries():
            raise ValueError("expected a list of files such as [exclusions.txt], found a section with names")


def _file(node: Node) -> Path:
    text = _possible(_text(node, "a file name"))
    if text.startswith("~"):
        raise ValueError(f"'~' is not replaced here; write the whole path, found {quoted(text)}")
    if not text:
        raise ValueError("expected a file name, found an empty text")
    return Path(text)


READERS: Final[dict[Kind, Callable[[Node], Any]]] = {
    Kind.PATH: _path,
    Kind.USER: _user,
    Kind.FILES: _files,
    Kind.SYMLINKS: _one_of(Symlinks),
    Kind.BTRFS: _one_of(Btrfs),
    Kind.COUNT: _count,
    Kind.SPACE: _space,
    Kind.SHARE: _share,
    Kind.SIZE: _size,
    Kind.DURATION: _duration,
    Kind.SCRUB: _scrub,
    Kind.ON_PLUG: _one_of(OnPlug),
    Kind.BOOLEAN: _boolean,
    Kind.COMPRESS: _compress,
}
"""Which reader takes which kind."""
