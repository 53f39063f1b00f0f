"""Whether a drive still gives back what was written to it, as far as this machine has heard: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from flashback.core.text import age, number, shown
from flashback.rotation.values import ErrorCounts, ProofKind, ProofRecord, ScrubRecord


class Soundness(StrEnum):
    """In the order of concern. `UNKNOWN`: it was never read back."""

    DAMAGED = "damaged"
    ERRORS = "errors"
    GOOD = "good"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Health:
    """`words` are phrases for a person: what the state rests on."""

    state: Soundness = Soundness.UNKNOWN
    words: tuple[str, ...] = ()


def health(
    scrub: ScrubRecord | None, errors: ErrorCounts | None, proofs: Sequence[ProofRecord], *, now: datetime
) -> Health:
    """From the last scrub, the error counters as last seen, and what was proven since."""
    last = max((each for each in proofs if each.kind is ProofKind.DIFFERING), key=lambda each: each.at, default=None)
    counted = [each for each in proofs if each.kind is not ProofKind.DIFFERING or each is last]
    found = [_of_scrub(scrub, now), _of_errors(errors), *(_of_proof(each, scrub, now) for each in counted)]
    said = [each for each in found if each is not None]
    state = min((state for state, _ in said), key=list(Soundness).index, default=Soundness.UNKNOWN)
    return Health(state, tuple(dict.fromkeys(words for _, words in said)))


def _of_scrub(scrub: ScrubRecord | None, now: datetime) -> tuple[Soundness, str] | None:
    if scrub is None or not scrub.finished:
        return None
    when = f"scrubbed {age(scrub.ended, now)}"
    if scrub.uncorrectable or scrub.damaged_files:
        files = f" in {number(scrub.damaged_files, 'file')}" if scrub.damaged_files else ""
        return Soundness.DAMAGED, f"{when}: DAMAGE{files}"
    if scrub.corrected:
        return Soundness.ERRORS, f"{when}: {number(scrub.corrected, 'error')} repaired"
    return Soundness.GOOD, f"{when}: no damage"


def _of_errors(errors: ErrorCounts | None) -> tuple[Soundness, str] | None:
    """The counters are the file system's own and only ever grow."""
    counted: Mapping[str, int] = {} if errors is None else {name: many for name, many in errors.counts.items() if many}
    if not counted:
        return None
    what = ", ".join(f"{shown(name)} {many:,}" for name, many in sorted(counted.items()))
    return Soundness.ERRORS, f"it has reported errors ({what})"


def _of_proof(proof: ProofRecord, scrub: ScrubRecord | None, now: datetime) -> tuple[Soundness, str] | None:
    """Damage that a later scrub did not find any more (the file was written anew) counts no longer."""
    if proof.kind is ProofKind.DIFFERING:
        what = f"{number(proof.damaged, 'file')} with another content than before or than in the master"
        return (Soundness.DAMAGED, f"verified {age(proof.at, now)}: {what}") if proof.damaged else None
    healed = scrub is not None and scrub.finished and scrub.ended > proof.at
    if not proof.damaged or healed:
        return None
    return Soundness.DAMAGED, f"verified {age(proof.at, now)}: {number(proof.damaged, 'file')} DAMAGED"
