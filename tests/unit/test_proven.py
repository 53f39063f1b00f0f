"""How much was proven, from the proofs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashback.rotation.ledger import Ledger
from flashback.rotation.proven import share
from flashback.rotation.values import MasterCounts, ProofKind, ProofRecord, RunRecord, Written

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def proof(done: int, total: int, kind: ProofKind = ProofKind.COMPARED, at: datetime = NOW) -> ProofRecord:
    return ProofRecord("red", at, kind, files=1, bytes=done, total=total)


def test_nothing_is_known_of_a_drive_that_was_never_compared():
    assert share([]) is None
    assert share([proof(10, 0, ProofKind.DRILLED)]) is None


@pytest.mark.parametrize(
    ("proofs", "known"),
    [([(10, 10)], 1.0), ([(0, 10)], 0.0), ([(5, 10), (5, 10)], 0.75), ([(0, 0)], 1.0), ([(11, 10)], 1.0)],
)
def test_samples_overlap_as_chance_has_it(proofs, known):
    assert share(proof(*each) for each in proofs) == pytest.approx(known)


def test_what_was_written_since_was_compared_with_nothing():
    later, before = NOW + timedelta(days=1), NOW - timedelta(days=1)
    assert share([proof(10, 10)], [Written(later, 3, 10)]) == pytest.approx(0.7)
    assert share([proof(10, 10)], [Written(before, 10, 10), Written(later, 0, 0)]) == 1.0
    assert share([proof(10, 10), proof(10, 10, at=NOW + timedelta(days=2))], [Written(later, 10, 10)]) == 1.0
    assert share([], [Written(later, 3, 10)]) is None


def test_the_ledger_knows_what_the_runs_of_a_drive_wrote(tmp_path):
    with Ledger.open(tmp_path / "state/ledger.sqlite") as ledger:
        for count, when in enumerate((NOW - timedelta(days=91), NOW), 1):
            counts = [
                MasterCounts(name, when, bytes_added=1, bytes_changed=2, bytes_unchanged=7) for name in ("a", "b")
            ]
            ledger.end_run(RunRecord("red", count, str(count), "here", when, ended=when, masters=tuple(counts)))
        assert ledger.written("red", since=NOW - timedelta(days=90)) == (Written(NOW, 6, 20),)
        assert ledger.written("green", since=NOW - timedelta(days=90)) == ()


@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(1, 100))), st.tuples(st.integers(0, 100), st.integers(1, 100))
)
def test_one_more_proof_never_makes_it_less(proofs, more):
    before = share(proof(*each) for each in proofs) or 0.0
    after = share(proof(*each) for each in [*proofs, more])
    assert after is not None
    assert -1e-9 <= before - 1e-9 <= after <= 1 + 1e-9


def test_the_ledger_gives_proofs_back_newest_first_and_only_the_late_ones(tmp_path):
    with Ledger.open(tmp_path / "state/ledger.sqlite") as ledger:
        old, late = proof(1, 9, at=NOW - timedelta(days=91)), proof(2, 9, ProofKind.DRILLED, NOW - timedelta(days=1))
        for each in (old, late, proof(3, 9)):
            ledger.record_proof(each)
        assert ledger.proofs("red", since=NOW - timedelta(days=90)) == (proof(3, 9), late)
        assert ledger.proofs("green", since=NOW - timedelta(days=90)) == ()
