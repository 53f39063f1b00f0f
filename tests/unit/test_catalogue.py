"""The catalogue's file, what is made of it, and what makes it unfit: no garbled or foreign one is ever taken for true."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashback.catalogue.frames import CatalogueBroken
from flashback.compare import known as catalogues
from flashback.compare.comparison import compare
from flashback.compare.known import DOUBTFUL, Draft, Since, State, believed, changed_since
from flashback.compare.values import What
from flashback.drive.journal import Line, Mark, runs_since_full
from flashback.walk.listing import Entry, Kept, Kind

STATE = State("a-uuid", 42, "a-run")


def entry(path: bytes, kind: Kind = Kind.FILE, **more: object) -> Entry:
    facts = {"mode": 0o644, "uid": 1, "gid": 1, "size": 10 if kind is Kind.FILE else 0, "mtime_ns": 5, "ctime_ns": 6}
    return Entry(path=path, kind=kind, **{**facts, "dev": 1, "ino": 7, "nlink": 1, **more})


LISTING = [entry(b"", Kind.DIRECTORY), entry(b"a"), entry(b"d", Kind.DIRECTORY), entry(b"d/\xff\n"), entry(b"d/x")]


def made(folder: Path, listing=LISTING, *, doubtful=(), state: State = STATE) -> Path:
    """A catalogue as a run leaves it."""
    draft = Draft.begun(folder / "catalogue")
    for each in listing:
        draft.add(each)
    file = folder / "catalogue/drive/docs.listing"
    draft.keep(file, state, doubtful=doubtful)
    return file


def read(file: Path, state: State = STATE) -> list[Entry] | None:
    with believed(file, state) as catalogue:
        return None if catalogue is None else list(catalogue.entries())


# --- the file


def test_what_was_noted_is_read_again(tmp_path) -> None:
    assert read(made(tmp_path)) == LISTING


def test_more_than_a_frame_is_read_again(tmp_path) -> None:
    listing = [entry(b"%06d" % number) for number in range(3 * catalogues.BATCH + 1)]
    assert read(made(tmp_path, listing)) == listing


def test_an_empty_listing_is_one_too(tmp_path) -> None:
    assert read(made(tmp_path, [])) == []


def test_where_there_is_no_file_nothing_is_believed(tmp_path) -> None:
    assert read(tmp_path / "nothing") is None


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to(path.name)], ids=["a directory", "a loop"])
def test_what_cannot_be_read_is_not_believed(tmp_path, make) -> None:
    make(tmp_path / "odd")
    assert read(tmp_path / "odd") is None


@pytest.mark.parametrize(
    "state",
    [
        State("another", 42, "a-run"),
        State("a-uuid", 43, "a-run"),
        State("a-uuid", 41, "a-run"),
        State("a-uuid", 42, "x"),
    ],
)
def test_another_state_is_not_believed(tmp_path, state) -> None:
    assert read(made(tmp_path), state) is None


def test_a_state_that_no_run_left_is_not_believed(tmp_path) -> None:
    nobody = State("a-uuid", 42, "")
    assert read(made(tmp_path, state=nobody), nobody) is None


def test_another_version_is_not_believed(tmp_path, monkeypatch) -> None:
    file = made(tmp_path)
    monkeypatch.setattr("flashback.compare.known.VERSION", 2)
    assert read(file) is None


def fails(file: Path) -> bool:
    """Whether nothing of the file was given away as true, or the reader was told in the end."""
    try:
        return read(file) is None
    except CatalogueBroken:
        return True


LONG = [entry(b"%06d" % number, ino=number) for number in range(7)]


@pytest.fixture
def in_threes(monkeypatch) -> None:
    """Several frames with few entries."""
    monkeypatch.setattr(catalogues, "BATCH", 3)


def test_cut_off_at_any_byte_it_is_not_believed(tmp_path, in_threes) -> None:
    file = made(tmp_path, LONG)
    content = file.read_bytes()
    for length in range(len(content)):
        file.write_bytes(content[:length])
        assert fails(file), length


def test_with_any_bit_flipped_it_is_not_believed(tmp_path, in_threes) -> None:
    file = made(tmp_path, LONG)
    content = file.read_bytes()
    for place in range(len(content)):
        garbled = bytearray(content)
        garbled[place] ^= 1 << place % 8
        file.write_bytes(garbled)
        assert fails(file), place


def test_no_entry_of_a_garbled_frame_is_given_away(tmp_path, in_threes) -> None:
    file = made(tmp_path, LONG)
    content = file.read_bytes()
    for place in range(len(content)):
        garbled = bytearray(content)
        garbled[place] ^= 0xFF
        file.write_bytes(garbled)
        given_away: list[Entry] = []
        with believed(file, STATE) as catalogue:
            if catalogue is not None:
                with pytest.raises(CatalogueBroken):
                    given_away.extend(catalogue.entries())
        assert given_away == LONG[: len(given_away)]


@given(content=st.binary(max_size=200))
def test_of_any_bytes_nothing_is_believed(tmp_path_factory, content) -> None:
    file = tmp_path_factory.getbasetemp() / "any"
    file.write_bytes(content)
    assert read(file) is None


@given(data=st.data())
def test_of_a_file_garbled_at_random_nothing_is_believed(tmp_path_factory, data) -> None:
    file = made(tmp_path_factory.mktemp("garbled"), LONG)
    content = file.read_bytes()
    at = data.draw(st.integers(0, len(content)))
    cut = data.draw(st.integers(0, 40))
    other = content[:at] + data.draw(st.binary(max_size=40)) + content[at + cut :]
    file.write_bytes(other)
    assert other == content or fails(file)


def frames(content: bytes) -> list[bytes]:
    found = []
    while content:
        length = 4 + int.from_bytes(content[:4], "big")
        found.append(content[:length])
        content = content[length:]
    return found


@pytest.mark.parametrize(
    "shuffled", [lambda f: [f[0], f[2], f[1], *f[3:]], lambda f: [*f[:2], f[1], *f[3:]], lambda f: [*f[:1], *f[2:]]]
)
def test_frames_that_are_exchanged_repeated_or_missing_are_noticed(tmp_path, in_threes, shuffled) -> None:
    """Each frame by itself is whole, and the count may be right."""
    listing = [entry(b"%06d" % number) for number in range(12)]
    file = made(tmp_path, listing)
    file.write_bytes(b"".join(shuffled(frames(file.read_bytes()))))
    assert fails(file)


def test_a_frame_of_another_catalogue_is_noticed(tmp_path, in_threes) -> None:
    mine = frames(made(tmp_path / "1", LONG).read_bytes())
    other = frames(made(tmp_path / "2", [entry(b"%06d" % number, ino=99) for number in range(7)]).read_bytes())
    file = tmp_path / "mixed"
    file.write_bytes(b"".join([*mine[:2], *other[2:]]))
    assert fails(file)


def test_a_length_beyond_reason_is_not_read(tmp_path) -> None:
    (tmp_path / "long").write_bytes(b"\xff\xff\xff\xff" + bytes(100))
    assert read(tmp_path / "long") is None


# --- how it is kept


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_it_is_roots_alone_whatever_the_umask(tmp_path, umask) -> None:
    before = os.umask(umask)
    try:
        file = made(tmp_path)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent, file.parent.parent)]
    assert modes == [0o600, 0o700, 0o700]


def test_folders_that_others_could_read_are_closed(tmp_path) -> None:
    (tmp_path / "catalogue/drive").mkdir(parents=True, mode=0o755)
    file = made(tmp_path)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file.parent, file.parent.parent)] == [0o700, 0o700]


def test_a_new_one_takes_the_place_of_the_old_one_and_leaves_nothing_else(tmp_path) -> None:
    made(tmp_path)
    file = made(tmp_path, LONG)
    assert read(file) == LONG
    assert os.listdir(file.parent) == [file.name]
    assert os.listdir(file.parent.parent) == [file.parent.name]


def test_what_a_killed_run_left_half_written_is_no_hindrance(tmp_path) -> None:
    file = made(tmp_path)
    half = file.with_name(f".{file.name}.new")
    half.write_bytes(b"half")
    half.chmod(0o644)
    assert read(made(tmp_path, LONG)) == LONG
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_old_one_stays_until_the_new_one_is_whole(tmp_path, monkeypatch) -> None:
    file = made(tmp_path)
    seen = []
    real = Path.replace
    monkeypatch.setattr(Path, "replace", lambda new, to: (seen.append((read(to), read(new))), real(new, to))[1])
    made(tmp_path, LONG)
    assert seen == [(LISTING, LONG)]
    assert read(file) == LONG


class NoRoom:
    """A file on a full disk."""

    def write(self, _content: bytes) -> int:
        raise OSError(28, "No space left on device")

    def seek(self, *_where: int) -> int:
        raise OSError(28, "No space left on device")

    def close(self) -> None:
        raise OSError(28, "No space left on device")


def test_without_room_there_is_no_catalogue_and_no_failure(tmp_path, monkeypatch) -> None:
    file = made(tmp_path)
    monkeypatch.setattr(catalogues.tempfile, "TemporaryFile", lambda **_how: NoRoom())
    made(tmp_path)
    assert not file.exists()


def test_where_it_cannot_be_written_there_is_none_and_no_failure(tmp_path, monkeypatch) -> None:
    file = made(tmp_path)
    monkeypatch.setattr(catalogues.os, "fsync", lambda _fd: NoRoom().seek())
    made(tmp_path, LONG)
    assert os.listdir(file.parent) == []


def test_something_else_in_the_place_of_the_folder_is_no_failure(tmp_path) -> None:
    (tmp_path / "catalogue").write_bytes(b"")
    assert read(made(tmp_path)) is None


def test_a_spoilt_draft_takes_the_old_catalogue_along(tmp_path) -> None:
    file = made(tmp_path)
    draft = Draft.begun(tmp_path / "catalogue")
    draft.add(entry(b""))
    draft.spoil()
    draft.keep(file, STATE, doubtful=())
    assert not file.exists()


# --- doubt


def doubted(entries: list[Entry] | None) -> list[bytes]:
    assert entries is not None
    return [each.path for each in entries if each.mtime_ns == each.ctime_ns == DOUBTFUL]


def test_what_is_doubtful_is_marked_and_nothing_else(tmp_path) -> None:
    entries = read(made(tmp_path, doubtful=[b"d/x"]))
    assert doubted(entries) == [b"d/x"]
    assert [each.path for each in entries] == [each.path for each in LISTING]


def test_what_lies_below_a_doubtful_directory_is_doubtful(tmp_path) -> None:
    assert doubted(read(made(tmp_path, doubtful=[b"d"]))) == [b"d", b"d/\xff\n", b"d/x"]


def test_a_name_that_only_begins_like_a_doubtful_one_is_not(tmp_path) -> None:
    listing = [entry(b"", Kind.DIRECTORY), entry(b"d"), entry(b"d.x"), entry(b"dd")]
    assert doubted(read(made(tmp_path, listing, doubtful=[b"d"]))) == [b"d"]


@pytest.mark.parametrize("doubtful", [[b"no such path"], [b"d/x", b"no such path"], [b"d/x/below a file"]])
def test_doubt_about_what_the_listing_does_not_have_leaves_no_catalogue(tmp_path, doubtful) -> None:
    made(tmp_path)
    assert read(made(tmp_path, doubtful=doubtful)) is None


@pytest.mark.parametrize("kind", [Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK])
@pytest.mark.parametrize("mtime", [5, 0, DOUBTFUL])
def test_a_doubtful_entry_differs_from_everything(tmp_path, kind, mtime) -> None:
    there = entry(b"a", kind, mtime_ns=mtime)
    (old,) = read(made(tmp_path, [there], doubtful=[b"a"])) or ()
    assert changed_since(there, old) in {What.CHANGE, What.ATTRIBUTES}


# --- what has changed since

FILE, DIRECTORY, SYMLINK = Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK


@pytest.mark.parametrize("kind", [FILE, DIRECTORY, SYMLINK])
def test_the_same_is_unchanged_whatever_the_device_is_called_now(kind) -> None:
    assert changed_since(entry(b"a", kind, dev=99, xattrs=b""), entry(b"a", kind, xattrs=b"digest")) is None


@pytest.mark.parametrize("old", [FILE, DIRECTORY, SYMLINK, Kind.OTHER])
@pytest.mark.parametrize("new", [FILE, DIRECTORY, SYMLINK])
def test_another_kind_replaces(new, old) -> None:
    assert changed_since(entry(b"a", new), entry(b"a", old)) is (None if new is old else What.REPLACE)


@pytest.mark.parametrize(
    ("kind", "differing", "what"),
    [
        (FILE, {"size": 11}, What.CHANGE),
        (FILE, {"mtime_ns": 6}, What.CHANGE),
        (FILE, {"mtime_ns": 4}, What.CHANGE),
        (FILE, {"size": 11, "ctime_ns": 7}, What.CHANGE),
        (SYMLINK, {"target": b"x"}, What.CHANGE),
        (DIRECTORY, {"mtime_ns": 6}, What.ATTRIBUTES),
        (SYMLINK, {"mtime_ns": 6}, What.ATTRIBUTES),
        *(
            (kind, differing, What.ATTRIBUTES)
            for kind in (FILE, DIRECTORY, SYMLINK)
            for differing in (
                {"ctime_ns": 7},
                {"ctime_ns": 5},
                {"ino": 8},
                {"mode": 0o600},
                {"uid": 2},
                {"gid": 2},
                {"ino": 8, "ctime_ns": 7, "mode": 0o600},
            )
        ),
    ],
)
def test_each_difference_counts(kind, differing, what) -> None:
    assert changed_since(entry(b"a", kind, **differing), entry(b"a", kind)) is what


@pytest.mark.parametrize(
    ("differing", "seems"),
    [
        ({"ctime_ns": 7}, 1),
        ({"ino": 8}, 1),
        ({}, 0),
        ({"ctime_ns": 7, "mode": 0o600}, 0),
        ({"ctime_ns": 7, "uid": 2}, 0),
        ({"ctime_ns": 7, "mtime_ns": 9}, 0),
        ({"ctime_ns": 7, "size": 9}, 0),
    ],
)
def test_what_differs_in_inode_and_time_of_change_alone_only_seems_to_have_changed(differing, seems) -> None:
    since = Since()
    assert since(entry(b"a", **differing), entry(b"a")) is changed_since(entry(b"a", **differing), entry(b"a"))
    assert since.seeming == seems


def test_a_kept_hard_link_is_told_once_the_comparison_is_over() -> None:
    root = entry(b"", DIRECTORY)
    for nlink, keeps in ((1, False), (2, True)):
        comparison = compare([root, Kept(b"a")], [root, entry(b"a", nlink=nlink)], differs=Since())
        assert list(comparison.changes()) == []
        assert comparison.keeps_links is keeps


# --- how many runs have rested on it


def line(mark: Mark, master: str = "docs", **facts: object) -> Line:
    return Line(sequence=1, run="r", at="2026-01-01T00:00:00Z", mark=mark, master=master, facts=facts)


FULL, BELIEVED = line(Mark.COMPLETE, full=True), line(Mark.COMPLETE, full=False)
IDLE_FULL, IDLE = line(Mark.UNCHANGED, full=True), line(Mark.UNCHANGED, full=False)


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        ([], 0),
        ([FULL], 0),
        ([FULL, BELIEVED], 1),
        ([FULL, IDLE, IDLE, BELIEVED], 3),
        ([FULL, IDLE, IDLE_FULL], 0),
        ([FULL, IDLE, IDLE_FULL, IDLE], 1),
        ([FULL, line(Mark.BEGUN), line(Mark.COPYING), line(Mark.SNAPSHOT)], 0),
        ([FULL, line(Mark.COMPLETE, "photos", full=False)], 0),
        ([BELIEVED, line(Mark.UNCHANGED, "photos", full=True)], 1),
        ([line(Mark.COMPLETE)], 1),
        ([FULL, *[IDLE] * 10], 10),
    ],
)
def test_runs_since_both_sides_were_compared(lines, count) -> None:
    assert runs_since_full(lines, "docs") == count


def test_an_entry_takes_little_room(tmp_path) -> None:
    """About 60 bytes beside its path: a million files take some 120 MB, on disk and never in memory as a whole."""
    path = b"some/ordinary/folder/with/a/file name.jpeg"
    facts = {"size": 4_000_000, "mtime_ns": 1_700_000_000_123_456_789, "ctime_ns": 1_700_000_000_987_654_321}
    one = entry(path, **facts, dev=65025, ino=12_345_678, blocks=8000)
    assert len(msgspec.msgpack.encode(one)) - len(path) < 64
