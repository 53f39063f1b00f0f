"""How much of a drive's copies was compared with the masters lately: pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from flashback.rotation.values import ProofKind, ProofRecord, Written

LATELY: Final = timedelta(days=90)


def share(proofs: Iterable[ProofRecord], writes: Iterable[Written] = ()) -> float | None:
    """The share (0 to 1) of the copies' bytes that was found equal to the masters; `None` where none was compared.

    Samples are drawn anew each time and overlap: what two of them miss is the product of what each of them missed.
    What runs wrote since was compared with nothing: the share is that of what they left as it was.
    """
    compared = [each for each in proofs if each.kind is ProofKind.COMPARED]
    known = 0.0
    events: list[ProofRecord | Written] = [*compared, *writes]
    for each in sorted(events, key=lambda each: each.at):
        if isinstance(each, Written):
            known *= 1 - min(1.0, each.fresh / each.total) if each.total else 1.0
        else:
            known = 1 - (1 - known) * (1 - (min(1.0, each.bytes / each.total) if each.total else 1.0))
    return known if compared else None
