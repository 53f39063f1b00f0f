"""What a restore plans and did, and what a verification proved, for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from flashback.core.text import duration, number, shown, size

FIRST: Final = 50
"""So many changes are named."""


def plan_of(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each path: what, from which state, to where."""
    lines = []
    for each in parts:
        lines.append(f"{_what(each)}, from {_state(each)} -> {_to(each)}")
        changes = each.get("changes", ())
        lines += [f"  {change['how']}: {shown(change['path'])}" for change in changes[:FIRST]]
        if len(changes) > FIRST:
            lines.append(f"  … and {len(changes) - FIRST:,} more: --json names all")
        if links := sum(change["how"].startswith("link-") for change in changes):
            lines.append(f"  {number(links, 'link')} would make way: the backup has what was behind it, not the link")
    return lines


def headline(facts: Mapping[str, Any]) -> str:
    """After the drive's name, of a restore that went well."""
    done = facts.get("restored", ())
    files, total = (sum(each.get(key, 0) for each in done) for key in ("files", "bytes"))
    timing = f", in {duration(facts['seconds'])}" if "seconds" in facts else ""
    return f"restored. {number(files, 'file')} ({size(total)}), each equal to the drive{timing}."


def where(facts: Mapping[str, Any]) -> list[str]:
    """Where it is now."""
    done = facts.get("restored", ())
    several = len({each.get("drive") for each in done}) > 1
    return [
        f"{_what(each)}, from {_state(each)}{' on ' + shown(each['drive']) if several else ''}: {_to(each)}"
        for each in done
    ]


def verified(facts: Mapping[str, Any]) -> str:
    """After the drive's name, of a verification that found nothing wrong."""
    timing = f", in {duration(facts['seconds'])}" if "seconds" in facts else ""
    return f"verified. {proven(facts) or 'there was nothing to compare'}{timing}."


def proven(facts: Mapping[str, Any]) -> str:
    """What a verification compared and read; empty where that is nothing."""
    masters = facts.get("compared", {}).values()
    files, total = (sum(each[f"equal_{key}"] for each in masters) for key in ("files", "bytes"))
    drilled = facts.get("drilled") or {"files": 0, "bytes": 0}
    parts = [f"{number(files, 'file')} ({size(total)}) equal to the master"] if masters else []
    if drilled["files"]:
        parts.append(f"{number(drilled['files'], 'file')} ({size(drilled['bytes'])}) read out of the snapshots")
    return ", ".join(parts)


def passed_over(facts: Mapping[str, Any]) -> list[str]:
    """What was not compared, and why; what could not be because the master has gone on since."""
    left = facts.get("not_compared", ())
    done = [f"{proven(facts) or 'nothing was compared or read'}"] if left else []
    return [
        *done,
        *(f"{shown(each['master'])}: {shown(each['why'])}" for each in left),
        *_gone_on(facts),
    ]


def _gone_on(facts: Mapping[str, Any]) -> list[str]:
    return [
        f"{shown(name)}: {number(each['newer'] + each['gone'], 'file')} changed or removed in the master since"
        for name, each in facts.get("compared", {}).items()
        if each["newer"] + each["gone"]
    ]


def _what(part: Mapping[str, Any]) -> str:
    name = f"{shown(part['master'])}:{shown(part['path'])}" if part["path"] else f"all of {shown(part['master'])}"
    return f"{name} ({number(part['files'], 'file')}, {size(part['bytes'])})" if part["files"] != 1 else name


def _state(part: Mapping[str, Any]) -> str:
    return "the latest copy" if part["state"] == "current" else f"snapshot {shown(part['state'])}"


def _to(part: Mapping[str, Any]) -> str:
    return f"{shown(part['to'])}{' (is there already, and equal)' if part['already'] else ''}"
