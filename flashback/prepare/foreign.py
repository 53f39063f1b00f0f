"""What is on a device that is to be adopted: a drive of Flashback's, or nothing of ours. Nothing is opened here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from flashback.core.context import Context
from flashback.core.errors import DriveError
from flashback.core.text import number, rfc3339, shown, size
from flashback.drive import header, layout
from flashback.drive.kept import kept_file, not_as_kept
from flashback.drive.leftover import PREFIX
from flashback.drive.recognise import by_name, luks_on, named, refuse_other_luks, refuse_unwanted, the_only
from flashback.rotation.values import KnownDrive, valid_name
from flashback.tools import block, cryptsetup

MOST_MEMORY_KIB: Final = 1024 * 1024
"""1 GiB, the most that cryptsetup itself gives a key slot of LUKS2; a slot that wants more was made to harm."""


class Case(StrEnum):
    """What this machine knows of the drive."""

    UNKNOWN = "unknown"
    CHANGED = "changed"
    KNOWN = "known"


@dataclass(frozen=True, slots=True)
class Found:
    """A drive of Flashback's on a device, before it is opened. `drive` has the header as it is now.

    A drive that is not known here has a name for the time being. `compared`: UUID, volume key and encryption are those
    of the copy of the header that was kept here.
    """

    volume: block.LuksVolume
    case: Case
    drive: KnownDrive
    slots: int
    memory_kib: int
    compared: bool = False

    def lines(self) -> tuple[str, ...]:
        """What a person is told before anything is asked."""
        volume = self.volume
        words = [shown(volume.model) or "no model name", f"serial {shown(volume.serial)}" if volume.serial else ""]
        what = ", ".join([*filter(None, words), size(volume.size)])
        label = f", label {shown(volume.label)}" if volume.label else ""
        memory = f", opening it takes up to {size(self.memory_kib * 1024)} of memory" if self.memory_kib else ""
        return (
            f"{volume.path}: {what}",
            f"LUKS2, UUID {volume.uuid}{label}, {number(self.slots, 'key slot')}{memory}",
            self._warning().format(name=self.drive.name, since=rfc3339(self.drive.enrolled)[:10]),
        )

    def _warning(self) -> str:
        return ONLY_SLOTS if self.compared and self.case is Case.CHANGED else WARNING[self.case]


WARNING: Final = {
    Case.UNKNOWN: "This machine does not know the drive, so it cannot tell whether its header was changed. Type its "
    "passphrase only if you know where the drive has been.",
    Case.CHANGED: "It says it is {name}, but its header is not the one that was made known on {since}. That is as it "
    "should be if you added, changed or removed a key since; if you did not, do not type the passphrase.",
    Case.KNOWN: "It is {name}, known here, and its header is as it was; what the drive remembers is taken over again.",
}


ONLY_SLOTS: Final = (
    "It is {name}: its UUID, volume key and encryption are those of the copy of its header kept here. Its key slots "
    "are not as they were on {since}. That is as it should be if you added, changed or removed a key since; if you did "
    "not, do not type the passphrase."
)


def examine(context: Context, known: Sequence[KnownDrive], wanted: str) -> Found:
    """What is on the device (or on the known drive's), and whether it is ours. Nothing is opened."""
    path = by_name(context.run, known, wanted).volume.path if "/" not in wanted else wanted
    volumes, volume = luks_on(context.run, path)
    refuse_other_luks(volume)
    the_only(volumes, volume.uuid)
    metadata = cryptsetup.metadata(context.run, volume.path)
    _refuse_strangers(volume, metadata)
    memories = header.kdf_memories(metadata)
    _refuse_greed(volume, memories)
    length = header.header_length(metadata)
    digest = cryptsetup.header_digest(volume.path, length)
    drive = named(known, volume.uuid)
    if drive is None:
        drive = _stranger(context, volume, digest, length, taken=[each.name for each in known])
        return Found(volume, Case.UNKNOWN, drive, len(memories), max(memories.values(), default=0))
    refuse_unwanted(drive)
    same = digest == drive.header_digest and length == drive.header_length
    differs = None if same else not_as_kept(context, volume.path, drive.uuid)
    if differs:
        raise _another_volume(context, drive, volume, differs)
    return Found(
        volume,
        Case.KNOWN if same else Case.CHANGED,
        replace(drive, header_digest=digest, header_length=length),
        len(memories),
        max(memories.values(), default=0),
        compared=differs == (),
    )


def _another_volume(
    context: Context, drive: KnownDrive, volume: block.LuksVolume, differs: Sequence[str]
) -> DriveError:
    return DriveError(
        f"{volume.path} says it is {drive.name}, but its {' and its '.join(differs)} are not those of the copy of "
        f"{drive.name}'s header that is kept here: no change of keys does that",
        hint=f"do not type the passphrase. If the header was damaged: flashback key header restore {drive.name}. If "
        f"you re-encrypted the drive, move {shown(str(kept_file(context, drive.uuid)))} away, then adopt it again",
    )


def _stranger(
    context: Context, volume: block.LuksVolume, digest: str, length: int, *, taken: Collection[str]
) -> KnownDrive:
    """The drive as far as its outside tells, with the name in its label for the time being, if that is free."""
    label = volume.label.removeprefix(PREFIX)
    free = valid_name(label) and label.casefold() not in {name.casefold() for name in taken}
    return KnownDrive(
        uuid=volume.uuid,
        name=label if free else f"adopted-{volume.uuid[:8]}",
        header_digest=digest,
        header_length=length,
        enrolled=context.clock(),
        size=_size(context, volume),
        model=volume.model,
        serial=volume.serial,
        partition_uuid=volume.partition_uuid,
    )


def _size(context: Context, volume: block.LuksVolume) -> int:
    """Bytes of the disk where the drive is its only partition, as `init` counts it; else of the partition."""
    disk = block.find(block.scan(context.run), volume.disk)
    parts = [each.path for each in disk.children if each.kind == "part"] if disk is not None else []
    return disk.size if disk is not None and parts == [volume.path] else volume.size


def _refuse_strangers(volume: block.LuksVolume, metadata: Mapping[str, Any]) -> None:
    """Neither token nor label is a proof; without both it is somebody's own LUKS volume, and none of our business."""
    if not volume.uuid:
        raise DriveError(f"the LUKS header of {volume.path} has no UUID that could be one")
    tokens = metadata.get("tokens")
    found = [each for each in tokens.values() if isinstance(each, dict)] if isinstance(tokens, dict) else []
    versions = [each.get("v") for each in found if each.get("type") == "flashback"]
    newer = [each for each in versions if isinstance(each, int) and each > layout.FORMAT_VERSION]
    if newer:
        raise DriveError(
            f"{volume.path} has format {newer[0]}; this Flashback knows formats up to {layout.FORMAT_VERSION}",
            hint="use a newer Flashback for this drive",
        )
    if not versions and not volume.label.startswith(PREFIX):
        raise DriveError(
            f"{volume.path} is a LUKS2 volume, but none that Flashback made: it has neither its token nor its label",
            hint="it was left alone; `cryptsetup luksDump` shows what it is",
        )


def _refuse_greed(volume: block.LuksVolume, memories: Mapping[int, int]) -> None:
    for slot, memory in sorted(memories.items()):
        if memory > MOST_MEMORY_KIB:
            raise DriveError(
                f"key slot {slot} of {volume.path} asks for {size(memory * 1024)} of memory, more than any that "
                "cryptsetup makes",
                hint="the drive was not opened. If you made that slot yourself: cryptsetup luksConvertKey "
                "--pbkdf-memory 262144",
            )
