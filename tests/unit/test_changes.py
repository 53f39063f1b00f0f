"""What is counted, and which list each difference goes to."""

from __future__ import annotations

import errno
import json
import os

import pytest

from flashback.compare import spool as spool_room
from flashback.compare.changes import IN_PLACE_FROM, ChangeSet
from flashback.compare.comparison import compare
from flashback.compare.spool import Spool
from flashback.core.errors import NotFinished
from flashback.walk.listing import Entry, Kept, Kind, order

FILE, DIRECTORY, SYMLINK = Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK
BIG = IN_PLACE_FROM


def entry(path: bytes, kind: Kind = FILE, **more) -> Entry:
    facts = {"mode": 0o644, "uid": 1, "gid": 1, "size": 10 if kind is FILE else 0, "mtime_ns": 5, "ctime_ns": 5}
    blocks = -(-more.get("size", facts["size"]) // 512)
    return Entry(path=path, kind=kind, **{**facts, "dev": 1, "ino": hash(path), "nlink": 1, "blocks": blocks, **more})


@pytest.fixture
def collect(tmp_path):
    def collected(master, incumbent) -> ChangeSet:
        by_order = [sorted(items, key=lambda item: order(item.path)) for items in (master, incumbent)]
        return ChangeSet.collect(compare(*by_order), directory=tmp_path)

    return collected


def test_a_spool_gives_back_what_it_got_as_often_as_asked(tmp_path):
    spool = Spool(tmp_path)
    names = [b"a", b"new\nline", b"\xff", b"x" * 200_000, b".x"]
    for name in names:
        spool.add(name)
    assert list(spool) == list(spool) == names
    assert len(spool) == 5
    assert spool.rewound().read() == b"".join(name + b"\0" for name in names)


def test_rsync_takes_no_name_in_a_spool_for_a_comment(tmp_path):
    spool = Spool(tmp_path)
    names = [b"a", b"#hash", b";semicolon", b"a/#inner"]
    for name in names:
        spool.add(name)
    assert spool.rewound().read() == b"a\0./#hash\0./;semicolon\0a/#inner\0"
    assert list(spool) == names


def test_a_spool_leaves_no_file_behind(tmp_path):
    spool = Spool(tmp_path)
    spool.add(b"a")
    spool.rewound()
    assert os.listdir(tmp_path) == []


def test_the_root_never_makes_rsync_copy_all_that_it_holds(tmp_path):
    spool = Spool(tmp_path, with_root=True)
    spool.add(b"")
    spool.add(b"a")
    spool.add(b"b")
    assert spool.rewound().read() == b"./a\0b\0"
    assert list(spool) == [b"", b"a", b"b"]
    assert not spool.only_root


def test_the_root_alone_is_said_to_be_alone(tmp_path):
    spool = Spool(tmp_path, with_root=True)
    spool.add(b"")
    assert spool.only_root
    assert spool.rewound().read() == spool.rewound().read() == b".\0"
    assert list(spool) == [b""]
    assert len(spool) == 1


def test_nothing_changed_is_empty(collect):
    changes = collect([entry(b"a"), entry(b"d", DIRECTORY)], [entry(b"a"), entry(b"d", DIRECTORY)])
    assert changes.is_empty
    assert (changes.files_in_master, changes.files_on_drive, changes.lower_bound_bytes) == (1, 1, 0)
    assert changes.as_json()["files_unchanged"] == 1


@pytest.mark.parametrize(
    ("new", "old", "in_place"),
    [
        ({"size": BIG, "mtime_ns": 6}, {"size": BIG}, True),
        ({"size": BIG * 9}, {"size": BIG}, True),
        ({"size": BIG - 1}, {"size": BIG}, False),
        ({"size": BIG}, {"size": BIG - 1}, False),
        ({"size": BIG, "mtime_ns": 6, "nlink": 2}, {"size": BIG}, False),
        ({"size": BIG, "mtime_ns": 6}, {"size": BIG, "nlink": 2}, False),
        ({"size": BIG, "mode": 0}, {"size": BIG}, False),
    ],
)
def test_only_big_files_with_one_name_are_changed_in_place(collect, new, old, in_place):
    changes = collect([entry(b"a", **new)], [entry(b"a", **old)])
    assert list(changes.in_place) == ([b"a"] if in_place else [])
    assert list(changes.whole) == ([] if in_place else [b"a"])


def test_a_new_big_file_is_copied_as_a_whole(collect):
    changes = collect([entry(b"a", size=BIG)], [])
    assert list(changes.whole) == [b"a"]
    assert changes.lower_bound_bytes == BIG


def test_each_difference_goes_to_its_lists(collect):
    master = [entry(b"add"), entry(b"change", mtime_ns=6), entry(b"kind"), entry(b"apart2"), entry(b"apart1")]
    drive = [entry(b"change"), entry(b"kind", DIRECTORY), entry(b"kind/x"), entry(b"gone", DIRECTORY), entry(b"gone/y")]
    links = [entry(b"apart1", ino=7, nlink=2), entry(b"apart2", ino=7, nlink=2)]
    changes = collect(master, drive + links)
    assert list(changes.whole) == [b"add", b"change", b"kind", b"apart2"]
    assert list(changes.remove_first) == [b"kind"]
    assert list(changes.apart) == [b"apart2"]
    assert list(changes.remove_after) == [b"gone"]
    assert not changes.is_empty


def test_counts_and_bytes_are_as_documented(collect):
    master = [
        entry(b"new", size=100),
        entry(b"bigger", size=50),
        entry(b"mode", mode=0),
        entry(b"same", size=3),
        entry(b"link", SYMLINK, target=b"x"),
        entry(b"d", DIRECTORY),
        entry(b"e", DIRECTORY, mode=0),
        Kept(b"k"),
    ]
    drive = [
        entry(b"bigger", size=40),
        entry(b"mode"),
        entry(b"same", size=3),
        entry(b"e", DIRECTORY),
        entry(b"gone", DIRECTORY),
        entry(b"gone/x", size=7),
        entry(b"k"),
    ]
    changes = collect(master, drive)
    found = changes.as_json()
    largest = found.pop("largest")
    assert found == {
        "files_added": 2,
        "bytes_added": 100,
        "files_changed": 1,
        "bytes_changed": 50,
        "files_attributes": 1,
        "files_deleted": 1,
        "files_moved": 0,
        "bytes_moved": 0,
        "directories_moved": 0,
        "bytes_deleted": 7,
        "files_unchanged": 1,
        "bytes_unchanged": 3,
        "directories_added": 1,
        "directories_changed": 1,
        "directories_deleted": 1,
        "directories_unchanged": 0,
    }
    assert largest == [{"path": ".", "bytes": 150, "bytes_deleted": 7}]
    assert (changes.files_in_master, changes.files_on_drive, changes.files_to_copy) == (5, 5, 3)
    assert changes.bytes_to_read == 150


def test_the_largest_directories_are_named_two_names_deep(collect):
    master = [
        entry(b"a/b/c/d", size=100),
        entry(b"a/b/x", size=1),
        entry(b"a/y", size=50),
        entry(b"\xff/z", size=70),
    ]
    assert collect(master, []).as_json()["largest"] == [
        {"path": "a/b", "bytes": 101, "bytes_deleted": 0},
        {"path": "\udcff", "bytes": 70, "bytes_deleted": 0},
        {"path": "a", "bytes": 50, "bytes_deleted": 0},
    ]


def test_the_largest_are_found_among_very_many_directories(collect):
    master = [entry(b"%06d/x" % number, size=1 + number % 7) for number in range(10_000)]
    master[5000] = entry(b"005000/x", size=1000)
    found = collect(master, []).as_json()["largest"]
    assert len(found) == 10
    assert found[0] == {"path": "005000", "bytes": 1000, "bytes_deleted": 0}


def test_the_counts_are_json(collect):
    json.dumps(collect([entry(b"\xff/a")], []).as_json())


HOLED = {"size": BIG, "blocks": 8}


def test_large_files_with_holes_are_listed_apart(collect):
    master = [entry(b"full", size=BIG), entry(b"holed", **HOLED), entry(b"small", size=9000, blocks=8)]
    changes = collect(master, [])
    assert (list(changes.whole), list(changes.holes)) == ([b"full", b"small"], [b"holed"])


def test_all_names_of_a_file_with_holes_are_on_one_list_whatever_is_to_be_done_to_each(collect):
    names = {name: entry(name, nlink=3, ino=5, **HOLED) for name in (b"a", b"b", b"c")}
    other = entry(b"b", nlink=1, ino=6, **HOLED)
    changes = collect(names.values(), [names[b"a"], other])
    assert (list(changes.whole), list(changes.holes)) == ([], [b"a", b"b", b"c"])


def test_no_piece_of_a_list_is_longer_than_a_program_should_hold_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_room, "PIECE", 3)
    spool = Spool(tmp_path, with_root=True)
    for name in (b"", *b"abcdefgh".hex(" ").encode().split()):
        spool.add(name)
    pieces = [piece.read() for piece in spool.pieces()]
    assert [piece.count(b"\0") for piece in pieces] == [3, 3, 2]
    assert all(piece.startswith(b"./") for piece in pieces)
    assert b"".join(pieces).replace(b"./", b"").split(b"\0")[:-1] == [name for name in spool if name]


def test_the_pieces_of_a_list_can_be_had_again(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_room, "PIECE", 1)
    spool = Spool(tmp_path)
    for name in (b"a", b"b"):
        spool.add(name)
    assert [piece.read() for piece in spool.pieces()] == [piece.read() for piece in spool.pieces()] == [b"a\0", b"b\0"]


def test_where_there_is_no_memory_for_a_piece_it_is_not_the_drive_that_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_room, "PIECE", 1)
    spool = Spool(tmp_path)
    for name in (b"a", b"b"):
        spool.add(name)
    spool.settle()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pread", full)
    with pytest.raises(NotFinished, match="no memory"):
        next(spool.pieces())


def test_the_names_of_one_file_are_never_in_two_pieces(collect, monkeypatch):
    monkeypatch.setattr(spool_room, "PIECE", 2)
    linked = [entry(name, nlink=3, ino=5) for name in (b"b", b"c", b"d")]
    changes = collect([entry(b"a"), *linked, *(entry(name, nlink=2, ino=9) for name in (b"e", b"f"))], [])
    pieces = [piece.read().split(b"\0")[:-1] for piece in changes.whole.pieces()]
    assert [[name.removeprefix(b"./") for name in piece] for piece in pieces] == [
        [b"a", b"b", b"c", b"d"],
        [b"e", b"f"],
    ]


def test_a_file_with_holes_of_which_only_attributes_differ_is_not_written_anew(collect):
    holed = {"size": BIG, "blocks": 8}
    changes = collect([entry(b"a", mode=0o600, **holed)], [entry(b"a", **holed)])
    assert (list(changes.whole), list(changes.holes)) == ([b"a"], [])


def test_totals_hold_no_name_that_could_make_a_line_of_the_journal_unreadable(collect):
    assert {type(value) for value in collect([entry(b"\xff/a")], []).totals().values()} == {int}


@pytest.mark.parametrize(
    ("new", "old", "needed"),
    [
        ({"size": BIG * 2}, None, BIG * 2),
        ({"size": BIG * 2, "blocks": 8}, None, 4096),
        ({"size": BIG * 2, "blocks": 0}, None, 0),
        ({"size": 100, "blocks": 8}, None, 100),
        ({"size": 100, "blocks": 0}, None, 100),
        ({"size": BIG * 2}, {"size": BIG}, BIG),
        ({"size": BIG}, {"size": BIG * 2}, 0),
        ({"size": 20}, {"size": 10}, 20),
        ({"mode": 0}, {}, 0),
    ],
)
def test_the_space_that_is_needed_at_least(collect, new, old, needed):
    changes = collect([entry(b"a", **new)], [entry(b"a", **old)] if old is not None else [])
    assert changes.lower_bound_bytes == needed


def test_a_file_with_several_names_needs_space_once(collect):
    master = [entry(name, size=100, ino=1, nlink=3) for name in (b"a", b"b", b"c")]
    changes = collect(master, [])
    assert (changes.lower_bound_bytes, changes.bytes_to_read) == (100, 100)
    assert changes.as_json()["files_added"] == 3
