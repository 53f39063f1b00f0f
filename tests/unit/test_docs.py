"""The documentation names what there is: links lead somewhere, commands and options exist, and none is left out.

The checks are tried on bad samples below.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from flashback.cli import app

TOP = Path(__file__).resolve().parents[2]
COMMANDS_PAGE = "docs/reference/commands.md"
PAGES = sorted([TOP / "README.md", TOP / "CHANGELOG.md", TOP / "SECURITY.md", *TOP.glob("docs/**/*.md")])

LINK = re.compile(r"\]\(([^)\s]+)\)")
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|#")
FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
CALL = re.compile(r"(?<![\w/.-])flashback +([a-z][a-z|-]*)((?: +(?!\|)[^\s;&<>`]+)*)")
OPTION = re.compile(r"(?<![\w-])(--?[a-z][a-z-]*)")
HEADING = re.compile(r"^#+ `flashback ([^`]+)`$", re.MULTILINE)
OPTIONS_ROW = re.compile(r"^\| (`-[^|]*) \|", re.MULTILINE)
OPTIONS_LINE = re.compile(r"^Also: (.*)$", re.MULTILINE)
BY_DEFAULT = {"snapshots": "list"}
"""Groups that stand for one of their commands."""
HELP = {"-h", "--help"}


def tree(group=None, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], typer.core.TyperCommand]:
    """Every command and group by the words that are typed."""
    group = group or typer.main.get_command(app)
    found = {}
    for name, command in getattr(group, "commands", {}).items():
        found[*path, name] = command
        found |= tree(command, (*path, name)) if hasattr(command, "commands") else {}
    return found


TREE = tree()
GROUPS = {path for path, command in TREE.items() if hasattr(command, "commands")}
LEAVES = {path: command for path, command in TREE.items() if path not in GROUPS}


def options_of(path: tuple[str, ...]) -> set[str]:
    """The options of a command as they are typed, without those for help."""
    params = [each for each in TREE[path].params if each.param_type_name == "option"]
    return {name for each in params for name in (*each.opts, *each.secondary_opts)} - HELP


def arguments_of(path: tuple[str, ...]) -> list[str]:
    """The arguments of a command, in order, without the brackets of those that may be left out."""
    return [each.metavar.strip("[]") for each in TREE[path].params if each.param_type_name == "argument"]


# --- links


def dead_links(text: str, folder: Path) -> Iterator[str]:
    """Relative links that lead to no file."""
    for target in LINK.findall(FENCE.sub("", text)):
        if not ELSEWHERE.match(target) and not (folder / target.partition("#")[0]).exists():
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_every_relative_link_leads_to_a_file(page):
    assert list(dead_links(page.read_text("utf-8"), page.parent)) == []


def test_a_dead_link_is_found(tmp_path):
    (tmp_path / "here.md").touch()
    text = "[a](here.md) [b](here.md#part) [c](gone.md) [d](https://example.org) [e](#part)\n```\n[f](code.md)\n```\n"
    assert list(dead_links(text, tmp_path)) == ["gone.md"]


# --- commands that are named anywhere


def code_in(text: str) -> Iterator[str]:
    """Every line in a code block, and every code span outside of them."""
    for block in FENCE.findall(text):
        yield from re.sub(r"\\\n *", "", block).splitlines()
    yield from SPAN.findall(FENCE.sub("", text))


def called(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """The commands that the code in a page names, with what follows; `config check|show` names two."""
    for code in code_in(text):
        for match in CALL.finditer(code):
            words = match[2].split()
            for first in match[1].split("|"):
                second = re.match(r"[a-z]+", words[0] if words else "")
                if first in BY_DEFAULT and (first, second and second[0]) not in TREE:
                    yield (first, BY_DEFAULT[first]), match[2]
                elif (first,) in GROUPS and re.match(r"[a-z]", words[0] if words else ""):
                    yield from (((first, second), match[2]) for second in words[0].split("|"))
                else:
                    yield (first,), match[2]


def unknown_in(text: str) -> Iterator[str]:
    """Commands and options that a page names and that do not exist."""
    for path, rest in called(text):
        if path not in TREE:
            yield f"flashback {' '.join(path)}"
        elif path in LEAVES:
            yield from (
                f"flashback {' '.join(path)} {each}"
                for each in OPTION.findall(rest)
                if each not in options_of(path) | HELP
            )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_every_command_and_option_that_is_named_exists(page):
    assert list(unknown_in(page.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("`flashback run red --scrub`", []),
        ("`flashback runn`", ["flashback runn"]),
        ("`sudo flashback config check|shew`", ["flashback config shew"]),
        ("`flashback run red --scrup`", ["flashback run --scrup"]),
        ("```\nsudo flashback run \\\n    --scrup\n```", ["flashback run --scrup"]),
        ("```\nflashback run - --json < secret | tail -n 1\n```", []),
        ("```\ncryptsetup close flashback\nmount /dev/mapper/flashback yes\n```", []),
        ("flashback is a word in a sentence", []),
    ],
)
def test_a_command_or_option_that_does_not_exist_is_found(text, found):
    assert list(unknown_in(text)) == found


# --- the reference of the commands


def sections(text: str) -> dict[tuple[str, ...], tuple[list[str], set[str]]]:
    """The commands that have a heading, with the arguments and the options that stand there."""
    parts = HEADING.split(text)
    found = {}
    for heading, body in zip(parts[1::2], parts[2::2], strict=True):
        body = re.split(r"^##? ", body, maxsplit=1, flags=re.MULTILINE)[0]
        words = heading.split()
        path = tuple(word for word in words if word.islower())
        cells = [*OPTIONS_ROW.findall(body), *OPTIONS_LINE.findall(body)]
        arguments = [word.strip("[]").removesuffix("…") for word in words[len(path) :]]
        found[path] = arguments, {option for cell in cells for option in OPTION.findall(cell)}
    return found


def reference() -> dict[tuple[str, ...], tuple[list[str], set[str]]]:
    return sections((TOP / COMMANDS_PAGE).read_text("utf-8"))


def test_the_reference_has_a_section_for_every_command_and_for_nothing_else():
    assert set(reference()) == set(LEAVES)


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_the_reference_names_exactly_the_options_of(path):
    assert reference()[path][1] == options_of(path)


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_the_reference_names_exactly_the_arguments_of(path):
    assert reference()[path][0] == arguments_of(path)


def test_a_section_is_read_from_its_heading_its_table_and_its_last_line():
    text = (
        "# Commands\n\n### `flashback drive set DRIVE KEY=VALUE…`\n\nSee `--other`.\n\n| option | |\n|---|---|\n"
        "| `--name N`, `-n` | not `--this` |\n\nAlso: `--json`, `--state`.\n\n## Further\n\n| `--outside` | |\n"
    )
    options = {"--name", "-n", "--json", "--state"}
    assert sections(text) == {("drive", "set"): (["DRIVE", "KEY=VALUE"], options)}


PLUGGED = TOP / "docs/how-to/plug-in-and-walk-away.md"
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def rows_without_test(page: str, tests: Path) -> list[str]:
    """The lines of the table "What happens when" that name no test that exists ("the same": that of the line above)."""
    rows = [row for row in re.findall(r"^\|.*\|$", page, re.MULTILINE) if not row.startswith(("|--", "| when |"))]
    rows = [row for row in rows if row.count("|") == 4]  # the other tables have two columns

    def exists(row: str) -> bool:
        named = NAMED.search(row)
        if named is None:
            return row.endswith("| the same |")
        file = tests / named[1]
        return file.exists() and f"def {named[2]}(" in file.read_text("utf-8")

    return [row for row in rows if not exists(row)] if rows else ["there is no table"]


def test_each_line_of_what_happens_when_is_held_by_a_test_that_exists():
    assert rows_without_test(PLUGGED.read_text("utf-8"), TOP / "tests") == []


@pytest.mark.parametrize("cell", ["`unit/test_docs.py::test_gone`", "`unit/gone.py::test_docs`", "", "as it should be"])
def test_a_line_without_a_test_is_found(cell):
    assert rows_without_test(f"| a | b | {cell} |", TOP / "tests") == [f"| a | b | {cell} |"]


def first_words(code: str) -> Iterator[str]:
    """The programs that a file starts: the first word of each `Command(...)`, also where a name stands for its words."""
    nodes = list(ast.walk(ast.parse(code)))
    named: dict[str, list[ast.expr]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            named.setdefault(node.targets[0].id, []).append(node.value)
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Command" and node.args:
            given = node.args[0]
            for words in named.get(given.id, []) if isinstance(given, ast.Name) else [given]:
                while isinstance(words, ast.Tuple | ast.Starred):
                    words = words.elts[0] if isinstance(words, ast.Tuple) else words.value
                if isinstance(words, ast.Constant) and isinstance(words.value, str):
                    yield words.value


def helpers() -> Iterator[str]:
    """What is started around a program, by a program, or by udev: no `Command` begins with these."""
    runner = (TOP / "flashback/core/command.py").read_text("utf-8")
    yield from re.findall(r"\.found\(\"([^\"]+)\"\)", runner)
    yield from re.findall(r"\"/(?:usr/)?bin/([^\"]+)\"", runner)
    for shell, host in re.findall(
        r"\"-e\", f?\"(\S+) [^\"]*\", f?\"([^\":]+):", (TOP / "flashback/tools/rsync/__init__.py").read_text("utf-8")
    ):
        yield from (shell, host)
    yield from re.findall(r"PROGRAM==\"/usr/bin/(\S+)", (TOP / "udev/90-flashback.rules").read_text("utf-8"))


def rows(chapter: str) -> dict[str, str]:
    """The table of programs: who starts them, and the cell that names them."""
    return dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", chapter, re.MULTILINE))


def test_every_program_that_is_started_is_listed_in_the_threat_model() -> None:
    chapter = (TOP / "SECURITY.md").read_text("utf-8").partition("## What runs as root")[2].partition("\n## ")[0]
    listed = " ".join(rows(chapter).values())
    started = {name for room in (TOP / "flashback").rglob("*.py") for name in first_words(room.read_text("utf-8"))}
    assert started >= {"cryptsetup", "lsblk", "mount", "systemctl"}
    assert set(helpers()) == {"setpriv", "sh", "env", "systemd-escape"}
    assert {name for name in started | set(helpers()) if f"`{name}`" not in listed} == set()


@pytest.mark.parametrize(
    ("who", "programs"),
    [
        ("udev", {"systemd-escape"}),
        ("your session", {"systemctl --user", "systemctl start", "pinentry", "kdialog", "zenity"}),
        ("root and your session", {"setpriv", "sh"}),
    ],
)
def test_the_threat_model_says_what_is_started_by_others_than_root(who, programs) -> None:
    chapter = (TOP / "SECURITY.md").read_text("utf-8").partition("## What runs as root")[2].partition("\n## ")[0]
    (cell,) = [cell for by, cell in rows(chapter).items() if by.startswith((f"{who},", f"{who} ("))]
    assert {name for name in programs if f"`{name}`" not in cell} == set()
