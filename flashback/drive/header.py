"""What a LUKS2 header says in its JSON area: key slots and what they are, where the data begin, whose volume it is.

Pure (LUKS2 On-Disk Format 1.1.1, 3). All of it is a drive's word: it is parsed with care and never believed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from flashback.core.errors import DriveError
from flashback.core.text import size
from flashback.drive.layout import FORMAT_VERSION

LONGEST_HEADER: Final = 64 * 1024 * 1024
SHORTEST_HEADER: Final = 32 * 1024
"""Two LUKS2 metadata areas of the smallest size, 16 KiB (LUKS2 On-Disk Format 1.1.1, 2.2)."""

TOKEN: Final = "flashback"  # noqa: S105 - a kind of LUKS2 token
"""The type of our token; the key slots assigned to it are those with a recovery key."""


class SlotKind(StrEnum):
    """What opens a key slot, as far as the tokens tell (`cryptsetup-token`, systemd-cryptenroll(1), clevis)."""

    PASSPHRASE = "passphrase"  # noqa: S105 - a word
    RECOVERY = "recovery-key"
    FIDO2 = "fido2"
    TPM2 = "tpm2"
    SMARTCARD = "smartcard"
    OTHER = "other-token"


TOKEN_KINDS: Final = {
    TOKEN: SlotKind.RECOVERY,
    "systemd-recovery": SlotKind.RECOVERY,
    "systemd-fido2": SlotKind.FIDO2,
    "systemd-tpm2": SlotKind.TPM2,
    "systemd-pkcs11": SlotKind.SMARTCARD,
}
WORDS: Final = {
    SlotKind.PASSPHRASE: "passphrase",
    SlotKind.RECOVERY: "recovery key",
    SlotKind.FIDO2: "FIDO2 token",
    SlotKind.TPM2: "TPM2 chip of one machine",
    SlotKind.SMARTCARD: "smart card",
    SlotKind.OTHER: "token of another program",
}


@dataclass(frozen=True, slots=True)
class Slot:
    """A key slot that opens the volume. `memory_kib` is 0 where opening takes none to speak of (pbkdf2)."""

    number: int
    kind: SlotKind
    kdf: str
    memory_kib: int

    @property
    def words(self) -> str:
        """For a person: what it is and what it takes."""
        cost = f", {size(self.memory_kib * 1024)} of memory" if self.memory_kib else ""
        return f"{WORDS[self.kind]} ({self.kdf}{cost})"

    def as_json(self) -> dict[str, Any]:
        """For scripts (docs/reference/json.md)."""
        return {"slot": self.number, "kind": self.kind.value, "kdf": self.kdf, "memory": self.memory_kib * 1024}


def slots_of(metadata: Mapping[str, Any]) -> tuple[Slot, ...]:
    """The key slots that hold the volume's key, by number; one that holds another key ("unbound") is left out."""
    kinds: dict[int, SlotKind] = {}
    for _number, token in entries(metadata, "tokens"):
        kind = TOKEN_KINDS.get(str(token.get("type")), SlotKind.OTHER)
        kinds |= dict.fromkeys(_numbers(token.get("keyslots")), kind)
    memories, bound = kdf_memories(metadata), _bound(metadata)
    found = []
    for number, slot in entries(metadata, "keyslots"):
        if number in bound:
            kdf = slot.get("kdf")
            name = str(kdf.get("type")) if isinstance(kdf, dict) else ""
            known = name if re.fullmatch("[a-z0-9]{1,16}", name) else "unknown"
            found.append(Slot(number, kinds.get(number, SlotKind.PASSPHRASE), known, memories[number]))
    return tuple(sorted(found, key=lambda each: each.number))


def token_for(recovery: Iterable[int]) -> str:
    """Our token, with the key slots that hold a recovery key."""
    slots = [str(number) for number in sorted(recovery)]
    return json.dumps({"type": TOKEN, "keyslots": slots, "v": FORMAT_VERSION})


def token_number(metadata: Mapping[str, Any]) -> int | None:
    """Where our token lies, if there is one."""
    return next((number for number, token in entries(metadata, "tokens") if token.get("type") == TOKEN), None)


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, ...]:
    """What two headers do not have in common that one volume keeps whatever its key slots become.

    The digest of the volume key cannot be had for another key: a header with the same one opens the same data, or
    nothing.
    """
    parts = {"volume key": (_digests(one), _digests(other)), "encryption": (_segments(one), _segments(other))}
    return tuple(name for name, (first, second) in parts.items() if not first or first != second)


def _digests(metadata: Mapping[str, Any]) -> list[tuple[str, ...]]:
    fields = ("type", "hash", "iterations", "salt", "digest")
    rows = [digest for _number, digest in entries(metadata, "digests") if digest.get("segments")]
    return sorted(tuple(str(row.get(field)) for field in fields) for row in rows)


def _segments(metadata: Mapping[str, Any]) -> str:
    found = metadata.get("segments")
    return json.dumps(found, sort_keys=True) if found else ""


def _bound(metadata: Mapping[str, Any]) -> set[int]:
    rows = [digest for _number, digest in entries(metadata, "digests") if digest.get("segments")]
    return {number for row in rows for number in _numbers(row.get("keyslots"))}


def _numbers(value: object) -> tuple[int, ...]:
    texts = [str(each) for each in value] if isinstance(value, list) else []
    return tuple(int(text) for text in texts if re.fullmatch("[0-9]{1,4}", text, re.ASCII))


def kdf_memories(metadata: Mapping[str, Any]) -> dict[int, int]:
    """Memory in KiB that opening each key slot takes; 0 for a slot that needs none to speak of (pbkdf2)."""
    found: dict[int, int] = {}
    for number, slot in entries(metadata, "keyslots"):
        kdf = slot.get("kdf")
        memory = kdf.get("memory") if isinstance(kdf, dict) else None
        found[number] = memory if isinstance(memory, int) and memory > 0 else 0
    return found


def header_length(metadata: Mapping[str, Any]) -> int:
    """Bytes from the start of the device to its data, 64 MiB at most. Raises `DriveError` for what cannot be."""
    offsets = [
        int(text)
        for _number, segment in entries(metadata, "segments")
        if re.fullmatch(r"[0-9]{1,18}", text := str(segment.get("offset")))
    ]
    if not offsets or min(offsets) < SHORTEST_HEADER:
        raise DriveError("the LUKS header does not say where its data begin")
    return min(*offsets, LONGEST_HEADER)


def entries(metadata: Mapping[str, Any], section: str) -> list[tuple[int, dict[str, Any]]]:
    """The numbered objects of a section of the JSON area; whatever is none is passed over."""
    found = metadata.get(section)
    rows = found.items() if isinstance(found, dict) else ()
    return [(int(key), row) for key, row in rows if re.fullmatch("[0-9]{1,4}", key) and isinstance(row, dict)]
