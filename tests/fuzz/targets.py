"""What is tried with hostile bytes: one target for each format that is read from a drive, a session or a program.

A target is handed any bytes. It may take them or refuse them, by the error that this format has for it, and what it
takes must be harmless: texts that can be shown, paths that lead nowhere else, numbers that fit. Whatever else is raised
is a finding. `python -m tests.fuzz` looks for such bytes by coverage; `tests/unit/test_fuzz.py` tries each target with
its seeds, with changes of these, and with all that was ever found (`tests/fuzz/found/`).
"""

from __future__ import annotations

import io
import json
import os
import sqlite3
import struct
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from flashback.catalogue import file as catalogue_file
from flashback.catalogue.frames import CatalogueBroken, write_proven
from flashback.catalogue.index import _TABLES, Index
from flashback.catalogue.match import matcher
from flashback.catalogue.seen import Kind, Seen, compose, difference, listing
from flashback.catalogue.shelf import Shelf
from flashback.config import exclusions
from flashback.config.findings import Findings
from flashback.config.masters import MastersReader
from flashback.config.nodes import parse
from flashback.config.reader import _Reader
from flashback.config.values import Rule
from flashback.core.errors import ConfigError, DriveError, UsageError
from flashback.core.spoken import json_object
from flashback.core.text import folded, parse_stamp, shown
from flashback.drive import configuration, header, journal, marker
from flashback.prepare.take_over import plan
from flashback.rotation import schema
from flashback.rotation.fork import forked
from flashback.rotation.ledger import Ledger, _as_dict
from flashback.rotation.values import RunRecord
from flashback.tools import block, btrfs_trees
from flashback.tools.kernel_log import _DAMAGE, message
from flashback.tools.rsync.heard import Heard
from flashback.trigger.words import Gone, Wire
from flashback.walk.filter import Filter

DRIVE = "11111111-2222-3333-4444-555555555555"


@dataclass(frozen=True)
class Target:
    """`run` is given the bytes; `words` are what a format is made of, for whoever makes them up."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    words: tuple[bytes, ...] = ()


def harmless(text: str) -> None:
    """Cleaned as a name is, it can be printed on any terminal, in any log."""
    clean(shown(text))


def clean(text: str) -> None:
    """It moves no cursor, turns no line around, and has a form in UTF-8."""
    kinds = {unicodedata.category(each) for each in text} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not kinds, ascii(text)
    text.encode("utf-8")


# --- drive.yaml


def try_marker(data: bytes) -> None:
    try:
        said = marker.decode(data)
    except DriveError as problem:
        harmless(str(problem))
        return
    for text in (said.name, said.uuid, said.created, said.machine, said.place, *(said.masters or ())):
        assert isinstance(text, str)
        harmless(text)


def marker_seeds() -> list[bytes]:
    plain = marker.Marker("red", DRIVE, "2026-01-02T03:04:05Z", "laptop")
    more = marker.Marker("blue", DRIVE, "2026-01-02T03:04:05Z", "laptop", place="offsite", masters=("documents",))
    return [marker.encode(plain), marker.encode(more)]


# --- runs.jsonl


def try_journal(data: bytes) -> None:
    lines = journal.decode(data)
    for master in {line.master for line in lines}:
        journal.incumbent(lines, master)
        journal.runs_since_full(lines, master)
        harmless(master)
    for _master, name in journal.pins(lines):
        assert parse_stamp(name) is not None
    journal.completed_by(lines)
    journal.last_moment(lines)
    assert 0 <= journal.last_sequence(lines) < journal.HIGHEST_SEQUENCE
    for line in lines:
        assert journal.decode(journal.encode(line)) == (line,)
    with a_ledger() as ledger:
        ledger.merge(DRIVE, [journal.as_dict(line) for line in lines])
        ledger.merge(DRIVE, [journal.as_dict(line) for line in lines])
        for run in ledger.runs(limit=-1):
            _run_is_possible(run)
        forked([(line.sequence, line.run) for line in lines], ledger.runs())
        ledger.backups()
        ledger.scrubs(DRIVE)


def _run_is_possible(run: RunRecord) -> None:
    assert 0 < run.sequence <= journal.HIGHEST_SEQUENCE
    assert run.run_id.isprintable()
    assert run.machine.isprintable()
    assert type(run.exit_code) in {int, type(None)}
    for each in run.masters:
        assert each.master.isprintable()
        assert 0 <= each.files_added < 2**63


@contextmanager
def a_ledger() -> Iterator[Ledger]:
    """The one in memory, empty."""
    ledger = _ledger()
    yield ledger
    for table in ("runs", "run_masters", "scrubs"):
        ledger._db.execute(f"DELETE FROM {table}")


@cache
def _ledger() -> Ledger:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = _as_dict
    for step in schema.MIGRATIONS:
        for sql in step:
            connection.execute(sql)
    return Ledger(Path("/nonexistent"), connection)


def journal_seeds() -> list[bytes]:
    counts: dict[str, Any] = {"files_added": 3, "bytes_added": 12, "begun": "2026-01-02T03:04:05Z", "full": True}
    last = {"result": "complete", "exit_code": 0, "bytes_copied": 12, "seconds": 1.5, "remarks": 0}
    scrub = {"begun": "2026-01-02T03:04:05Z", "finished": 1, "bytes_read": 9}
    facts = {journal.Mark.COMPLETE: counts, journal.Mark.ENDED: last, journal.Mark.SCRUB: scrub}
    lines = [
        journal.encode(
            journal.Line(
                sequence=7,
                run="a1b2c3",
                at="2026-01-02T03:04:05Z",
                mark=mark,
                machine="laptop",
                master="" if mark in {journal.Mark.ENDED, journal.Mark.SCRUB} else "documents",
                snapshot="20260101T030405Z" if mark in {journal.Mark.SNAPSHOT, journal.Mark.PINNED} else "",
                generation=17,
                facts=facts.get(mark, {}),
            )
        )
        for mark in journal.Mark
    ]
    return [*lines, b"\n".join(lines) + b"\n"]


# --- the files of the catalogue, as they are and with digests that are right


def try_catalogue(data: bytes) -> None:
    _read_catalogue(data)


def try_catalogue_frames(data: bytes) -> None:
    """The bytes are frames, each with two bytes of length before it; their digests are put in."""
    frames = []
    while len(data) > 2:
        length = int.from_bytes(data[:2], "big")
        frames.append(data[2 : 2 + length])
        data = data[2 + length :]
    whole = io.BytesIO()
    write_proven(whole, frames)
    _read_catalogue(whole.getvalue())


def _read_catalogue(data: bytes) -> None:
    name = f"20260102T030405Z-{'0' * 16}.delta"
    try:
        _header, entries = catalogue_file.read(io.BytesIO(data), name)
        found = list(entries)
    except CatalogueBroken as problem:
        harmless(str(problem))
        return
    for each in found:
        assert not each.path.startswith(b"/")
        assert b".." not in each.path.split(b"/")
        harmless(shown(each.path))
    again = list(compose(listing(found), found))
    list(difference(list(listing(found)), again))
    _indexed(found)


def _indexed(found: list[Seen]) -> None:
    index = _index()
    index.db.execute("BEGIN")
    for number in (1, 2):
        index.enter(1, number, found)
    index.db.execute("ROLLBACK")


@cache
def _index() -> Index:
    index = Index(sqlite3.connect(":memory:", isolation_level=None))
    for sql in _TABLES:
        index.db.execute(sql)
    index.db.execute("INSERT INTO nodes VALUES (1, 0, x'')")
    index.db.execute("INSERT INTO names VALUES (1, x'0000')")
    return index


def catalogue_seeds() -> list[bytes]:
    return [whole for whole, _frames in _catalogues()]


def catalogue_frames_seeds() -> list[bytes]:
    return [b"".join(len(each).to_bytes(2, "big") + each for each in frames) for _whole, frames in _catalogues()]


def _catalogues() -> list[tuple[bytes, list[bytes]]]:
    from flashback.catalogue.frames import proven

    entries = [
        Seen(b"", Kind.DIRECTORY, 0o755),
        Seen(b"a", Kind.DIRECTORY, 0o755, fresh=True),
        Seen(b"a/b", Kind.FILE, 0o644, 1000, 1000, 12, 10**18),
        Seen(b"a/c", Kind.SYMLINK, 0o777, 0, 0, 0, 1, b"../b"),
        Seen(b"d", Kind.GONE),
    ]
    found = []
    for base in ("", f"20260101T030405Z-{'f' * 16}"):
        file = io.BytesIO()
        said = catalogue_file.Header(master="documents", state="20260102T030405Z", mark="0" * 16, base=base, path="/h")
        catalogue_file.write(file, said, entries)
        file.seek(0)
        found.append((file.getvalue(), list(proven(file))))
    return found


def try_note(data: bytes) -> None:
    """states.json beside them."""
    folder = os.memfd_create("note")
    try:
        os.write(folder, data)
        shelf = Shelf(-1)
        with suppress(OSError):
            shelf.fd = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY)
        shelf.note()
    finally:
        os.close(folder)
        if shelf.fd >= 0:
            os.close(shelf.fd)


# --- the copy of the configuration, and what happens to it


def try_index(data: bytes) -> None:
    said = configuration.decode(data)
    if said is None:
        return
    assert said.main in said.origins
    files = dict.fromkeys(said.origins, b"masters: {}\n")
    planned = plan(Path("/etc/flashback/flashback.yaml"), files, said)
    for path in planned.files if planned is not None else ():
        assert path.is_relative_to("/etc/flashback"), path
        assert ".." not in path.parts, path
    for line in planned.lines() if planned is not None else ():
        clean(line)


def index_seeds() -> list[bytes]:
    main = Path("/etc/flashback/flashback.yaml")
    return [configuration.encode(configuration.names_for(main, [main.parent / "exclusions.txt", Path("/home/a/x")]))]


def try_settings(data: bytes) -> None:
    """flashback.yaml: a person's, which a drive carries a copy of."""
    findings = Findings(Path("/etc/flashback/flashback.yaml"))
    root = parse(data, findings)
    reader = MastersReader(
        directory=Path("/nonexistent"),
        runtime=Path("/run/flashback"),
        users=lambda name: name == "alice",
        trusted_by=None,
        findings=findings,
    )
    if root is not None or not findings:
        _Reader(findings.file, findings, reader).config(root)
    for line in findings.lines():
        clean(line)


def settings_seeds() -> list[bytes]:
    return [
        b"masters:\n  documents:\n    path: /home/alice/Documents\n    owner: alice\n    symlinks: follow\n",
        b"masters: {a: {path: 'alice@host:/x'}}\nkeep: {last: 3, daily: 7, min_free: 5%}\nscrub_every: 30d\n",
        b"masters: {a: {path: /a, exclusions: [x.txt]}}\nrotation: {due_after: 7d}\non_plug: ask\nnotify: {desktop: no}\n",
    ]


def try_exclusions(data: bytes) -> None:
    """The rules, and a few paths held against them: neither may take long."""
    findings = Findings(Path("/etc/flashback/exclusions.txt"))
    rules = exclusions.check_rules(data, findings)
    for line in (*findings.lines(), *exclusions.doubtful_lines(findings.file, data, master=Path("/home/alice"))):
        clean(line)
    with suppress(ConfigError):
        rated = Filter([Rule(rule.pattern, rule.include, "", 1) for rule in rules[:20]])
        for path in (b"a", b"a/b/c", b"a" * 200, b"a/" * 60 + b"b", data[:250].strip(b"/").replace(b"\0", b"") or b"x"):
            for is_directory in (False, True):
                rated.excluded(path, is_directory=is_directory)


def exclusions_seeds() -> list[bytes]:
    return [
        b"*.o\n# a comment\n+ /keep/***\n- /*\n!\n",
        b"/a/**/b\n[!a-z[:digit:]]*\n**/cache/\n\\[x\\]\n",
        b"include *.c\nmerge ../rules\n*a*b*c*d*e*f\n",
    ]


# --- LUKS: the binary head, and the JSON that cryptsetup prints


def try_luks_head(data: bytes) -> None:
    file = os.memfd_create("head")
    try:
        os.write(file, data)
        os.lseek(file, 0, os.SEEK_SET)
        found = block.luks_header(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
    if found is not None:
        _version, uuid, label = found
        assert uuid == "" or len(uuid) == 36
        harmless(label)


def luks_head_seeds() -> list[bytes]:
    head = bytearray(4096)
    head[:8], head[24:38], head[168:204] = b"LUKS\xba\xbe\0\x02", b"flashback-red\0", DRIVE.encode()
    return [bytes(head)]


def try_luks_json(data: bytes) -> None:
    said = json_object(data)
    for slot in header.slots_of(said):
        harmless(slot.words)
        json.dumps(slot.as_json())
    header.token_number(said)
    header.differences(said, said)
    with suppress(DriveError):
        assert header.SHORTEST_HEADER <= header.header_length(said) <= header.LONGEST_HEADER


LUKS_JSON = {
    "keyslots": {
        "0": {"type": "luks2", "kdf": {"type": "argon2id", "memory": 262144, "time": 4}},
        "1": {"type": "luks2", "kdf": {"type": "pbkdf2"}},
    },
    "tokens": {"0": {"type": "flashback", "keyslots": ["1"], "v": 1}},
    "segments": {"0": {"type": "crypt", "offset": "16777216", "size": "dynamic", "encryption": "aes-xts-plain64"}},
    "digests": {"0": {"type": "pbkdf2", "keyslots": ["0", "1"], "segments": ["0"], "salt": "c2E=", "digest": "ZGk="}},
    "config": {"json_size": "12288", "keyslots_size": "16744448"},
}


def luks_json_seeds() -> list[bytes]:
    return [json.dumps(LUKS_JSON).encode()]


# --- the trees of the drive's Btrfs


def try_btrfs(data: bytes) -> None:
    """The bytes are a superblock, and behind it the tree blocks, whose addresses and checksums nobody looks at here."""
    file = os.memfd_create("btrfs")
    node = 4096
    try:
        os.pwrite(file, data[:4096].ljust(4096, b"\0"), btrfs_trees.SUPER)
        for number in range(8):
            part = data[4096 + number * node : 4096 + (number + 1) * node]
            os.pwrite(file, part.ljust(node, b"\0"), (1 << 20) + number * node)
        trees, generation, root = btrfs_trees._mounted(file, lambda: None)
        found = btrfs_trees._freed(trees, {256: 0, 257: 1}, root, 2)
        assert generation >= 0
        assert len(found.freed) == 2
    except DriveError as problem:
        harmless(str(problem))
    finally:
        os.close(file)


def btrfs_seeds() -> list[bytes]:
    """A tree of chunks with one chunk, a tree of roots with one tree of files, in that one extent."""
    base = 1 << 20

    def leaf(place: int, items: list[tuple[int, int, int, bytes]]) -> bytes:
        head = bytearray(101)
        struct.pack_into("<Q", head, 48, place)
        struct.pack_into("<Q", head, 80, 9)
        struct.pack_into("<I", head, 96, len(items))
        rows, content, at = b"", b"", 4096 - 101
        for number, kind, offset, data in items:
            at -= len(data)
            rows += struct.pack("<QBQII", number, kind, offset, at, len(data))
            content = data + content
        return bytes(head) + rows + bytes(4096 - 101 - len(rows) - len(content)) + content

    chunk = struct.pack("<QQQQIIIHH", 1 << 20, 2, 65536, 2, 4096, 4096, 4096, 1, 0) + struct.pack(
        "<QQ16s", 1, base, b""
    )
    root_item = bytearray(239)
    struct.pack_into("<Q", root_item, 160, 9)
    struct.pack_into("<Q", root_item, 176, base + 2 * 4096)
    struct.pack_into("<I", root_item, 216, 1)
    extent = bytes(8) + struct.pack("<Q4xBQQ", 8192, 1, base + 65536, 4096) + bytes(20)
    head = bytearray(4096)
    head[0x40:0x48] = btrfs_trees.MAGIC
    struct.pack_into("<QQQ", head, 0x48, 9, base + 4096, base)
    struct.pack_into("<I", head, 0x94, 4096)
    system = struct.pack("<QBQ", 256, 228, base) + chunk
    struct.pack_into("<I", head, 0xA0, len(system))
    struct.pack_into("<Q", head, 0xA4, 9)
    head[0x32B : 0x32B + len(system)] = system
    leaves = (
        leaf(base, [(256, 228, base, chunk)]),
        leaf(base + 4096, [(256, 132, 0, bytes(root_item))]),
        leaf(base + 8192, [(257, 108, 0, extent)]),
    )
    return [bytes(head) + b"".join(leaves)]


# --- what programs, the kernel and a session say


def try_lsblk(data: bytes) -> None:
    for device in block.walk(block._listed(json_object(data).get("blockdevices"), None)):
        for text in (device.label, device.model, device.serial, device.partition_label):
            harmless(text)


def lsblk_seeds() -> list[bytes]:
    part = {"path": "/dev/sda1", "name": "sda1", "type": "part", "size": 9, "fstype": "crypto_LUKS", "label": "x"}
    disk = {"path": "/dev/sda", "name": "sda", "type": "disk", "size": "10", "rm": "1", "mountpoints": [None]}
    return [json.dumps({"blockdevices": [disk | {"children": [part]}]}).encode()]


def try_rsync(data: bytes) -> None:
    heard = Heard((b"/master", b"/mnt/current"), lambda _bytes, _files, name: harmless(shown(name)))
    for line in data.split(b"\n"):
        heard.out(line)
        heard.err(line)
    for trouble in (*(said := heard.outcome()).unread, *said.unwritable):
        harmless(trouble.why)


def rsync_seeds() -> list[bytes]:
    return [
        b'rsync: [sender] send_files failed to open "/master/a": Permission denied (13)\n@a/b\\#012c\n',
        b"  5,000,006  50%  1.16GB/s  0:00:00 (xfr#7, to-chk=1/11)\n 5 1% (xfr#1\nLiteral data: 12 bytes\n",
        b'ERROR: a failed verification -- update retained.\nfile has vanished: "/master/x"\n',
        b'rsync: [receiver] mkstemp "/mnt/current/.b.aZ09xy" failed: No space left on device (28)\n',
    ]


def try_kernel(data: bytes) -> None:
    if found := _DAMAGE.search(message(data)):
        int(found["root"]), int(found["inode"])


def kernel_seeds() -> list[bytes]:
    said = b"BTRFS warning (device dm-0): checksum error at logical 1 on dev /dev/dm-0, physical 1, root 5, inode 257"
    return [b"4,1,1,-;" + said + b", offset 0, length 4096, links 1 (path: a\\x0ab)\n SUBSYSTEM=block\n"]


class _Said:
    """A connection at whose other end these bytes were said."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def settimeout(self, _seconds: float) -> None:
        """Nothing here waits."""

    def recv(self, count: int) -> bytes:
        taken, self.data = self.data[:count], self.data[count:]
        return taken


def try_session(data: bytes) -> None:
    """What a session says to root's unit, and the other way round."""
    from tests.fuzz.talks import answered, talked

    with suppress(Gone):
        for words in Wire(_Said(data)).heard():  # type: ignore[arg-type]
            answered(words)
            talked(words)


def session_seeds() -> list[bytes]:
    said: list[dict[str, Any]] = [
        {"id": 1, "answer": "now"},
        {"id": 1, "passphrase": "x"},
        {"do": "hello", "drive": "red", "uuid": DRIVE},
        {"do": "ask", "id": 1, "said": "Last backup: 3 days ago."},
        {"do": "passphrase", "id": 2, "question": "Passphrase:", "attempt": 1},
        {"do": "notice", "kind": "done", "summary": "red: safe to remove", "body": "3 files"},
        {"do": "progress", "percent": 12},
    ]
    return [json.dumps(each).encode() + b"\n" for each in said]


def try_name(data: bytes) -> None:
    harmless(shown(data))
    text = shown(data.decode("utf-16-le", "surrogatepass") if len(data) % 2 == 0 else data)
    clean(text)
    for width in (1, 20, 80):
        folded(text, width)


def name_seeds() -> list[bytes]:
    return [b"plain", b"\x1b[31mred\x07", "\u202e\u2066x\ud800".encode("utf-16-le", "surrogatepass"), b"`a b` c\n d"]


def try_pattern(data: bytes) -> None:
    """What a person looks for with `find`."""
    for ignore_case in (False, True):
        with suppress(UsageError):
            wanted = matcher(data.decode("utf-8", "surrogateescape"), ignore_case=ignore_case)
            for name in ("a", "a-b", "x" * 60):
                wanted.name(name)
                if wanted.path is not None:
                    wanted.path(f"/{name}/{name}")


def pattern_seeds() -> list[bytes]:
    return [b"*.txt", b"[!a-c]x", b"**/a/*", b"*[?\\-[ab]", b"a\\*b", b"/home/**/x?"]


TARGETS: dict[str, Target] = {
    "pattern": Target(try_pattern, pattern_seeds, (b"[z-a]", b"[", b"]", b"**", b"\\")),
    "marker": Target(try_marker, marker_seeds, (b'"', b"name: ", b"format: 1", b"\\ud800", b"masters: [")),
    "journal": Target(
        try_journal, journal_seeds, (b'"facts":{', b'"sequence":', b"[]", b"{}", b'"exit_code":', b"1e999")
    ),
    "catalogue": Target(try_catalogue, catalogue_seeds),
    "catalogue-frames": Target(try_catalogue_frames, catalogue_frames_seeds, (b"H", b"E", b"Z", b"../", b"\0")),
    "index": Target(try_index, index_seeds, (b'"files":', b'"configuration":', b"../", b"\\u0000")),
    "settings": Target(try_settings, settings_seeds, (b"&a ", b"*a", b"<<: ", b"!!python/", b"|\n", b"- ", b"%YAML")),
    "exclusions": Target(try_exclusions, exclusions_seeds, (b"**", b"[[:", b":]]", b"[!", b"\\", b"/***", b"- ", b"!")),
    "luks-head": Target(try_luks_head, luks_head_seeds),
    "luks-json": Target(try_luks_json, luks_json_seeds, (b'"memory":', b"[]", b"{}", b"1e999", b'"offset":')),
    "btrfs": Target(try_btrfs, btrfs_seeds),
    "lsblk": Target(try_lsblk, lsblk_seeds, (b'"children":[', b'"mountpoints":', b"[]", b"{}")),
    "rsync": Target(try_rsync, rsync_seeds, (b"\\#012", b'" -> "', b"(5)", b"rename")),
    "kernel": Target(try_kernel, kernel_seeds),
    "session": Target(try_session, session_seeds, (b'"answer":', b'"id":', b"[]", b"\\ud800", b"1e999")),
    "name": Target(try_name, name_seeds),
}
