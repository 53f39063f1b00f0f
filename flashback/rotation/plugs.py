"""What came of it when a drive was plugged in: answered, put off, never answered. One row for each question."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from flashback.rotation import rows
from flashback.rotation.memory import Tables


class PlugOutcome(StrEnum):
    """`asked`: still, or for ever if the machine went down. `unanswered` counts as not backed up."""

    ASKED = "asked"
    LATER = "later"
    DECLINED = "declined"
    UNANSWERED = "unanswered"
    UNPLUGGED = "unplugged"
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class PlugRecord:
    """`insertion` names one plugging in on one boot; `until` is how long `later` lasts; `agents` says whether a
    person's session was there to be asked.
    """

    drive_uuid: str
    at: datetime
    insertion: str
    outcome: PlugOutcome
    until: datetime | None = None
    agents: bool = False


class Plugs(Tables):
    """The questions that were asked."""

    def record_plug(self, plug: PlugRecord) -> None:
        """Write it, in place of what stands for the same drive and moment."""
        with self._writing():
            self._put(
                "plugs",
                {
                    "drive_uuid": plug.drive_uuid,
                    "at": rows.written(plug.at),
                    "insertion": plug.insertion,
                    "outcome": plug.outcome.value,
                    "until": rows.written(plug.until),
                    "agents": int(plug.agents),
                },
                "REPLACE",
            )
            self._forget_old("plugs", plug.drive_uuid)

    def last_plug(self, drive_uuid: str) -> PlugRecord | None:
        """The newest of a drive."""
        found = self._rows("SELECT * FROM plugs WHERE drive_uuid = ? ORDER BY rowid DESC LIMIT 1", drive_uuid)
        if not found:
            return None
        row = found[0]
        return PlugRecord(
            drive_uuid=row["drive_uuid"],
            at=rows.read(row["at"]),
            insertion=row["insertion"],
            outcome=PlugOutcome(row["outcome"]),
            until=rows.read_or_none(row["until"]),
            agents=bool(row["agents"]),
        )
