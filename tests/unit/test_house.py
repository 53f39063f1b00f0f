"""The rules of the house (CONTRIBUTING.md, docs/explanation/house.md), read from the syntax tree of every file.

Stairs go down only; tools do not look into each other; each door to the outside has one owner; rooms stay small; what
is slow to import is imported where it is used. A finding names file and line. The rules are tried on bad samples below.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PACKAGE = "flashback"

STAIRS = (
    {"core"},
    {"tools"},
    {"config"},
    {"rotation", "tell", "walk"},
    {"drive"},
    {"health", "catalogue"},
    {"compare"},
    {"backup", "recover", "proof"},
    {"prepare"},
    {"trigger"},
    {"app"},
    {"cli"},
    {"__main__"},
)
"""From the cellar to the front door. A file may import from below and from its own room."""

DOORS = {
    "subprocess": ("core/command.py",),
    "pexpect": ("core/conversation.py",),
    "ptyprocess": (),
    "pty": (),
    "multiprocessing": (),
    "typer": ("cli/",),
    "click": ("cli/",),
    "questionary": ("prepare/ask.py",),
    "prompt_toolkit": ("prepare/ask.py",),
    "pyudev": ("tools/udev.py",),
    "jeepney": ("tools/dbus.py",),
    "secretstorage": ("tools/secret_service.py",),
    "yaml": ("config/",),
    "sqlite3": ("rotation/", "catalogue/index.py"),
    "rich": ("tell/",),
    "segno": ("prepare/kit.py",),
    "os.environ": ("app.py", "cli/"),
    "os.environb": ("app.py", "cli/"),
    "os.getenv": ("app.py", "cli/"),
    "os.putenv": (),
    "os.system": (),
    "os.popen": (),
    "os.fork": ("walk/child.py",),  # the reading side, with the rights of the master's owner; it starts no program
    "os.forkpty": (),
    "os.posix_spawn": (),
    "os.posix_spawnp": (),
    "os.execv": ("cli/",),
    "os.execve": ("cli/",),
    "os.execvp": ("cli/",),
    "os.execvpe": ("cli/",),
    "datetime.datetime.now": ("app.py", "cli/"),
    "datetime.datetime.utcnow": (),
    "datetime.datetime.today": (),
    "datetime.date.today": (),
    "time.time": ("app.py", "cli/"),
    "time.time_ns": ("app.py", "cli/"),
    "time.localtime": (),
}
"""What leads outside, and the files (or, with a slash at the end, the rooms) that may use it."""

SLOW = {
    "rich",
    "questionary",
    "prompt_toolkit",
    "pexpect",
    "pyudev",
    "yaml",
    "msgspec",
    "zxcvbn",
    "jeepney",
    "segno",
    "secretstorage",
}
"""Packages whose import is felt at the start; never at the top of a file that `flashback --help` reads. (Typer, 60 ms, is
what writes that help.)"""

LONGEST_FILE = 350
LONGEST_FUNCTION = 50


@dataclass(frozen=True)
class File:
    """One file of the package: `name` is its path below `flashback/`."""

    name: str
    source: str

    @property
    def room(self) -> str:
        return self.name.partition("/")[0].removesuffix(".py")

    @property
    def module(self) -> str:
        dotted = self.name.removesuffix(".py").replace("/", ".")
        return f"{PACKAGE}.{dotted}".removesuffix(".__init__")

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, self.name)

    def finding(self, line: int, what: str) -> str:
        return f"{PACKAGE}/{self.name}:{line}: {what}"

    def imports(self, nodes: list[ast.AST] | None = None) -> Iterator[tuple[int, str]]:
        """Line and full name of everything imported (`flashback.core.text.size`), here or in these nodes alone."""
        for node in ast.walk(self.tree) if nodes is None else nodes:
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)

    def imports_at_the_top(self) -> Iterator[tuple[int, str]]:
        """The same, of those alone that are carried out when this file is imported."""
        yield from self.imports(list(executed_on_import(self.tree)))


def executed_on_import(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from executed_on_import(child)


def house() -> list[File]:
    folder = TOP / PACKAGE
    return [File(str(path.relative_to(folder)), path.read_text("utf-8")) for path in sorted(folder.rglob("*.py"))]


def climbed_stairs(file: File) -> Iterator[str]:
    """Imports from a room above, or beside, the file's own."""
    for line, name in file.imports():
        parts = name.split(".")
        if parts[0] != PACKAGE or len(parts) < 2:
            continue
        other = parts[1]
        if other == file.room or other == other.upper() or other == "__version__":
            continue  # the package's own constants are anybody's
        if file.room == "__init__":
            yield file.finding(line, f"flashback/__init__.py imports {other}: it is read before everything else")
        elif floor(other) >= floor(file.room):
            yield file.finding(line, f"{file.room} imports {other}, which is not below it: stairs go down only")


def floor(room: str) -> int:
    """The floor a room lies on; a new room has to be given its place in `STAIRS`."""
    return next((number for number, rooms in enumerate(STAIRS) if room in rooms), len(STAIRS))


def homeless(file: File) -> Iterator[str]:
    """Files in a room that has no floor."""
    if file.name != "__init__.py" and floor(file.room) == len(STAIRS):
        yield file.finding(1, f"{file.room} has no place in STAIRS (tests/unit/test_house.py)")


def relative_imports(file: File) -> Iterator[str]:
    for node in ast.walk(file.tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield file.finding(node.lineno, "a relative import hides which room it leads to")


def tools_that_look_into_each_other(file: File) -> Iterator[str]:
    for line, name in file.imports():
        if (
            file.room == "tools"
            and name.startswith(f"{PACKAGE}.tools")
            and not f"{name}.".startswith(f"{file.module}.")
        ):
            yield file.finding(line, f"a tool imports {name}: the floor above carries values between tools")


def doors_of_others(file: File) -> Iterator[str]:
    """Uses of a door that somebody else owns, by import or by name."""
    for line, name in used_names(file):
        for door, owners in DOORS.items():
            inside = any(
                file.name == owner or (owner.endswith("/") and file.name.startswith(owner)) for owner in owners
            )
            if f"{name}.".startswith(f"{door}.") and not inside:
                yield file.finding(line, f"uses {door}, whose owner is {' and '.join(owners) or 'nobody'}")


def used_names(file: File) -> Iterator[tuple[int, str]]:
    """Every import and every dotted name, written out in full: `dt.now` after `from datetime import datetime as dt`."""
    meaning: dict[str, str] = {}
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                meaning[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            meaning |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    yield from file.imports()
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Attribute):
            first, dot, rest = ast.unparse(node).partition(".")
            if dot and first in meaning:
                yield node.lineno, f"{meaning[first]}.{rest}"


def too_long(file: File) -> Iterator[str]:
    lines = file.source.count("\n")
    if lines > LONGEST_FILE:
        yield file.finding(1, f"has {lines} lines, more than {LONGEST_FILE}: have two rooms merged?")
    for node in ast.walk(file.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LONGEST_FUNCTION:
                yield file.finding(node.lineno, f"{node.name} has {length} lines, more than {LONGEST_FUNCTION}")


def slow_start(files: list[File], front_door: str = f"{PACKAGE}.cli", slow: AbstractSet[str] = SLOW) -> Iterator[str]:
    """Slow packages and rooms imported by what the front door imports, directly or through others, when it is opened."""
    known = {file.module: file for file in files}
    seen: set[str] = set()
    waiting = [front_door]
    while waiting:
        module = waiting.pop()
        if module in seen or module not in known:
            continue
        seen.add(module)
        for line, name in known[module].imports_at_the_top():
            if any(f"{name}.".startswith(f"{each}.") for each in slow):
                yield known[module].finding(
                    line, f"imports {name} at the top, which whoever enters {front_door} waits for"
                )
            parts = name.split(".")
            waiting += [".".join(parts[: end + 1]) for end in range(len(parts))]


RULES = [climbed_stairs, homeless, relative_imports, tools_that_look_into_each_other, doors_of_others, too_long]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rule(rule):
    nothing_found(dict.fromkeys(finding for file in house() for finding in rule(file)))


def test_the_front_door_opens_in_a_blink():
    nothing_found(dict.fromkeys(slow_start(house())))


def test_the_question_about_a_drive_that_is_plugged_in_waits_for_nothing_slow():
    slow = SLOW | {"typer", f"{PACKAGE}.backup", f"{PACKAGE}.compare", f"{PACKAGE}.walk"}
    nothing_found(dict.fromkeys(slow_start(house(), f"{PACKAGE}.trigger.serve", slow)))


def nothing_found(findings: dict[str, None]) -> None:
    if findings:
        pytest.fail("\n".join(findings), pytrace=False)


def test_the_whole_house_was_read():
    rooms = {file.room for file in house()}
    assert {"core", "tools", "backup", "cli"} <= rooms


BAD = [
    (climbed_stairs, "core/x.py", "from flashback.tools.luks import Luks"),
    (climbed_stairs, "core/x.py", "import flashback.cli"),
    (climbed_stairs, "config/x.py", "def f():\n    from flashback.tell import sentence"),
    (climbed_stairs, "app.py", "from flashback import cli"),
    (climbed_stairs, "rotation/x.py", "from flashback.tell import sentence"),
    (climbed_stairs, "__init__.py", "from flashback.core import text"),
    (homeless, "attic/x.py", ""),
    (relative_imports, "drive/x.py", "from .marker import Marker"),
    (relative_imports, "drive/x.py", "from .. import core"),
    (tools_that_look_into_each_other, "tools/luks.py", "from flashback.tools.btrfs import Btrfs"),
    (tools_that_look_into_each_other, "tools/luks.py", "from flashback.tools import luks_dump"),
    (doors_of_others, "backup/x.py", "import subprocess"),
    (doors_of_others, "core/stack.py", "from subprocess import run"),
    (doors_of_others, "core/x.py", "def f():\n    import pexpect.fdpexpect"),
    (doors_of_others, "drive/x.py", "import os\nos.environ['HOME']"),
    (doors_of_others, "drive/x.py", "from os import environ"),
    (doors_of_others, "drive/x.py", "import os as o\no.system('true')"),
    (doors_of_others, "core/x.py", "from datetime import datetime as dt\ndt.now(UTC)"),
    (doors_of_others, "core/x.py", "import datetime\ndatetime.datetime.now()"),
    (doors_of_others, "core/x.py", "import datetime\nclock = datetime.date.today"),
    (doors_of_others, "core/x.py", "from time import time"),
    (doors_of_others, "tools/udevadm.py", "import pyudev"),
    (too_long, "core/x.py", "\n" * (LONGEST_FILE + 1)),
    (too_long, "core/x.py", "class A:\n    def f(self):\n" + "        x = 1\n" * LONGEST_FUNCTION),
]


@pytest.mark.parametrize(("rule", "name", "source"), BAD)
def test_a_breach_is_found_and_named_with_its_file(rule, name, source):
    findings = list(rule(File(name, source)))
    assert len(findings) >= 1
    assert all(finding.startswith(f"flashback/{name}:") for finding in findings)


GOOD = [
    (
        climbed_stairs,
        "cli/x.py",
        "from flashback import BUILT, __version__\nfrom flashback.core.text import size\nimport flashback.app",
    ),
    (climbed_stairs, "drive/x.py", "from flashback.drive.marker import Marker"),
    (tools_that_look_into_each_other, "tools/luks.py", "from flashback.core.command import Command"),
    (tools_that_look_into_each_other, "drive/luks.py", "from flashback.tools.btrfs import Btrfs"),
    (doors_of_others, "core/command.py", "import subprocess"),
    (doors_of_others, "core/x.py", "import time, os\ntime.monotonic()\nos.environment = 1"),
    (doors_of_others, "core/x.py", "def f(clock, now):\n    return now() - clock.time.now()"),
    (doors_of_others, "app.py", "from datetime import UTC, datetime\ndatetime.now(UTC)"),
    (too_long, "core/x.py", "\n" * LONGEST_FILE),
]


@pytest.mark.parametrize(("rule", "name", "source"), GOOD)
def test_what_is_allowed_is_not_reported(rule, name, source):
    assert list(rule(File(name, source))) == []


def test_a_slow_import_is_found_two_rooms_away():
    files = [
        File("cli/__init__.py", "from flashback.app import App"),
        File("app.py", "class App:\n    from flashback.tell import sentence"),
        File("tell/__init__.py", ""),
        File("tell/sentence.py", "import rich.console"),
    ]
    assert list(slow_start(files)) == [
        "flashback/tell/sentence.py:1: imports rich.console at the top, which whoever enters flashback.cli waits for"
    ]


@pytest.mark.parametrize(
    "source", ["def f():\n    import rich", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import rich"]
)
def test_a_slow_import_inside_a_function_is_no_breach(source):
    assert list(slow_start([File("cli/__init__.py", source)])) == []
