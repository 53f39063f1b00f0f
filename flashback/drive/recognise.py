"""Which drive is this? By its LUKS UUID and the digest of its header, never by /dev/sdX or a label (DESIGN 7.3)."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from flashback.core.command import Runner
from flashback.core.errors import DriveError, UsageError
from flashback.core.text import shown
from flashback.drive.headerless import headerless
from flashback.rotation.values import KnownDrive, Standing
from flashback.tools import block, cryptsetup


@dataclass(frozen=True, slots=True)
class Candidate:
    """A known drive together with the device on which it was seen."""

    known: KnownDrive
    volume: block.LuksVolume


def plugged_in(run: Runner, known: Sequence[KnownDrive]) -> tuple[Candidate, ...]:
    """Every known drive that is plugged in, by name. Raises `DriveError` for two devices with one UUID."""
    volumes = block.luks_volumes(run)
    found = [Candidate(drive, volume) for drive in known if (volume := the_only(volumes, drive.uuid)) is not None]
    return tuple(sorted(found, key=lambda candidate: candidate.known.name))


def the_only(volumes: Sequence[block.LuksVolume], uuid: str) -> block.LuksVolume | None:
    """The device with this LUKS UUID, if any. Raises `DriveError` for two: one of them must be a copy."""
    same = [volume for volume in volumes if volume.uuid == uuid]
    if len(same) > 1:
        devices = " and ".join(
            f"{volume.path} ({volume.model or 'no model'}, {volume.serial or 'no serial'})" for volume in same
        )
        raise DriveError(
            f"{devices} carry the same LUKS UUID, so one is a copy of the other",
            hint="unplug the copy; Flashback does not guess which of the two is the drive",
        )
    return same[0] if same else None


def by_name(run: Runner, known: Sequence[KnownDrive], wanted: str) -> Candidate:
    """The drive that a person means by a name, a LUKS UUID or a device. Raises `DriveError`, `UsageError`."""
    drive = named(known, wanted)
    if drive is not None:
        volume = the_only(block.luks_volumes(run), drive.uuid)
        if volume is None:
            raise absent(run, known, drive)
        return Candidate(drive, volume)
    if "/" in wanted:
        return on_device(run, known, wanted)
    raise unknown(known, wanted)


def absent(run: Runner, known: Sequence[KnownDrive], drive: KnownDrive) -> DriveError:
    """The error for a known drive that does not show itself."""
    for each in headerless(run, known):
        if each.known.uuid == drive.uuid:
            return DriveError(each.sentence, hint=f"do not erase it; the header can be put back: {each.remedy}")
    return DriveError(f"{drive.name} is not plugged in", hint="plug it in, then give the same command again")


def known_by_name(known: Sequence[KnownDrive], wanted: str) -> KnownDrive:
    """The known drive of this name or UUID, plugged in or not. Raises `DriveError`."""
    drive = named(known, wanted)
    if drive is None:
        raise unknown(known, wanted)
    return drive


def unknown(known: Sequence[KnownDrive], wanted: str) -> DriveError:
    """The error for a name that no drive has."""
    names = [each.name for each in known]
    close = difflib.get_close_matches(wanted, names, 1)
    return DriveError(
        f"no drive called {shown(wanted)} is known here" + (f"; did you mean {close[0]}?" if close else ""),
        hint="`flashback drive list` shows those that are known; `flashback init DEVICE` prepares a new one",
    )


def named(known: Sequence[KnownDrive], wanted: str) -> KnownDrive | None:
    """The known drive with this name (whatever its case) or UUID."""
    folded = wanted.casefold()
    return next((each for each in known if folded in {each.name.casefold(), each.uuid.casefold()}), None)


def on_device(run: Runner, known: Sequence[KnownDrive], path: str) -> Candidate:
    """The known drive on this device, or on the device's one partition."""
    return _known_here(known, *luks_on(run, path))


def luks_on(run: Runner, path: str) -> tuple[tuple[block.LuksVolume, ...], block.LuksVolume]:
    """Every LUKS volume plugged in, and the one on this device or on its one partition. Raises as `by_name`."""
    real = block_device(path)
    volumes = block.luks_volumes(run)
    here = [volume for volume in volumes if real in {volume.path, volume.disk}]
    if not here:
        raise DriveError(
            f"{shown(path)} holds no LUKS2 volume",
            hint=f"if this is a drive to be prepared (everything on it is erased): flashback init {shown(path)}",
        )
    if len(here) > 1:
        raise DriveError(f"{shown(path)} holds several LUKS volumes", hint="name the partition that you mean")
    return volumes, here[0]


def _known_here(
    known: Sequence[KnownDrive], volumes: Sequence[block.LuksVolume], volume: block.LuksVolume
) -> Candidate:
    drive = named(known, volume.uuid) if volume.uuid else None
    if drive is not None:
        the_only(volumes, drive.uuid)
        return Candidate(drive, volume)
    refuse_other_luks(volume)
    raise DriveError(
        f"{volume.path} (LUKS {volume.uuid}) is not a drive of this machine's rotation",
        hint=f"a drive of another machine is made known by `flashback drive adopt {volume.path}`; "
        "anything else was left alone",
    )


def refuse_other_luks(volume: block.LuksVolume) -> None:
    """Raise `DriveError` for LUKS1, which is nothing of ours."""
    if volume.version != 2:
        raise DriveError(
            f"{volume.path} is a LUKS{volume.version} volume; Flashback uses LUKS2",
            hint="it is not one of Flashback's drives; look at it with cryptsetup luksDump",
        )


def block_device(path: str) -> str:
    """The real path of a block device. Raises `DriveError` (no such device) or `UsageError` (something else)."""
    try:
        status = os.stat(path)
    except OSError as problem:
        near = f"did you mean {shown(f'/dev/{path}')}? " if path and os.path.exists(f"/dev/{path}") else ""
        raise DriveError(
            f"there is no device {shown(path)}", hint=f"{near}`lsblk` lists the devices that are plugged in"
        ) from problem
    if not stat.S_ISBLK(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a block device"
        raise UsageError(f"{shown(path)} is {kind}", hint="name a device such as /dev/sdb; `lsblk` lists them")
    return os.path.realpath(path)


def check_identity(candidate: Candidate) -> None:
    """Hold the header against its digest from enrolment, before any passphrase is asked for. Raises `DriveError`."""
    known, volume = candidate.known, candidate.volume
    if volume.version != 2:
        raise DriveError(f"{volume.path} says it is {known.name}, but it is no LUKS2 volume any more")
    if cryptsetup.header_digest(volume.path, known.header_length) != known.header_digest:
        raise DriveError(
            f"the header of {volume.path} is not the one that {known.name} had when it was made known",
            hint="do not type the passphrase. If you changed a key slot yourself, "
            f"`flashback drive adopt {volume.path}` makes the change known. If you did not, the header is damaged "
            "(a copy is in the folder headers of this machine's state) or the drive is somebody else's",
        )


def reappeared(known: KnownDrive) -> str:
    """What is said before anything else when a drive that was marked lost, or retired, is plugged in."""
    if known.standing is Standing.RETIRED:
        return (
            f"{known.name} was retired, and is plugged in here. It is left alone; if it is to be used again: "
            f"flashback drive set {known.name} standing=active"
        )
    return (
        f"{known.name} was marked lost, and is plugged in here. Somebody may have had it in hand. It is left alone; "
        f"if it is to be used again: flashback drive set {known.name} standing=active"
    )


def refuse_unwanted(known: KnownDrive, *, allowed: bool = False) -> None:
    """A lost or retired drive is not written to; it may be read, if that is `allowed`. Raises `DriveError`."""
    if known.standing is Standing.ACTIVE or allowed:
        return
    raise DriveError(
        f"{known.name} was marked {known.standing.value}",
        hint=f"if it is to be used again: flashback drive set {known.name} standing=active",
    )
