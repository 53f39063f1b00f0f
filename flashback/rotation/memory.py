"""What the ledger is asked and told, table by table, as SQL on four primitives that `ledger` provides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, TypedDict, Unpack

from flashback.config.values import OnPlug
from flashback.core.errors import DriveError, UsageError
from flashback.core.text import shown
from flashback.rotation import rows
from flashback.rotation.rows import Row
from flashback.rotation.values import (
    Backup,
    KnownDrive,
    RunRecord,
    Standing,
    Written,
    valid_name,
    valid_place,
)

REMEMBERED: Final = 400
"""So many notes on a drive's error counters, its room and its being plugged in are kept: a year of daily runs."""


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
    passphrase: str
    partition_uuid: str


class Tables(ABC):
    """The primitives."""

    @abstractmethod
    def _rows(self, sql: str, *values: object) -> list[Row]:
        """All rows of a query."""

    @abstractmethod
    def _execute(self, sql: str, *values: object) -> int:
        """Change something within `_writing`; the number of rows concerned."""

    @abstractmethod
    def _put(self, table: str, row: Row, verb: str = "INSERT") -> None:
        """Add a row within `_writing`."""

    def _forget_old(self, table: str, drive_uuid: str) -> None:
        """Within `_writing`: of what is noted at every run and only looked at for how it is now, the newest stay."""
        self._execute(
            f"DELETE FROM {table} WHERE drive_uuid = ?1 AND at < (SELECT at FROM {table} WHERE drive_uuid = ?1"  # noqa: S608
            f" ORDER BY at DESC LIMIT 1 OFFSET {REMEMBERED - 1})",
            drive_uuid,
        )

    @abstractmethod
    def _writing(self) -> AbstractContextManager[None]:
        """One transaction: all of the block or nothing."""


class Drives(Tables):
    """The drives of the rotation."""

    def drives(self) -> tuple[KnownDrive, ...]:
        """All drives, the lost and retired ones too, by name."""
        return tuple(rows.to_drive(row) for row in self._rows("SELECT * FROM drives ORDER BY name COLLATE NOCASE"))

    def drive(self, wanted: str) -> KnownDrive | None:
        """The drive with this name (whatever its case) or LUKS UUID."""
        found = self._rows("SELECT * FROM drives WHERE name = ?1 OR uuid = ?1 COLLATE NOCASE", wanted)
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
                raise DriveError(f"no drive {shown(uuid)} is known here", hint="`flashback drive list` shows all")
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


class Runs(Tables):
    """Runs and what they completed."""

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
        self._execute("DELETE FROM run_masters WHERE drive_uuid = ? AND run_id = ?", run.drive_uuid, run.run_id)
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
        newest = (self.last_complete(drive_uuid, master, by=by) for drive_uuid, master in self._pairs())
        return tuple(each for each in newest if each is not None)

    def last_complete(self, drive_uuid: str, master: str, *, by: datetime | None = None) -> Backup | None:
        """The newest whole backup of a master on a drive, if there is one."""
        found = self._rows(
            "SELECT m.drive_uuid, m.master, m.sequence, r.begun, m.completed"
            " FROM run_masters AS m JOIN runs AS r USING (drive_uuid, run_id)"
            " WHERE m.completed IS NOT NULL AND m.unread = 0 AND m.drive_uuid = ?1 AND m.master = ?2"
            " AND (?3 IS NULL OR m.completed <= ?3) ORDER BY m.sequence DESC LIMIT 1",
            drive_uuid,
            master,
            rows.written(by),
        )
        return rows.to_backup(found[0]) if found else None

    def written(self, drive_uuid: str, *, since: datetime) -> tuple[Written, ...]:
        """What the runs that completed anything on a drive since then wrote there, the oldest first."""
        found = self._rows(
            "SELECT max(completed) AS at, sum(bytes_added + bytes_changed) AS fresh,"
            " sum(bytes_added + bytes_changed + bytes_unchanged) AS total FROM run_masters"
            " WHERE drive_uuid = ? AND completed >= ? GROUP BY run_id ORDER BY at",
            drive_uuid,
            rows.written(since),
        )
        return tuple(Written(rows.read(row["at"]), row["fresh"], row["total"]) for row in found)

    def _pairs(self) -> Iterator[tuple[str, str]]:
        """Each drive and master with a whole backup, by steps through the index: years of runs cost nothing."""
        whole = "SELECT drive_uuid, master FROM run_masters WHERE completed IS NOT NULL AND unread = 0"
        next_master = f"{whole} AND drive_uuid = ? AND master > ? ORDER BY master LIMIT 1"
        next_drive = f"{whole} AND drive_uuid > ? ORDER BY drive_uuid, master LIMIT 1"
        drive_uuid, master = "", ""
        while found := self._rows(next_master, drive_uuid, master) or self._rows(next_drive, drive_uuid):
            drive_uuid, master = found[0]["drive_uuid"], found[0]["master"]
            yield drive_uuid, master

    def merge(self, drive_uuid: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """Learn what the drive's journal tells (`flashback.drive.journal` lines as plain types).

        What this machine recorded itself is not overwritten; what it did not see, or saw begin and not end, is
        taken from the drive. Any number of times, in any order of drives, with the same outcome.
        """
        with self._writing():
            settled = self._settled(drive_uuid)
            lines = [line for line in lines if line["run"] not in settled or line["mark"] == "scrub"]
            for run in rows.journal_runs(drive_uuid, [line for line in lines if line["run"] not in settled]):
                self._learn_run(run)
            for scrub in rows.journal_scrubs(drive_uuid, lines):
                self._put("scrubs", rows.of_scrub(scrub), "INSERT OR IGNORE")

    def _settled(self, drive_uuid: str) -> frozenset[str]:
        """The runs of which there is nothing to learn: they were seen to end."""
        sql = "SELECT run_id FROM runs WHERE drive_uuid = ? AND exit_code IS NOT NULL"
        return frozenset(row["run_id"] for row in self._rows(sql, drive_uuid))

    def _learn_run(self, run: RunRecord) -> None:
        key = (run.drive_uuid, run.run_id)
        known = self._rows("SELECT * FROM runs WHERE drive_uuid = ? AND run_id = ?", *key)
        if not known:
            self._put_run(run)
        elif known[0]["exit_code"] is None:
            own = rows.to_run(known[0], ())
            self._put_run(replace(run, sequence=own.sequence, machine=own.machine, begun=own.begun))
