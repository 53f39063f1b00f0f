"""The memory of this machine: drives, runs, health, snapshots, holds, in one SQLite file. The only door to sqlite3.

Every change is one transaction with `synchronous=EXTRA` and a rollback journal: killed at any moment, the file is as
before or as after, and it can still be read where the disk has become read-only (which WAL could not).
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypedDict, Unpack

from flashback.config.values import OnPlug
from flashback.core.errors import DriveError, Exit, FlashbackError, Locked, UsageError
from flashback.core.text import shown
from flashback.rotation import rows, schema
from flashback.rotation.rows import Row
from flashback.rotation.values import (
    Backup,
    ErrorCounts,
    HoldRecord,
    KnownDrive,
    RunRecord,
    ScrubRecord,
    SnapshotRecord,
    SnapshotSpan,
    SpaceRecord,
    Standing,
    valid_name,
    valid_place,
)

BUSY_TIMEOUT: Final = 10.0
"""Seconds to wait for another process's transaction; ours last milliseconds."""


class LedgerBroken(FlashbackError):
    """The ledger's file is damaged or is something else."""


class LedgerTooNew(FlashbackError):
    """A newer Flashback wrote the ledger."""

    exit_code = Exit.MISSING


class LedgerUnwritable(FlashbackError):
    """The ledger cannot be opened or written: privilege, read-only disk, no space on this machine's disk."""

    exit_code = Exit.MISSING


class Changes(TypedDict, total=False):
    """What may change about a drive once it is known."""

    name: str
    header_digest: str
    header_length: int
    size: int
    model: str
    serial: str
    place: str
    masters: tuple[str, ...] | None
    on_plug: OnPlug | None
    standing: Standing
    filesystem_uuid: str


class Ledger:
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

    # Drives

    def drives(self) -> tuple[KnownDrive, ...]:
        """All drives, the lost and retired ones too, by name."""
        return tuple(rows.to_drive(row) for row in self._rows("SELECT * FROM drives ORDER BY name COLLATE NOCASE"))

    def drive(self, wanted: str) -> KnownDrive | None:
        """The drive with this name (whatever its case) or LUKS UUID."""
        found = self._rows("SELECT * FROM drives WHERE name = ? OR uuid = lower(?)", wanted, wanted)
        return rows.to_drive(found[0]) if found else None

    def enrol(self, drive: KnownDrive) -> None:
        """Make a drive known. Raises `UsageError` for a bad or taken name or place, `DriveError` for a known UUID."""
        with self._writing():
            if (same := self.drive(drive.uuid)) is not None:
                raise DriveError(
                    f"the drive with LUKS UUID {drive.uuid} is already known as {same.name}",
                    hint=f"another name: flashback drive rename {same.name} {shown(drive.name)}",
                )
            self._check(drive)
            self._put("drives", rows.of_drive(drive))

    def change(self, uuid: str, **changes: Unpack[Changes]) -> KnownDrive:
        """The drive with these fields changed, in the ledger and as returned. Raises as `enrol`."""
        with self._writing():
            known = self.drive(uuid)
            if known is None:
                raise DriveError(f"no drive {shown(uuid)} is known here", hint="flashback drive list shows all")
            changed = replace(known, **changes)
            self._check(changed)
            self._put("drives", rows.of_drive(changed), "REPLACE")
        return changed

    def _check(self, drive: KnownDrive) -> None:
        if not valid_name(drive.name):
            raise UsageError(
                f"{shown(drive.name)} cannot be a drive's name",
                hint="up to 32 letters, digits, - and _, beginning with a letter or digit, for instance: red",
            )
        if not valid_place(drive.place):
            raise UsageError(f"{shown(drive.place)} cannot be a place", hint="one short line, for instance: offsite")
        taken = self._rows("SELECT uuid FROM drives WHERE name = ? AND uuid <> ?", drive.name, drive.uuid)
        if taken:
            raise UsageError(f"another drive is already called {drive.name}", hint="choose another name")

    # Runs

    def begin_run(self, drive_uuid: str, *, run_id: str, machine: str, begun: datetime, above: int = 0) -> int:
        """Record that a run begins; return its sequence number.

        The number is higher than that of every run this ledger knows on any drive and than `above` (the highest in
        the drive's own journal); the clock has no part in it.
        """
        with self._writing():
            highest = self._rows("SELECT coalesce(max(sequence), 0) AS highest FROM runs")[0]["highest"]
            sequence = max(int(highest), above) + 1
            self._put_run(RunRecord(drive_uuid, sequence, run_id, machine, begun))
        return sequence

    def end_run(self, run: RunRecord) -> None:
        """Record how a run ended, in place of what `begin_run` wrote (or on its own: a run held before its begin)."""
        with self._writing():
            self._put_run(run)

    def _put_run(self, run: RunRecord) -> None:
        self._db.execute("DELETE FROM run_masters WHERE drive_uuid = ? AND run_id = ?", (run.drive_uuid, run.run_id))
        self._put("runs", rows.of_run(run), "REPLACE")
        for row in rows.of_masters(run):
            self._put("run_masters", row)

    def runs(self, drive_uuid: str | None = None, *, limit: int = 50) -> tuple[RunRecord, ...]:
        """The last runs of a drive, or of all, newest first; the masters of each by name."""
        found = self._rows(
            "SELECT * FROM runs WHERE ?1 IS NULL OR drive_uuid = ?1 ORDER BY sequence DESC, run_id LIMIT ?2",
            drive_uuid,
            limit,
        )
        return tuple(rows.to_run(row, self._masters(row)) for row in found)

    def _masters(self, run: Row) -> list[Row]:
        return self._rows(
            "SELECT * FROM run_masters WHERE drive_uuid = ? AND run_id = ? ORDER BY master",
            run["drive_uuid"],
            run["run_id"],
        )

    def last_run(self) -> RunRecord | None:
        """The run with the highest number, on whatever drive: what the clock is held against."""
        found = self.runs(limit=1)
        return found[0] if found else None

    def backups(self, *, by: datetime | None = None) -> tuple[Backup, ...]:
        """For each drive and master the newest whole backup (complete, nothing unread), by drive and master.

        `by` leaves out those that claim to be later than that: their clock was wrong, and the one before counts.
        """
        latest = (
            "SELECT drive_uuid, master, max(sequence) AS sequence, run_id, completed FROM run_masters"
            " WHERE completed IS NOT NULL AND unread = 0 AND (?1 IS NULL OR completed <= ?1)"
            " GROUP BY drive_uuid, master"
        )
        found = self._rows(
            f"SELECT latest.*, runs.begun FROM ({latest}) AS latest"  # noqa: S608  both halves are written here
            " JOIN runs USING (drive_uuid, run_id) ORDER BY drive_uuid, master",
            rows.written(by),
        )
        return tuple(_backup(row) for row in found)

    def last_complete(self, drive_uuid: str, master: str, *, by: datetime | None = None) -> Backup | None:
        """The newest whole backup of a master on a drive, if there is one."""
        return next(
            (each for each in self.backups(by=by) if (each.drive_uuid, each.master) == (drive_uuid, master)), None
        )

    def merge(self, drive_uuid: str, lines: Sequence[Mapping[str, Any]]) -> None:
        """Learn what the drive's journal tells (`flashback.drive.journal` lines as plain types).

        What this machine recorded itself is not overwritten; what it did not see, or saw begin and not end, is
        taken from the drive. Any number of times, in any order of drives, with the same outcome.
        """
        with self._writing():
            for run in rows.journal_runs(drive_uuid, lines):
                self._learn_run(run)
            for scrub in rows.journal_scrubs(drive_uuid, lines):
                self._put("scrubs", rows.of_scrub(scrub), "INSERT OR IGNORE")

    def _learn_run(self, run: RunRecord) -> None:
        key = (run.drive_uuid, run.run_id)
        known = self._rows("SELECT * FROM runs WHERE drive_uuid = ? AND run_id = ?", *key)
        if not known:
            self._put_run(run)
        elif known[0]["exit_code"] is None:
            own = rows.to_run(known[0], ())
            self._put_run(replace(run, sequence=own.sequence, machine=own.machine, begun=own.begun))

    # Health, space, snapshots

    def record_scrub(self, scrub: ScrubRecord) -> None:
        """Remember a scrub."""
        with self._writing():
            self._put("scrubs", rows.of_scrub(scrub), "REPLACE")

    def scrubs(self, drive_uuid: str, *, limit: int = 20) -> tuple[ScrubRecord, ...]:
        """The last scrubs of a drive, newest first."""
        sql = "SELECT * FROM scrubs WHERE drive_uuid = ? ORDER BY ended DESC LIMIT ?"
        return tuple(rows.to_scrub(row) for row in self._rows(sql, drive_uuid, limit))

    def record_errors(self, errors: ErrorCounts) -> None:
        """Remember the error counters."""
        row = {
            "drive_uuid": errors.drive_uuid,
            "at": rows.written(errors.at),
            "counts": json.dumps(dict(errors.counts)),
        }
        with self._writing():
            self._put("errors", row, "REPLACE")

    def errors(self, drive_uuid: str, *, limit: int = 20) -> tuple[ErrorCounts, ...]:
        """The error counters as they were recorded, newest first."""
        sql = "SELECT * FROM errors WHERE drive_uuid = ? ORDER BY at DESC LIMIT ?"
        return tuple(
            ErrorCounts(row["drive_uuid"], rows.read(row["at"]), json.loads(row["counts"]))
            for row in self._rows(sql, drive_uuid, limit)
        )

    def record_space(self, space: SpaceRecord) -> None:
        """Remember how full the drive is."""
        with self._writing():
            self._put("spaces", asdict(space) | {"at": rows.written(space.at)}, "REPLACE")

    def spaces(self) -> dict[str, SpaceRecord]:
        """How full each drive was when it was last seen."""
        found = self._rows("SELECT drive_uuid, max(at) AS at, size, free FROM spaces GROUP BY drive_uuid")
        return {row["drive_uuid"]: SpaceRecord(**row | {"at": rows.read(row["at"])}) for row in found}

    def replace_snapshots(self, drive_uuid: str, snapshots: Sequence[SnapshotRecord]) -> None:
        """Remember exactly these as the drive's snapshots; pins of those that are gone go too.

        `pinned` adds a pin and never takes one away: a person may have set it while the drive was in the safe.
        """
        with self._writing():
            self._db.execute("DELETE FROM snapshots WHERE drive_uuid = ?", (drive_uuid,))
            for each in snapshots:
                key = {"drive_uuid": drive_uuid, "master": each.master, "name": each.name}
                self._put("snapshots", key | {"completed": rows.written(each.completed), "bytes": each.bytes})
                if each.pinned:
                    self._put("pins", key, "INSERT OR IGNORE")
            self._db.execute(
                "DELETE FROM pins WHERE drive_uuid = ? AND (master, name) NOT IN"
                " (SELECT master, name FROM snapshots WHERE drive_uuid = pins.drive_uuid)",
                (drive_uuid,),
            )

    def snapshots(self, drive_uuid: str) -> tuple[SnapshotRecord, ...]:
        """The drive's snapshots as last seen, by master and name, each with its run's number where that is known."""
        found = self._rows(
            "SELECT s.*, EXISTS (SELECT 1 FROM pins AS p WHERE p.drive_uuid = s.drive_uuid"
            " AND p.master = s.master AND p.name = s.name) AS pinned,"
            " (SELECT max(m.sequence) FROM run_masters AS m WHERE m.drive_uuid = s.drive_uuid"
            " AND m.master = s.master AND m.completed = s.completed) AS sequence"
            " FROM snapshots AS s WHERE s.drive_uuid = ? ORDER BY s.master, s.name",
            drive_uuid,
        )
        return tuple(
            SnapshotRecord(**row | {"completed": rows.read(row["completed"]), "pinned": bool(row["pinned"])})
            for row in found
        )

    def snapshot_spans(self) -> dict[str, SnapshotSpan]:
        """How many snapshots each drive holds and how far back they go."""
        found = self._rows(
            "SELECT drive_uuid, count(*) AS count, min(completed) AS oldest, max(completed) AS newest"
            " FROM snapshots GROUP BY drive_uuid"
        )
        return {
            row["drive_uuid"]: SnapshotSpan(row["count"], rows.read(row["oldest"]), rows.read(row["newest"]))
            for row in found
        }

    def pin(self, drive_uuid: str, master: str, name: str) -> None:
        """Keep a snapshot for ever, its drive plugged in or not. Raises `UsageError` when it is not known."""
        key = {"drive_uuid": drive_uuid, "master": master, "name": name}
        with self._writing():
            sql = "SELECT name FROM snapshots WHERE drive_uuid = ? AND master = ? AND name = ?"
            if not self._rows(sql, *key.values()):
                raise UsageError(
                    f"there is no snapshot {shown(name)} of {shown(master)}", hint="flashback snapshots lists them"
                )
            self._put("pins", key, "INSERT OR IGNORE")

    def unpin(self, drive_uuid: str, master: str, name: str) -> None:
        """Let the rules decide about a snapshot again."""
        with self._writing():
            self._db.execute(
                "DELETE FROM pins WHERE drive_uuid = ? AND master = ? AND name = ?", (drive_uuid, master, name)
            )

    # Holds

    def stand_holds(self, holds: Sequence[HoldRecord]) -> None:
        """Remember that guards hold a run; from now on unattended runs hold on every drive."""
        with self._writing():
            for hold in holds:
                self._put("holds", rows.of_hold(hold), "REPLACE")

    def standing_holds(self) -> tuple[HoldRecord, ...]:
        """The holds that nobody has decided about yet, oldest first."""
        sql = "SELECT * FROM holds WHERE lifted IS NULL ORDER BY stood, run_id, hold"
        return tuple(rows.to_hold(row) for row in self._rows(sql))

    def lift_holds(self, names: Sequence[str], *, at: datetime) -> int:
        """A person decided: every standing hold of these names is lifted. How many there were."""
        with self._writing():
            return sum(
                self._db.execute(
                    "UPDATE holds SET lifted = ? WHERE hold = ? AND lifted IS NULL", (rows.written(at), name)
                ).rowcount
                for name in set(names)
            )

    # The file

    def _rows(self, sql: str, *values: object) -> list[Row]:
        with _explained(self._file):
            return self._db.execute(sql, values).fetchall()

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
            raise _broken(self._file, "it is a database of another program")
        return int(version)


def _as_dict(cursor: sqlite3.Cursor, values: tuple[Any, ...]) -> Row:
    return {column[0]: value for column, value in zip(cursor.description, values, strict=True)}


def _backup(row: Row) -> Backup:
    return Backup(
        row["drive_uuid"], row["master"], row["sequence"], rows.read(row["begun"]), rows.read(row["completed"])
    )


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
        raise _meaning(file, problem) from problem
    except OSError as problem:
        raise LedgerUnwritable(
            f"the ledger {file} cannot be opened: {problem.strerror}",
            hint="run the command with sudo; if that was done, look at the disk that holds it",
        ) from problem


def _meaning(file: Path, problem: sqlite3.Error) -> FlashbackError:
    """By SQLite's result code (https://sqlite.org/rescode.html)."""
    code = getattr(problem, "sqlite_errorname", "")
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Locked(f"another process keeps the ledger {file} busy", hint="wait until it has finished")
    if code.startswith("SQLITE_FULL"):
        return LedgerUnwritable(
            f"no space is left on the disk of this machine that holds the ledger {file}",
            hint="make space there; the drive has its own journal, from which the ledger learns at the next plug",
        )
    if code.startswith(("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_AUTH")):
        return LedgerUnwritable(
            f"the ledger {file} cannot be read or written: {problem}",
            hint="run the command with sudo; if that was done, see whether the disk is read-only or failing (dmesg)",
        )
    return _broken(file, str(problem))


def _broken(file: Path, why: str) -> LedgerBroken:
    return LedgerBroken(
        f"the ledger {file} is damaged: {why}",
        hint=f"nothing on the drives is lost. Move it away (mv {file} {file}.broken), then plug in each drive in turn "
        "and run: flashback drive adopt DEVICE. What the drives know comes back from them",
    )
