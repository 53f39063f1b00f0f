"""The ledger's tables, as the steps that lead from each version to the next (`PRAGMA user_version`).

A step that has been released is never changed: a new one is added. Moments are text as `text.rfc3339` writes it, which
sorts as it should and can be read by a person with the sqlite3 shell; lists and counters are JSON.
"""

from __future__ import annotations

from typing import Final

APPLICATION: Final = 0x464C4253
"""`PRAGMA application_id`: FLBS, so that no other program's database is taken for a ledger."""

_DRIVES_AND_RUNS: Final = (
    """CREATE TABLE drives (
        uuid TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE,
        header_digest TEXT NOT NULL, header_length INTEGER NOT NULL, enrolled TEXT NOT NULL,
        size INTEGER NOT NULL, model TEXT NOT NULL, serial TEXT NOT NULL, place TEXT NOT NULL,
        masters TEXT, on_plug TEXT, standing TEXT NOT NULL, filesystem_uuid TEXT NOT NULL)""",
    """CREATE TABLE runs (
        drive_uuid TEXT NOT NULL, run_id TEXT NOT NULL, sequence INTEGER NOT NULL,
        machine TEXT NOT NULL, begun TEXT NOT NULL, ended TEXT, result TEXT, exit_code INTEGER,
        bytes_copied INTEGER NOT NULL, bytes_written INTEGER NOT NULL, seconds REAL NOT NULL,
        unread INTEGER NOT NULL, remarks INTEGER NOT NULL, holds TEXT NOT NULL,
        PRIMARY KEY (drive_uuid, run_id))""",
    "CREATE INDEX runs_in_order ON runs (drive_uuid, sequence)",
    "CREATE INDEX runs_newest ON runs (sequence)",
    """CREATE TABLE run_masters (
        drive_uuid TEXT NOT NULL, run_id TEXT NOT NULL, master TEXT NOT NULL, sequence INTEGER NOT NULL,
        completed TEXT, unread INTEGER NOT NULL,
        files_added INTEGER NOT NULL, files_changed INTEGER NOT NULL, files_deleted INTEGER NOT NULL,
        files_unchanged INTEGER NOT NULL, bytes_added INTEGER NOT NULL, bytes_changed INTEGER NOT NULL,
        bytes_deleted INTEGER NOT NULL, bytes_unchanged INTEGER NOT NULL,
        PRIMARY KEY (drive_uuid, run_id, master))""",
    "CREATE INDEX completions ON run_masters (drive_uuid, master, completed, sequence)",
    (
        "CREATE INDEX backups ON run_masters (drive_uuid, master, sequence, completed, run_id)"
        " WHERE completed IS NOT NULL AND unread = 0"
    ),
)

_HEALTH: Final = (
    """CREATE TABLE scrubs (
        drive_uuid TEXT NOT NULL, begun TEXT NOT NULL, ended TEXT NOT NULL, finished INTEGER NOT NULL,
        bytes_read INTEGER NOT NULL, corrected INTEGER NOT NULL, uncorrectable INTEGER NOT NULL,
        damaged_files INTEGER NOT NULL, PRIMARY KEY (drive_uuid, ended))""",
    (
        "CREATE TABLE errors (drive_uuid TEXT NOT NULL, at TEXT NOT NULL, counts TEXT NOT NULL,"
        " PRIMARY KEY (drive_uuid, at))"
    ),
    (
        "CREATE TABLE spaces (drive_uuid TEXT NOT NULL, at TEXT NOT NULL, size INTEGER NOT NULL,"
        " free INTEGER NOT NULL, PRIMARY KEY (drive_uuid, at))"
    ),
)

_SNAPSHOTS_AND_HOLDS: Final = (
    """CREATE TABLE snapshots (
        drive_uuid TEXT NOT NULL, master TEXT NOT NULL, name TEXT NOT NULL, completed TEXT NOT NULL,
        bytes INTEGER, PRIMARY KEY (drive_uuid, master, name))""",
    (
        "CREATE TABLE pins (drive_uuid TEXT NOT NULL, master TEXT NOT NULL, name TEXT NOT NULL,"
        " PRIMARY KEY (drive_uuid, master, name))"
    ),
    """CREATE TABLE holds (
        run_id TEXT NOT NULL, hold TEXT NOT NULL, drive_uuid TEXT NOT NULL, why TEXT NOT NULL,
        stood TEXT NOT NULL, lifted TEXT, PRIMARY KEY (run_id, hold))""",
)

_PLUGS: Final = (
    """CREATE TABLE plugs (
        drive_uuid TEXT NOT NULL, at TEXT NOT NULL, insertion TEXT NOT NULL, outcome TEXT NOT NULL,
        until TEXT, agents INTEGER NOT NULL, PRIMARY KEY (drive_uuid, at))""",
)

_SOURCES: Final = ("ALTER TABLE drives ADD COLUMN passphrase TEXT NOT NULL DEFAULT 'ask'",)
"""Where each drive's passphrase comes from; never the passphrase."""

_PIN_WISHES: Final = (
    """CREATE TABLE pin_wishes (
        drive_uuid TEXT NOT NULL, master TEXT NOT NULL, name TEXT NOT NULL, pinned INTEGER NOT NULL,
        PRIMARY KEY (drive_uuid, master, name))""",
)
"""What a person said of pins that the drive itself has not been told yet."""

_KEYS: Final = (
    "ALTER TABLE drives ADD COLUMN partition_uuid TEXT NOT NULL DEFAULT ''",
    "CREATE TABLE header_changes (drive_uuid TEXT PRIMARY KEY, what TEXT NOT NULL, since TEXT NOT NULL)",
)

_DECISIONS: Final = (
    """CREATE TABLE decisions (
        master TEXT NOT NULL, hold TEXT NOT NULL, at TEXT NOT NULL, files INTEGER NOT NULL,
        bytes INTEGER NOT NULL, damaged INTEGER NOT NULL, PRIMARY KEY (master, hold))""",
    "CREATE TABLE reminders (about TEXT PRIMARY KEY, state TEXT NOT NULL, at TEXT NOT NULL)",
)

_PROOFS: Final = (
    """CREATE TABLE proofs (
        drive_uuid TEXT NOT NULL, at TEXT NOT NULL, kind TEXT NOT NULL, files INTEGER NOT NULL, bytes INTEGER NOT NULL,
        total INTEGER NOT NULL, damaged INTEGER NOT NULL, PRIMARY KEY (drive_uuid, at, kind))""",
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    _DRIVES_AND_RUNS,
    _HEALTH,
    _SNAPSHOTS_AND_HOLDS,
    _PIN_WISHES,
    _KEYS,
    _DECISIONS,
    _PLUGS,
    _PROOFS,
    _SOURCES,
)
"""`MIGRATIONS[n]` leads from version n to version n + 1."""
