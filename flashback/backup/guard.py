"""Guards: what looks like an accident or an attack is held until a person allows it (pure)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from flashback.core.errors import HeldByGuard, UsageError
from flashback.core.text import shown


class HoldName(StrEnum):
    """The names that `--allow` takes."""

    MISSING_MASTER = "missing-master"
    EMPTY_MASTER = "empty-master"
    CLOCK = "clock"


@dataclass(frozen=True, slots=True)
class Hold:
    """One guard that wants a person."""

    name: HoldName
    why: str


@dataclass(frozen=True, slots=True)
class MasterFacts:
    """What the guards need to know of a master: `files` it has now, `files_before` its copy on the drive has."""

    name: str
    path: str
    missing: bool
    files: int
    files_before: int


def holds_for(masters: Sequence[MasterFacts], *, clock: str | None) -> tuple[Hold, ...]:
    """Every hold for a run over these masters; `clock` says why the date cannot be true, if so."""
    found = []
    for master in masters:
        if master.missing:
            found.append(Hold(HoldName.MISSING_MASTER, f"{master.path} ({master.name}) is not there"))
        elif master.files == 0:
            found.append(
                Hold(
                    HoldName.EMPTY_MASTER,
                    f"{master.path} ({master.name}) holds no file, and its copy has {master.files_before:,}; "
                    "is it mounted?",
                )
            )
    if clock:
        found.append(Hold(HoldName.CLOCK, clock))
    return tuple(found)


def known_holds(names: Collection[str]) -> frozenset[str]:
    """The names given to `--allow`. Raises `UsageError` for one that no guard has."""
    unknown = [name for name in names if name not in set(HoldName)]
    if unknown:
        raise UsageError(
            f"--allow {shown(unknown[0])}: no guard is called that", hint=f"the guards: {', '.join(HoldName)}"
        )
    return frozenset(names)


def enforce(holds: Sequence[Hold], allowed: Collection[str], *, drive: str) -> None:
    """Raise `HeldByGuard` unless every hold is allowed by name."""
    standing = [hold for hold in holds if hold.name not in allowed]
    if not standing:
        return
    names = tuple(dict.fromkeys(str(hold.name) for hold in standing))
    allow = " ".join(f"--allow {name}" for name in names)
    raise HeldByGuard(
        f"the run was held by a guard ({', '.join(names)}); nothing was written",
        holds=names,
        findings=[f"{hold.name}: {hold.why}" for hold in standing],
        hint=f"if that is as it should be: flashback run {drive} {allow}",
    )
