"""Files as people have them, for the rehearsal: letters, photographs, odd names, a dangling link."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path
from typing import Final

PRECIOUS: Final = "letters/to-grandmother.txt"
_WORDS: Final = tuple(re.findall(r"\w+", "the garden was full of rain, and we read old letters until the kettle sang"))


def make(master: Path) -> None:
    """Make a master of some hundred files, the same each time."""
    chance = random.Random(1959)  # noqa: S311 - not for secrets
    _text(master / PRECIOUS, chance, 400)
    for year in (2023, 2024, 2025):
        for month in range(1, 13):
            _text(master / f"letters/{year}/{month:02d} to the council.txt", chance, 300)
            _bytes(master / f"photos/{year}/IMG_{month:02d}.jpg", chance, 300_000)
    for project in ("bicycle", "boat", "radio"):
        for page in range(20):
            _text(master / f"projects/{project}/page {page}.md", chance, 200)
    _bytes(master / "photos/panorama.tif", chance, 24_000_000)
    for name in ("Rechnung März.pdf", "naïve café.txt", "100% (final) [2].txt", "-dash", "#hash", "two\nlines"):
        _text(master / "odd names" / name, chance, 50)
    (master / "links").mkdir()
    os.link(master / "projects/boat/page 1.md", master / "links/the same page.md")
    (master / "links/dangling").symlink_to("/nowhere/at/all")
    (master / "links/hosts").symlink_to("/etc/hosts")
    sparse = master / "sparse.img"
    with sparse.open("wb") as file:
        file.truncate(64 * 1024 * 1024)
        file.seek(32 * 1024 * 1024)
        file.write(b"somewhere in the middle")


def a_day_of_work(master: Path) -> None:
    """Add, change, rename and delete."""
    chance = random.Random(2026)  # noqa: S311
    for page in range(20, 30):
        _text(master / f"projects/radio/page {page}.md", chance, 250)
    _text(master / "projects/bicycle/page 3.md", chance, 500)
    with (master / "photos/panorama.tif").open("r+b") as file:
        file.seek(10_000_000)
        file.write(chance.randbytes(100_000))
    (master / "letters/2023").rename(master / "letters/from 2023")
    for page in range(5):
        (master / f"projects/boat/page {page + 5}.md").unlink()


def census(master: Path) -> tuple[int, int]:
    """How many files, and their bytes."""
    sizes = [path.stat().st_size for path in master.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def differences(master: Path, copy: Path) -> list[str]:
    """The names at which two trees differ in kind, content, mode, owner or time; links in the master are followed."""
    names = {path.relative_to(master) for path in master.rglob("*") if path.exists()}
    others = {path.relative_to(copy) for path in copy.rglob("*")}
    differing = [str(name) for name in names ^ others]
    return sorted(differing + [str(name) for name in names & others if not _same(master / name, copy / name)])


def _same(one: Path, other: Path) -> bool:
    a, b = one.stat(), other.lstat()
    if (a.st_mode, a.st_uid, a.st_gid, a.st_mtime_ns) != (b.st_mode, b.st_uid, b.st_gid, b.st_mtime_ns):
        return False
    return not one.is_file() or one.read_bytes() == other.read_bytes()


def _text(path: Path, chance: random.Random, words: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(" ".join(chance.choices(_WORDS, k=words)) + "\n", encoding="utf-8")


def _bytes(path: Path, chance: random.Random, length: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(chance.randbytes(length))
