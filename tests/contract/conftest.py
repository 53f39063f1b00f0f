"""Fake programs: real executables on a PATH of their own, which note what they were given and do what they are told."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from flashback.core.command import SYSTEM_PATH, Programs

FAKE = """\
#!{python} -IS
import json, os, signal, sys, time
name, argv = {name!r}, sys.argv[1:]
stdin = b"" if os.isatty(0) or not {reads} else sys.stdin.buffer.read()
with open({calls!r}, "a") as calls:
    calls.write(json.dumps({{"name": name, "argv": argv, "stdin": stdin.decode("latin-1"), "env": dict(os.environ),
                            "cwd": os.getcwd(), "pid": os.getpid(), "session": os.getsid(0)}}) + "\\n")
out, err = sys.stdout.buffer, sys.stderr.buffer
{script}
out.flush(), err.flush()
sys.exit({code})
"""


class FakePrograms:
    """Write programs with `write`, hand `path` to `Programs` (or use `programs`), ask `calls` afterwards.

    Only these programs are on the path, besides those named in `let_through`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "bin"
        self.folder.mkdir()
        self._calls = folder / "calls.jsonl"
        self.path = str(self.folder)
        self.programs = Programs(self.path)

    def write(
        self, name: str, script: str = "", *, out: bytes = b"", err: bytes = b"", code: int = 0, reads: bool = True
    ) -> Path:
        """A program `name` that says `out` and `err`, then runs the Python in `script`, then exits with `code`.

        `script` sees `argv`, `stdin` (bytes; not read if `reads` is false), `out` and `err` (binary streams), and the
        modules json, os, signal, sys, time. What it is given is noted before `script` runs.
        """
        said = f"out.write({out!r}); err.write({err!r})\n" if out or err else ""
        text = FAKE.format(
            python=Path(sys.executable).resolve(),
            name=name,
            calls=str(self._calls),
            script=said + textwrap.dedent(script),
            code=code,
            reads=reads,
        )
        program = self.folder / name
        program.write_text(text, "utf-8")
        program.chmod(0o755)
        return program

    def let_through(self, name: str) -> None:
        """Put the real program `name` on the path."""
        found = next(f"{folder}/{name}" for folder in SYSTEM_PATH.split(":") if os.access(f"{folder}/{name}", os.X_OK))
        (self.folder / name).symlink_to(found)

    def calls(self, name: str | None = None) -> list[dict[str, Any]]:
        """Every call so far, of the program `name` or of all: name, argv, stdin, env, cwd, pid, session."""
        if not self._calls.exists():
            return []
        calls = [json.loads(line) for line in self._calls.read_text("utf-8").splitlines()]
        return [call for call in calls if name in {None, call["name"]}]

    def argvs(self, name: str | None = None) -> list[list[str]]:
        """Only the arguments of these calls."""
        return [call["argv"] for call in self.calls(name)]


@pytest.fixture
def fake_programs(tmp_path: Path) -> FakePrograms:
    """A folder of fake programs; see `FakePrograms`."""
    return FakePrograms(tmp_path)
