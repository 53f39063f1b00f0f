"""By which road a master was read, in a sentence for those who ask for details."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashback.core.text import shown


def road(facts: Mapping[str, Any]) -> str:
    """`read from a snapshot, only where something was written`; empty where nothing is known."""
    reading = facts.get("reading")
    if not reading:
        return ""
    why = f": {shown(str(reading['why']))}" if reading.get("why") else ""
    if not reading.get("snapshot"):
        return f"read as it is, all of it{why}"
    if reading.get("changes_only"):
        return "read from a Btrfs snapshot of it, only where something was written"
    return f"read from a Btrfs snapshot of it, all of it{why}"
