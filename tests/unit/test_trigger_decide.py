"""A drive is plugged in: what is done about it, for every case that the documentation names."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashback.config.values import OnPlug
from flashback.rotation.plugs import PlugOutcome, PlugRecord
from flashback.rotation.values import RunRecord, RunResult, Standing
from flashback.trigger.decide import FRESH, Act, Seen, decide
from tests.unit.drives import RED, UUID

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SEEN = Seen(RED, OnPlug.ASK, NOW, "boot:7")
MINUTE = timedelta(minutes=1)


def a_run(ended: datetime | None, result: RunResult | None = RunResult.COMPLETE) -> RunRecord:
    return RunRecord(UUID, 1, "r", "here", NOW - timedelta(days=1), ended, result)


def a_plug(outcome: PlugOutcome, *, insertion: str = "boot:7", until: datetime | None = None, agents: bool = False):
    return PlugRecord(UUID, NOW - MINUTE, insertion, outcome, until, agents)


def test_a_known_drive_is_asked_about() -> None:
    assert decide(SEEN).act is Act.ASK


@pytest.mark.parametrize(
    ("own", "default", "act"),
    [
        (None, OnPlug.ALWAYS, Act.RUN),
        (None, OnPlug.NEVER, Act.LEAVE),
        (OnPlug.ALWAYS, OnPlug.NEVER, Act.RUN),
        (OnPlug.NEVER, OnPlug.ALWAYS, Act.LEAVE),
        (OnPlug.ASK, OnPlug.ALWAYS, Act.ASK),
    ],
)
def test_the_drives_own_wish_stands_before_the_configuration(own, default, act) -> None:
    assert decide(replace(SEEN, drive=replace(RED, on_plug=own), default=default)).act is act


def test_a_drive_that_is_not_known_is_offered_for_adoption() -> None:
    assert decide(replace(SEEN, drive=None)).act is Act.OFFER


@pytest.mark.parametrize("standing", [Standing.LOST, Standing.RETIRED])
@pytest.mark.parametrize("wish", list(OnPlug))
def test_a_lost_or_retired_drive_is_a_warning_whatever_was_wished(standing, wish) -> None:
    assert decide(replace(SEEN, drive=replace(RED, standing=standing, on_plug=wish))).act is Act.WARN


@pytest.mark.parametrize("result", [RunResult.COMPLETE, RunResult.NOTHING_TO_DO])
def test_a_drive_backed_up_a_moment_ago_is_left_alone(result) -> None:
    assert decide(replace(SEEN, last_run=a_run(NOW - MINUTE, result))).act is Act.LEAVE


@pytest.mark.parametrize("result", [RunResult.INCOMPLETE, RunResult.FAILED, RunResult.HELD, None])
def test_a_run_that_did_not_finish_a_moment_ago_is_carried_on(result) -> None:
    assert decide(replace(SEEN, last_run=a_run(NOW - MINUTE, result))).act is Act.ASK


def test_a_run_that_was_killed_is_carried_on() -> None:
    assert decide(replace(SEEN, last_run=a_run(None, None))).act is Act.ASK


@pytest.mark.parametrize("ended", [NOW - FRESH, NOW + MINUTE])
def test_an_older_run_or_one_from_the_future_is_not_a_moment_ago(ended) -> None:
    assert decide(replace(SEEN, last_run=a_run(ended))).act is Act.ASK


def test_what_runs_without_a_question_runs_no_sooner_than_the_configuration_says() -> None:
    recent = replace(SEEN, last_run=a_run(NOW - 30 * MINUTE), quiet_for=timedelta(hours=1))
    assert decide(replace(recent, default=OnPlug.ALWAYS)).act is Act.LEAVE
    assert decide(recent).act is Act.ASK


def test_a_drive_that_was_put_off_is_left_alone_until_then_even_if_plugged_in_again() -> None:
    put_off = a_plug(PlugOutcome.LATER, insertion="boot:6", until=NOW + MINUTE)
    assert decide(replace(SEEN, last_plug=put_off)).act is Act.LEAVE
    assert decide(replace(SEEN, last_plug=put_off, now=NOW + MINUTE)).act is Act.ASK


def test_a_putting_off_written_with_a_wrong_clock_does_not_last_for_years() -> None:
    assert decide(replace(SEEN, last_plug=a_plug(PlugOutcome.LATER, until=NOW + timedelta(days=900)))).act is Act.ASK


@pytest.mark.parametrize("outcome", [PlugOutcome.DECLINED, PlugOutcome.UNANSWERED])
def test_one_plug_is_one_question(outcome) -> None:
    assert decide(replace(SEEN, last_plug=a_plug(outcome))).act is Act.LEAVE
    assert decide(replace(SEEN, last_plug=a_plug(outcome, insertion="boot:6"))).act is Act.ASK


def test_who_logs_in_after_nobody_was_there_to_answer_is_asked() -> None:
    nobody = a_plug(PlugOutcome.UNANSWERED)
    assert decide(replace(SEEN, last_plug=nobody, agents=True)).act is Act.ASK
    assert decide(replace(SEEN, last_plug=replace(nobody, agents=True), agents=True)).act is Act.LEAVE


@pytest.mark.parametrize("outcome", [PlugOutcome.ASKED, PlugOutcome.UNPLUGGED, PlugOutcome.ANSWERED])
def test_a_question_that_was_cut_short_is_asked_again(outcome) -> None:
    assert decide(replace(SEEN, last_plug=a_plug(outcome))).act is Act.ASK


@pytest.mark.parametrize("outcome", [PlugOutcome.ANSWERED, PlugOutcome.LATER])
def test_a_drive_that_stays_plugged_in_after_its_backup_is_asked_about_when_it_is_due(outcome) -> None:
    """Not at every log-in, and not when an hour's "later" is over, if it was backed up by hand meanwhile."""
    asked = replace(a_plug(outcome, until=NOW - 2 * FRESH), at=NOW - 4 * FRESH)
    stays = replace(SEEN, last_plug=asked, last_run=a_run(NOW - 2 * FRESH))
    assert decide(stays).act is Act.LEAVE
    assert decide(replace(stays, due_after=2 * FRESH)).act is Act.ASK
    assert decide(replace(stays, default=OnPlug.ALWAYS, quiet_for=FRESH)).act is Act.RUN
    assert decide(replace(stays, last_plug=replace(asked, insertion="boot:6"))).act is Act.ASK
    assert decide(replace(stays, last_run=a_run(NOW - 5 * FRESH))).act is Act.ASK
    assert decide(replace(stays, last_run=a_run(NOW - 2 * FRESH, RunResult.FAILED))).act is Act.ASK


SEEINGS = st.builds(
    Seen,
    drive=st.one_of(
        st.none(),
        st.builds(
            lambda standing, wish: replace(RED, standing=standing, on_plug=wish),
            st.sampled_from(Standing),
            st.one_of(st.none(), st.sampled_from(OnPlug)),
        ),
    ),
    default=st.sampled_from(OnPlug),
    now=st.just(NOW),
    insertion=st.sampled_from(["boot:6", "boot:7"]),
    agents=st.booleans(),
    last_plug=st.one_of(st.none(), st.sampled_from(PlugOutcome).map(a_plug)),
)


@given(SEEINGS)
def test_only_a_drive_in_the_rotation_is_ever_opened(seen: Seen) -> None:
    if decide(seen).act in {Act.ASK, Act.RUN}:
        assert seen.drive is not None
        assert seen.drive.standing is Standing.ACTIVE
        assert (seen.drive.on_plug or seen.default) is not OnPlug.NEVER


@given(SEEINGS)
def test_a_drive_runs_without_a_question_only_where_that_was_wished(seen: Seen) -> None:
    if decide(seen).act is Act.RUN:
        assert seen.drive is not None
        assert (seen.drive.on_plug or seen.default) is OnPlug.ALWAYS
