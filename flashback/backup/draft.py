"""The catalogue of the next run in the making: gathered while the plan is made, kept once the run is complete."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Final

import msgspec

from flashback.backup.catalogue import (
    DOUBTFUL,
    CatalogueBroken,
    Stamp,
    State,
    digest_after,
    forget,
    read_frame,
    write_frame,
)
from flashback.backup.listing import Entry

BATCH: Final = 500
"""Entries in a frame."""


@dataclass(slots=True, weakref_slot=True, eq=False)
class Draft:
    """The listing that will be true once the run is complete, gathered while the plan is made.

    It lies in a file without a name until `keep` gives it one. A machine that has no room for it is no reason to end a
    backup: the draft is then spoilt, and the next run compares both sides.
    """

    _file: IO[bytes] | None
    _batch: list[Entry]
    count: int = 0

    @classmethod
    def begun(cls, directory: Path) -> Draft:
        """An empty one; `directory` takes the spool file, and is made where it is missing."""
        draft = cls(None, [])
        with suppress(OSError):
            _make_private(directory)
            file = tempfile.TemporaryFile(dir=directory, prefix="flashback-")  # noqa: SIM115 - lives as long as it
            weakref.finalize(draft, _close, file)
            draft._file = file
        return draft

    def add(self, entry: Entry) -> None:
        """The next entry, in the order of listings."""
        self._batch.append(entry)
        self.count += 1
        if len(self._batch) >= BATCH:
            self._flush()

    def spoil(self) -> None:
        """It cannot be told what the drive will hold: `keep` then forgets what there was."""
        self._file = None

    def _flush(self) -> None:
        if self._file is not None and self._batch:
            try:
                write_frame(self._file, msgspec.msgpack.encode(self._batch))
            except OSError:
                self.spoil()
        self._batch.clear()

    def keep(self, file: Path, state: State, *, doubtful: Collection[bytes]) -> None:
        """Make it the catalogue in `file`, whole or not at all; then there is none.

        `doubtful` are the paths that were not copied as planned: the drive has something there and below, or nothing.
        One of which the listing knows nothing leaves the whole in doubt.
        """
        making = file.with_name(f".{file.name}.new")
        try:
            self._flush()
            _make_private(file.parent.parent)
            _make_private(file.parent)
            self._write_to(making, state, frozenset(doubtful))
            making.replace(file)
        except (OSError, CatalogueBroken):
            forget(making)
            forget(file)

    def _write_to(self, making: Path, state: State, doubtful: frozenset[bytes]) -> None:
        stamp = Stamp(subvolume=state.subvolume, generation=state.generation, run=state.run, entries=self.count)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(making, flags, 0o600)
        with open(descriptor, "wb") as out:
            os.fchmod(descriptor, 0o600)
            before = b""
            for content in chain([msgspec.msgpack.encode(stamp)], self._contents(doubtful)):
                before = digest_after(before, content)
                write_frame(out, before + content)
            out.flush()
            os.fsync(descriptor)

    def _contents(self, doubtful: frozenset[bytes]) -> Iterator[bytes]:
        """The frames of the file to be. Raises `CatalogueBroken` when something doubtful is not among the entries."""
        if self._file is None:
            raise CatalogueBroken("there is no draft")
        self._file.seek(0)
        decode = msgspec.msgpack.Decoder(list[Entry]).decode
        unknown = set(doubtful)
        while frame := read_frame(self._file):
            if not doubtful:
                yield frame
                continue
            batch = decode(frame)
            unknown.difference_update(entry.path for entry in batch)
            marked = [_doubted(entry) if _lies_in(entry.path, doubtful) else entry for entry in batch]
            yield msgspec.msgpack.encode(marked)
        if unknown:
            raise CatalogueBroken("what went wrong is not in the listing")


def _doubted(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, mtime_ns=DOUBTFUL, ctime_ns=DOUBTFUL)


def _lies_in(path: bytes, places: Collection[bytes]) -> bool:
    """Whether a path is one of these, or below one."""
    while path not in places:
        path, slash, _name = path.rpartition(b"/")
        if not slash:
            return False
    return True


def _close(file: IO[bytes]) -> None:
    with suppress(OSError):  # a full disk, where it would write what it still has
        file.close()


def _make_private(folder: Path) -> None:
    """Make a folder that is root's alone, whatever the umask."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
