"""The first configuration: what `flashback init` writes where there is none. It never overwrites anything."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Final

from flashback.config.settings import MASTER, SECTIONS, Setting, section
from flashback.config.show import yaml_text
from flashback.core.errors import Missing

CONFIGURATION: Final = "flashback.yaml"
EXCLUSIONS: Final = "exclusions.txt"
_EXAMPLE: Final = "exclusions.example.txt"

_INTRODUCTION: Final = """\
# Flashback's configuration. Change it as you like: no command rewrites it.
# 'flashback config check' looks it over, 'flashback config show' prints what is in force.
# Drives do not stand here; 'flashback init DEVICE' makes one known.

"""
_HEADINGS: Final = {
    "masters": "What is backed up: one name for each directory. The name is the folder's on the drive.",
    "keep": "How many old states each drive keeps. A drive that lay in the safe loses nothing by that.",
    "rotation": "When a drive's turn has come. Durations: 30min, 12h, 7d, 2w.",
    "guards": "What looks like an accident or an attack waits for a person. See docs/explanation/guards.md.",
    "notify": "Who is told besides the terminal.",
}


def first_configuration(*, masters: Mapping[str, Path]) -> str:
    """A commented configuration for these masters (by name, with absolute paths); all else has its default."""
    parts = [_INTRODUCTION]
    for name in SECTIONS:
        lines = _masters(masters) if name == "masters" else _section(name)
        parts.append("\n".join((*lines, "", "")))
    return "".join(parts).rstrip("\n") + "\n"


def first_exclusions() -> str:
    """The exclusion file to begin with. Raises `Missing` where the installation has lost it."""
    packaged = resources.files("flashback.config") / _EXAMPLE
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    checkout = Path(__file__).parents[2] / _EXAMPLE
    if checkout.is_file():
        return checkout.read_text(encoding="utf-8")
    raise Missing(f"{_EXAMPLE} is missing from this installation", hint="Install Flashback again.")


def write_first(directory: Path, *, masters: Mapping[str, Path], name: str = CONFIGURATION) -> tuple[Path, ...]:
    """Write the first configuration, called `name`, and exclusion file into `directory` and return those written.

    What exists, even as a dangling link, stays as it is. Each file appears whole or not at all, readable by all and
    writable by its owner only, whatever the umask. Raises `OSError`.
    """
    _make(directory)
    # The configuration comes last: it names the other one.
    files = ((EXCLUSIONS, first_exclusions()), (name, first_configuration(masters=masters)))
    written = [directory / file for file, text in files if _write_new(directory / file, text.encode())]
    return tuple(written)


def name_for(directory: Path, taken: Collection[str] = ()) -> str:
    """A name for a master: the directory's own, in letters that a name may have, and not one of `taken`."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", directory.name.lower(), flags=re.ASCII).strip("-._")[:60] or "master"
    name = "master" if name == "readme.txt" else name
    further = (f"{name}-{count}" for count in range(2, len(taken) + 3))
    return next(one for one in (name, *further) if one not in taken)


def _masters(masters: Mapping[str, Path]) -> Iterator[str]:
    yield f"# {_HEADINGS['masters']}"
    yield "masters:"
    for name, path in masters.items():
        yield f"  {yaml_text(name)}:"
        yield f"    path: {yaml_text(str(path))}"
        for setting in section(MASTER).values():
            if setting.name == "exclusions":
                yield f"    exclusions: [{EXCLUSIONS}]  # {setting.about}; beside this file"
            elif setting.name != "path":
                yield f"    {_line(setting)}"


def _section(name: str) -> Iterator[str]:
    top = section("")
    if name in top:
        yield _line(top[name])
        return
    yield f"# {_HEADINGS[name]}"
    yield f"{name}:"
    for setting in section(name).values():
        yield f"  {_line(setting)}"


def _line(setting: Setting) -> str:
    return f"{setting.name}: {setting.default}  # {setting.about}"


def _make(directory: Path) -> None:
    for folder in (*reversed(directory.parents), directory):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o755)
            os.chmod(folder, 0o755)  # noqa: S103 - the umask must not decide; everybody may read it


def _write_new(file: Path, content: bytes) -> bool:
    """Whether it was written: link(2) refuses a name that is there, in one step, unlike rename(2)."""
    if os.path.lexists(file):
        return False
    draft = file.with_name(f".{file.name}.{os.getpid()}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        os.link(draft, file)
    except FileExistsError:
        return False
    finally:
        os.unlink(draft)
    _sync(file.parent)
    return True


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
