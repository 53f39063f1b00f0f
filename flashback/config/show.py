"""The effective configuration, written out again: for `flashback config show` and for the copy on the drive."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any, Final

from flashback.config.units import write_duration, write_space
from flashback.config.values import Config, Guards, Keep, Master

_PLAIN: Final = re.compile(r"[A-Za-z/][A-Za-z0-9/._-]*", re.ASCII)
_SPECIAL: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def as_json(config: Config) -> dict[str, Any]:
    """Every setting with its effective value, ready for JSON: durations in seconds, sizes in bytes, a share of the
    drive as a number from 0 to 1; bytes of a path that are not UTF-8 are surrogate-escaped.
    """
    share = isinstance(config.keep.min_free, float)
    return {
        "file": str(config.file),
        "masters": {master.name: _master(master) for master in config.masters},
        "keep": _counts(config.keep) | {"min_free": {"share" if share else "bytes": config.keep.min_free}},
        "rotation": {
            "due_after": int(config.rotation.due_after.total_seconds()),
            "overdue_after": int(config.rotation.overdue_after.total_seconds()),
        },
        "guards": _guards(config.guards) | {"min_interval": int(config.guards.min_interval.total_seconds())},
        "scrub_every": None if config.scrub_every is None else int(config.scrub_every.total_seconds()),
        "full_every": config.full_every,
        "on_plug": str(config.on_plug),
        "answer_within": int(config.answer_within.total_seconds()),
        "min_battery": config.min_battery,
        "power_off": config.power_off,
        "notify": {"desktop": config.notify.desktop},
        "compress": config.compress,
    }


def as_yaml(config: Config) -> str:
    """The same as a configuration file: reading it gives an equal value (exclusion files by their whole paths)."""
    return "\n".join(
        (
            "masters:",
            *(line for master in config.masters for line in _master_lines(master)),
            "keep:",
            *(f"  {name}: {count}" for name, count in _counts(config.keep).items()),
            f"  min_free: {write_space(config.keep.min_free)}",
            "rotation:",
            f"  due_after: {write_duration(config.rotation.due_after)}",
            f"  overdue_after: {write_duration(config.rotation.overdue_after)}",
            "guards:",
            f"  deleted_share: {write_space(config.guards.deleted_share)}",
            f"  deleted_files: {config.guards.deleted_files}",
            f"  damaged_files: {config.guards.damaged_files}",
            f"  growth: {write_space(config.guards.growth)}",
            f"  min_interval: {write_duration(config.guards.min_interval)}",
            f"scrub_every: {'never' if config.scrub_every is None else write_duration(config.scrub_every)}",
            f"full_every: {config.full_every}",
            f"on_plug: {config.on_plug}",
            f"answer_within: {write_duration(config.answer_within)}",
            f"min_battery: {write_space(config.min_battery)}",
            f"power_off: {'true' if config.power_off else 'false'}",
            "notify:",
            f"  desktop: {'true' if config.notify.desktop else 'false'}",
            f"compress: {config.compress}",
            "",
        )
    )


def yaml_text(text: str) -> str:
    """A text as a YAML scalar: plain where that cannot be misread, else in double quotes, all else escaped."""
    if _PLAIN.fullmatch(text) and text.lower() not in _SPECIAL:
        return text
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in {'"', "\\"}:
        return "\\" + character
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _counts(keep: Keep) -> dict[str, int]:
    return {field.name: getattr(keep, field.name) for field in fields(keep) if field.name != "min_free"}


def _guards(guards: Guards) -> dict[str, Any]:
    return {field.name: getattr(guards, field.name) for field in fields(guards) if field.name != "min_interval"}


def _master(master: Master) -> dict[str, Any]:
    return {
        "path": str(master.path),
        "owner": master.owner,
        "symlinks": str(master.symlinks),
        "btrfs": str(master.btrfs),
        "exclusions": [str(file) for file in master.exclusion_files],
    }


def _master_lines(master: Master) -> tuple[str, ...]:
    return (
        f"  {yaml_text(master.name)}:",
        f"    path: {yaml_text(str(master.path))}",
        f"    owner: {'null' if master.owner is None else yaml_text(master.owner)}",
        f"    symlinks: {master.symlinks}",
        f"    btrfs: {master.btrfs}",
        f"    exclusions: [{', '.join(yaml_text(str(file)) for file in master.exclusion_files)}]",
    )
