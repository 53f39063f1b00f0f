"""What can go wrong with the ledger's file, and what SQLite's result codes mean for a person: pure."""

from __future__ import annotations

from pathlib import Path

from flashback.core.errors import Exit, FlashbackError, Locked


class LedgerBroken(FlashbackError):
    """The ledger's file is damaged or is something else."""


class LedgerTooNew(FlashbackError):
    """A newer Flashback wrote the ledger."""

    exit_code = Exit.MISSING


class LedgerUnwritable(FlashbackError):
    """The ledger cannot be opened or written: privilege, read-only disk, no space on this machine's disk."""

    exit_code = Exit.MISSING


def meaning(file: Path, code: str, text: str) -> FlashbackError:
    """By the name of SQLite's result code (https://sqlite.org/rescode.html); `text` is its own sentence."""
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Locked(f"another process keeps the ledger {file} busy", hint="wait until it has finished")
    if code.startswith("SQLITE_FULL"):
        return LedgerUnwritable(
            f"no space is left on the disk of this machine that holds the ledger {file}",
            hint="make space there; the drive has its own journal, from which the ledger learns at the next plug",
        )
    if code.startswith(("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_AUTH")):
        return LedgerUnwritable(
            f"the ledger {file} cannot be read or written: {text}",
            hint="run the command with sudo; if that was done, see whether the disk is read-only or failing (dmesg)",
        )
    return broken(file, text)


def broken(file: Path, why: str) -> LedgerBroken:
    """The file cannot be used as it is; what the drives know comes back from them."""
    return LedgerBroken(
        f"the ledger {file} is damaged: {why}",
        hint=f"nothing on the drives is lost. Move it away (mv {file} {file}.broken), then plug in each drive in turn "
        "and run: flashback drive adopt DEVICE. What the drives know comes back from them",
    )
