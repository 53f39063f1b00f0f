"""What the ledger remembers of guards, of what people decided about them, and of reminders."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime

from flashback.rotation import rows
from flashback.rotation.memory import Tables
from flashback.rotation.values import Decision, HoldRecord


class Holds(Tables):
    """What guards held, and what people decided about it."""

    def stand_holds(self, holds: Sequence[HoldRecord]) -> None:
        """Remember that guards hold a run; from now on unattended runs hold on every drive.

        A hold that stands already for the same drive is told anew, and goes on standing since it first did.
        """
        with self._writing():
            for hold in holds:
                same = (hold.drive_uuid, hold.hold)
                sql = "SELECT min(stood) AS first FROM holds WHERE drive_uuid = ? AND hold = ? AND lifted IS NULL"
                first = self._rows(sql, *same)[0]["first"]
                self._execute("DELETE FROM holds WHERE drive_uuid = ? AND hold = ? AND lifted IS NULL", *same)
                row = rows.of_hold(hold)
                self._put("holds", row | {"stood": min(first or row["stood"], row["stood"])}, "REPLACE")

    def standing_holds(self) -> tuple[HoldRecord, ...]:
        """The holds that nobody has decided about yet, oldest first."""
        sql = "SELECT * FROM holds WHERE lifted IS NULL ORDER BY stood, run_id, hold"
        return tuple(rows.to_hold(row) for row in self._rows(sql))

    def lift_holds(self, names: Collection[str], *, at: datetime, drive_uuid: str | None = None) -> int:
        """Every standing hold of these names (of one drive, if given) is lifted. How many there were."""
        sql = "UPDATE holds SET lifted = ?1 WHERE hold = ?2 AND lifted IS NULL AND (?3 IS NULL OR drive_uuid = ?3)"
        with self._writing():
            return sum(self._execute(sql, rows.written(at), name, drive_uuid) for name in set(names))

    def decide(self, decisions: Sequence[Decision]) -> None:
        """Remember what a person let pass; the last decision about a master and a guard counts."""
        with self._writing():
            for each in decisions:
                self._put("decisions", asdict(each) | {"at": rows.written(each.at)}, "REPLACE")

    def decisions(self) -> tuple[Decision, ...]:
        """The last decision about each master and guard."""
        found = self._rows("SELECT * FROM decisions ORDER BY master, hold")
        return tuple(Decision(**row | {"at": rows.read(row["at"])}) for row in found)


class Reminders(Tables):
    """What people were reminded of."""

    def reminded(self) -> dict[str, tuple[str, datetime]]:
        """By what it was about (a drive's UUID, a hold): the state that the last reminder spoke of, and when."""
        return {row["about"]: (row["state"], rows.read(row["at"])) for row in self._rows("SELECT * FROM reminders")}

    def remind(self, about: str, state: str, *, at: datetime) -> None:
        """Remember that somebody was reminded."""
        with self._writing():
            self._put("reminders", {"about": about, "state": state, "at": rows.written(at)}, "REPLACE")
