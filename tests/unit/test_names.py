"""Which paths somebody may mean who types one to a command that asks the catalogue."""

from __future__ import annotations

from flashback.catalogue.names import paths

MASTERS = {"documents": "/home/alice/Documents", "music": "/srv/music"}


def test_a_colon_in_a_file_name_is_no_master_where_none_is_called_so() -> None:
    meanings = paths("notes:2026.txt", "/home/alice/Documents/work", MASTERS)
    assert meanings[0] == ("documents", b"work/notes:2026.txt")


def test_where_a_master_is_called_so_the_file_with_the_colon_is_meant_next() -> None:
    assert paths("music:a.ogg", "/home/alice/Documents", MASTERS)[:2] == [
        ("music", b"a.ogg"),
        ("documents", b"music:a.ogg"),
    ]
