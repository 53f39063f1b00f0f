"""The catalogue of all drives in one SQLite file, for quick answers: made from the deltas, and made anew at will.

This is the second door to sqlite3 (see docs/explanation/house.md). `nodes` is every path that was ever there, each the
child of another; `versions` says from which state on (`since`) and up to which (`until`, not included, none if it is
still so) a path was how. `names` holds the names of all nodes once more in pieces that are searched as a whole, which
takes a few milliseconds for a million where asking for each would take hundreds.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

from flashback.catalogue.seen import Kind, Seen

FORMAT: Final = 2
APPLICATION: Final = 0x464C4249
"""`PRAGMA application_id`: FLBI."""
ROOT: Final = 1
PIECE: Final = 64 * 1024
"""Bytes of names in a piece; one that is full is never written again."""
GATHERED: Final = 5000
BUSY_TIMEOUT: Final = 60.0
FEW: Final = 20_000
"""So many names of what is in no state any more are no burden."""

_TABLES: Final = (
    """CREATE TABLE trees (
        id INTEGER PRIMARY KEY, drive TEXT NOT NULL, master TEXT NOT NULL, path TEXT NOT NULL, current TEXT NOT NULL,
        unknown INTEGER NOT NULL, fingerprint TEXT NOT NULL, UNIQUE (drive, master))""",
    """CREATE TABLE states (
        tree INTEGER NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL, mark TEXT NOT NULL,
        living INTEGER NOT NULL, PRIMARY KEY (tree, number)) WITHOUT ROWID""",
    "CREATE TABLE nodes (id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL)",
    "CREATE UNIQUE INDEX children ON nodes (parent, name)",
    "CREATE TABLE names (first INTEGER PRIMARY KEY, piece BLOB NOT NULL)",
    """CREATE TABLE versions (
        node INTEGER NOT NULL, tree INTEGER NOT NULL, since INTEGER NOT NULL, until INTEGER, kind INTEGER NOT NULL,
        mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL, size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL, target BLOB, PRIMARY KEY (node, tree, since)) WITHOUT ROWID""",
    "CREATE TABLE looked (names INTEGER NOT NULL)",
    "CREATE INDEX ended ON versions (tree, until) WHERE until IS NOT NULL",
)


class IndexBroken(Exception):
    """The file is of no use: it is to be thrown away and made anew."""


class Index:
    """Opened with `Index.open`; a context manager that closes it. Raises `IndexBroken` for whatever SQLite says."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.db = connection

    @classmethod
    def open(cls, file: Path) -> Self:
        """The index in `file`, made (0600) where there is none. What is no index of this format is replaced.

        Raises `OSError` where it cannot be made.
        """
        try:
            return cls._opened(file)
        except (IndexBroken, sqlite3.Error):
            discard(file)
        try:
            return cls._opened(file)
        except sqlite3.Error as problem:
            raise OSError(f"{file}: {problem}") from problem

    @classmethod
    def _opened(cls, file: Path) -> Self:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(file, timeout=BUSY_TIMEOUT, isolation_level=None)
        try:
            index = cls(db)
            index._prepare()
        except BaseException:
            db.close()
            raise
        return index

    def _prepare(self) -> None:
        self.db.execute("PRAGMA mmap_size = 1073741824")
        self.db.execute("PRAGMA cache_size = -65536")
        mark = self.db.execute("PRAGMA application_id").fetchone()[0]
        version = self.db.execute("PRAGMA user_version").fetchone()[0]
        if (mark, version) == (APPLICATION, FORMAT):
            return
        with self.writing():
            if self.db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                raise IndexBroken("another format, or no index at all")
            for sql in _TABLES:
                self.db.execute(sql)
            self.db.execute("INSERT INTO nodes VALUES (?, 0, x'')", (ROOT,))
            self.db.execute("INSERT INTO names VALUES (?, x'0000')", (ROOT,))
            self.db.execute("INSERT INTO looked VALUES (?)", (ROOT,))
            self.db.execute(f"PRAGMA application_id = {APPLICATION}")
            self.db.execute(f"PRAGMA user_version = {FORMAT}")

    def close(self) -> None:
        """Let go of the file."""
        self.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction: all of the block or nothing. Raises `OSError` (a full disk), `IndexBroken`."""
        try:
            self.db.execute("BEGIN IMMEDIATE")
            yield
            self.db.execute("COMMIT")
        except sqlite3.OperationalError as problem:
            raise OSError(f"the index of the catalogue: {problem}") from problem
        except sqlite3.DatabaseError as problem:
            raise IndexBroken(str(problem)) from problem
        finally:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")

    def rows(self, sql: str, *values: object) -> list[Any]:
        """All rows of a question."""
        try:
            return self.db.execute(sql, values).fetchall()
        except sqlite3.DatabaseError as problem:
            raise IndexBroken(str(problem)) from problem

    def is_worn(self) -> bool:
        """Whether most names are of what is in no state any more: they are searched, and never go by themselves.

        It is counted only when there are a quarter more names than the last time.
        """
        names, looked = self.rows("SELECT max(id), (SELECT names FROM looked) FROM nodes")[0]
        if names < looked * 5 // 4 + FEW:
            return False
        used = self.rows("SELECT count(DISTINCT node) FROM versions")[0][0]
        try:
            with self.writing():
                self.db.execute("UPDATE looked SET names = ?", (names,))
        except OSError:  # where there is no room for that, there is none for another index
            return False
        return bool(names > 2 * used + FEW)

    # --- what changes

    def forget(self, tree: int) -> None:
        """Within `writing`: a tree is no more. Its names stay until the index is made anew (see `is_worn`)."""
        self.db.execute("DELETE FROM versions WHERE tree = ?", (tree,))
        self.db.execute("DELETE FROM states WHERE tree = ?", (tree,))
        self.db.execute("DELETE FROM trees WHERE id = ?", (tree,))

    def enter(self, tree: int, number: int, delta: Iterable[Seen]) -> None:
        """Within `writing`: state `number` of a tree, by what differs from the one before."""
        writer = _Writer(self.db, tree, number)
        for each in delta:
            writer.take(each)
        writer.settle()

    def drop_dead(self, tree: int) -> None:
        """Within `writing`: forget versions that were in no state that is left."""
        self.db.execute(
            "DELETE FROM versions WHERE tree = ?1 AND until IS NOT NULL AND NOT EXISTS (SELECT 1 FROM states AS s"
            " WHERE s.tree = ?1 AND s.living AND s.number >= versions.since AND s.number < versions.until)",
            (tree,),
        )


class _Writer:
    """Takes a delta in its order: the directories on the way to an entry are at hand, their numbers known.

    What is new is gathered and written `GATHERED` rows at a time. Nothing needs to be asked about what lies in a
    directory that is new itself.
    """

    def __init__(self, db: sqlite3.Connection, tree: int, number: int) -> None:
        self._tree, self._number = tree, number
        self._ask = db.execute
        self._way: list[tuple[bytes, int]] = []
        self._next = self._first = self._new = 1 + int(db.execute("SELECT max(id) FROM nodes").fetchone()[0])
        self._many = db.executemany
        self._nodes: list[tuple[int, int, bytes]] = []
        self._versions: list[tuple[object, ...]] = []
        self._names: list[bytes] = []
        self._empty = db.execute("SELECT NOT EXISTS (SELECT 1 FROM states WHERE tree = ?)", (tree,)).fetchone()[0]

    def take(self, seen: Seen) -> None:
        node = self._node(seen.path)
        if not self._empty and node < self._new:
            self._end(node, below=seen.covers)
        # Not of directories alone: what lay below one that vanished may be said to be gone, too.
        self._way.append((seen.path, node))
        if seen.kind != Kind.GONE:
            _path, kind, mode, uid, gid, size, mtime_ns, target, _fresh = seen
            facts = (kind, mode, uid, gid, size, mtime_ns, target or None)
            self._versions.append((node, self._tree, self._number, *facts))
        if len(self._versions) + len(self._nodes) >= GATHERED:
            self.settle()

    def _node(self, path: bytes) -> int:
        if not path:
            self._way = []
            return ROOT
        while self._way and not path.startswith(self._way[-1][0] + b"/"):
            self._way.pop()
        above, node = self._way[-1] if self._way else (b"", ROOT)
        *between, name = path[len(above) + 1 if above else 0 :].split(b"/")
        for part in between:
            node = self._child(node, part)
            above = above + b"/" + part if above else part
            self._way.append((above, node))
        return self._child(node, name)

    def _child(self, parent: int, name: bytes) -> int:
        if parent < self._new:
            found = self._ask("SELECT id FROM nodes WHERE parent = ? AND name = ?", (parent, name)).fetchone()
            if found is not None:
                return int(found[0])
        node = self._next
        self._next += 1
        self._nodes.append((node, parent, name))
        self._names.append(name)
        return node

    def _end(self, node: int, *, below: bool) -> None:
        """What is there ends with the state before, and, with `below`, all that lies below."""
        key = (self._number, self._tree)
        found = self._ask(
            "SELECT kind FROM versions WHERE node = ? AND tree = ? AND until IS NULL", (node, self._tree)
        ).fetchone()
        if found is None:
            return
        if below and found[0] == Kind.DIRECTORY:
            self._ask(
                "WITH RECURSIVE under (id) AS (VALUES (?3) UNION ALL SELECT n.id FROM under JOIN nodes AS n"
                " ON n.parent = under.id) UPDATE versions SET until = ?1 WHERE tree = ?2 AND until IS NULL"
                " AND node IN (SELECT id FROM under)",
                (*key, node),
            )
        else:
            self._ask("UPDATE versions SET until = ? WHERE tree = ? AND node = ? AND until IS NULL", (*key, node))

    def settle(self) -> None:
        """Write what was gathered."""
        self._many("INSERT INTO nodes VALUES (?, ?, ?)", self._nodes)
        self._many("INSERT OR REPLACE INTO versions VALUES (?, ?, ?, NULL, ?, ?, ?, ?, ?, ?, ?)", self._versions)
        self._nodes, self._versions = [], []
        self._settle_names()

    def _settle_names(self) -> None:
        """Add the names of new nodes to the pieces: to the last one while it has room, else to new ones."""
        names, self._names = self._names, []
        if not names:
            return
        first, piece = self._ask("SELECT first, piece FROM names ORDER BY first DESC LIMIT 1").fetchone()
        node = self._first
        room = bytearray(piece)
        for name in names:
            if len(room) > PIECE:
                self._ask("REPLACE INTO names VALUES (?, ?)", (first, bytes(room)))
                first, room = node, bytearray(b"\0")
            room += name + b"\0"
            node += 1
        self._ask("REPLACE INTO names VALUES (?, ?)", (first, bytes(room)))
        self._first = node


def discard(file: Path) -> None:
    """Throw an index away."""
    for each in (file, file.with_name(f"{file.name}-journal")):
        with suppress(OSError):
            each.unlink(missing_ok=True)
