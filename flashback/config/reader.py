"""The configuration file to frozen values, in three passes: syntax (`nodes`), shape (`shape`), sense (here, `masters`).

All findings are told at once. `flashback.config.settings` is the table of what may be given.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flashback.config.findings import Findings, Place, did_you_mean, quoted
from flashback.config.masters import MastersReader
from flashback.config.nodes import LARGEST_FILE, Entries, Node, Scalar, parse
from flashback.config.settings import SECTIONS, section
from flashback.config.shape import READERS, Given, found, read_section, values
from flashback.config.trust import read_file
from flashback.config.units import write_duration
from flashback.config.values import Config, Guards, Keep, Notify, Rotation
from flashback.core.errors import ConfigError
from flashback.core.text import number, shown


def user_exists(name: str) -> bool:
    """Whether this machine knows a user of that name."""
    try:
        pwd.getpwnam(name)
    except (KeyError, ValueError):  # ValueError: a NUL or a character that cannot be encoded
        return False
    return True


def read(
    file: Path,
    *,
    runtime: Path,
    trusted: bool,
    users: Callable[[str], bool] = user_exists,
) -> Config:
    """The configuration in `file`; `runtime` is where drives are mounted, `users` says whether a user exists.

    `trusted`: somebody's rights depend on it (root reads it), so the file, its exclusion files and all directories
    above them must be out of others' reach. Whether the masters exist is not looked at here.

    Raises `ConfigError` with all findings, each `file:line:column: path: what is wrong`.
    """
    uid = os.geteuid() if trusted else None
    file = Path(os.path.abspath(file))
    findings = Findings(file)
    root = parse(_content(file, uid), findings)
    findings.settle()
    config = None
    if root is not None or not findings:
        masters = MastersReader(directory=file.parent, runtime=runtime, users=users, trusted_by=uid, findings=findings)
        config = _Reader(file, findings, masters).config(root)
    if config is None or findings:
        lines = findings.lines()
        what = f"the configuration {shown(str(file))} cannot be used: {number(len(lines), 'finding')}"
        raise ConfigError(what, hint="Correct the lines named; flashback config check looks again.", findings=lines)
    return config


def _content(file: Path, trusted_by: int | None) -> bytes:
    try:
        return read_file(file, limit=LARGEST_FILE, trusted_by=trusted_by)
    except ConfigError as problem:
        if not isinstance(problem.__cause__, FileNotFoundError):
            raise
        raise ConfigError(
            f"there is no configuration {shown(str(file))}",
            hint="`sudo flashback init DEVICE` prepares a drive and writes one; --config names another.",
        ) from None


@dataclass(frozen=True, slots=True)
class _Reader:
    file: Path
    findings: Findings
    masters: MastersReader

    def config(self, root: Node | None) -> Config | None:
        """The value, or `None` where there is none worth speaking of."""
        if root is None or (isinstance(root, Scalar) and root.is_null):
            self.findings.add(Place(1, 1), "", "the file is empty; it needs at least 'masters:' with one directory")
            return None
        if not isinstance(root, Entries):
            self.findings.add(root.place, "", f"expected settings such as 'masters:', found {found(root)}")
            return None
        for key, _ in root.entries:
            if key.text not in SECTIONS:
                self.findings.add(key.place, quoted(key.text)[1:-1], f"unknown setting{_near(key.text)}")
        nodes = {key.text: node for key, node in root.entries}
        place = next((key.place for key, _ in root.entries if key.text == "masters"), Place(1, 1))
        return Config(
            file=self.file,
            masters=self.masters.read(place, nodes.get("masters")),
            keep=self._keep(nodes),
            rotation=self._rotation(nodes),
            guards=Guards(**values(self._section("guards", nodes)[0])),
            notify=Notify(**values(self._section("notify", nodes)[0])),
            **self._top(nodes),
        )

    def _top(self, nodes: Mapping[str, Node]) -> dict[str, Any]:
        read: dict[str, Any] = {}
        for name, setting in section("").items():
            if name in nodes:
                try:
                    read[name] = READERS[setting.kind](nodes[name])
                except ValueError as problem:
                    self.findings.add(nodes[name].place, name, str(problem))
        return read

    def _section(self, name: str, nodes: Mapping[str, Node]) -> tuple[dict[str, Given], frozenset[str]]:
        return read_section(name, name, nodes[name], self.findings) if name in nodes else ({}, frozenset())

    def _keep(self, nodes: Mapping[str, Node]) -> Keep:
        given, _ = self._section("keep", nodes)
        if "last" in given and given["last"].value < 1:
            what = "must be at least 1: the newest snapshot is always kept"
            self.findings.add(given["last"].place, "keep.last", what)
        return Keep(**values(given))

    def _rotation(self, nodes: Mapping[str, Node]) -> Rotation:
        given, wrong = self._section("rotation", nodes)
        rotation = Rotation(**values(given))
        if not wrong and rotation.due_after > rotation.overdue_after:
            name = "due_after" if "due_after" in given else "overdue_after"
            due, overdue = write_duration(rotation.due_after), write_duration(rotation.overdue_after)
            what = f"due_after ({due}) must not be longer than overdue_after ({overdue})"
            self.findings.add(given[name].place, f"rotation.{name}", what)
        return rotation


def _near(name: str) -> str:
    """`did you mean …`, also for a setting that stands one section too high."""
    for part in ("keep", "rotation", "guards", "notify"):
        if name in section(part):
            return f"; did you mean {part}.{name}?"
    return did_you_mean(name, SECTIONS)
