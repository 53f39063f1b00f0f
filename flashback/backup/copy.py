"""Bring the copy of one master up to date: make way, copy, mend, delete, in that order.

Deletions come after the copy, so that an interrupted run has more on the drive rather than less. A file that could not
be read keeps its earlier copy. Big files are changed in place; where reading fails half-way, rsync leaves zeros behind
(LINUX 5.4), which are replaced by what the newest snapshot has, as soon as all rsyncs have ended.
"""

from __future__ import annotations

import errno
import os
import pwd
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from flashback.backup.deletions import Below, stops_the_run
from flashback.backup.moving import move
from flashback.backup.reflink import open_file, put_copy
from flashback.compare.changes import ChangeSet
from flashback.compare.spool import Spool
from flashback.config.values import Symlinks
from flashback.core.command import Runner
from flashback.core.errors import NotFinished
from flashback.core.events import Progress, Remark, RemarkKind, Step, StepBegun, StepDone, Tell
from flashback.core.text import number, shown, size
from flashback.tools import rsync
from flashback.walk.reader import Owner

_LINKS: Final = {
    Symlinks.FOLLOW: rsync.Links.FOLLOW,
    Symlinks.EXTERNAL: rsync.Links.EXTERNAL,
    Symlinks.KEEP: rsync.Links.KEEP,
}
_WATCHED_EVERY: Final = 256
_KEPT: Final = "its earlier copy, if there was one, was kept"
_MENDED: Final = "its copy of the last snapshot was put back"
_DROPPED: Final = "no earlier copy was there to be put back"


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What was done. `bytes_copied` had to be written, `bytes_same` were found in files changed in place."""

    remarks: tuple[Remark, ...] = ()
    bytes_copied: int = 0
    bytes_same: int = 0
    files_copied: int = 0
    removed: int = 0

    @property
    def unread(self) -> tuple[bytes, ...]:
        """The files that could not be read or written."""
        return tuple(remark.path for remark in self.remarks if remark.kind is not RemarkKind.VANISHED)


def bring_up_to_date(
    run: Runner,
    *,
    master: Path,
    owner: Owner,
    incumbent: int,
    incumbent_path: Path,
    changes: ChangeSet,
    symlinks: Symlinks,
    newest_snapshot: Path | None,
    tell: Tell,
    watch: Callable[[], None],
) -> CopyResult:
    """Make the copy that is open as `incumbent` (and lies at `incumbent_path`) what the master is.

    Nothing is started for an empty list. Raises `NoSpace`, `NotFinished`, and what `watch` raises; the next run then
    carries on.
    """
    work = _Work(run, changes, incumbent, newest_snapshot, tell, watch)
    with _opened(master, changes.master_root) as source:
        requests = (
            rsync.CopyRequest(
                master=master,
                source=source,
                destination=incumbent_path,
                names=names,
                uid=owner.uid,
                gid=owner.gid,
                groups=_is_known(owner.uid),
                links=_LINKS[symlinks],
                in_place=spool is changes.in_place,
                fresh=not changes.files_on_drive,
                sparse=spool is changes.holes,
                only_root=spool.only_root,
            )
            for spool in changes.copied
            if len(spool)
            for names in spool.pieces()
        )
        work.move()
        work.copy(requests)
        if work.vanished:
            with _opened(master, changes.master_root):
                pass  # it is where it was: files have vanished, and not all of it
    work.delete()
    return work.result()


@contextmanager
def _opened(master: Path, walked: tuple[int, int] | None) -> Iterator[int]:
    """The master, which must be the directory that was walked; as long as it is open it cannot be unmounted.

    Else a file system that was unmounted since would look like one whose files have all vanished.
    """
    try:
        descriptor = os.open(master, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as problem:
        raise NotFinished(f"{master} cannot be opened any more: {os.strerror(problem.errno or 0)}") from problem
    try:
        at = os.fstat(descriptor)
        if walked is not None and walked != (at.st_dev, at.st_ino):
            raise NotFinished(f"{master} is not the directory any more that was looked at: was it unmounted?")
        yield descriptor
    finally:
        os.close(descriptor)


def _is_known(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


@dataclass(slots=True)
class _Work:
    """One master's copy in the making."""

    run: Runner
    changes: ChangeSet
    incumbent: int
    newest_snapshot: Path | None
    tell: Tell
    watch: Callable[[], None]
    remarks: list[Remark] = field(default_factory=list)
    outcomes: list[rsync.CopyOutcome] = field(default_factory=list)
    removed: int = 0

    def move(self) -> None:
        """Move what was renamed in the master. Anything that is not as expected ends the run."""
        moves = self.changes.moves
        if moves is None or moves.are_done:
            return
        begun = time.monotonic()
        self.tell(StepBegun(Step.MOVE, number(len(moves), "file or directory", "files or directories")))
        move(self.incumbent, moves, self.changes.unproven, self.watch)
        self.tell(StepDone(Step.MOVE, time.monotonic() - begun))

    def copy(self, requests: Iterator[rsync.CopyRequest]) -> None:
        """Make way, then rsync for each piece of a list; when all have ended, mend what they left half-done."""
        if not any(map(len, self.changes.copied)):
            return
        begun = time.monotonic()
        self.tell(StepBegun(Step.COPY, number(self.changes.files_to_copy, "file")))
        self._remove(self.changes.remove_first)
        self._part()
        rsync.copy(self.run, requests, on_progress=self._progress, on_outcome=self._heed, watch=self.watch)
        copied = sum(outcome.copied for outcome in self.outcomes)
        self.tell(StepDone(Step.COPY, time.monotonic() - begun, size(copied)))

    @property
    def vanished(self) -> bool:
        """Whether anything was gone when it was to be copied: so it seems where the master was unmounted (--lazy)."""
        return any(outcome.vanished for outcome in self.outcomes)

    def delete(self) -> None:
        """Remove what the master does not have any more."""
        if not len(self.changes.remove_after):
            return
        begun = time.monotonic()
        self.tell(
            StepBegun(Step.DELETE, number(len(self.changes.remove_after), "file or directory", "files or directories"))
        )
        self._remove(self.changes.remove_after)
        self.tell(StepDone(Step.DELETE, time.monotonic() - begun))

    def result(self) -> CopyResult:
        """Everything that was done."""
        return CopyResult(
            remarks=tuple(self.remarks),
            bytes_copied=sum(outcome.copied for outcome in self.outcomes),
            bytes_same=sum(outcome.same for outcome in self.outcomes),
            files_copied=sum(outcome.files for outcome in self.outcomes),
            removed=self.removed,
        )

    def _remove(self, paths: Spool) -> None:
        with Below(self.incumbent) as below:
            for path in self._watched(paths):
                try:
                    self.removed += below.remove(path)
                except OSError as problem:
                    self._not_done(path, problem, "removing")

    def _part(self) -> None:
        """Give a file of its own to each name that shares one on the drive with what is another file in the master."""
        with Below(self.incumbent) as below:
            for path in self._watched(self.changes.apart):
                try:
                    self._part_one(below, path)
                except OSError as problem:
                    self._not_done(path, problem, "parting")

    @staticmethod
    def _part_one(below: Below, path: bytes) -> None:
        parent, name = below.parent(path)
        source = open_file(parent, name)
        if source is not None:
            try:
                put_copy(source, parent, name)
            except OSError as problem:
                stops_the_run(problem, f"parting {shown(path)}")
            else:
                return
            finally:
                os.close(source)
        below.remove(path)  # a link, or what cannot be copied: rsync makes it anew

    def _heed(self, outcome: rsync.CopyOutcome) -> None:
        self.outcomes.append(outcome)
        mended = {path: self._mend(path) for path in outcome.retained}
        for path in outcome.vanished:
            self._remark(RemarkKind.VANISHED, path, "it was gone, or something else, when it was to be copied")
        for trouble in outcome.unread:
            kind = RemarkKind.NAME_TOO_LONG if trouble.number == errno.ENAMETOOLONG else RemarkKind.UNREADABLE
            self._remark(kind, trouble.path, f"{trouble.why}; {mended.get(trouble.path, _KEPT)}")
        for trouble in outcome.unwritable:
            self._remark(RemarkKind.UNWRITABLE, trouble.path, trouble.why)

    def _mend(self, path: bytes) -> str:
        """Put the newest snapshot's file in the place of one that is half new; without one, remove it."""
        with Below(self.incumbent) as below:
            try:
                parent, name = below.parent(path)
                source = self._in_snapshot(path)
                if source is None:
                    below.remove(path)
                    return _DROPPED
                try:
                    put_copy(source, parent, name)
                finally:
                    os.close(source)
            except OSError as problem:
                stops_the_run(problem, f"mending {shown(path)}")
                below.remove(path)
                return _DROPPED
        return _MENDED

    def _in_snapshot(self, path: bytes) -> int | None:
        if self.newest_snapshot is None:
            return None
        snapshot = os.open(self.newest_snapshot, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with Below(snapshot) as below:
                return open_file(*below.parent(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        finally:
            os.close(snapshot)

    def _not_done(self, path: bytes, problem: OSError, doing: str) -> None:
        if problem.errno in {errno.ENOENT, errno.ENOTDIR}:
            return
        self.watch()
        stops_the_run(problem, f"{doing} {shown(path)}")
        self._remark(RemarkKind.UNWRITABLE, path, f"{doing} it failed: {os.strerror(problem.errno or 0)}")

    def _remark(self, kind: RemarkKind, path: bytes, detail: str) -> None:
        self.remarks.append(Remark(kind, path=path, detail=detail))

    def _watched(self, paths: Spool) -> Iterator[bytes]:
        for count, path in enumerate(paths):
            if count % _WATCHED_EVERY == 0:
                self.watch()
            yield path

    def _progress(self, done: int, files: int, current: bytes) -> None:
        self.tell(
            Progress(
                Step.COPY,
                bytes_done=done,
                bytes_total=self.changes.bytes_to_read,
                files_done=files,
                files_total=self.changes.files_to_copy,
                current=current,
            )
        )
