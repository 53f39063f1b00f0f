"""What a person reads of snapshots that go and stay."""

from __future__ import annotations

from flashback.tell import pruned
from flashback.tell.summary import plan_lines


def snapshot(name: str, *, keep: bool, freed: int | None, why: str) -> dict[str, object]:
    return {"master": "m", "name": name, "keep": keep, "rule": "none", "reasons": [why], "bytes": freed}


PLAN = {
    "action": "prune",
    "drive": "red",
    "snapshots": [
        snapshot("20260101T000000Z", keep=False, freed=1 << 20, why="not among the last 3"),
        snapshot("20260102T000000Z", keep=False, freed=3 << 20, why="not among the last 3"),
        snapshot("20260103T000000Z", keep=True, freed=None, why="the newest complete state"),
    ],
    "vanish": [
        {"master": "m", "path": "letters/old\x1b.txt", "size": 2048, "whole": True},
        {"master": "m", "path": "notes", "size": 10, "whole": False},
    ],
}


def test_what_goes_and_what_stays_is_told_with_its_reasons_and_what_would_be_nowhere() -> None:
    assert [line.plain() for line in plan_lines(PLAN)][1:] == [
        "  2 snapshots go, 4.0 MiB come free:",
        "    m/20260101T000000Z   1.0 MiB  not among the last 3",
        "    m/20260102T000000Z   3.0 MiB  not among the last 3",
        "  1 snapshot stays:",
        "    m/20260103T000000Z  the newest complete state",
        "  1 file would be on no drive any more, for ever:",
        "     2.0 KiB  m/letters/old\\x1b.txt",
        "  1 version of files that are still there in another would go for ever, too",
    ]


def test_where_it_is_not_known_what_comes_free_nothing_is_said_of_it() -> None:
    plan = {"snapshots": [snapshot("20260101T000000Z", keep=False, freed=None, why="because")]}
    assert [text for _depth, text in pruned.plan_of(plan)] == [
        "1 old snapshot makes way:",
        "m/20260101T000000Z  because",
    ]


def test_many_files_are_cut_short() -> None:
    files = [{"master": "m", "path": str(each), "size": 1, "whole": True} for each in range(30)]
    lines = [text for _depth, text in pruned.plan_of({"vanish": files})]
    assert (len(lines), lines[-1]) == (22, "and 10 more: --json names all")


def test_what_came_of_it() -> None:
    assert pruned.headline({"pruned": ["a/b"], "bytes_freed": 1 << 20}) == "1 snapshot removed, 1.0 MiB free again."
    assert pruned.headline({"pruned": ["a/b", "a/c"], "bytes_freed": None}) == "2 snapshots removed."


def test_a_run_says_at_its_end_what_made_way() -> None:
    names = [f"m/2026010{day}T000000Z" for day in range(1, 8)]
    assert list(pruned.done({"action": "run", "pruned": names[:1]})) == [
        "One old snapshot made way: m/20260101T000000Z."
    ]
    assert list(pruned.done({"pruned": names})) == [
        f"7 old snapshots made way: {', '.join(names[:5])} and 2 more.",
    ]
    assert list(pruned.done({"action": "prune", "pruned": names})) == []


def test_a_reserve_that_will_not_be_kept_is_said() -> None:
    plan = {"space": {"reserve": 1 << 30, "reserve_kept": False}}
    assert [text for _depth, text in pruned.plan_of(plan)] == [
        "less than keep.min_free (1.0 GiB) will stay free, whatever goes"
    ]
