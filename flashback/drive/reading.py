"""A drive is read: opened for the purpose, or, where somebody has it open already, read beside them and left as it was.

The desktop (udisks), a person at a terminal or `flashback mount` may have opened it. The checks are the same: header
digest, LUKS UUID, the device below the mapping, the drive's own marker. It is mounted once more, read-only, in a
namespace of our own, so that nothing depends on how or where it is mounted elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flashback.core.context import Context
from flashback.core.errors import DriveError, DriveState
from flashback.core.events import Note, Step, StepBegun, StepDone
from flashback.core.locks import locked
from flashback.core.stack import ResourceStack
from flashback.drive.recognise import Candidate, check_identity
from flashback.drive.session import AS_COMMITTED, OpenDrive, Session, mapping_name, prove_destination
from flashback.tools import block, btrfs, cryptsetup, mount


class Reading:
    """One reading of one drive. `state` and `safe_to_remove` are what was last seen to be true of it."""

    def __init__(self, context: Context, candidate: Candidate) -> None:
        self.context = context
        self.candidate = candidate
        self.session = Session(context, candidate)
        self.adopted = False

    @property
    def state(self) -> DriveState:
        """Where somebody else has it open, it stays so."""
        if not self.adopted:
            return self.session.state
        return DriveState.OPEN if cryptsetup.mappings_of(self.candidate.known.uuid) else DriveState.GONE

    @property
    def safe_to_remove(self) -> bool:
        """Never while somebody else has it open."""
        return not self.adopted and self.session.safe_to_remove

    @contextmanager
    def held(self, *, purpose: str) -> Iterator[OpenDrive]:
        """The drive, mounted read-only for the block. Lost and retired ones too. Raises as `Session.held`."""
        elsewhere = open_elsewhere(self.candidate)
        if elsewhere is None:
            with self.session.held(purpose=purpose, read_only=True, unwanted_too=True) as drive:
                yield drive
            return
        self.adopted = True
        locks, known = self.context.paths.locks, self.candidate.known
        try:
            with (
                locked(locks / "run.lock", purpose=f"{purpose} {known.name}"),
                locked(locks / f"{known.uuid}.lock", purpose=f"{purpose} {known.name}"),
                ResourceStack(self.context.signals) as stack,
            ):
                yield self._adopted(stack, elsewhere)
        except BaseException as error:
            error.drive_state = self.state  # type: ignore[attr-defined]
            raise

    def _adopted(self, stack: ResourceStack, mapping: cryptsetup.OpenMapping) -> OpenDrive:
        context, known, volume = self.context, self.candidate.known, self.candidate.volume
        context.tell(StepBegun(Step.OPEN, f"{known.name} on {volume.path}"))
        check_identity(self.candidate)
        if mapping.backing is None or os.path.realpath(mapping.backing) != os.path.realpath(volume.path):
            raise DriveError(
                f"{mapping.name}, which says it is {known.name}, does not lie on {volume.path}",
                hint=f"put it away, then try again: flashback close {known.name}",
            )
        context.tell(Note(f"{known.name} is open already, as {mapping.name}; it is read there and left open."))
        mount.private_namespace()
        target = context.paths.mounts / known.name
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        stack.take(
            f"the mount at {target}",
            lambda: self._mount(mapping.name, str(target)),
            lambda: mount.unmount(context.run, target),
        )
        with context.signals.held():
            root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.intend("the drive's top directory", lambda: os.close(root))
        filesystem, presence = btrfs.filesystem_uuid(root), block.presence(volume.path)
        errors = btrfs.error_counts(filesystem)
        drive = OpenDrive(known, volume, mapping.name, target, root, filesystem, presence, errors, read_only=True)
        prove_destination(drive)
        context.tell(StepDone(Step.OPEN, 0.0, f"{known.name} on {volume.path}"))
        return drive

    def _mount(self, mapping: str, target: str) -> None:
        """With the options of a drive that was pulled out, unless it is mounted already: then there is no choice."""
        from pathlib import Path

        device = cryptsetup.mapper_path(mapping)
        try:
            mount.mount(self.context.run, device, Path(target), options=AS_COMMITTED, read_only=True)
        except DriveError:
            mount.mount(self.context.run, device, Path(target), read_only=True)


def open_elsewhere(candidate: Candidate) -> cryptsetup.OpenMapping | None:
    """The mapping by which somebody else has the drive open; not one that a run of ours has, or left behind."""
    known = candidate.known
    with suppress(OSError):
        for found in cryptsetup.mappings_of(known.uuid):
            if found.alive and found.name != mapping_name(known):
                return found
    return None
