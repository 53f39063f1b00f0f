"""LUKS2 through cryptsetup: formatting, key slots, header, opening and closing.

Exit codes (cryptsetup(8), tried with 2.6.1): 1 wrong parameters, 2 no key opened, 3 out of memory, 4 wrong device,
5 it exists or is busy.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flashback.core.command import SECOND_SECRET, Command, CommandFailed, Runner
from flashback.core.conversation import converse
from flashback.core.errors import DriveError, FlashbackError, Missing, PassphraseRefused, StillHeld
from flashback.core.secret import Secret

SYS_BLOCK: Final = Path("/sys/block")
SUBSYSTEM: Final = "flashback"
FOR_FLASH: Final = ("--allow-discards", "--perf-no_read_workqueue", "--perf-no_write_workqueue")
GONE_WITHIN: Final = 2.0
"""Seconds that the kernel is given for a deferred close that has begun: cryptsetup then finds nothing to close."""
_REFUSED: Final = "No key available with this passphrase"


@dataclass(frozen=True, slots=True)
class Kdf:
    """How a key slot is hardened: memory ceiling in KiB, threads, milliseconds; `cheap` is for throw-away drives."""

    memory_kib: int
    parallel: int
    iter_ms: int
    cheap: bool = False

    def options(self) -> tuple[str, ...]:
        """The same in cryptsetup's words. Every slot needs them: `luksAddKey` would measure anew and take 1 GiB."""
        if self.cheap:
            return ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
        return (
            *("--pbkdf", "argon2id", "--pbkdf-memory", str(self.memory_kib)),
            *("--pbkdf-parallel", str(self.parallel), "--iter-time", str(self.iter_ms)),
        )


STANDARD: Final = Kdf(memory_kib=262144, parallel=2, iter_ms=2000)
PRACTICE: Final = Kdf(memory_kib=0, parallel=1, iter_ms=0, cheap=True)


@dataclass(frozen=True, slots=True)
class OpenMapping:
    """An open mapping: its `name` below /dev/mapper, its `path` (/dev/dm-0), the device below while that exists."""

    name: str
    path: str
    backing: str | None

    @property
    def alive(self) -> bool:
        """Whether the device below is still there."""
        return self.backing is not None


def mapper_path(mapping: str) -> str:
    """Where a mapping's device is found."""
    return f"/dev/mapper/{mapping}"


# --- making


def format_volume(run: Runner, device: str, *, label: str, passphrase: Secret, kdf: Kdf = STANDARD) -> None:
    """Write a LUKS2 header with one key slot; everything on the device is lost. `label` becomes public.

    Raises `DriveError`, or `Missing` when the memory does not suffice.
    """
    _run(
        run,
        Command(
            (
                *("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--sector-size", "4096"),
                *kdf.options(),
                *("--label", label, "--subsystem", SUBSYSTEM, "--key-file=-", device),
            ),
            secret=passphrase,
        ),
        device,
        "cannot be formatted",
    )


def add_key(run: Runner, device: str, *, passphrase: Secret, new: Secret, kdf: Kdf = STANDARD) -> None:
    """Add a key slot that `new` opens. Raises `PassphraseRefused` when `passphrase` opens none, else as above."""
    argv = ("cryptsetup", "luksAddKey", "--batch-mode", "--key-file=-", *kdf.options(), device, SECOND_SECRET)
    _run(run, Command(argv, secret=passphrase, second_secret=new), device, "cannot be given another key")


def opened_slot(
    run: Runner, device: str, *, secret: Secret, slot: int | None = None, header: Path | None = None
) -> int:
    """The number of the key slot that `secret` opens: any, or `slot` alone. Nothing becomes open.

    `header` is a file with the header to try. Raises `PassphraseRefused`, `DriveError`, `Missing`.
    """
    only = () if slot is None else ("--key-slot", str(slot))
    detached = () if header is None else ("--header", str(header))
    trying = ("cryptsetup", "open", "--test-passphrase", "--verbose", "--type", "luks2", *only, *detached)
    said = _run(run, Command((*trying, "--key-file=-", device), secret=secret), device, "cannot be tried")
    found = re.search(rb"^Key slot ([0-9]{1,4}) unlocked", said, re.MULTILINE)
    if found is None:
        raise DriveError(f"cryptsetup did not say which key slot of {device} was opened")
    return int(found[1])


def remove_slot(run: Runner, device: str, slot: int, *, staying: Secret) -> None:
    """Destroy a key slot. `staying` has to open another one: whoever calls this has seen to that.

    Raises `PassphraseRefused`, `DriveError`.
    """
    argv = ("cryptsetup", "luksKillSlot", "--batch-mode", "--key-file=-", device, str(slot))
    _run(run, Command(argv, secret=staying), device, f"cannot lose its key slot {slot}")


def import_token(run: Runner, device: str, token: str) -> None:
    """Store `token`, a JSON object with at least `type` and `keyslots`, in the header. It is public."""
    with open(os.memfd_create("token"), "w+b") as stdin:
        stdin.write(token.encode())
        stdin.seek(0)
        argv = ("cryptsetup", "token", "import", "--json-file=-", device)
        _run(run, Command(argv, stdin=stdin), device, "cannot be given its token")


def remove_token(run: Runner, device: str, number: int) -> None:
    """Take a token out of the header; the key slots that it names stay."""
    _run(run, Command(("cryptsetup", "token", "remove", "--token-id", str(number), device)), device, "keeps a token")


# --- the header


def metadata(run: Runner, device: str) -> dict[str, Any]:
    """The header's JSON area: keyslots, tokens, segments, digests, config. Untrusted."""
    command = Command(("cryptsetup", "luksDump", "--dump-json-metadata", device))
    answer = _run(run, command, device, "has no LUKS2 header that can be read")
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise DriveError(f"{device} has no LUKS2 header that can be read")
    return value


def header_digest(device: str, length: int) -> str:
    """BLAKE2b-256 in hexadecimal over the first `length` bytes. Raises `DriveError` when they cannot all be read."""
    digest = hashlib.blake2b(digest_size=32)
    try:
        with open(device, "rb", buffering=0) as source:
            while length > 0:
                chunk = source.read(min(length, 1024 * 1024))
                if not chunk:
                    raise DriveError(f"{device} ends before its LUKS header does")
                digest.update(chunk)
                length -= len(chunk)
    except OSError as problem:
        raise DriveError(f"the LUKS header of {device} cannot be read: {problem.strerror}") from problem
    return digest.hexdigest()


def backup_header(run: Runner, device: str, file: Path) -> None:
    """Save the header to `file` (mode 0400), in one step: an older backup is there until the new one is whole."""
    making = file.with_name(f".{file.name}.new")
    making.unlink(missing_ok=True)
    try:
        argv = ("cryptsetup", "luksHeaderBackup", "--header-backup-file", str(making), device)
        _run(run, Command(argv), device, "its LUKS header cannot be saved")
        descriptor = os.open(making, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(descriptor, 0o400)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(making, file)
    finally:
        making.unlink(missing_ok=True)


def restore_header(run: Runner, device: str, file: Path) -> None:
    """Put a saved header back: from then on the keys of that time open the volume again, and no others."""
    argv = ("cryptsetup", "luksHeaderRestore", "--batch-mode", "--header-backup-file", str(file), device)
    _run(run, Command(argv), device, "its LUKS header cannot be put back")


# --- opening and closing


def open_with(
    run: Runner, device: str, mapping: str, *, secret: Secret, read_only: bool = False, header: Path | None = None
) -> None:
    """Open the volume as /dev/mapper/`mapping`, with the header in a file where one is given.

    Raises `PassphraseRefused`, `DriveError`, `Missing`.
    """
    detached = () if header is None else ("--header", str(header))
    argv = (*_opening(device, mapping, read_only=read_only), *detached, "--key-file=-")
    # Killed while the key is being derived, which takes seconds, we would otherwise leave a mapping that nobody closes.
    _run(run, Command(argv, secret=secret, dies_with_us=True), device, "cannot be opened")


def open_by_asking(
    environment: Mapping[str, str],
    device: str,
    mapping: str,
    *,
    answer: Callable[[str], Secret | None],
    hear: Callable[[str], None],
    read_only: bool = False,
    inherits: int | None = None,
) -> None:
    """The same, with whatever cryptsetup asks put to a person, once. `environment` is that of the `Programs`.

    `answer` gets each question and returns `None` to give up (`PassphraseRefused` too); `hear` gets every other line.
    `inherits` is a descriptor for cryptsetup.
    """
    said: list[str] = []
    gave_up = False

    def answered(question: str) -> Secret | None:
        nonlocal gave_up
        given = answer(question)
        gave_up = given is None
        return given

    def heard(line: str) -> None:
        said.append(line)
        if not line.startswith(_REFUSED):
            hear(line)

    argv = (*_opening(device, mapping, read_only=read_only), "--tries", "1")
    code = converse(argv, environment=environment, answer=answered, hear=heard, inherits=inherits)
    if gave_up:
        raise PassphraseRefused(
            "no passphrase was given",
            hint="run the same command at a terminal, or name a file with the passphrase: --passphrase-file",
        )
    if code != 0:
        raise _meaning(code, said[-1] if said else "cryptsetup said nothing", device, "cannot be opened")


def _opening(device: str, mapping: str, *, read_only: bool) -> tuple[str, ...]:
    options = ("--readonly",) if read_only else ()
    return ("cryptsetup", "open", "--type", "luks2", *FOR_FLASH, *options, device, mapping)


def close(run: Runner, mapping: str) -> None:
    """Close the mapping and look that it is gone; nothing to do when it is not open. Raises `StillHeld`."""
    if not is_open(mapping):
        return
    reason = "it is still in use"
    try:
        run(Command(("cryptsetup", "close", mapping), ok=frozenset({0, 4})))
        deadline = time.monotonic() + GONE_WITHIN
        while is_open(mapping) and time.monotonic() < deadline:
            time.sleep(0.01)
    except CommandFailed as problem:
        reason = problem.result.last_words
    if is_open(mapping):
        raise StillHeld((f"the mapping {mapping} is open ({reason.rstrip('.')})",), hint="do not pull the drive yet")


def close_deferred(run: Runner, mapping: str) -> None:
    """Have the kernel close the mapping when its last user goes; at once when it has none.

    Raises `DriveError`: that the mapping is still held is for its undo to say.
    """
    if not is_open(mapping):
        return
    try:
        run(Command(("cryptsetup", "close", "--deferred", mapping), ok=frozenset({0, 4})))
    except CommandFailed as problem:
        raise DriveError(
            f"the mapping {mapping} cannot be told to close by itself: {problem.result.last_words.rstrip('.')}"
        ) from problem


def is_open(mapping: str) -> bool:
    """Whether the kernel has a mapping of this name."""
    return any(_read(each / "dm/name") == mapping for each in SYS_BLOCK.glob("dm-*"))


def mappings_of(uuid: str) -> tuple[OpenMapping, ...]:
    """The open mappings of the LUKS volume with this UUID, whoever opened them and whatever they are called.

    The kernel knows them as `CRYPT-LUKS2-<uuid without dashes>-<name>`.
    """
    mark = re.compile(f"CRYPT-LUKS[12]-{re.escape(uuid.replace('-', '').lower())}-")
    return tuple(_mapping(each) for each in sorted(SYS_BLOCK.glob("dm-*")) if mark.match(_read(each / "dm/uuid")))


def _mapping(home: Path) -> OpenMapping:
    slaves: list[str] = []
    with contextlib.suppress(OSError):
        slaves = [name for name in os.listdir(home / "slaves") if (home / "slaves" / name).exists()]
    return OpenMapping(_read(home / "dm/name"), f"/dev/{home.name}", f"/dev/{slaves[0]}" if slaves else None)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


# --- what exit codes mean


def _run(run: Runner, command: Command, device: str, what: str) -> bytes:
    try:
        return run(command).out
    except CommandFailed as problem:
        raise _meaning(problem.result.code, problem.result.last_words, device, what) from problem


def _meaning(code: int, words: str, device: str, what: str) -> FlashbackError:
    if code == 2:
        return PassphraseRefused(
            f"{device} was not opened by this passphrase",
            hint="look at Caps Lock and the keyboard layout, then try again; a recovery key opens it, too",
        )
    if code == 3:
        return Missing(
            f"{device} {what}: the memory of this machine does not suffice for its key slot",
            hint="close other programs, or open the drive on a machine with more memory",
        )
    if code == 4 or not os.path.exists(device):
        return DriveError(f"{device} {what}: it is not there, or may not be read", hint="plug it in again")
    if code == 5:
        return DriveError(f"{device} {what}: it is in use, or open already", hint="run `flashback close` first")
    if "device-mapper" in words or "dm_mod" in words:
        return Missing(f"{device} {what}: this kernel has no device mapper", hint="run `flashback doctor`")
    return DriveError(f"{device} {what}: {words.rstrip('.')}")
