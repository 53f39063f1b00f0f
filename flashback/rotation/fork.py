"""Whether a drive's journal continues what this machine knows of the drive (DESIGN 7.8): pure.

A copy of a drive has the same LUKS UUID and header; what tells it apart is that it does not know the last runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flashback.core.errors import Exit
from flashback.core.text import rfc3339
from flashback.rotation.values import RunRecord

_WENT_ALL_THE_WAY: Final = frozenset({Exit.DONE, Exit.UNREAD, Exit.DAMAGE})


def forked(journal: Sequence[tuple[int, str]], runs: Sequence[RunRecord]) -> str | None:
    """Why the drive cannot be the one that this machine last wrote to, as a sentence, or `None`.

    `journal` has the sequence and the id of the run of each line; `runs` are the ledger's of this drive. Only what this
    machine itself saw end well is evidence: the run's lines were on the medium before the ledger heard of it.
    """
    seen = [run for run in runs if run.exit_code in _WENT_ALL_THE_WAY and any(each.completed for each in run.masters)]
    last = max(seen, key=lambda run: run.sequence, default=None)
    if last is None or last.run_id in {run for _, run in journal}:
        return None
    when = rfc3339(last.begun)
    if any(sequence == last.sequence for sequence, _ in journal):
        return f"its journal has another run in the place of run {last.sequence}, which this machine made on {when}"
    known = max((sequence for sequence, _ in journal), default=0)
    if known < last.sequence:
        return f"its journal ends with run {known}, and this machine made run {last.sequence} on it on {when}"
    return f"its journal does not have run {last.sequence}, which this machine made on {when}"
