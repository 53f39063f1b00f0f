"""A drive is opened, used and put away: the one place where mappings and mounts are taken.

The mount lives in a mount namespace of this process alone, and the mapping is told to close itself as soon as the mount
is gone; so not even SIGKILL or a pulled plug leaves either of them behind (LINUX facts: `cryptsetup close --deferred`,
mount_namespaces(7)).
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flashback.core.context import Context
from flashback.core.errors import (
    DriveError,
    DriveGone,
    DriveState,
    Locked,
    NotFinished,
    StillHeld,
)
from flashback.core.events import Step, StepBegun, StepDone
from flashback.core.heir import Heir
from flashback.core.locks import locked
from flashback.core.stack import ResourceStack
from flashback.drive import layout, marker
from flashback.drive.gone import used_otherwise, wait_until_gone
from flashback.drive.leftover import closing_with_us, guarded, mounted_by, named, put_away_own
from flashback.drive.recognise import Candidate, check_identity, refuse_unwanted
from flashback.drive.turn import Turn
from flashback.drive.unlock import unlock
from flashback.rotation.values import KnownDrive
from flashback.tools import block, btrfs, cryptsetup, mount
from flashback.tools.dbus import Inhibitor

AS_COMMITTED: Final = ("rescue=nologreplay",)
"""After a pulled plug Btrfs wants to write its log back, and a mapping that cannot be written to is then not mounted at
all ("can't read superblock"; btrfs(5), rescue). Read-only, what was committed last is seen instead."""
_FAILING: Final = frozenset({errno.EIO, errno.EROFS, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.EUCLEAN})


@dataclass(slots=True)
class OpenDrive:
    """A drive whose file system is mounted at `mount_point`; `root` is a descriptor of its top directory."""

    known: KnownDrive
    volume: block.LuksVolume
    mapping: str
    mount_point: Path
    root: int
    filesystem: str
    presence: block.Presence
    errors_before: dict[str, int]
    read_only: bool

    def watch(self) -> None:
        """Raise `DriveGone` as soon as the device is not there any more."""
        if not block.still_there(self.presence):
            raise DriveGone(
                f"{self.known.name} was unplugged while it was being written to",
                hint=f"plug it in again, then: flashback run {self.known.name}. It carries on where it stopped",
            )


@contextmanager
def _explained(drive: OpenDrive) -> Iterator[None]:
    """An error of the operating system for which nobody below was prepared: is the drive gone, or does it fail?"""
    try:
        yield
    except OSError as problem:
        drive.watch()
        if problem.errno not in _FAILING:
            raise
        raise NotFinished(
            f"reading or writing failed: {problem.strerror}",
            hint=f"the kernel log (dmesg) says which disk it was. If {drive.known.name}: back up to another drive; "
            f"flashback scrub {drive.known.name} names what is damaged. Else: flashback run {drive.known.name}",
        ) from problem


class Session:
    """One use of one drive. `state` is always what was last seen to be true of it.

    `waits`: others at work are waited for, with the question put first; else `held` raises `Locked`.
    """

    def __init__(
        self, context: Context, candidate: Candidate, *, compress: str = "zstd:3", waits: bool = False
    ) -> None:
        self.context = context
        self.mount_options = () if compress == "no" else (f"compress={compress}",)
        self.candidate = candidate
        self.state = DriveState.NOT_OPENED
        self.close_seconds = 0.0
        self.bytes_written = 0
        self._written_before = 0
        self._presence = block.Presence("", 0)
        self._unflushed = False
        self._shared = False
        self._awake = Inhibitor()
        self._turn = Turn(context, candidate, waits=waits, look=self._refuse_open_elsewhere)

    @contextmanager
    def held(self, *, purpose: str, read_only: bool = False, unwanted_too: bool = False) -> Iterator[OpenDrive]:
        """Open the drive for the block, and put it away on every way out.

        Raises `Locked`, `DriveError`, `PassphraseRefused`, `StillHeld`; every error that leaves the block carries
        the state of the drive as it was found afterwards.
        """
        name = self.candidate.known.name
        try:
            with (
                self._turn.taken(f"{purpose} {name}"),
                locked(self.context.paths.locks / f"{self.candidate.known.uuid}.lock", purpose=f"{purpose} {name}"),
                Inhibitor() as self._awake,
            ):
                refuse_unwanted(self.candidate.known, allowed=unwanted_too)
                with ResourceStack(self.context.signals) as stack:
                    drive = self._open(stack, read_only=read_only)
                    with _explained(drive):
                        yield drive
                    self._close(stack)
        except BaseException as error:
            with self.context.signals.held():
                self.state = self._look()
                if self.state is not DriveState.NOT_OPENED:
                    error.drive_state = self.state  # type: ignore[attr-defined]
                elif getattr(error, "drive_state", DriveState.NOT_INVOLVED) is DriveState.NOT_INVOLVED:
                    error.drive_state = self._untouched(error)  # type: ignore[attr-defined]
            raise

    def _open(self, stack: ResourceStack, *, read_only: bool) -> OpenDrive:
        context, known, volume = self.context, self.candidate.known, self.candidate.volume
        context.tell(StepBegun(Step.OPEN, f"{known.name} on {volume.path}"))
        begun = time.monotonic()
        check_identity(self.candidate)
        self._refuse_open_elsewhere()
        if not read_only and block.read_only(volume.path):
            raise NotFinished(
                f"{known.name} is write-protected", hint="look for a lock switch on the card or its adapter"
            )
        presence = self._presence = block.presence(volume.path)
        self._written_before = block.bytes_written(volume.path)
        mount.private_namespace()
        mapping = mapping_name(known)
        target = context.paths.mounts / known.name
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        options = AS_COMMITTED if read_only else self.mount_options

        self.state = DriveState.UNKNOWN
        stack.intend(f"the LUKS mapping {mapping}", lambda: self._close_mapping(mapping))
        with guarded(context, mapping) as heir:  # killed from here on, we leave nothing open
            self.unlock(mapping, read_only=read_only, heir=heir)
            self._awake.take(f"{known.name} is open")
            with closing_with_us(context, mapping):
                heir.let_go()
                stack.take(
                    f"the mount at {target}",
                    lambda: mount.mount(
                        context.run, cryptsetup.mapper_path(mapping), target, options=options, read_only=read_only
                    ),
                    lambda: mount.unmount(context.run, target),
                )
        with context.signals.held():
            root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.intend("the drive's top directory", lambda: os.close(root))
        filesystem = btrfs.filesystem_uuid(root)
        drive = OpenDrive(
            known, volume, mapping, target, root, filesystem, presence, btrfs.error_counts(filesystem), read_only
        )
        prove_destination(drive)
        context.tell(StepDone(Step.OPEN, time.monotonic() - begun, f"{known.name} on {volume.path}"))
        return drive

    def _refuse_open_elsewhere(self) -> None:
        known = self.candidate.known
        for found in cryptsetup.mappings_of(known.uuid):
            if not found.alive:
                put_away(self.context, found.name)
                continue
            if found.name == mapping_name(known):
                put_away_own(self.context, found.name)
                continue
            raise StillHeld(
                [f"{known.name} was opened by somebody else, as {found.name}"],
                hint=f"put it away: flashback close {known.name}, then give the same command again",
            )
        if cryptsetup.is_open(
            mapping_name(known)
        ):  # of another volume: our undo, which goes by the name, would close it
            raise DriveError(
                f"another volume is open as {mapping_name(known)}, which is what {known.name} would be called",
                hint=f"put that one away first: cryptsetup close {mapping_name(known)}",
            )

    def unlock(self, mapping: str, *, read_only: bool, heir: Heir) -> None:
        """Open the mapping, once it is our turn (see `unlock.unlock`)."""
        unlock(self.context, self.candidate.volume, mapping, self._turn, self._presence, read_only=read_only, heir=heir)

    def _close_mapping(self, mapping: str) -> None:
        """While it is not our turn we have opened nothing, and what is called so is another's."""
        if self._turn.mine:
            cryptsetup.close(self.context.run, mapping)

    def _close(self, stack: ResourceStack) -> None:
        """Put everything away and look that it is gone: only after this may anybody say "safe to remove"."""
        known = self.candidate.known
        self.context.tell(StepBegun(Step.CLOSE, known.name))
        begun = time.monotonic()
        with self.context.signals.held():
            stuck = stack.give_back_all()
        if stuck:  # before the waiting, which would end without the name of the process in the way
            raise StillHeld(stuck, hint=f"end what uses it, then: flashback close {known.name}")
        wait_until_gone(known)
        self.state = self._look()
        if self._unflushed:
            raise NotFinished(
                f"{known.name} did not confirm that everything is on the medium",
                hint=f"check the cable and the port, then: flashback run {known.name} --scrub",
            )
        self.bytes_written = self.written_so_far()
        self.close_seconds = time.monotonic() - begun
        self.context.tell(StepDone(Step.CLOSE, self.close_seconds, known.name))

    def written_so_far(self) -> int:
        """Bytes that have reached the device since it was opened."""
        return max(0, block.bytes_written(self.candidate.volume.path) - self._written_before)

    def _untouched(self, error: BaseException) -> DriveState:
        """Not opened by us; but another run, or somebody by hand, may have it open, or it was pulled meanwhile."""
        if isinstance(error, Locked) or cryptsetup.mappings_of(self.candidate.known.uuid):
            return DriveState.UNKNOWN
        try:
            block.presence(self.candidate.volume.path)
        except DriveError:
            return DriveState.GONE
        return DriveState.NOT_OPENED

    def _look(self) -> DriveState:
        if self.state is DriveState.NOT_OPENED:
            return self.state
        known, volume = self.candidate.known, self.candidate.volume
        wait_until_gone(known, raises=False)
        if cryptsetup.mappings_of(known.uuid):
            return DriveState.STILL_HELD
        try:
            if block.still_there(self._presence):  # else another device may be called so by now
                block.flush(volume.path)
                self._shared = used_otherwise(self.context, known, volume.disk)
        except DriveGone:
            self._unflushed = block.still_there(self._presence)
        return DriveState.CLOSED if block.still_there(self._presence) else DriveState.GONE

    @property
    def safe_to_remove(self) -> bool:
        """The mapping was seen to be gone, the device has confirmed each time that everything is on the medium, and
        nobody uses another partition of it.
        """
        return self.state is DriveState.CLOSED and not self._unflushed and not self._shared


def mapping_name(known: KnownDrive) -> str:
    """How the mapping is called while Flashback has the drive open."""
    return f"flashback-{known.name}"


def put_away(context: Context, mapping: str) -> None:
    """Unmount the mapping wherever we see it mounted, then close it. Raises `StillHeld` with who is in the way."""
    with contextlib.suppress(FileNotFoundError):  # it was to close with its last mount, and that has gone
        for place in mount.mounts_of(device_number(mapping)):
            mount.unmount(context.run, Path(place.target))
    try:
        cryptsetup.close(context.run, mapping)
    except StillHeld as problem:
        if users := mounted_by(mapping):  # where we do not see it: a container, a service with a view of its own
            raise StillHeld((f"{mapping} is still mounted for {named(users)}",), hint=problem.hint) from problem
        raise


def device_number(mapping: str) -> str:
    """`major:minor` of an open mapping."""
    status = os.stat(cryptsetup.mapper_path(mapping))
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def prove_destination(drive: OpenDrive) -> None:
    """Before anything is written: this is a mount, of the expected mapping, on the expected LUKS volume, with the
    drive's own marker (DESIGN 7.2). Raises `DriveError`; not one byte is written then.
    """
    problem = DriveError(
        f"what is mounted at {drive.mount_point} is not {drive.known.name}",
        hint="nothing was written; look at `findmnt` and `dmsetup ls`, and please report this",
    )
    places = mount.mounts_of(device_number(drive.mapping))
    if os.path.realpath(drive.mount_point) not in {place.target for place in places}:
        raise problem
    if drive.mapping not in {found.name for found in cryptsetup.mappings_of(drive.known.uuid)}:
        raise problem
    if os.fstat(drive.root).st_dev != os.stat(drive.mount_point).st_dev:
        raise problem
    check_marker(drive)


def check_marker(drive: OpenDrive) -> marker.Marker:
    """The drive's own word on which drive it is. Raises `DriveError` when there is none or it names another."""
    content = None
    with contextlib.suppress(FileNotFoundError), layout.directory(drive.root, layout.OURS) as ours:
        content = layout.read_text(ours, layout.MARKER)
    if content is None:
        raise DriveError(f"{drive.known.name} does not carry Flashback's marker, so nothing was written")
    said = marker.decode(content)
    if said.uuid != drive.known.uuid:
        raise DriveError(f"the marker on {drive.known.name} names another drive, so nothing was written")
    return said
