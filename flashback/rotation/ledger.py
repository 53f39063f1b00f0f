"""The memory of this machine: drives, runs, health, snapshots, holds, in one SQLite file. The only door to sqlite3.

Every change is one transaction with `synchronous=EXTRA` and a rollback journal: killed at any moment, the file is as
before or as after, and it can still be read where the disk has become read-only (which WAL could not).
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from flashback.rotation import schema
from flashback.rotation.condition import HeaderChanges, Health, Snapshots
from flashback.rotation.decisions import Holds, Reminders
from flashback.rotation.memory import Changes, Drives, Runs
from flashback.rotation.plugs import Plugs
from flashback.rotation.rows import Row
from flashback.rotation.trouble import LedgerBroken, LedgerTooNew, LedgerUnwritable, broken, meaning

__all__ = ["Changes", "Ledger", "LedgerBroken", "LedgerTooNew", "LedgerUnwritable"]

BUSY_TIMEOUT: Final = 10.0
"""Seconds to wait for another process's transaction; ours last milliseconds."""


class Ledger(Drives, Runs, Health, Snapshots, HeaderChanges, Holds, Reminders, Plugs):
    """Opened with `Ledger.open`; a context manager that closes it."""

    def __init__(self, file: Path, connection: sqlite3.Connection) -> None:
        self._file = file
        self._db = connection

    @classmethod
    def open(cls, file: Path, *, migrations: Sequence[Sequence[str]] = schema.MIGRATIONS) -> Self:
        """Open the ledger at `file`, made (0600, its directory 0700, whatever the umask) where there is none.

        An older ledger is brought up to date. Raises `LedgerTooNew`, `LedgerBroken`, `LedgerUnwritable`, `Locked`;
        a broken file is left where and as it is.
        """
        with _explained(file):
            _make(file)
            connection = sqlite3.connect(file, timeout=BUSY_TIMEOUT, isolation_level=None)
            connection.row_factory = _as_dict
            ledger = cls(file, connection)
            try:
                ledger._prepare(migrations)
            except BaseException:
                connection.close()
                raise
            return ledger

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def _rows(self, sql: str, *values: object) -> list[Row]:
        with _explained(self._file):
            return self._db.execute(sql, values).fetchall()

    def _execute(self, sql: str, *values: object) -> int:
        return self._db.execute(sql, values).rowcount

    def _put(self, table: str, row: Row, verb: str = "INSERT") -> None:
        names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
        self._db.execute(f"{verb} INTO {table} ({names}) VALUES ({marks})", row)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction: all of the block or nothing."""
        with _explained(self._file):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _prepare(self, migrations: Sequence[Sequence[str]]) -> None:
        self._db.execute("PRAGMA synchronous = EXTRA")
        version = self._version()
        if version == len(migrations):
            return
        if version > len(migrations):
            raise LedgerTooNew(
                f"the ledger {self._file} has format {version}; this Flashback knows formats up to {len(migrations)}",
                hint="use the newer Flashback that wrote it; the drives themselves can be read with any",
            )
        with self._writing():
            for step in migrations[self._version() :]:  # asked again: another process may have been first
                for sql in step:
                    self._db.execute(sql)
            self._db.execute(f"PRAGMA application_id = {schema.APPLICATION}")
            self._db.execute(f"PRAGMA user_version = {len(migrations)}")

    def _version(self) -> int:
        """The file's schema version. Raises `LedgerBroken` for a database that is no ledger."""
        mark = self._rows("PRAGMA application_id")[0]["application_id"]
        version = self._rows("PRAGMA user_version")[0]["user_version"]
        empty = version == 0 and not self._rows("SELECT name FROM sqlite_schema LIMIT 1")
        if mark != schema.APPLICATION and not empty:
            raise broken(self._file, "it is a database of another program")
        return int(version)


def _as_dict(cursor: sqlite3.Cursor, values: tuple[Any, ...]) -> Row:
    return {column[0]: value for column, value in zip(cursor.description, values, strict=True)}


def _make(file: Path) -> None:
    """The file and its directory, with the right modes from the first moment on."""
    if not file.parent.is_dir():
        file.parent.parent.mkdir(parents=True, exist_ok=True)
        file.parent.mkdir(mode=0o700, exist_ok=True)
        file.parent.chmod(0o700)
    if file.exists():
        return
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != 0o600:
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    """What SQLite and the file system say, as errors that tell what to do."""
    try:
        yield
    except sqlite3.Error as problem:
        raise meaning(file, getattr(problem, "sqlite_errorname", ""), str(problem)) from problem
    except OSError as problem:
        raise LedgerUnwritable(
            f"the ledger {file} cannot be opened: {problem.strerror}",
            hint="run the command with sudo; if that was done, look at the disk that holds it",
        ) from problem
