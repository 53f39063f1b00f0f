"""Which snapshot is meant by a name: pure."""

from __future__ import annotations

from collections.abc import Sequence

from flashback.config.moments import begun, listed
from flashback.core.errors import UsageError
from flashback.core.text import shown
from flashback.rotation.values import SnapshotRecord


def named(snapshots: Sequence[SnapshotRecord], wanted: str, *, drive: str) -> SnapshotRecord:
    """The one called `wanted` (`20260102T030405Z` or `documents/20260102T030405Z`), or whose name alone begins so.

    Raises `UsageError`.
    """
    master, _slash, text = wanted.rpartition("/")
    here = [each for each in snapshots if not master or each.master == master]
    name = begun(text, [each.name for each in here])
    found = [each for each in here if each.name == name]
    if not found:
        raise UsageError(
            f"{drive} holds no snapshot {shown(wanted)}, as far as this machine knows",
            findings=[f"there are: {listed(sorted({each.name for each in here}, reverse=True))}"] if here else (),
            hint=f"`flashback snapshots {drive}` lists them",
        )
    if len(found) > 1:
        names = ", ".join(f"{each.master}/{each.name}" for each in found)
        raise UsageError(f"several masters have a snapshot {shown(wanted)}", hint=f"say which: {names}")
    return found[0]
