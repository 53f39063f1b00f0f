"""Whether a drive still gives back what was written to it, from what this machine has heard of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flashback.rotation.soundness import Soundness, health
from flashback.rotation.values import ErrorCounts, ProofKind, ProofRecord, ScrubRecord

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = timedelta(days=1)


def scrub(*, days: int = 10, finished: bool = True, **counts: int) -> ScrubRecord:
    return ScrubRecord("u", NOW - days * DAYS, NOW - days * DAYS, finished, **counts)


def errors(**counts: int) -> ErrorCounts:
    return ErrorCounts("u", NOW, counts)


def proof(*, days: int = 5, damaged: int = 0) -> ProofRecord:
    return ProofRecord("u", NOW - days * DAYS, ProofKind.COMPARED, 9, 9, 9, damaged)


@pytest.mark.parametrize(
    ("given", "state", "words"),
    [
        ((None, None, ()), Soundness.UNKNOWN, ()),
        ((scrub(finished=False), None, ()), Soundness.UNKNOWN, ()),
        ((scrub(), errors(read_errs=0), (proof(),)), Soundness.GOOD, ("scrubbed 10 days ago: no damage",)),
        ((scrub(corrected=2), None, ()), Soundness.ERRORS, ("scrubbed 10 days ago: 2 errors repaired",)),
        ((scrub(damaged_files=3), None, ()), Soundness.DAMAGED, ("scrubbed 10 days ago: DAMAGE in 3 files",)),
        ((scrub(uncorrectable=1), None, ()), Soundness.DAMAGED, ("scrubbed 10 days ago: DAMAGE",)),
        ((None, errors(write_errs=2), ()), Soundness.ERRORS, ("it has reported errors (write_errs 2)",)),
        ((None, None, (proof(damaged=1),)), Soundness.DAMAGED, ("verified 5 days ago: 1 file DAMAGED",)),
    ],
)
def test_it_is_what_the_last_scrub_the_counters_and_the_proofs_say(given, state, words) -> None:
    found = health(*given, now=NOW)
    assert (found.state, found.words) == (state, words)


def test_the_worst_of_them_is_the_state_and_all_of_them_are_said() -> None:
    found = health(scrub(), errors(corruption_errs=4), (proof(damaged=1),), now=NOW)
    assert found.state is Soundness.DAMAGED
    assert len(found.words) == 3


def test_damage_that_a_later_scrub_did_not_find_any_more_counts_no_longer() -> None:
    assert health(scrub(days=1), None, (proof(days=2, damaged=1),), now=NOW).state is Soundness.GOOD


def test_another_content_is_found_by_no_scrub_and_counts_until_all_was_verified_again() -> None:
    def differing(days: int, count: int) -> ProofRecord:
        return ProofRecord("u", NOW - days * DAYS, ProofKind.DIFFERING, 0, 0, 0, count)

    found = health(scrub(days=1), None, (proof(days=1), differing(2, 1)), now=NOW)
    words = "verified 2 days ago: 1 file with another content than before or than in the master"
    assert (found.state, found.words[-1]) == (Soundness.DAMAGED, words)
    assert health(scrub(days=1), None, (differing(1, 0), differing(2, 1)), now=NOW).state is Soundness.GOOD
