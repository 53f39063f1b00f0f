from __future__ import annotations

from datetime import UTC, datetime, timedelta

from flashback.tell.tables import (
    Cell,
    SnapshotRow,
    StatusRow,
    cells,
    counted,
    render,
    snapshots_table,
    status_table,
)

NOW = datetime(2026, 1, 20, tzinfo=UTC)
ROWS = [
    StatusRow("red", "fresh", NOW - timedelta(hours=3), 2048, 1024, plugged_in=True),
    StatusRow("漢字", "never", comes_next=True),
]


def test_the_columns_of_a_status_are_aligned_for_wide_characters_too() -> None:
    assert status_table(ROWS, NOW).splitlines() == [
        "    drive  state  last complete                free  here",
        "    red    fresh  3 hours ago    1.0 KiB of 2.0 KiB  plugged in",
        "->  漢字   never  never",
    ]


def test_where_the_columns_do_not_fit_each_row_is_a_block() -> None:
    assert status_table(ROWS, NOW, width=40).splitlines()[:3] == [
        "drive          red",
        "state          fresh",
        "last complete  3 hours ago",
    ]


def test_colour_is_sent_only_when_asked() -> None:
    assert "\x1b[" not in status_table(ROWS, NOW)
    assert "\x1b[1;32mfresh\x1b[0m" in status_table(ROWS, NOW, colour=True)


def test_names_cannot_draw_on_the_terminal() -> None:
    rows = [SnapshotRow("\x1b", "\x1b", "\x1b")]
    assert "\x1b" not in snapshots_table(rows, NOW)


def test_a_snapshot_is_one_line() -> None:
    row = SnapshotRow("red", "documents", "20260102T030405Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert snapshots_table([row], NOW).splitlines()[1] == (
        "red    documents  20260102T030405Z  2026-01-02 03:04:05 UTC  17 days ago"
    )


def test_an_empty_table_is_empty() -> None:
    assert render(("a", "b"), []) == ""


def test_empty_columns_are_left_out() -> None:
    assert render(("a", "b"), [[Cell("x"), Cell("")]]) == "a\nx"


def test_a_combining_mark_takes_no_column() -> None:
    assert cells("e\u0301") == 1


def test_none_is_said_in_words() -> None:
    assert [counted(0, "snapshot"), counted(1, "snapshot"), counted(2, "snapshot")] == [
        "no snapshots",
        "1 snapshot",
        "2 snapshots",
    ]
