"""What programs print as JSON, taken apart without trust in its shape."""

from __future__ import annotations

import json
from typing import Any


def json_object(out: bytes) -> dict[str, Any]:
    """The JSON object that a program printed; empty when it printed none."""
    try:
        value = json.loads(out.decode("utf-8", "replace") or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def text_at(row: dict[str, Any], key: str) -> str:
    """A value as text without the spaces around it; empty where there is none."""
    value = row.get(key)
    return "" if value is None else str(value).strip()
