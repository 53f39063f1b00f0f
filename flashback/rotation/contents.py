"""Which content was read of which version of a file, on which drive and when: hashes in a file of SQLite.

A version is a path of a master with a size and a time of modification; it stands here as a hash of these, so that no
name does. Wherever a version was read, one content was found, or the difference was told and not noted. About 60 bytes
for each version and place. Of more than `MOST` rows those go that were not read for longest.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple, Self

from flashback.rotation.rows import read, written

MASTER: Final = ""
"""The place that stands for the master itself; the others are LUKS UUIDs."""
MOST: Final = 5_000_000
LENGTH: Final = 16
"""Bytes of a version's and of a content's hash."""
FORMAT: Final = 1
APPLICATION: Final = 0x464C4243
"""`PRAGMA application_id`: FLBC."""
BATCH: Final = 10_000
BUSY_TIMEOUT: Final = 10.0
TEMPORARY: Final = ""
"""What SQLite calls a database that lies in a file without a name (https://sqlite.org/inmemorydb.html)."""

_TABLES: Final = (
    "CREATE TABLE turns (turn INTEGER PRIMARY KEY, at TEXT NOT NULL)",
    "CREATE TABLE places (place INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    """CREATE TABLE contents (
        version BLOB NOT NULL, place INTEGER NOT NULL, content BLOB NOT NULL, file INTEGER NOT NULL,
        turn INTEGER NOT NULL, PRIMARY KEY (version, place)) WITHOUT ROWID""",
)
_PUT: Final = "INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?, ?)"


class Known(NamedTuple):
    """What was read of a version. `file` is what told the file apart then (see `file_mark`), `this_turn`: just now."""

    place: str
    content: bytes
    file: int
    at: datetime
    this_turn: bool


def version_mark(master: str, path: bytes, size: int, mtime_ns: int) -> bytes:
    """What stands for a version."""
    return hashlib.blake2b(b"%b\0%b\0%d %d" % (master.encode(), path, size, mtime_ns), digest_size=LENGTH).digest()


def file_mark(master: str, ino: int, ctime_ns: int) -> int:
    """What stands for one file as it is: nobody can write to it, or set its times, and leave that as it was."""
    digest = hashlib.blake2b(b"%b\0%d %d" % (master.encode(), ino, ctime_ns), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


class Contents:
    """Opened with `Contents.open`; a context manager that writes what was noted, and closes it.

    What cannot be remembered was read all the same: nothing is raised, `trouble` says what was in the way.
    """

    def __init__(self, database: sqlite3.Connection, at: datetime, trouble: str = "") -> None:
        self.trouble = trouble
        self._db = database
        self._places: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._waiting: dict[tuple[bytes, int], tuple[bytes, int]] = {}
        self._turn = 0
        self._noted = 0
        self._at = at

    @classmethod
    def open(cls, file: Path, at: datetime) -> Self:
        """What is noted in `file`, made (0600) where there is none; what is noted from now on was read at `at`.

        A file that is of no use is moved away; where none can be had, what is noted is forgotten in the end.
        """
        try:
            return cls._opened(file, at)
        except (OSError, sqlite3.Error) as problem:
            trouble = f"{file}: {problem}"
            if isinstance(problem, sqlite3.DatabaseError) and not isinstance(problem, sqlite3.OperationalError):
                with suppress(OSError, sqlite3.Error):
                    file.replace(file.with_name(f"{file.name}.broken"))
                    return cls._opened(file, at, f"{trouble}; it was moved to {file.name}.broken, and begun anew")
        return cls._prepared(sqlite3.connect(TEMPORARY, isolation_level=None), at, trouble)

    @classmethod
    def _opened(cls, file: Path, at: datetime, trouble: str = "") -> Self:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        return cls._prepared(sqlite3.connect(file, timeout=BUSY_TIMEOUT, isolation_level=None), at, trouble)

    @classmethod
    def _prepared(cls, database: sqlite3.Connection, at: datetime, trouble: str) -> Self:
        contents = cls(database, at, trouble)
        try:
            contents._prepare()
        except BaseException:
            database.close()
            raise
        return contents

    def _prepare(self) -> None:
        mark, version, tables = (
            self._one(sql)
            for sql in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_schema")
        )
        if tables and (mark, version) != (APPLICATION, FORMAT):
            raise sqlite3.DatabaseError("another format")
        with self._writing():
            if not tables:
                for sql in _TABLES:
                    self._db.execute(sql)
                self._db.execute(f"PRAGMA application_id = {APPLICATION}")
                self._db.execute(f"PRAGMA user_version = {FORMAT}")
            self._turn = 1 + int(self._one("SELECT coalesce(max(turn), 0) FROM turns"))
            self._db.execute("INSERT INTO turns VALUES (?, ?)", (self._turn, written(self._at)))
        for place, name in self._db.execute("SELECT place, name FROM places"):
            self._places[name], self._names[place] = place, name

    def _one(self, sql: str) -> int:
        return int(self._db.execute(sql).fetchone()[0])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Write what waits, and let go of the file."""
        try:
            self._write()
            if not self.trouble:
                self._forget()
        except sqlite3.Error as problem:
            self.trouble = self.trouble or str(problem)
        finally:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # --- ask and note

    def known(self, version: bytes) -> list[Known]:
        """What was read of a version, each place once, the last time first."""
        sql = "SELECT place, content, file, turn, at FROM contents JOIN turns USING (turn) WHERE version = ?"
        try:
            rows = self._db.execute(f"{sql} ORDER BY turn DESC, place", (version,)).fetchall()
        except sqlite3.Error as problem:
            self.trouble = self.trouble or str(problem)
            return []
        waiting = {place: row for place in self._names if (row := self._waiting.get((version, place))) is not None}
        fresh = [Known(self._names[place], *row, self._at, this_turn=True) for place, row in waiting.items()]
        return fresh + [
            Known(self._names[place], content, file, read(at), turn == self._turn)
            for place, content, file, turn, at in rows
            if place not in waiting
        ]

    def note(self, version: bytes, place: str, content: bytes, file: int) -> None:
        """Remember that this content was read now. It stands once the contents are closed, or before."""
        if self._noted >= MOST:
            return
        self._noted += 1
        try:
            self._waiting[version, self._number(place)] = content[:LENGTH], file
            if len(self._waiting) >= BATCH:
                self._write()
        except sqlite3.Error as problem:
            self._waiting.clear()
            self.trouble = self.trouble or str(problem)

    def _number(self, place: str) -> int:
        if place not in self._places:
            with self._writing():
                number = self._db.execute("INSERT INTO places (name) VALUES (?)", (place,)).lastrowid
            self._places[place], self._names[int(number or 0)] = int(number or 0), place
        return self._places[place]

    def _write(self) -> None:
        """In the order of the table: it is written in long strides then."""
        rows = sorted(self._waiting.items())
        self._waiting = {}
        with self._writing():
            self._db.executemany(_PUT, [(*key, *row, self._turn) for key, row in rows])

    def _forget(self) -> None:
        """Those that were not read for longest, as whole turns, until there are few enough."""
        turns = self._db.execute("SELECT turn, count(*) FROM contents GROUP BY turn ORDER BY turn").fetchall()
        surplus, last = sum(count for _turn, count in turns) - MOST, 0
        for turn, count in turns[:-1]:
            if surplus <= 0:
                break
            surplus, last = surplus - count, turn
        with self._writing():
            self._db.execute("DELETE FROM contents WHERE turn <= ?", (last,))
            empty = "DELETE FROM turns WHERE turn < ? AND turn NOT IN (SELECT turn FROM contents)"
            self._db.execute(empty, (self._turn,))


def last_read(file: Path, versions: Iterable[bytes]) -> dict[bytes, dict[str, datetime]]:
    """When these versions were read last, by place. Nothing is changed; where nothing can be had, nothing is known."""
    sql = "SELECT name, at FROM contents JOIN turns USING (turn) JOIN places USING (place) WHERE version = ?"
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return {
                version: {place: read(at) for place, at in database.execute(sql, (version,))} for version in versions
            }
    except sqlite3.Error:
        return {}
