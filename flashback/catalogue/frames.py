"""A file of frames: four bytes of length, a digest, the content.

Each digest is over the one before and the content, so that no frame can be garbled, left out, repeated or exchanged
unnoticed; only where the file ends its reader must know by other means.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import IO, Final, Protocol

import msgspec

BAD_CONTENT: Final = (msgspec.MsgspecError, ValueError, RecursionError)
"""What msgspec raises for bytes that are not what they should be; a text that is no UTF-8 is a bare ValueError."""
LARGEST: Final = 34 * 1024 * 1024
"""Bytes: a batch of the largest size that cannot be compressed."""
DIGEST: Final = 16
"""Bytes; against accidents, not against somebody who can write to root's state directory."""


class Readable(Protocol):
    """A file, or a part of one."""

    def read(self, length: int, /) -> bytes:
        """The next bytes; fewer, or none, at the end."""


class CatalogueBroken(Exception):
    """The file is cut off, garbled or of no use: nothing of it may be believed."""


def proven(file: IO[bytes]) -> Iterator[bytes]:
    """The content of each frame, once its digest was found to be right. Raises `CatalogueBroken`."""
    before = b""
    while frame := read_frame(file):
        digest, content = frame[:DIGEST], frame[DIGEST:]
        if digest != _digest(before, content):
            raise CatalogueBroken("a frame is garbled")
        before = digest
        yield content


def write_proven(file: IO[bytes], contents: Iterable[bytes]) -> None:
    """Write a frame for each content, as `proven` reads them."""
    before = b""
    for content in contents:
        before = _digest(before, content)
        write_frame(file, before + content)


def _digest(before: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, key=before, digest_size=DIGEST).digest()


def read_frame(file: Readable) -> bytes:
    """The next frame, empty at the end. Raises `CatalogueBroken` for one that is cut off or cannot be read."""
    try:
        head = file.read(4)
        if not head:
            return b""
        length = int.from_bytes(head, "big")
        frame = file.read(length) if length <= LARGEST else b""
    except OSError as problem:
        raise CatalogueBroken(str(problem)) from problem
    if len(head) != 4 or not length or len(frame) != length:
        raise CatalogueBroken("a frame is cut off")
    return frame


def write_frame(file: IO[bytes], frame: bytes) -> None:
    """Length and content."""
    file.write(len(frame).to_bytes(4, "big"))
    file.write(frame)
