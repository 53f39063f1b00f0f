"""The files of the catalogue are a drive's, hence untrusted: what is not what was written is never believed."""

from __future__ import annotations

import io
import os
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashback.catalogue import file as files
from flashback.catalogue.file import BATCH, Header
from flashback.catalogue.frames import CatalogueBroken, proven, write_proven
from flashback.catalogue.seen import Kind, Seen
from flashback.catalogue.shelf import Shelf
from tests.unit.histories import flat, roots

HEADER = Header(master="docs", state="20260102T030405Z", mark="0" * 16, run="a-run", path="/home/é")
FILE = Seen(b"a", int(Kind.FILE), 0o644, 1, 2, 3, 4)


def written(entries, header=HEADER) -> bytes:
    out = io.BytesIO()
    files.write(out, header, entries)
    return out.getvalue()


def read(content: bytes, name: str = HEADER.name) -> list[Seen]:
    return list(files.read(io.BytesIO(content), name).entries)


@given(roots)
def test_what_was_written_is_read_again(tree) -> None:
    entries = list(flat(tree).values())
    assert read(written(entries)) == entries


def test_many_batches_are_read_again() -> None:
    entries = [FILE._replace(path=f"{number:06d}".encode()) for number in range(3 * BATCH + 1)]
    assert read(written(entries)) == entries


def test_a_batch_of_more_entries_than_are_ever_written_is_refused() -> None:
    """A hundred bytes that unpack to millions of entries would take up the memory."""
    rows = [(0, b"%06d" % number, int(Kind.FILE), 0, 0, 0, 0, 0, b"") for number in range(BATCH + 1)]
    out = io.BytesIO()
    batch = b"E" + zlib.compress(msgspec.msgpack.encode(rows))
    end = b"Z" + msgspec.msgpack.encode({"entries": len(rows)})
    write_proven(out, [b"H" + msgspec.msgpack.encode(HEADER), batch, end])
    with pytest.raises(CatalogueBroken, match="length"):
        read(out.getvalue())


@given(st.data())
def test_a_file_with_one_bit_turned_or_cut_anywhere_is_not_believed(data) -> None:
    content = written([FILE, FILE._replace(path=b"b")])
    at = data.draw(st.integers(0, len(content) - 1))
    bad = data.draw(st.sampled_from([content[:at], content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]]))
    with pytest.raises(CatalogueBroken):
        read(bad)


def forged(rows: object, end: object = None) -> bytes:
    out = io.BytesIO()
    frames = [b"H" + msgspec.msgpack.encode(HEADER), b"E" + zlib.compress(msgspec.msgpack.encode(rows))]
    count = len(rows) if isinstance(rows, list) else 0
    write_proven(out, [*frames, b"Z" + msgspec.msgpack.encode(end or {"entries": count})])
    return out.getvalue()


def row(path=b"a", *, shared=0, kind=1, mode=0o644, uid=0, gid=0, size=0, mtime=0, target=b""):
    return (shared, path, kind, mode, uid, gid, size, mtime, target)


BAD = {
    "absolute": [row(b"/etc/passwd")],
    "up": [row(b"../x")],
    "up within": [row(b"a/../../x")],
    "dot": [row(b"./x")],
    "empty part": [row(b"a//x")],
    "slash at the end": [row(b"a/")],
    "nul": [row(b"a\0b")],
    "very long": [row(b"x" * 20_000)],
    "shared with nothing": [row(b"x", shared=3)],
    "shared below zero": [row(b"x", shared=-1)],
    "twice": [row(b"a"), row(b"a")],
    "out of order": [row(b"b"), row(b"a")],
    "no such kind": [row(kind=5)],
    "huge size": [row(size=2**63)],
    "negative size": [row(size=-1)],
    "huge time": [row(mtime=2**63)],
    "huge owner": [row(uid=2**32)],
    "mode with more bits": [row(mode=0o100644)],
    "long target": [row(kind=3, target=b"x" * 5000)],
    "text instead of bytes": [(0, "a", 1, 0, 0, 0, 0, 0, b"")],
    "too few fields": [(0, b"a", 1)],
    "no list": {"a": 1},
}


@pytest.mark.parametrize("rows", BAD.values(), ids=BAD.keys())
def test_what_cannot_be_is_not_believed_though_its_digest_is_right(rows) -> None:
    with pytest.raises(CatalogueBroken):
        read(forged(rows))


def test_a_forged_file_that_could_be_is_read() -> None:
    assert read(forged([row(b"a")])) == [Seen(b"a", 1, 0o644)]


def test_a_wrong_count_is_noticed() -> None:
    with pytest.raises(CatalogueBroken):
        read(forged([row(b"a")], {"entries": 2}))


def test_a_batch_that_unpacks_to_more_than_can_be_is_refused() -> None:
    out = io.BytesIO()
    bomb = zlib.compress(b"\0" * (files.LARGEST_BATCH + 1), 9)
    write_proven(out, [b"H" + msgspec.msgpack.encode(HEADER), b"E" + bomb])
    with pytest.raises(CatalogueBroken, match="too large"):
        read(out.getvalue())


def test_a_file_under_another_name_is_not_believed() -> None:
    with pytest.raises(CatalogueBroken):
        read(written([FILE]), "20260102T030406Z-" + "0" * 16 + ".delta")


def test_something_after_the_end_is_noticed() -> None:
    frames = [*proven(io.BytesIO(written([FILE]))), b"E"]
    out = io.BytesIO()
    write_proven(out, frames)
    with pytest.raises(CatalogueBroken):
        read(out.getvalue())


@pytest.fixture
def shelf(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield Shelf(fd)
    os.close(fd)


def header(day: int, base: Header | None = None) -> Header:
    return Header(master="docs", state=f"202601{day:02d}T000000Z", mark=f"{day:016x}", base=base.stem if base else "")


def test_links_pipes_and_folders_in_its_folder_are_passed_over(shelf, tmp_path) -> None:
    good = shelf.write(header(1), [FILE])
    (tmp_path / header(2).name).symlink_to(tmp_path / header(1).name)
    os.mkfifo(tmp_path / header(3).name)
    (tmp_path / header(4).name).mkdir()
    assert shelf.chain() == (good,)


def test_a_state_whose_base_is_missing_is_not_believed_and_those_before_are(shelf) -> None:
    first = shelf.write(header(1), [FILE])
    second = shelf.write(header(2, header(1)), [FILE._replace(size=9)])
    shelf.write(header(4, header(3)), [FILE])
    assert shelf.chain() == (first, second)


def test_a_file_that_was_being_written_is_in_no_chain(shelf, tmp_path) -> None:
    def entries():
        yield FILE
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shelf.write(header(1), entries())
    assert shelf.chain() == ()
    assert os.listdir(tmp_path) == []


def test_joining_that_was_killed_before_the_older_was_let_go_loses_nothing(shelf, monkeypatch) -> None:
    bases = [None, header(1), header(2), header(3)]
    links = [shelf.write(header(day, base), [FILE._replace(size=day)]) for day, base in enumerate(bases, 1)]
    living = frozenset({links[0].state, links[2].state, links[3].state})
    monkeypatch.setattr(
        Shelf, "remove", lambda _self, name: None if name.startswith(".") else (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        shelf.tidy(links, living)
    assert living <= {link.state for link in shelf.chain()}
    with shelf.listing(shelf.chain()) as files_now:
        assert list(files_now) == [FILE._replace(size=4)]


def test_what_was_just_made_is_taken_over_as_it_is_and_what_is_garbled_is_not(shelf, tmp_path) -> None:
    shelf.write(header(1), [FILE])
    file = tmp_path / header(1).name
    (tmp_path / "other").mkdir()
    fd = os.open(tmp_path / "other", os.O_RDONLY | os.O_DIRECTORY)
    other = Shelf(fd)
    other.take_over(shelf, file.name)
    assert (tmp_path / "other" / file.name).read_bytes() == file.read_bytes()
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    other.remove(file.name)
    with pytest.raises(CatalogueBroken):
        other.take_over(shelf, file.name)
    assert other.names() == []
    os.close(fd)
