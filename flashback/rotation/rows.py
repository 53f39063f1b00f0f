"""Between the ledger's rows, a drive's journal and the values of the rotation: pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from typing import Any, Final

from flashback.config.values import OnPlug
from flashback.core.text import parse_rfc3339, rfc3339
from flashback.rotation.values import (
    Backup,
    HoldRecord,
    KnownDrive,
    MasterCounts,
    RunRecord,
    RunResult,
    ScrubRecord,
    Standing,
)

Row = dict[str, Any]

HIGHEST_SEQUENCE: Final = 2**48
"""A higher one in a journal is nobody's count of runs, and believing it would use the numbers up."""

_LARGEST: Final = 2**63 - 1
_COUNTS: Final = tuple(each.name for each in fields(MasterCounts) if each.name.startswith(("files_", "bytes_")))
_LONGEST: Final = 10.0**9
"""Seconds."""
_ENDINGS: Final[dict[int, frozenset[str]]] = {
    0: frozenset({"complete", "nothing-to-do"}),
    11: frozenset({"incomplete"}),
    14: frozenset({"complete", "nothing-to-do", "incomplete"}),
}
"""The exit codes and results of runs that came to their end."""
_SCRUBBED: Final = ("bytes_read", "corrected", "uncorrectable", "damaged_files")


def written(moment: datetime | None) -> str | None:
    """A moment as it stands in the ledger."""
    return None if moment is None else rfc3339(moment)


def read(text: str) -> datetime:
    """The moment again; `fromisoformat` is ten times as fast as `strptime`. Raises `ValueError`."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def read_or_none(text: str | None) -> datetime | None:
    """The same where there may be none."""
    return None if text is None else read(text)


def of_drive(drive: KnownDrive) -> Row:
    """A row of `drives`."""
    return asdict(drive) | {
        "enrolled": written(drive.enrolled),
        "masters": None if drive.masters is None else json.dumps(drive.masters),
        "on_plug": None if drive.on_plug is None else drive.on_plug.value,
        "standing": drive.standing.value,
    }


def to_drive(row: Row) -> KnownDrive:
    """A drive from its row."""
    return KnownDrive(
        **row
        | {
            "enrolled": read(row["enrolled"]),
            "masters": None if row["masters"] is None else tuple(json.loads(row["masters"])),
            "on_plug": None if row["on_plug"] is None else OnPlug(row["on_plug"]),
            "standing": Standing(row["standing"]),
        }
    )


def of_run(run: RunRecord) -> Row:
    """A row of `runs`; its masters are rows of their own."""
    row = asdict(run) | {
        "begun": written(run.begun),
        "ended": written(run.ended),
        "result": None if run.result is None else run.result.value,
        "holds": json.dumps(run.holds),
    }
    del row["masters"]
    return row


def of_masters(run: RunRecord) -> list[Row]:
    """The rows of `run_masters` for one run."""
    key = {"drive_uuid": run.drive_uuid, "run_id": run.run_id, "sequence": run.sequence}
    return [key | asdict(each) | {"completed": written(each.completed)} for each in run.masters]


def to_run(row: Row, masters: Iterable[Row]) -> RunRecord:
    """A run from its row and those of its masters."""
    return RunRecord(
        **row
        | {
            "begun": read(row["begun"]),
            "ended": read_or_none(row["ended"]),
            "result": None if row["result"] is None else RunResult(row["result"]),
            "holds": tuple(json.loads(row["holds"])),
            "masters": tuple(to_counts(each) for each in masters),
        }
    )


def to_counts(row: Row) -> MasterCounts:
    """What a run did with one master, from its row."""
    named = {name: row[name] for name in ("master", "unread", *_COUNTS)}
    return MasterCounts(**named, completed=read_or_none(row["completed"]))


def to_backup(row: Row) -> Backup:
    """A whole backup from its row."""
    return Backup(**row | {"begun": read(row["begun"]), "completed": read(row["completed"])})


def of_scrub(scrub: ScrubRecord) -> Row:
    """A row of `scrubs`."""
    return asdict(scrub) | {"begun": written(scrub.begun), "ended": written(scrub.ended)}


def to_scrub(row: Row) -> ScrubRecord:
    """A scrub from its row."""
    return ScrubRecord(
        **row | {"begun": read(row["begun"]), "ended": read(row["ended"]), "finished": bool(row["finished"])}
    )


def of_hold(hold: HoldRecord) -> Row:
    """A row of `holds`."""
    return asdict(hold) | {"stood": written(hold.stood), "lifted": written(hold.lifted)}


def to_hold(row: Row) -> HoldRecord:
    """A hold from its row."""
    return HoldRecord(**row | {"stood": read(row["stood"]), "lifted": read_or_none(row["lifted"])})


def scrub_facts(scrub: ScrubRecord) -> dict[str, str | int]:
    """What the journal's `scrub` line says beside `at`, which is when the scrub ended."""
    counts: dict[str, str | int] = {name: value for name in _SCRUBBED if (value := getattr(scrub, name))}
    return counts | {"begun": rfc3339(scrub.begun), "finished": int(scrub.finished)}


def journal_runs(drive_uuid: str, lines: Iterable[Mapping[str, Any]]) -> list[RunRecord]:
    """The runs that a drive's journal tells of, each with the masters it touched.

    A line is what `flashback.drive.journal.Line` becomes as plain types. Its shape was checked when it was read; its
    numbers and `facts` are still a drive's word, and what cannot be is left out. A run's beginning is `begun` in the
    facts of its first line where it stands there, else that line's moment.
    """
    by_run: dict[str, list[Mapping[str, Any]]] = {}
    last_words: dict[str, Mapping[str, Any]] = {}
    for line in lines:
        if line["mark"] in {"begun", "complete", "unchanged"} and line.get("master") and _possible(line):
            by_run.setdefault(line["run"], []).append(line)
        elif line["mark"] == "ended" and _possible(line):
            last_words[line["run"]] = line
    return [_journal_run(drive_uuid, run_id, of_it, last_words.get(run_id)) for run_id, of_it in by_run.items()]


def _journal_run(
    drive_uuid: str, run_id: str, lines: Sequence[Mapping[str, Any]], last_word: Mapping[str, Any] | None
) -> RunRecord:
    masters: dict[str, MasterCounts] = {}
    for line in lines:
        masters[line["master"]] = _journal_counts(line)
    completed = [each.completed for each in masters.values() if each.completed is not None]
    whole = len(completed) == len(masters)
    first = lines[0]
    found = RunRecord(
        drive_uuid=drive_uuid,
        sequence=first["sequence"],
        run_id=run_id,
        machine=first.get("machine", ""),
        begun=_moment(_facts(first).get("begun")) or read(first["at"]),
        ended=max(completed) if whole else None,
        result=RunResult.COMPLETE if whole else RunResult.INCOMPLETE,
        masters=tuple(masters[name] for name in sorted(masters)),
        unread=min(sum(each.unread for each in masters.values()), _LARGEST),
    )
    return found if last_word is None else _ended(found, last_word)


def _ended(run: RunRecord, line: Mapping[str, Any]) -> RunRecord:
    """The run with the last word that its drive has on it, as far as that can be."""
    facts = _facts(line)
    code, result, seconds = facts.get("exit_code"), facts.get("result"), facts.get("seconds")
    if type(code) is not int or not isinstance(result, str) or result not in _ENDINGS.get(code, ()):
        return run
    return replace(
        run,
        ended=read(line["at"]),
        result=RunResult(result),
        exit_code=code,
        bytes_copied=_count(facts.get("bytes_copied")),
        bytes_written=_count(facts.get("bytes_written")),
        seconds=float(seconds) if isinstance(seconds, int | float) and 0 <= seconds <= _LONGEST else 0.0,
        remarks=_count(facts.get("remarks")),
    )


def _journal_counts(line: Mapping[str, Any]) -> MasterCounts:
    if line["mark"] == "begun":
        return MasterCounts(line["master"])
    facts = _facts(line)
    counts = {name: _count(facts.get(name)) for name in _COUNTS}
    return MasterCounts(line["master"], completed=read(line["at"]), unread=_count(line.get("unread")), **counts)


def journal_scrubs(drive_uuid: str, lines: Iterable[Mapping[str, Any]]) -> list[ScrubRecord]:
    """The scrubs that a drive's journal tells of."""
    found = []
    for line in lines:
        if line["mark"] == "scrub" and _possible(line):
            facts, ended = _facts(line), read(line["at"])
            counts = {name: _count(facts.get(name)) for name in _SCRUBBED}
            begun = _moment(facts.get("begun")) or ended
            found.append(ScrubRecord(drive_uuid, begun, ended, bool(_count(facts.get("finished"))), **counts))
    return found


def _possible(line: Mapping[str, Any]) -> bool:
    texts = (line["run"], line.get("machine", ""), line.get("master", ""))
    if not all(isinstance(text, str) and text.isprintable() for text in texts):
        return False
    return 0 < line["sequence"] <= HIGHEST_SEQUENCE and _moment(line["at"]) is not None


def _facts(line: Mapping[str, Any]) -> Mapping[str, Any]:
    facts = line.get("facts", {})
    return facts if isinstance(facts, Mapping) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value <= _LARGEST else 0


def _moment(value: object) -> datetime | None:
    """A moment that a drive names: what goes into the ledger must come out of it again."""
    if not isinstance(value, str):
        return None
    try:
        return parse_rfc3339(value)
    except ValueError:
        return None
