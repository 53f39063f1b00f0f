"""What was read of which version is remembered, within bounds, and never in the way."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flashback.drive.proofs import Proofs
from flashback.drive.tree import Item
from flashback.rotation import contents
from flashback.rotation.contents import Contents, last_read, version_mark

NOW = datetime(2026, 5, 2, 14, 10, tzinfo=UTC)
ONE = version_mark("docs", b"a", 1, 2)


def test_what_was_noted_is_known_at_once_and_after_it_was_closed(tmp_path: Path) -> None:
    for days, this_turn in ((0, True), (1, False)):
        with Contents.open(tmp_path / "contents", NOW + timedelta(days=days)) as known:
            if this_turn:
                known.note(ONE, "red", b"x" * 32, 7)
            ((place, content, file, at, now),) = known.known(ONE)
            assert (place, content, file, at, now) == ("red", b"x" * 16, 7, NOW, this_turn)
    assert last_read(tmp_path / "contents", [ONE]) == {ONE: {"red": NOW}}
    assert stat.S_IMODE((tmp_path / "contents").stat().st_mode) == 0o600


def test_a_version_is_a_path_of_a_master_with_a_size_and_a_time() -> None:
    others = [version_mark("docs", b"b", 1, 2), version_mark("doc", b"a", 1, 2)]
    others += [version_mark("docs", b"a", 2, 2), version_mark("docs", b"a", 1, 3)]
    assert len({ONE, *others}) == 5


def test_of_too_many_those_go_that_were_not_read_for_longest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MOST", 10)
    for turn in range(4):
        with Contents.open(tmp_path / "contents", NOW + timedelta(days=turn)) as known:
            for count in range(4):
                known.note(version_mark("docs", b"%d %d" % (turn, count), 1, 1), "red", b"x" * 16, 1)
    marks = [version_mark("docs", b"%d 0" % turn, 1, 1) for turn in range(4)]
    assert [bool(found) for found in last_read(tmp_path / "contents", marks).values()] == [False, False, True, True]


def test_a_file_that_is_of_no_use_is_moved_away_and_told(tmp_path: Path) -> None:
    (tmp_path / "contents").write_bytes(b"no database at all" * 100)
    with Contents.open(tmp_path / "contents", NOW) as known:
        known.note(ONE, "red", b"x" * 16, 1)
        assert known.known(ONE)
    assert "contents.broken" in known.trouble
    assert last_read(tmp_path / "contents", [ONE])[ONE]


def test_where_nothing_can_be_kept_it_is_known_for_this_once(tmp_path: Path) -> None:
    with Contents.open(tmp_path / "nowhere/contents", NOW) as known:
        known.note(ONE, "red", b"x" * 16, 1)
        assert known.known(ONE)
    assert "nowhere/contents" in known.trouble
    assert last_read(tmp_path / "nowhere/contents", [ONE]) == {}


# --- what follows from it


def item(*, ino: int = 1, changed: int = 1, links: int = 1) -> Item:
    return Item(b"current/a", stat.S_IFREG, 0, 0, 1, 2, ino, links, 8, changed)


def judged(proofs: Proofs, contents: Sequence[bytes]) -> list[str]:
    return [proofs.judged("docs", b"a", item(), content * 16) for content in contents]


def test_a_difference_is_told_each_time_and_never_becomes_what_is_right(tmp_path: Path) -> None:
    with Contents.open(tmp_path / "contents", NOW) as known:
        assert [bool(why) for why in judged(Proofs(known, "red", str), [b"x", b"y", b"x", b"y"])] == [0, 1, 0, 1]
        assert judged(Proofs(known, "green", str.upper), [b"y"]) == [
            "its content is not what was read on RED just now, with the same size and date"
        ]


def test_a_file_is_read_once_however_many_snapshots_have_it_and_again_once_it_was_touched(tmp_path: Path) -> None:
    with Contents.open(tmp_path / "contents", NOW) as known:
        proofs = Proofs(known, "red", str)
        assert proofs.unread("docs", b"a", item())
        proofs.judged("docs", b"a", item(), b"x" * 16)
        assert not proofs.unread("docs", b"a", item())
        assert proofs.unread("docs", b"a", item(changed=2))
        assert Proofs(known, "green", str).unread("docs", b"a", item())
    with Contents.open(tmp_path / "contents", NOW) as known:
        assert Proofs(known, "red", str).unread("docs", b"a", item())


def test_a_file_with_several_names_and_one_that_is_bad_are_read_once(tmp_path: Path) -> None:
    with Contents.open(tmp_path / "contents", NOW) as known:
        proofs = Proofs(known, "red", str)
        assert [proofs.unread("docs", name, item(links=2)) for name in (b"a", b"b")] == [True, False]
        proofs.bad("docs", item(ino=9))
        assert not proofs.unread("docs", b"z", item(ino=9))
