"""A LUKS header that is gone is put back from a copy: what it opens is seen before one byte is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from flashback.core.context import Context
from flashback.core.errors import DriveError, PassphraseRefused, UsageError
from flashback.core.locks import locked
from flashback.core.secret import TRIES, Secret
from flashback.core.stack import ResourceStack
from flashback.core.text import rfc3339, shown, size
from flashback.drive import header, layout
from flashback.drive.headerless import headerless
from flashback.drive.kept import changing, kept_file
from flashback.drive.leftover import guarded, put_away_own
from flashback.drive.recognise import by_name, known_by_name, named, unknown
from flashback.drive.session import Session
from flashback.prepare.ask import Ask
from flashback.prepare.examine import Examined, examine
from flashback.rotation.ledger import Ledger
from flashback.rotation.values import KnownDrive
from flashback.tools import block, btrfs, cryptsetup

WORD: Final = "restore"
MAPPING: Final = "flashback-header-check"
SUPERBLOCK: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """What the command line said; `asker` is `None` for a script. `file` or `carrier` (a drive's name): whose copy.

    `overwrite`: yes, write it, without the word being typed.
    """

    asker: Ask | None = None
    passphrase: Secret | None = field(default=None, repr=False)
    file: Path | None = None
    carrier: str | None = None
    drive: str | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of a header. `length` are the bytes before the data; `known` is the drive it belongs to, if known here."""

    file: Path
    uuid: str
    label: str
    length: int
    known: KnownDrive | None

    @property
    def name(self) -> str:
        """What to call the drive."""
        return self.known.name if self.known is not None else f"a drive with the label {shown(self.label) or '(none)'}"

    def lines(self) -> tuple[str, ...]:
        """What a person is shown."""
        made = rfc3339(datetime.fromtimestamp(self.file.stat().st_mtime, UTC))
        return (
            f"The copy {self.file} of {made} is the header of {self.name}, LUKS UUID {self.uuid}.",
            "Keys that were added, changed or removed after that day are then as they were.",
        )


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done."""

    copy: Copy
    device: str


def restore(context: Context, ledger: Ledger, wanted: str, options: RestoreOptions) -> Restored:
    """Put the header back on the device (or the drive) that is meant.

    Raises `UsageError`, `DriveError`, `PassphraseRefused` before anything was written.
    """
    drives = ledger.drives()
    examined, drive = _target(context, drives, wanted, options)
    with (
        _copy_of_sibling(context, ledger, drive, options) as file,
        locked(context.paths.locks / "run.lock", purpose=f"key header restore {examined.device.path}"),
    ):
        _refuse_healthy(examined, options)
        copy = _read_copy(context, drives, file, drive)
        _refuse_what_cannot_be(examined, copy)
        _show(examined, copy, options.asker)
        secret = _proven(context, examined, copy, options)
        _see_data(context, examined.device.path, copy, secret)
        _permission(examined, copy, options)
        _write(context, ledger, examined, copy, secret)
    return Restored(copy, examined.device.path)


# --- which device, which drive, which copy


def _target(
    context: Context, drives: tuple[KnownDrive, ...], wanted: str, options: RestoreOptions
) -> tuple[Examined, KnownDrive | None]:
    """The device, examined, and the drive that it is, where that can be told."""
    lost = headerless(context.run, drives)
    if "/" not in wanted:
        drive = known_by_name(drives, wanted)
        path = next((each.device.path for each in lost if each.known.uuid == drive.uuid), None)
        if path is None:
            path = by_name(context.run, drives, drive.name).volume.path
        return examine(context.run, path, drives), drive
    examined = examine(context.run, wanted, drives)
    parts = [part for part in examined.device.children if part.kind == "part"]
    if len(parts) > 1:
        raise UsageError(f"{shown(wanted)} has several partitions", hint="name the one that the drive was on")
    if parts:
        examined = examine(context.run, parts[0].path, drives)
    if options.drive is not None:
        return examined, known_by_name(drives, options.drive)
    seen = next((each.known for each in lost if each.device.path == examined.device.path), None)
    return examined, examined.known or seen


@contextmanager
def _copy_of_sibling(
    context: Context, ledger: Ledger, drive: KnownDrive | None, options: RestoreOptions
) -> Iterator[Path]:
    """The file with the copy; one from another drive is there as long as the block lasts."""
    if options.file is not None:
        yield options.file
        return
    if drive is None:
        raise UsageError(
            "it cannot be told which drive this was",
            hint="say so with --drive NAME, or name the copy with --from FILE; `flashback drive list` shows all drives",
        )
    if options.carrier is None:
        yield kept_file(context, drive.uuid)
        return
    content = _from_carrier(context, ledger, drive, options.carrier)
    context.paths.headers.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = context.paths.headers / f".{drive.uuid}.from-carrier"
    file.unlink(missing_ok=True)
    try:
        file.touch(0o600)
        file.write_bytes(content)
        yield file
    finally:
        file.unlink(missing_ok=True)


def _from_carrier(context: Context, ledger: Ledger, drive: KnownDrive, carrier: str) -> bytes:
    other = named(ledger.drives(), carrier)
    if other is None:
        raise unknown(ledger.drives(), carrier)
    if other.uuid == drive.uuid:
        raise UsageError(f"{drive.name} cannot give back its own header", hint="name another drive")
    session = Session(context, by_name(context.run, ledger.drives(), carrier))
    with session.held(purpose="read a header from", read_only=True) as opened:
        content = carried(opened.root, drive.uuid)
    if content is None:
        raise DriveError(f"{other.name} carries no copy of the header of {drive.name}", hint="try another drive")
    return content


def carried(root: int, uuid: str) -> bytes | None:
    """The copy of a header that the drive open as `root` carries; `None` where there is none."""
    try:
        with layout.directory(root, layout.OURS) as ours, layout.directory(ours, layout.HEADERS) as folder:
            return layout.read_text(folder, f"{uuid}.luks", most=header.LONGEST_HEADER)
    except FileNotFoundError:
        return None


def _read_copy(context: Context, drives: tuple[KnownDrive, ...], file: Path, drive: KnownDrive | None) -> Copy:
    if not file.is_file():
        others = [each.name for each in drives if drive is None or each.uuid != drive.uuid]
        carrying = (
            f"plug in another drive ({', '.join(others)}) and add --from-drive with its name, or " if others else ""
        )
        raise DriveError(f"there is no copy of the header in {file}", hint=f"{carrying}name a copy with --from FILE")
    found = block.luks_header(str(file))
    if found is None or found[0] != 2 or not found[1]:
        raise DriveError(f"{file} is no copy of a LUKS2 header")
    _version, uuid, label = found
    if drive is not None and uuid != drive.uuid:
        raise UsageError(
            f"{file} is the header of another drive ({uuid}), not of {drive.name} ({drive.uuid})",
            hint="with the wrong header the drive could not be opened at all; nothing was written",
        )
    length = header.header_length(cryptsetup.metadata(context.run, str(file)))
    return Copy(file, uuid, label, length, named(drives, uuid))


# --- before anything is asked


def _refuse_what_cannot_be(examined: Examined, copy: Copy) -> None:
    """The device has the drive's size and no partitions, and what lies behind the header looks encrypted."""
    device = examined.device
    if device.children:
        raise UsageError(f"{device.path} has partitions; a header would destroy them", hint="name the partition")
    if device.size < copy.length + (1 << 20):
        raise UsageError(f"{device.path} is too small for {copy.name}: {size(device.size)}")
    if copy.known is not None and copy.known.size:
        limits = (copy.known.size - copy.length, copy.known.size)  # the partition is some MiB smaller than its disk
        if not limits[0] <= device.size <= limits[1]:
            raise UsageError(
                f"{device.path} holds {size(device.size)}, but {copy.name} had {size(copy.known.size)}",
                hint="nothing was written. `lsblk` shows which device is which",
            )
    if not looks_encrypted(_sample(device.path, copy.length + SUPERBLOCK)):
        raise UsageError(
            f"what lies on {device.path} behind the place of the header is not encrypted: it was no drive of "
            "Flashback's, or it was overwritten",
            hint="nothing was written. `lsblk` shows which device is which",
        )


def _refuse_healthy(examined: Examined, options: RestoreOptions) -> None:
    """A header that is the known one needs no other, unless a copy was named on purpose."""
    known, path = examined.known, examined.device.path
    chosen = options.file is not None or options.carrier is not None
    if known is None or chosen or block.luks_header(path) is None:
        return
    if cryptsetup.header_digest(path, known.header_length) == known.header_digest:
        raise UsageError(
            f"the header of {known.name} is as it should be, byte for byte, so nothing was written",
            hint="a passphrase that is refused is a wrong one; to go back to an older header, name it with --from FILE",
        )


def _sample(path: str, place: int) -> bytes:
    try:
        with open(path, "rb", buffering=0) as device:
            device.seek(place)
            return device.read(4096)
    except OSError as problem:
        raise DriveError(f"{path} cannot be read: {problem.strerror}", hint="the drive may be dying") from problem


def looks_encrypted(sample: bytes) -> bool:
    """Whether 4096 bytes are as even as a cipher's: of random ones nearly all 256 values occur, none often."""
    counts = [sample.count(value) for value in range(256)]
    return len(sample) == 4096 and max(counts) < 64 and sum(1 for count in counts if count) > 240


# --- what is shown and asked


def _show(examined: Examined, copy: Copy, asker: Ask | None) -> None:
    if asker is not None:
        asker.show("\n".join((*examined.lines(), *copy.lines())))


def _proven(context: Context, examined: Examined, copy: Copy, options: RestoreOptions) -> Secret:
    """A key that the copy of the header opens with. Raises `PassphraseRefused`, `UsageError`."""

    def tried(secret: Secret) -> Secret:
        cryptsetup.opened_slot(context.run, examined.device.path, secret=secret, header=copy.file)
        return secret

    if options.passphrase is not None:
        return tried(options.passphrase)
    if options.asker is None:
        raise UsageError("the passphrase is missing, and there is nobody to ask", hint="say it with --passphrase-file")
    for attempt in range(1, TRIES + 1):
        try:
            return tried(options.asker.secret(f"Passphrase or recovery key of {copy.name}:"))
        except PassphraseRefused:
            if attempt == TRIES:
                raise
            options.asker.show("That opens no key slot of the copy; try again.")
    raise AssertionError  # the last attempt returns or raises


def _see_data(context: Context, device: str, copy: Copy, secret: Secret) -> None:
    """With the copy as its header, the device holds a Btrfs, and the one it held. Read-only; closed again."""
    run = context.run
    put_away_own(context, MAPPING)  # of an earlier try that was killed
    with guarded(context, MAPPING) as heir:
        heir.begin()
        with ResourceStack(context.signals) as stack:
            stack.take(
                f"the LUKS mapping {MAPPING}",
                lambda: cryptsetup.open_with(
                    heir.run, device, MAPPING, secret=secret, read_only=True, header=copy.file
                ),
                lambda: cryptsetup.close(run, MAPPING),
            )
            found = btrfs.filesystem_on(cryptsetup.mapper_path(MAPPING))
        heir.let_go()
    expected = copy.known.filesystem_uuid if copy.known is not None else ""
    if not found or (expected and found != expected):
        raise DriveError(
            f"with this header there is no file system of {copy.name} on {device}, so nothing was written",
            hint="it is another drive, or its data were overwritten",
        )


def _permission(examined: Examined, copy: Copy, options: RestoreOptions) -> None:
    if options.overwrite:
        return
    if options.asker is None:
        raise UsageError(
            f"the first {size(copy.length)} of {examined.device.path} would be overwritten",
            hint="if that is what you want, say so with --yes-overwrite-header",
        )
    options.asker.show(f"The copy opens the drive, and its file system is there: {copy.name} it is.")
    answer = options.asker.text(
        f"To overwrite the first {size(copy.length)} of {examined.device.path} with it, type the word {WORD}:"
    )
    if answer.strip().casefold() != WORD:
        raise UsageError("the word was not typed, so nothing was changed")


def _write(context: Context, ledger: Ledger, examined: Examined, copy: Copy, secret: Secret) -> None:
    device = examined.device.path
    noted = (
        changing(context, ledger, copy.known.uuid, device, "key header restore")
        if copy.known is not None
        else nullcontext()
    )
    with noted:
        cryptsetup.restore_header(context.run, device, copy.file)
        block.flush(device)
        cryptsetup.opened_slot(context.run, device, secret=secret)


def restored_text(done: Restored) -> str:
    """What a person is told at the end."""
    copy = done.copy
    first = f"The header of {copy.name} is on {done.device} again, and opens."
    if copy.known is None:
        return f"{first} Make the drive known here: flashback drive adopt {done.device}"
    return f"{first} Look whether all of it can be read: flashback run {copy.known.name} --scrub"
