"""What a restore plans and did, for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flashback.core.text import duration, number, shown, size


def plan_of(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each path: what, from which state, to where."""
    return [f"{_what(each)}, from {_state(each)} -> {_to(each)}" for each in parts]


def headline(facts: Mapping[str, Any]) -> str:
    """After the drive's name, of a restore that went well."""
    done = facts.get("restored", ())
    files, total = (sum(each.get(key, 0) for each in done) for key in ("files", "bytes"))
    timing = f", in {duration(facts['seconds'])}" if "seconds" in facts else ""
    return f"restored. {number(files, 'file')} ({size(total)}), each equal to the drive{timing}."


def where(facts: Mapping[str, Any]) -> list[str]:
    """Where it is now."""
    return [f"{_what(each)}, from {_state(each)}: {_to(each)}" for each in facts.get("restored", ())]


def _what(part: Mapping[str, Any]) -> str:
    name = f"{shown(part['master'])}:{shown(part['path'])}" if part["path"] else f"all of {shown(part['master'])}"
    return f"{name} ({number(part['files'], 'file')}, {size(part['bytes'])})" if part["files"] != 1 else name


def _state(part: Mapping[str, Any]) -> str:
    return "the latest copy" if part["state"] == "current" else f"snapshot {shown(part['state'])}"


def _to(part: Mapping[str, Any]) -> str:
    return f"{shown(part['to'])}{' (is there already, and equal)' if part['already'] else ''}"
