"""How many files a run copied, renamed, deleted, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from flashback.core.text import number, size
from flashback.tell import MasterFacts


def counts(masters: Iterable[MasterFacts]) -> str:
    """`1,234 files (5.6 GiB) copied, 12 files and 3 directories renamed, 12 deleted, 98,766 unchanged`."""
    total = total_of(masters)
    copied = total["files_added"] + total["files_changed"]
    parts = [f"{number(copied, 'file')} ({size(total['bytes_added'] + total['bytes_changed'])}) copied"]
    if not copied:
        parts = ["no file copied"]
    if renamed := _renamed(total):
        parts.append(f"{renamed} renamed")
    parts += [f"{total[f'files_{what}']:,} {what}" for what in ("deleted", "unchanged") if total[f"files_{what}"]]
    return ", ".join(parts)


def intentions(facts: MasterFacts) -> str:
    """`12 files (4.6 KiB) new, 98,766 unchanged`, of a plan."""
    total = total_of([facts])
    words = {"added": "new", "changed": "changed", "deleted": "to delete"}
    parts = [
        f"{number(total[f'files_{what}'], 'file')} ({size(total[f'bytes_{what}'])}) {word}"
        for what, word in words.items()
        if total[f"files_{what}"]
    ]
    if renamed := _renamed(total):
        parts.append(f"{renamed} renamed (nothing to copy)")
    if total["files_unchanged"]:
        parts.append(f"{total['files_unchanged']:,} unchanged")
    return ", ".join(parts) or "nothing to do"


def _renamed(total: Mapping[str, int]) -> str:
    """`12 files and 3 directories`: what is in another place, with all that lies in a renamed directory."""
    files, directories = total["files_moved"], total["directories_moved"]
    parts = [number(files, "file")] if files else []
    parts += [number(directories, "directory", "directories")] if directories else []
    return " and ".join(parts)


def total_of(masters: Iterable[MasterFacts]) -> dict[str, int]:
    """The sums over these masters, all of them there."""
    kinds = ("added", "changed", "moved", "deleted", "unchanged")
    total = {f"{what}_{kind}": 0 for what in ("files", "bytes") for kind in kinds} | {"directories_moved": 0}
    for each in masters:
        for key in total:
            total[key] += cast("dict[str, int]", each).get(key, 0)
    return total
