"""Which snapshots of one master on one drive stay, which go, and why: pure (docs/explanation/retention.md).

Rules count snapshots, not days: a day, week or month that has no snapshot takes no place, so months in the safe cost
nothing. Nothing here measures an age against the present; the present serves only to recognise dates that cannot be
true, and those can make more stay, never less.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Final

from flashback.config.values import Keep
from flashback.core.text import number

EARLIEST: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""No snapshot of Flashback's is older than Flashback; an earlier date is a clock without a battery."""

SLACK: Final = timedelta(days=1)
"""How far ahead of the present a date may be and still be believed."""


class Value(IntEnum):
    """How much a snapshot is worth to its owner, from what goes first to what never goes."""

    NONE = 0
    ODD_DATE = 1
    HOURLY = 2
    DAILY = 3
    WEEKLY = 4
    MONTHLY = 5
    YEARLY = 6
    FLOOR = 7


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What retention needs to know. `sequence` is that of the run which completed the state; `None`: not known."""

    name: str
    completed: datetime
    pinned: bool = False
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one snapshot. `reasons` are phrases for people; `value` orders what goes when space is short."""

    snapshot: Snapshot
    value: Value
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """`keep` and `prune` together are what was asked about, each oldest first."""

    keep: tuple[Verdict, ...]
    prune: tuple[Verdict, ...]

    @property
    def floor(self) -> tuple[Snapshot, ...]:
        """What is never deleted, however short space is."""
        return tuple(each.snapshot for each in self.keep if each.value is Value.FLOOR)


@dataclass(frozen=True, slots=True)
class _Period:
    """A rule that keeps the newest snapshot of each of the last so many periods in which there is one."""

    one: str
    many: str
    value: Value
    wanted: Callable[[Keep], int]
    bucket: Callable[[datetime], tuple[int, ...]]


_PERIODS: Final = (
    _Period("hour", "hourly", Value.HOURLY, lambda keep: keep.hourly, lambda at: at.timetuple()[:4]),
    _Period("day", "daily", Value.DAILY, lambda keep: keep.daily, lambda at: at.timetuple()[:3]),
    _Period("week", "weekly", Value.WEEKLY, lambda keep: keep.weekly, lambda at: at.isocalendar()[:2]),
    _Period("month", "monthly", Value.MONTHLY, lambda keep: keep.monthly, lambda at: at.timetuple()[:2]),
    _Period("year", "yearly", Value.YEARLY, lambda keep: keep.yearly, lambda at: at.timetuple()[:1]),
)


@dataclass(slots=True)
class _Reasons:
    """What speaks for and against each snapshot, by name."""

    stay: dict[str, list[tuple[Value, str]]] = field(default_factory=dict)
    go: dict[str, list[str]] = field(default_factory=dict)

    def verdict(self, snapshot: Snapshot) -> Verdict:
        stay = self.stay.get(snapshot.name)
        if not stay:
            return Verdict(snapshot, Value.NONE, tuple(self.go.get(snapshot.name, ())))
        return Verdict(snapshot, max(value for value, _ in stay), tuple(text for _, text in stay))

    def keep(self, snapshot: Snapshot, value: Value, why: str) -> None:
        self.stay.setdefault(snapshot.name, []).append((value, why))

    def pass_over(self, snapshot: Snapshot, why: str) -> None:
        self.go.setdefault(snapshot.name, []).append(why)


def decide(snapshots: Sequence[Snapshot], keep: Keep, *, now: datetime) -> Decision:
    """What stays and what may go, of all the snapshots of one master on one drive.

    Only snapshots that were handed in appear in the answer, each exactly once; asked again about what it kept, it
    keeps all of it. The floor is the newest state, the last `keep.last` and the pins. `now` only serves to recognise
    dates in the future; a wrong one can make more stay, never less. No rule at all (all numbers 0) deletes nothing.
    """
    ordered = tuple(sorted(snapshots, key=_order))
    believed = _believed(ordered, now)
    reasons = _Reasons()
    _keep_floor(ordered, believed, reasons)
    _keep_last(ordered, believed, keep.last, reasons)
    credible = {each.name for each in believed}
    for each in ordered:
        if each.name not in credible:
            reasons.keep(each, Value.ODD_DATE, "its date cannot be true")
        elif not _has_rules(keep):
            reasons.keep(each, Value.YEARLY, "there is no rule that lets it go")
    for period in _PERIODS:
        _keep_periods(period, believed, period.wanted(keep), reasons)
    verdicts = [reasons.verdict(each) for each in ordered]
    return Decision(
        keep=tuple(each for each in verdicts if each.value is not Value.NONE),
        prune=tuple(each for each in verdicts if each.value is Value.NONE),
    )


def prune_order(decision: Decision, *, only_here: Collection[str] = ()) -> tuple[Verdict, ...]:
    """Everything that may be deleted to make space, in the order in which to do it: stop as soon as there is enough.

    Least valuable first, and within that the oldest; never the floor. `only_here` names the snapshots that hold the
    last copy of something in the whole rotation: they go after all those whose content exists elsewhere.
    """
    candidates = [*decision.prune, *(each for each in decision.keep if each.value is not Value.FLOOR)]
    return tuple(sorted(candidates, key=lambda each: rank(each, only_here=each.snapshot.name in only_here)))


def rank(verdict: Verdict, *, only_here: bool) -> tuple[bool, Value, tuple[int, datetime, str]]:
    """What `prune_order` goes by, for those who put the snapshots of several masters in one order."""
    return (only_here, verdict.value, _order(verdict.snapshot))


def _has_rules(keep: Keep) -> bool:
    return keep.last > 0 or any(period.wanted(keep) > 0 for period in _PERIODS)


def _order(snapshot: Snapshot) -> tuple[int, datetime, str]:
    """Oldest first: by the run's number, which no clock can disturb; states of unrecorded runs are older than all."""
    return (snapshot.sequence or 0, snapshot.completed, snapshot.name)


def _by_date(snapshot: Snapshot) -> tuple[datetime, str]:
    return (snapshot.completed, snapshot.name)


def _believed(ordered: Sequence[Snapshot], now: datetime) -> list[Snapshot]:
    """Those whose date can be true: not before Flashback, not in the future, not after the state that came last."""
    possible = [each for each in ordered if EARLIEST <= each.completed <= now + SLACK]
    if not possible or possible[-1].sequence is None:
        return possible
    last = possible[-1].completed
    return [each for each in possible if each.sequence is None or each.completed <= last]


def _keep_floor(ordered: Sequence[Snapshot], believed: Sequence[Snapshot], reasons: _Reasons) -> None:
    """The newest by number and the newest by date are usually one; where they are two, both stay."""
    newest = {every[-1].name: every[-1] for every in (ordered, believed, sorted(believed, key=_by_date)) if every}
    for each in newest.values():
        reasons.keep(each, Value.FLOOR, "the newest complete state")
    for each in ordered:
        if each.pinned:
            reasons.keep(each, Value.FLOOR, "pinned")


def _keep_last(ordered: Sequence[Snapshot], believed: Sequence[Snapshot], wanted: int, reasons: _Reasons) -> None:
    """The last of all and the last of those believed, so that a wrong clock can neither push out nor expose."""
    if wanted < 1:
        return
    lasting = {each.name for every in (ordered, believed) for each in every[-wanted:]}
    for each in ordered:
        if each.name in lasting:
            reasons.keep(each, Value.FLOOR, f"among the last {wanted}")
        else:
            reasons.pass_over(each, f"not among the last {wanted}")


def _keep_periods(period: _Period, believed: Sequence[Snapshot], wanted: int, reasons: _Reasons) -> None:
    if wanted < 1:
        return
    newest = {period.bucket(each.completed.astimezone(UTC)): each for each in sorted(believed, key=_by_date)}
    kept = sorted(newest, reverse=True)[:wanted]
    for place, bucket in enumerate(kept, 1):
        reasons.keep(newest[bucket], period.value, f"{period.many} {place} of {wanted}")
    for each in believed:
        bucket = period.bucket(each.completed.astimezone(UTC))
        if bucket < kept[-1]:
            reasons.pass_over(each, f"older than the newest {number(wanted, period.one)}")
        elif newest[bucket] is not each:
            reasons.pass_over(each, f"its {period.one} is kept by {newest[bucket].name}")
