"""What the ledger remembers of each drive's health, space and snapshots."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime

from flashback.core.errors import UsageError
from flashback.core.text import shown
from flashback.rotation import rows
from flashback.rotation.memory import Tables
from flashback.rotation.values import (
    ErrorCounts,
    ProofKind,
    ProofRecord,
    ScrubRecord,
    SnapshotRecord,
    SnapshotSpan,
    SpaceRecord,
)


class Health(Tables):
    """Scrubs, error counters, space."""

    def record_scrub(self, scrub: ScrubRecord) -> None:
        """Remember a scrub."""
        with self._writing():
            self._put("scrubs", rows.of_scrub(scrub), "REPLACE")

    def scrubs(self, drive_uuid: str, *, limit: int = 20) -> tuple[ScrubRecord, ...]:
        """The last scrubs of a drive, newest first."""
        sql = "SELECT * FROM scrubs WHERE drive_uuid = ? ORDER BY ended DESC LIMIT ?"
        return tuple(rows.to_scrub(row) for row in self._rows(sql, drive_uuid, limit))

    def record_proof(self, proof: ProofRecord) -> None:
        """Remember what a verification proved."""
        with self._writing():
            row = asdict(proof) | {"at": rows.written(proof.at), "kind": proof.kind.value}
            self._put("proofs", row, "REPLACE")

    def proofs(self, drive_uuid: str, *, since: datetime) -> tuple[ProofRecord, ...]:
        """What was proven of a drive since then, the newest first."""
        sql = "SELECT * FROM proofs WHERE drive_uuid = ? AND at >= ? ORDER BY at DESC, kind"
        return tuple(
            ProofRecord(**row | {"at": rows.read(row["at"]), "kind": ProofKind(row["kind"])})
            for row in self._rows(sql, drive_uuid, rows.written(since))
        )

    def record_errors(self, errors: ErrorCounts) -> None:
        """Remember the error counters."""
        row = {
            "drive_uuid": errors.drive_uuid,
            "at": rows.written(errors.at),
            "counts": json.dumps(dict(errors.counts)),
        }
        with self._writing():
            self._put("errors", row, "REPLACE")
            self._forget_old("errors", errors.drive_uuid)

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
            self._forget_old("spaces", space.drive_uuid)

    def spaces(self) -> dict[str, SpaceRecord]:
        """How full each drive was when it was last seen."""
        found = self._rows("SELECT drive_uuid, max(at) AS at, size, free FROM spaces GROUP BY drive_uuid")
        return {row["drive_uuid"]: SpaceRecord(**row | {"at": rows.read(row["at"])}) for row in found}


class Snapshots(Tables):
    """The snapshots of every drive as last seen, and the pins."""

    def replace_snapshots(self, drive_uuid: str, snapshots: Sequence[SnapshotRecord]) -> None:
        """Remember exactly these as the drive's snapshots; pins of those that are gone go too.

        `pinned` adds a pin and never takes one away: a person may have set it while the drive was in the safe.
        """
        with self._writing():
            self._execute("DELETE FROM snapshots WHERE drive_uuid = ?", drive_uuid)
            for each in snapshots:
                key = {"drive_uuid": drive_uuid, "master": each.master, "name": each.name}
                self._put("snapshots", key | {"completed": rows.written(each.completed), "bytes": each.bytes})
                if each.pinned:
                    self._put("pins", key, "INSERT OR IGNORE")
            self._execute(
                "DELETE FROM pins WHERE drive_uuid = ? AND (master, name) NOT IN"
                " (SELECT master, name FROM snapshots WHERE drive_uuid = pins.drive_uuid)",
                drive_uuid,
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
        with self._writing():
            self._wish(drive_uuid, master, name, pinned=True)
            key = {"drive_uuid": drive_uuid, "master": master, "name": name}
            self._put("pins", key, "INSERT OR IGNORE")

    def unpin(self, drive_uuid: str, master: str, name: str) -> None:
        """Let the rules decide about a snapshot again. Raises `UsageError` when it is not known."""
        with self._writing():
            self._wish(drive_uuid, master, name, pinned=False)
            self._execute("DELETE FROM pins WHERE drive_uuid = ? AND master = ? AND name = ?", drive_uuid, master, name)

    def _wish(self, drive_uuid: str, master: str, name: str, *, pinned: bool) -> None:
        """To be told to the drive when it is next plugged in."""
        key = {"drive_uuid": drive_uuid, "master": master, "name": name}
        sql = "SELECT name FROM snapshots WHERE drive_uuid = ? AND master = ? AND name = ?"
        if not self._rows(sql, *key.values()):
            raise UsageError(
                f"there is no snapshot {shown(name)} of {shown(master)}", hint="`flashback snapshots` lists them"
            )
        self._put("pin_wishes", key | {"pinned": pinned}, "REPLACE")

    def pins(self, drive_uuid: str) -> frozenset[tuple[str, str]]:
        """Master and name of what is pinned on a drive, as far as this machine knows."""
        found = self._rows("SELECT master, name FROM pins WHERE drive_uuid = ?", drive_uuid)
        return frozenset((row["master"], row["name"]) for row in found)

    def pin_wishes(self, drive_uuid: str) -> dict[tuple[str, str], bool]:
        """What was said of pins since the drive was last told, by master and name."""
        found = self._rows("SELECT master, name, pinned FROM pin_wishes WHERE drive_uuid = ?", drive_uuid)
        return {(row["master"], row["name"]): bool(row["pinned"]) for row in found}

    def settle_pins(
        self, drive_uuid: str, pins: Collection[tuple[str, str]], told: Mapping[tuple[str, str], bool]
    ) -> None:
        """The drive knows the wishes `told`, and these are its pins now; what was wished meanwhile stays a wish."""
        with self._writing():
            for (master, name), pinned in told.items():
                self._execute(
                    "DELETE FROM pin_wishes WHERE drive_uuid = ? AND master = ? AND name = ? AND pinned = ?",
                    *(drive_uuid, master, name, pinned),
                )
            self._execute("DELETE FROM pins WHERE drive_uuid = ?", drive_uuid)
            wishes = self.pin_wishes(drive_uuid)
            wanted = {each for each in pins if wishes.get(each, True)} | {each for each, yes in wishes.items() if yes}
            for master, name in wanted:
                self._put("pins", {"drive_uuid": drive_uuid, "master": master, "name": name})


class HeaderChanges(Tables):
    """Headers that Flashback itself is changing: noted before, so that a change that was cut off is known as ours."""

    def begin_header_change(self, drive_uuid: str, what: str, *, since: datetime) -> None:
        """From now on a header with the same volume key is expected to differ."""
        row = {"drive_uuid": drive_uuid, "what": what, "since": rows.written(since)}
        with self._writing():
            self._put("header_changes", row, "REPLACE")

    def header_changes(self) -> dict[str, str]:
        """The drives whose change was not brought to its end, and what it was."""
        found = self._rows("SELECT drive_uuid, what FROM header_changes ORDER BY drive_uuid")
        return {row["drive_uuid"]: row["what"] for row in found}

    def end_header_change(self, drive_uuid: str, *, digest: str, length: int) -> None:
        """The header is as it is to be: from now on it is the known one."""
        with self._writing():
            sql = "UPDATE drives SET header_digest = ?, header_length = ? WHERE uuid = ?"
            self._execute(sql, digest, length, drive_uuid)
            self._execute("DELETE FROM header_changes WHERE drive_uuid = ?", drive_uuid)
