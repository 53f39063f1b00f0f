"""What a file looks like inside, and whether that is still the file it was: pure, over a few blocks of each.

A file that was encrypted keeps nothing of what its kind has: text turns into noise, a picture loses the bytes that all
pictures begin with. A file that was wiped is one byte repeated, is cut short, or has become the same as many others.
What was noise before (an encrypted container) says nothing.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

BLOCK: Final = 4096
"""Bytes that are read at the beginning, in the middle and at the end of a file."""
FIRST: Final = 512
"""Some encrypt the beginning of a file only: so many bytes of noise make the first block one of noise."""
SHORTEST: Final = 128
"""Of fewer bytes nothing can be said."""
_MARGIN: Final = 0.3
"""Of 3,000 random blocks of each of nine lengths from 128 to 4096 bytes none lay further below its expectation."""
_CUT_FROM: Final = 4096
_STARTS: Final = (128, 256, 512, 1024, 2048, 4096)


class Damage(StrEnum):
    """What seems to have been done to a file."""

    SCRAMBLED = "encrypted"
    BLANKED = "overwritten"
    CUT = "cut short"
    SAME = "replaced by one and the same content"


class Look(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=3):
    """A file at a glance. `kind` is by its first bytes, empty where they say nothing; `head`, `middle`, `tail` are
    digests of blocks, and `noise` says of each whether it is as random as encrypted bytes are; `blank`: every block is
    one byte repeated; `ended`: it ends as its kind does (`None`: the kind has no such end). `starts` are digests of the
    first bytes, as many as `_STARTS` says and the file has.
    """

    path: bytes
    size: int
    kind: str
    starts: tuple[bytes, ...]
    head: bytes
    middle: bytes
    tail: bytes
    noise: tuple[bool, bool, bool]
    blank: bool
    ended: bool | None = None

    @property
    def content(self) -> tuple[int, bytes, bytes]:
        """What files of one and the same content have in common."""
        return self.size, self.head, self.tail


_KINDS: Final = {
    "picture": (
        b"\xff\xd8\xff",
        b"\x89PNG\r\n",
        b"GIF8",
        b"II*\0",
        b"MM\0*",
        b"8BPS",
        b"\0\0\1\0",
        b"BM",
        b"FUJIFILM",
        b"\0\0\0\x0cjP",
    ),
    "sound or film": (
        b"ID3",
        b"\xff\xfb",
        b"\xff\xf3",
        b"\xff\xf2",
        b"\xff\xf1",
        b"OggS",
        b"FORM",
        b".snd",
        b"fLaC",
        b"\x1aE\xdf\xa3",
        b"RIFF",
    ),
    "document": (b"%PDF", b"%!PS", b"\xd0\xcf\x11\xe0", b"{\\rtf", b"AT&TFORM"),
    "archive": (
        b"PK\3\4",
        b"PK\5\6",
        b"\x1f\x8b",
        b"BZh",
        b"\xfd7zXZ",
        b"\x28\xb5\x2f\xfd",
        b"\4\x22M\x18",
        b"7z\xbc\xaf",
        b"Rar!",
        b"x\1",
        b"x\x5e",
        b"x\x9c",
        b"x\xda",
        b"MSCF",
        b"hsqs",
        b"\x5d\0\0",
        b"!<arch>",
        b"\xed\xab\xee\xdb",
        b"LZIP",
    ),
    "program": (b"\x7fELF", b"MZ", b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe", b"\0asm", b"dex\n", b"BC\xc0\xde"),
    "data": (
        b"SQLite format 3",
        b"PACK",
        b"DIRC",
        b"\xfftOc",
        b"wOFF",
        b"wOF2",
        b"\0\1\0\0",
        b"OTTO",
        b"PAR1",
        b"\x89HDF",
        b"\x93NUMPY",
        b"glTF",
        b"BLENDER",
        b"QFI\xfb",
        b"KDMV",
        b"LUKS",
        b"\3\xd9\xa2\x9a",
        b"ARROW1",
        b"JM\1\0",
        b"\xd5\0\0\0",
    ),
}
_FIRST: Final = {first: kind for kind, several in _KINDS.items() for first in several}
_LENGTHS: Final = sorted({len(first) for first in _FIRST}, reverse=True)
_ENDS: Final = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG\r\n": b"IEND", b"%PDF": b"%%EOF", b"PK\3\4": b"PK\5\6"}
_SEALED: Final = frozenset({"picture", "sound or film", "archive"})
"""Kinds whose files nobody rewrites from the middle to the end without changing their beginning or their size."""
_ARMOUR: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_\r\n")


def look(path: bytes, size: int, head: bytes, middle: bytes, tail: bytes) -> Look:
    """Make a `Look` of blocks of at most `BLOCK` bytes. `middle` and `tail` may be empty where the file is short."""
    blocks = (head, middle, tail)
    first = next((head[:length] for length in _LENGTHS if head[:length] in _FIRST), b"")
    end = _ENDS.get(first)
    kind = _FIRST.get(first, "sound or film" if head[4:8] == b"ftyp" else "data" if head[36:40] == b"acsp" else "")
    return Look(
        path=path,
        size=size,
        kind=kind,
        starts=tuple(_digest(head[:length]) for length in _STARTS if length <= len(head)),
        head=_digest(head),
        middle=_digest(middle),
        tail=_digest(tail),
        noise=(is_noise(head) or is_noise(head[:FIRST]), is_noise(middle), is_noise(tail)),
        blank=all(len(set(block)) <= 1 for block in blocks) and bool(head),
        ended=None if end is None else end in (tail or head),
    )


def _digest(block: bytes) -> bytes:
    return hashlib.blake2b(block, digest_size=12).digest() if block else b""


def is_noise(block: bytes) -> bool:
    """Whether a block is as random as encrypted or compressed bytes are, or looks like such bytes written as base64."""
    if len(block) < SHORTEST:
        return False
    symbols = set(block)
    if math.log2(len(symbols)) < _expected(len(block), 256) - _MARGIN and not _ARMOUR.issuperset(symbols):
        return False  # there are too few of them for so much entropy, and counting takes ten times as long
    counts = Counter(block)
    entropy = math.log2(len(block)) - sum(count * math.log2(count) for count in counts.values()) / len(block)
    if entropy >= _expected(len(block), 256) - _MARGIN:
        return True
    armoured = len(counts) >= 48 and _ARMOUR.issuperset(counts) and block.count(b"\n") * 40 < len(block)
    return armoured and entropy >= _expected(len(block), 64) - _MARGIN


@functools.cache
def _expected(length: int, symbols: int) -> float:
    """The entropy, in bits per byte, that so many random bytes show: each count is Poisson around length/symbols."""
    mean = length / symbols
    total, chance = 0.0, math.exp(-mean)
    for count in range(1, int(mean + 12 * math.sqrt(mean) + 12)):
        chance *= mean / count
        total += chance * count * math.log2(count)
    return math.log2(length) - symbols * total / length


def damage(old: Look, new: Look) -> Damage | None:
    """What seems to have happened between the copy on the drive and what the master has now; `None`: nothing bad."""
    if new.blank and not old.blank:
        return Damage.BLANKED
    if new.size < SHORTEST or old.size < SHORTEST or old.blank:
        return None
    if _cut(old, new):
        return Damage.CUT
    return Damage.SCRAMBLED if _scrambled(old, new) else None


def _cut(old: Look, new: Look) -> bool:
    """Half of it at least is gone, and what is left is how it began."""
    return old.size >= _CUT_FROM and new.size * 2 <= old.size and old.starts[: len(new.starts)] == new.starts


def _scrambled(old: Look, new: Look) -> bool:
    if new.noise[0] and not new.kind:
        return bool(old.kind) or not old.noise[0]
    if new.noise[1] and new.noise[2] and not old.noise[1] and not old.noise[2]:
        return new.head == old.head or not new.kind
    if old.ended and new.ended is False and new.noise[2]:
        return True
    same_size = new.size == old.size and new.size > 3 * BLOCK and old.kind in _SEALED
    return same_size and new.head == old.head and new.middle != old.middle and new.tail != old.tail


def is_sound(new: Look, size_before: int) -> bool:
    """Whether `damage` says of `new` that nothing bad happened, whatever was in the file before, of so many bytes."""
    if new.blank or any(new.noise) or (size_before >= _CUT_FROM and new.size * 2 <= size_before):
        return False
    return new.kind not in _SEALED or new.size <= 3 * BLOCK


def damages(pairs: Sequence[tuple[Look, Look]]) -> list[Damage | None]:
    """`damage` of each pair of old and new; where most of the new are one and the same and the old were not: `SAME`."""
    found = [damage(old, new) for old, new in pairs]
    content = Counter(new.content for old, new in pairs if new.size and new.head != old.head)
    common, times = content.most_common(1)[0] if content else ((0, b"", b""), 0)
    before = {old.head for old, new in pairs if new.content == common}
    if times < 3 or times * 2 < len(pairs) or len(before) * 2 < times:
        return found
    return [
        was or (Damage.SAME if new.content == common and new.head != old.head else None)
        for was, (old, new) in zip(found, pairs, strict=True)
    ]
