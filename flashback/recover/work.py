"""Carry a plan out: copied into a directory of our own, held against the drive byte by byte, then given its name."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from flashback.core.command import Runner
from flashback.core.descent import Descent
from flashback.core.errors import NotFinished
from flashback.core.events import Progress, Remark, Remarked, RemarkKind, Step, StepBegun, StepDone, Tell
from flashback.core.text import number, shown, size
from flashback.drive.proofs import Proofs
from flashback.drive.tree import FETCHED, Item, Trouble, digest, fetched, unread
from flashback.recover import attributes, destination
from flashback.recover.destination import Staging
from flashback.recover.parts import Owner, Part, differs, totals
from flashback.tools import btrfs, rsync

_COMMENTS = (b"#", b";")


@dataclass(slots=True)
class Done:
    """One part, restored. `name` is what it is called now, `None` where nothing of it could be had.

    `doubtful` are files that are there as the drive gave them, and are not what was read of the same version before.
    """

    part: Part
    name: bytes | None
    files: int = 0
    bytes: int = 0
    troubles: list[Trouble] = field(default_factory=list)
    doubtful: list[Trouble] = field(default_factory=list)


@dataclass(slots=True)
class Work:
    """`watch` raises when the drive is gone; `spool` is where lists may lie; `drive` is its LUKS UUID.

    `proofs` know what was read before; `None`: whoever restores cannot know.
    """

    run: Runner
    tell: Tell
    watch: Callable[[], None]
    drive: str
    spool: Path
    owner: Owner | None = None
    proofs: Proofs | None = None
    files_total: int = 0
    bytes_total: int = 0
    _files: int = 0
    _bytes: int = 0
    _told: float = 0.0

    def expect(self, parts: list[Part]) -> None:
        """So much is to come."""
        self.files_total, self.bytes_total = totals(parts)

    def restore(self, part: Part, put: Callable[[Staging, Done], None] | None = None) -> Done:
        """Restore one part, unless it is there already. `put` brings what is ready to its place, in another way."""
        if part.already is not None:
            return Done(part, part.already, part.files, part.size, list(part.troubles))
        done = Done(part, None, troubles=list(part.troubles))
        if not len(part.items):
            return done
        with destination.staging(part.place, part.key(self.drive), str(part.where)) as stage:
            heard = self._copied(part, stage)
            self._verified(part, stage, heard, done)
            if put is not None:
                put(stage, done)
            else:
                self._put(part, stage, done)
        return done

    # --- copy

    def _copied(self, part: Part, stage: Staging) -> dict[bytes, str]:
        """Have rsync copy it. Return what it said of files with which something went wrong."""
        begun = time.monotonic()
        self.tell(StepBegun(Step.RESTORE, f"{part.wanted.said} from {part.state.said}"))
        said: dict[bytes, str] = {}
        for holes in (False, True):
            if holes and not part.items.holes:
                continue
            with self._names(each for each in part.items if each.has_holes is holes) as names:
                outcome = rsync.restore(
                    self.run,
                    rsync.RestoreRequest(
                        source=part.source,
                        destination=stage.files,
                        place=str(part.where),
                        temporary=stage.temporary,
                        names=names,
                        sparse=holes,
                        owner=str(self.owner or ""),
                    ),
                    on_progress=self._progress,
                    watch=self.watch,
                )
            said |= {each.path: each.why for each in (*outcome.unread, *outcome.unwritable)}
            self._files += outcome.files
            self._bytes += sum(each.size for each in part.items if each.has_holes is holes)
        self.tell(StepDone(Step.RESTORE, time.monotonic() - begun, size(part.size)))
        return said

    def _names(self, items: Iterable[Item]) -> IO[bytes]:
        """The list as rsync reads it: a leading `#` or `;` would be a comment to it, NUL-separated or not."""
        file = tempfile.TemporaryFile(dir=self.spool)  # noqa: SIM115 - the caller closes it
        for item in items:
            file.write((b"./" if item.path.startswith(_COMMENTS) else b"") + item.path + b"\0")
        file.seek(0)
        return file

    def _progress(self, done: int, files: int, current: bytes) -> None:
        self.tell(
            Progress(
                Step.RESTORE,
                bytes_done=self._bytes + done,
                bytes_total=self.bytes_total,
                files_done=self._files + files,
                files_total=self.files_total,
                current=current,
            )
        )

    # --- verify

    def _verified(self, part: Part, stage: Staging, heard: dict[bytes, str], done: Done) -> None:
        """Read both sides of every file, and look at every attribute. What is not equal is taken away again."""
        begun = time.monotonic()
        self.tell(StepBegun(Step.VERIFY, number(part.files, "file")))
        self._on_the_medium(part, stage)
        checked = _Checked(self, part, done, part.files, part.size)
        with Descent(part.source, beyond=True) as here, Descent(stage.files, beyond=True) as there:
            for count, item in enumerate(fetched(part.items, stage.files)):
                if count % 256 == 0:
                    self.watch()
                trouble = checked.problem(item, here, there, heard.pop(item.path, ""))
                if trouble is not None:
                    self.watch()
                    done.troubles.append(trouble)
                    _take_away(there, item)
        done.troubles += [Trouble(path, why, damage=False) for path, why in heard.items()]
        if checked.odd:
            detail = (
                f"{number(checked.odd, 'file')} could not be given all attributes here (the first: {checked.first})"
            )
            self.tell(Remarked(Remark(RemarkKind.GENERAL, part.wanted.master, part.wanted.path, detail)))
        self.tell(StepDone(Step.VERIFY, time.monotonic() - begun, f"{size(done.bytes)} equal to the drive"))

    def _on_the_medium(self, part: Part, stage: Staging) -> None:
        try:
            btrfs.sync(stage.files)
        except OSError as problem:
            raise NotFinished(
                f"{part.where} did not take what was written: {problem.strerror}",
                hint="look at that disk (`dmesg`), or name another directory: --to DIR",
            ) from problem

    def _put(self, part: Part, stage: Staging, done: Done) -> None:
        """Give it its name; where that was taken meanwhile, the next one that is free."""
        with stage.meeting(part.place, part.way) as (ready, place, rest):
            met = part.way[: len(part.way) - len(rest)]
            top = rest.partition(b"/")[0] if met else part.top
            try:
                os.stat(top, dir_fd=ready.files, follow_symlinks=False)
            except FileNotFoundError:
                return
            for name in destination.free_names(top if met else part.name, part.state.mark):
                try:
                    ready.put(top, place, name)
                except FileExistsError:
                    continue
                except OSError as problem:
                    raise NotFinished(
                        f"{shown(name)} cannot be put into {part.where}: {problem.strerror}",
                        hint="look at that directory, then give the same command again",
                    ) from problem
                done.name = met + name
                return


@dataclass(slots=True)
class _Checked:
    """What the verifying finds. `odd` is how many had content but not every attribute."""

    work: Work
    part: Part
    done: Done
    files: int = 0
    size: int = 0
    odd: int = 0
    first: str = ""
    read: int = 0
    told: float = 0.0

    def problem(self, item: Item, here: Descent, there: Descent, heard: str) -> Trouble | None:
        """What is wrong with one entry, so wrong that it must not be there; `None` where it is good."""
        try:
            wrong = self._differs_on_the_drive(item, here, there)
        except _Unread as problem:
            return unread(item.path, problem.why)
        except OSError as problem:
            return Trouble(item.path, heard or problem.strerror or "it was not written", damage=False)
        if wrong:
            return Trouble(item.path, heard or wrong, damage=False)
        if not item.is_directory:
            self.done.files += 1
            self.done.bytes += item.size
        return None

    def _differs_on_the_drive(self, item: Item, here: Descent, there: Descent) -> str:
        parent, name = there.parent(item.path)
        try:
            at = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            self._source_of(item, here)  # which says so, if it is the drive's fault
            raise
        what = differs(item, at, self.work.owner)
        if what in {"kind", "size"}:
            return f"its {what} is not that on the drive"
        if not what and not stat.S_ISLNK(item.mode) and at.st_mtime_ns != item.mtime_ns:
            what = "time"
        with contextlib.suppress(OSError):
            what = what or attributes.differing(
                here.parent(item.path), (parent, name), given=self.work.owner is not None, forgive=False
            )
        if what:
            self.odd += 1
            self.first = self.first or f"{shown(item.path)}: {what}"
        if item.is_directory:
            return ""
        source = self._source_of(item, here)
        mine = (
            digest(parent, name, afresh=item.size > FETCHED, heard=self._heard)
            if item.is_file
            else os.readlink(name, dir_fd=parent)
        )
        if mine != source:
            return "its content is not that on the drive"
        if item.is_file:
            self._held_against_before(item, source)
        return ""

    def _held_against_before(self, item: Item, content: bytes) -> None:
        proofs, part = self.work.proofs, self.part
        if proofs is None or not part.state.complete:
            return
        if why := proofs.judged(part.state.master, part.in_master(item.path), item, content):
            self.done.doubtful.append(Trouble(item.path, f"restored as it is on the drive, but {why}"))

    def _source_of(self, item: Item, here: Descent) -> bytes:
        try:
            parent, name = here.parent(item.path)
            if item.is_file:
                return digest(parent, name)
            return b"" if item.is_directory else os.readlink(name, dir_fd=parent)
        except OSError as problem:
            raise _Unread(problem) from problem

    def _heard(self, count: int) -> None:
        self.read += count
        now = time.monotonic()
        if now - self.told >= rsync.TICK:
            self.told = now
            progress = Progress(Step.VERIFY, self.read, self.size, self.done.files, self.files)
            self.work.tell(progress)


class _Unread(Exception):
    """The drive did not give it."""

    def __init__(self, why: OSError) -> None:
        super().__init__(why)
        self.why = why


def _take_away(below: Descent, item: Item) -> None:
    """A file that is not what the drive holds is not left; its directory keeps its time. Raises `NotFinished`."""
    if item.is_directory:
        return
    try:
        parent, name = below.parent(item.path)
        before = os.fstat(parent)
        with destination.changeable(parent):
            os.unlink(name, dir_fd=parent)
        os.utime(parent, ns=(before.st_atime_ns, before.st_mtime_ns))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as problem:
        raise NotFinished(
            f"{shown(item.path)} is not as it is on the drive, and cannot be taken away: {problem.strerror}",
            hint="look at the place it was to go to, or name another directory: --to DIR",
        ) from problem
