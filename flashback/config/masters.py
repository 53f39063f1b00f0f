"""The `masters:` section: which directories are backed up, and by which rules."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from flashback.config import exclusions
from flashback.config.findings import Findings, Place, quoted
from flashback.config.nodes import Entries, Node, Scalar
from flashback.config.settings import MASTER
from flashback.config.shape import Given, found, read_section, values
from flashback.config.trust import read_file
from flashback.config.values import Master, Rule
from flashback.core.errors import ConfigError
from flashback.core.text import shown

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_TAKEN: Final = frozenset({".flashback", "README.txt"})
"""What else lies at the top of a drive (DESIGN 4)."""
_FORM: Final = "masters: {documents: {path: /home/alice/Documents}}"


def valid_name(name: str) -> bool:
    """Whether a master may be called that: it is a folder at the top of every drive."""
    return _NAME.fullmatch(name) is not None and name not in _TAKEN


@dataclass(frozen=True, slots=True)
class MastersReader:
    """`directory` is where relative exclusion files lie, `trusted_by` as in `flashback.config.trust`."""

    directory: Path
    runtime: Path
    users: Callable[[str], bool]
    trusted_by: int | None
    findings: Findings
    _seen: dict[Path, str] = field(default_factory=dict)

    def read(self, place: Place, node: Node | None) -> tuple[Master, ...]:
        """The masters that could be read. `place` is that of the word `masters`; what is wrong goes into `findings`."""
        if isinstance(node, Entries) and node.entries:
            masters = [self._master(key, value) for key, value in node.entries]
            return tuple(master for master in masters if master is not None)
        missing = node is None or isinstance(node, Entries) or (isinstance(node, Scalar) and node.is_null)
        what = "required, but missing" if node is None or missing else f"expected names, found {found(node)}"
        self.findings.add(place if node is None else node.place, "masters", f"{what}; the form is {_FORM}")
        return ()

    def _master(self, key: Scalar, node: Node) -> Master | None:
        path = f"masters.{quoted(key.text)[1:-1]}"
        self._check_name(key, path)
        if isinstance(node, Scalar) and not node.is_null:
            form = f"{path[8:]}: {{path: {quoted(node.text)[1:-1]}}}"
            self.findings.add(node.place, path, f"expected settings, found {found(node)}; did you mean {form}?")
            return None
        given, wrong = read_section(MASTER, path, node, self.findings)
        files: tuple[Given, ...] = given.pop("exclusions", Given((), key.place)).value
        rules = self._rules(path, files)
        self._check_owner(given.get("owner"), path)
        if "path" not in given:
            if "path" not in wrong:
                self.findings.add(key.place, f"{path}.path", "required, but missing")
            return None
        self._check_place(key.text, path, given["path"])
        beside = tuple(self._beside(named.value) for named in files)
        return Master(key.text, **values(given), exclusion_files=beside, rules=rules)

    def _check_name(self, key: Scalar, path: str) -> None:
        if key.text in _TAKEN:
            self.findings.add(
                key.place, path, "this name is taken: Flashback keeps its own things on the drive under it"
            )
        elif not _NAME.fullmatch(key.text):
            what = "a name has up to 64 letters (a to z), digits, '.', '_' and '-', and begins with a letter or digit"
            self.findings.add(key.place, path, what)

    def _check_owner(self, owner: Given | None, path: str) -> None:
        if owner is not None and owner.value is not None and not self.users(owner.value):
            what = f"there is no user {quoted(owner.value)} on this machine"
            self.findings.add(owner.place, f"{path}.owner", what)

    def _check_place(self, name: str, path: str, given: Given) -> None:
        directory: Path = given.value
        if any(directory.is_relative_to(runtime) for runtime in (self.runtime, os.path.realpath(self.runtime))):
            what = f"lies in {shown(str(self.runtime))}, where drives are mounted: a drive cannot be its own master"
            self.findings.add(given.place, f"{path}.path", what)
        if directory in self._seen:
            what = f"is the same directory as that of masters.{self._seen[directory]}"
            self.findings.add(given.place, f"{path}.path", what)
        self._seen.setdefault(directory, quoted(name)[1:-1])

    def _beside(self, file: Path) -> Path:
        return Path(os.path.normpath(self.directory / file))

    def _rules(self, path: str, files: tuple[Given, ...]) -> tuple[Rule, ...]:
        rules: tuple[Rule, ...] = ()
        for position, named in enumerate(files):
            file = self._beside(named.value)
            try:
                text = self._read(file)
            except ConfigError as error:
                what = ". ".join(part for part in (error.what, error.hint) if part)
                self.findings.add(named.place, f"{path}.exclusions[{position}]", what)
                continue
            lines = Findings(file)
            rules = exclusions.check_rules(text, lines, rules)
            self.findings.add_lines(lines.lines())
        return rules

    def _read(self, file: Path) -> bytes:
        text = read_file(file, limit=exclusions.LARGEST_FILE, trusted_by=self.trusted_by)
        if len(text) > exclusions.LARGEST_FILE:
            raise ConfigError(
                f"{shown(str(file))} is larger than {exclusions.LARGEST_FILE >> 20} MiB: no exclusion file"
            )
        return text
