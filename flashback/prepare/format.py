"""A device becomes a drive: partition, LUKS2, Btrfs, identity, and this machine's memory of it.

Interrupted at any point it leaves nothing open, and the same command can simply be given again: until the last step
the drive is not known here, and the first step erases whatever an earlier try has left.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from flashback.core.context import Context
from flashback.core.errors import DriveError, DriveState, FlashbackError, NoSpace
from flashback.core.events import Step, StepBegun, StepDone
from flashback.core.locks import locked
from flashback.core.stack import ResourceStack
from flashback.core.text import rfc3339
from flashback.drive import header, identity, layout
from flashback.drive.kept import keep_header, kept_file
from flashback.drive.leftover import closing_with_us, guarded, put_away_own
from flashback.prepare.examine import Examined, examine
from flashback.prepare.request import InitRequest
from flashback.rotation.ledger import Ledger
from flashback.rotation.values import KnownDrive, Standing
from flashback.tools import block, btrfs, cryptsetup, mount, partition

LABEL: Final = "Backup"
RECOVERY_SLOT: Final = 1
"""The second key slot, which a fresh header has free."""


def prepare(context: Context, ledger: Ledger, request: InitRequest) -> KnownDrive:
    """Do what was decided; return the drive, closed and known. What was on the device is lost.

    Raises `UsageError` when the device came into use meanwhile, and whatever the tools run into.
    """
    with locked(context.paths.locks / "run.lock", purpose=f"init {request.name}"):
        erased = _still_the_same(context, ledger, request.examined).known
        if erased is not None:
            retire_erased(ledger, erased)  # first: killed half-way, its name must be free for the next try
        try:
            volume = _volume(context, request)
            known = _format(context, request, volume)
            _fill(context, request, known, volume)
            block.flush(volume)
        except BaseException as error:
            error.drive_state = _look(request)  # type: ignore[attr-defined]
            if erased is not None:
                _give_back_unless_erased(context, ledger, erased)
            raise
        ledger.enrol(known)
        if erased is not None:
            kept_file(context, erased.uuid).unlink(missing_ok=True)  # nothing is left that it could open
    return known


def _still_the_same(context: Context, ledger: Ledger, shown: Examined) -> Examined:
    """The device, looked at once more: what a person has agreed to erase, not what was plugged in in its place."""
    now = examine(context.run, shown.device.path, ledger.drives())
    if now.presence != shown.presence or now.as_json() != shown.as_json():
        raise DriveError(
            f"{shown.device.path} is not the device any more that was looked at, so nothing was changed",
            hint="was it unplugged, or can it not be read? Start again, and look at what is shown",
        )
    return now


def _give_back_unless_erased(context: Context, ledger: Ledger, drive: KnownDrive) -> None:
    """The drive keeps its name when its LUKS header is still there."""
    with contextlib.suppress(FlashbackError), context.signals.held():
        if any(volume.uuid == drive.uuid for volume in block.luks_volumes(context.run)):
            ledger.change(drive.uuid, name=drive.name, standing=drive.standing)


def retire_erased(ledger: Ledger, erased: KnownDrive) -> None:
    """The drive that was on the device is no more; its history stays, under a name that says so."""
    names = {each.name for each in ledger.drives()}
    number = next(n for n in itertools.count(1) if f"{erased.name[:20]}-erased-{n}" not in names)
    ledger.change(erased.uuid, name=f"{erased.name[:20]}-erased-{number}", standing=Standing.RETIRED)


def _look(request: InitRequest) -> DriveState:
    if cryptsetup.is_open(_mapping(request)):
        return DriveState.STILL_HELD
    return DriveState.CLOSED if os.path.exists(request.examined.device.path) else DriveState.GONE


def _mapping(request: InitRequest) -> str:
    return f"flashback-{request.name}"


@contextmanager
def _step(context: Context, step: Step, detail: str) -> Iterator[None]:
    context.tell(StepBegun(step, detail))
    begun = time.monotonic()
    yield
    context.tell(StepDone(step, time.monotonic() - begun, detail))


def _volume(context: Context, request: InitRequest) -> str:
    """The path of what will hold LUKS: a fresh partition, or the device itself."""
    device = request.examined.device.path
    if not request.partitions:
        return device
    with _step(context, Step.PARTITION, device):
        return partition.partition(context.run, device, name=request.label)


def _format(context: Context, request: InitRequest, volume: str) -> KnownDrive:
    run, now = context.run, context.clock()
    with _step(context, Step.FORMAT, f"LUKS2 on {volume}"):
        cryptsetup.format_volume(run, volume, label=request.label, passphrase=request.passphrase, kdf=request.kdf)
        if request.recovery_key is not None:
            cryptsetup.add_key(run, volume, passphrase=request.passphrase, new=request.recovery_key, kdf=request.kdf)
        recovery = [RECOVERY_SLOT] if request.recovery_key is not None else []
        cryptsetup.import_token(run, volume, header.token_for(recovery))
        metadata = cryptsetup.metadata(run, volume)
        length = header.header_length(metadata)
        uuid = _uuid(volume)
        keep_header(context, volume, uuid)
    device = request.examined.device
    return KnownDrive(
        uuid=uuid,
        name=request.name,
        header_digest=cryptsetup.header_digest(volume, length),
        header_length=length,
        enrolled=now,
        size=device.size,
        model=device.model,
        serial=device.serial,
    )


def _uuid(volume: str) -> str:
    found = block.luks_header(volume)
    if found is None or not found[1]:
        raise DriveError(f"{volume} does not show the LUKS header that was just written to it")
    return found[1]


def _fill(context: Context, request: InitRequest, known: KnownDrive, volume: str) -> None:
    run, mapping = context.run, _mapping(request)
    with (
        _step(context, Step.FORMAT, f"Btrfs with blake2 checksums on {known.name}"),
        ResourceStack(context.signals) as stack,
    ):
        mount.private_namespace()
        target = context.paths.mounts / known.name
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        put_away_own(context, mapping)  # of an earlier try, whose device is gone or was formatted anew
        device = cryptsetup.mapper_path(mapping)
        with guarded(context, mapping) as heir:  # killed from here on, we leave nothing open
            heir.begin()
            stack.take(
                f"the LUKS mapping {mapping}",
                lambda: cryptsetup.open_with(heir.run, volume, mapping, secret=request.passphrase),
                lambda: cryptsetup.close(run, mapping),
            )
            with closing_with_us(context, mapping):
                heir.let_go()
                btrfs.make_filesystem(run, device, label=LABEL)
                stack.take(
                    f"the mount at {target}",
                    lambda: mount.mount(run, device, target, options=("compress=zstd:3",), read_only=False),
                    lambda: mount.unmount(run, target),
                )
        with context.signals.held():
            root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.intend("the drive's top directory", lambda: os.close(root))
        with _explained(known):
            _write_identity(context, known, root)
            btrfs.sync(root)


@contextmanager
def _explained(known: KnownDrive) -> Iterator[None]:
    """What the system says when the new drive does not take what is written, in words."""
    try:
        yield
    except OSError as problem:
        if problem.errno == errno.ENOSPC:
            raise NoSpace(
                f"the drive for {known.name} has no room for what Flashback keeps on it", hint="take a larger one"
            ) from problem
        raise DriveError(
            f"the drive for {known.name} did not take what was written to it: {os.strerror(problem.errno or 0)}",
            hint="try another port or cable, then the same command again; a drive that fails now is none to trust",
        ) from problem


def _write_identity(context: Context, known: KnownDrive, root: int) -> None:
    with layout.made_directory(root, layout.OURS) as ours:
        identity.write(root, ours, known, created=rfc3339(known.enrolled), machine=context.machine)
        layout.write_ballast(ours, layout.ballast_for(known.size))
        for folder in (layout.CONFIG_COPY, layout.HEADERS):
            with layout.made_directory(ours, folder):
                pass
