"""Guards: what looks like an accident or an attack is held until a person allows it (pure).

Why these rules and these numbers: docs/explanation/guards.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from flashback.compare.inspect import ENOUGH, Inspection
from flashback.compare.tally import Counts
from flashback.config.values import Guards
from flashback.core.errors import HeldByGuard, UsageError
from flashback.core.text import number, shown, size


class HoldName(StrEnum):
    """The names that `--allow` takes."""

    MISSING_MASTER = "missing-master"
    EMPTY_MASTER = "empty-master"
    MASS_DELETION = "mass-deletion"
    MASS_CHANGE = "mass-change"
    GROWTH = "growth"
    CLOCK = "clock"
    CLONE = "clone"
    TOO_SOON = "too-soon"
    BATTERY = "battery"


PASSING: Final = frozenset({HoldName.TOO_SOON, HoldName.BATTERY})
"""These pass by themselves, so nobody is to decide them and nothing is remembered."""
FLEET: Final = frozenset({HoldName.MASS_DELETION, HoldName.MASS_CHANGE, HoldName.GROWTH})
"""While one of these stands, runs without a person hold on every drive: it is the master that is in doubt."""
LATELY: Final = timedelta(days=30)
"""Files that look encrypted are added up over this time: an encryptor may take a few files at a time."""
SMALL: Final = 5
MOST: Final = 0.8
"""Of a small master the loss of `MOST` of its files counts, if these are `SMALL` files at least."""


@dataclass(frozen=True, slots=True)
class Hold:
    """One guard that wants a person. `standing`: it was another drive's run that was held, or an earlier one."""

    name: HoldName
    why: str
    master: str = ""
    examples: tuple[str, ...] = ()
    standing: bool = False

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"name": str(self.name), "why": self.why, "master": self.master, "examples": list(self.examples)}

    def lines(self) -> list[str]:
        """For a person: what it is about, then a few of the files concerned."""
        found = f" (for instance {', '.join(self.examples)})" if self.examples else ""
        return [f"{self.name}: {self.why}{found}"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The state of a master that a person accepted when a guard asked."""

    files: int
    bytes: int
    damaged: int


@dataclass(frozen=True, slots=True)
class MasterFacts:
    """What the guards need to know of a master: what it has now, and what its copy on the drive has (`…_before`).

    `grown_before` is the largest growth of an earlier run, in bytes; `damaged_before` are files that lately looked
    encrypted when they were copied to this drive, too few at a time to be held; `accepted` holds what a person has
    accepted since the copy was made; `absence` says how one is missing.
    """

    name: str
    path: str
    missing: bool
    files: int
    files_before: int
    bytes: int = 0
    bytes_before: int = 0
    counts: Counts = field(default_factory=Counts)
    inspection: Inspection = field(default_factory=Inspection)
    grown_before: int = 0
    damaged_before: int = 0
    accepted: Mapping[str, Accepted] = field(default_factory=dict)
    absence: str = "is not there"

    @property
    def state(self) -> Accepted:
        """What is accepted if a person says yes now."""
        return Accepted(self.files, self.bytes, self.inspection.damaged + self.counts.emptied)


def worth_inspecting(counts: Counts, files_before: int, limits: Guards) -> bool:
    """Whether so much changes that a guard could hold it, so that files are to be looked into."""
    candidates = counts.changed + max(sample.count for sample in counts.samples[2:]) if counts.samples else 0
    half = max(SMALL, -(-files_before // 2))
    changes = bool(limits.damaged_files) and candidates >= ENOUGH
    return changes or (bool(limits.deleted_files) and counts.deleted - counts.moved >= min(limits.deleted_files, half))


def holds_for(
    masters: Sequence[MasterFacts], *, clock: str | None = None, clone: str | None = None, limits: Guards
) -> tuple[Hold, ...]:
    """Every hold for a run over these masters; `clock` and `clone` say why the date or the drive cannot be true."""
    found = [hold for master in masters for hold in _of_master(master, limits)]
    if clock:
        found.append(Hold(HoldName.CLOCK, clock))
    if clone:
        found.append(Hold(HoldName.CLONE, clone))
    return tuple(found)


def _of_master(master: MasterFacts, limits: Guards) -> Iterable[Hold]:
    if master.missing:
        yield Hold(HoldName.MISSING_MASTER, f"{master.path} ({master.name}) {master.absence}", master.name)
        return
    if master.files == 0:
        before = f"and its copy has {master.files_before:,}; is it mounted?"
        yield Hold(HoldName.EMPTY_MASTER, f"{master.path} ({master.name}) holds no file, {before}", master.name)
        return
    if not master.files_before:
        return
    for guard in (_mass_deletion, _mass_change, _growth):
        if (hold := guard(master, limits)) is not None:
            yield hold


def _mass_deletion(master: MasterFacts, limits: Guards) -> Hold | None:
    """Too large a part of the copy would go, and did not come back under another name.

    What came anew makes good for half of it at most: a directory that was made over has other names for everything.
    """
    counts = master.counts
    lost = counts.deleted - counts.moved
    came = round(max(0, counts.added - counts.moved) * master.inspection.sound)
    lost -= min(came, lost // 2)
    gone_bytes = counts.deleted_bytes * lost // max(1, counts.deleted)
    if not _is_mass_loss(lost, master.files_before - counts.spare_deleted, gone_bytes, master.bytes_before, limits):
        return None
    accepted = master.accepted.get(HoldName.MASS_DELETION)
    if accepted is not None:
        files, fewer = accepted.files - master.files, accepted.bytes - master.bytes
        if not _is_mass_loss(files, accepted.files, fewer, accepted.bytes, limits):
            return None
    why = (
        f"{number(counts.deleted, 'file')} of {master.files_before:,} ({size(counts.deleted_bytes)}) in the copy of "
        f"{master.name} would be deleted"
    )
    if counts.moved:
        why += f", of which {counts.moved:,} have only moved"
    if len(counts.deleted_below) > 1 or any(place for place, _ in counts.deleted_below):
        places = (f"{shown(place) or master.name} ({count:,})" for place, count in counts.deleted_below)
        why += f"; most of them in {', '.join(places)}"
    return Hold(HoldName.MASS_DELETION, why, master.name, _shown(counts.deleted_examples))


def _is_mass_loss(lost: int, files: int, lost_bytes: int, all_bytes: int, limits: Guards) -> bool:
    """By files, or by twice as large a part of the bytes."""
    if not limits.deleted_files or lost <= 0:
        return False
    share = max(lost / max(1, files), lost_bytes / max(1, all_bytes) / 2)
    if lost >= limits.deleted_files and share >= limits.deleted_share:
        return True
    return lost >= SMALL and lost >= MOST * files


def _mass_change(master: MasterFacts, limits: Guards) -> Hold | None:
    """Many files are no more what they were."""
    damaged, emptied = master.inspection.damaged, master.counts.emptied
    many, before = _many(master.files_before, limits), master.damaged_before if master.inspection.encrypted else 0
    if not limits.damaged_files or damaged + emptied + before < many:
        return None
    accepted = master.accepted.get(HoldName.MASS_CHANGE)
    if accepted is not None and damaged + emptied < accepted.damaged + many:
        return None
    how = [*map(str, master.inspection.how), *(["emptied"] if emptied else [])]
    about = "about " if damaged > len(master.inspection.examples) else ""
    why = (
        f"{about}{number(damaged + emptied, 'file')} of {master.files_before:,} in {master.name} look as if they had "
        f"been {' or '.join(how)}"
    )
    if before:
        why += f", and {number(before, 'file')} in the runs of the last {LATELY.days} days"
    return Hold(
        HoldName.MASS_CHANGE, why, master.name, _shown(master.inspection.examples or master.counts.emptied_examples)
    )


def _many(files: int, limits: Guards) -> int:
    """So many damaged files are held; of a small master half of its files."""
    return min(limits.damaged_files, max(SMALL, -(-files // 2)))


def _growth(master: MasterFacts, limits: Guards) -> Hold | None:
    """One file, or all that is new, is out of proportion to the copy and to what came before."""
    grown, (largest, path) = master.counts.grown, master.counts.largest
    usual = 2 * master.grown_before
    runaway = largest >= limits.growth and largest >= max(master.bytes_before // 2, usual)
    sudden = grown >= 3 * limits.growth and grown >= max(master.bytes_before, usual)
    if not limits.growth or not (runaway or sudden):
        return None
    accepted = master.accepted.get(HoldName.GROWTH)
    if accepted is not None and master.bytes < accepted.bytes + limits.growth:
        return None
    why = f"the copy of {master.name} ({size(master.bytes_before)}) would grow by {size(grown)}"
    if runaway:
        why = f"one file in {master.name} grows by {size(largest)}, and the copy has {size(master.bytes_before)} in all"
    return Hold(HoldName.GROWTH, why, master.name, _shown([path]))


def _shown(paths: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(shown(path) for path in paths)


def known_holds(names: Collection[str]) -> frozenset[str]:
    """The names given to `--allow`. Raises `UsageError` for one that no guard has."""
    unknown = [name for name in names if name not in set(HoldName)]
    if unknown:
        raise UsageError(
            f"--allow {shown(unknown[0])}: no guard is called that", hint=f"the guards: {', '.join(HoldName)}"
        )
    return frozenset(names)


def enforce(
    holds: Sequence[Hold], allowed: Collection[str], *, drive: str, seen: bool = False, command: str = "run"
) -> None:
    """Raise `HeldByGuard` unless every hold is allowed by name. `seen`: the plan was shown already."""
    standing = [hold for hold in holds if hold.name not in allowed]
    if not standing:
        return
    names = tuple(dict.fromkeys(str(hold.name) for hold in standing))
    allow = " ".join(f"--allow {name}" for name in names)
    look = ""
    if any(hold.name in FLEET for hold in standing) and command != "run":
        look = "decide about it first, with a run (`flashback status` says how); "
    elif any(hold.name in FLEET for hold in standing) and not seen:
        look = f"look at it: flashback run {drive} --dry-run; "
    raise HeldByGuard(
        f"held by {'the guard' if len(names) == 1 else 'the guards'} {', '.join(names)}, nothing was written",
        holds=names,
        findings=[line for hold in standing for line in hold.lines()],
        hint=f"{look}if that is as it should be: flashback {command} {drive} {allow}",
    )
