"""How much of a drive's copies was compared with the masters lately: pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from math import prod
from typing import Final

from flashback.rotation.values import ProofKind, ProofRecord

LATELY: Final = timedelta(days=90)


def share(proofs: Iterable[ProofRecord]) -> float | None:
    """The share (0 to 1) of the copies' bytes that was found equal to the masters; `None` where none was compared.

    Samples are drawn anew each time and overlap: what two of them miss is the product of what each of them missed.
    """
    missed = [
        1 - min(1.0, each.bytes / each.total) if each.total else 0.0
        for each in proofs
        if each.kind is ProofKind.COMPARED
    ]
    return 1 - prod(missed) if missed else None
