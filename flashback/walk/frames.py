"""What the process that reads a master sends through its pipe.

Frames: four bytes of length, then a `Frame` as msgpack, decoded by its types.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from typing import IO, Final

import msgspec

from flashback.core.errors import NotFinished
from flashback.core.events import Remark, RemarkKind
from flashback.walk.content import Look
from flashback.walk.listing import Entry, Item, Kept, Linked, Same
from flashback.walk.master import Said

BATCH: Final = 400
"""Items that make a frame; as they may come many at a time, it may have nearly twice as many."""
LARGEST_FRAME: Final = 64 * 1024 * 1024


class ReadingFailed(NotFinished):
    """The child that reads a master ended with an error that is no `OSError`, or without a word."""


class Remarked(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A `Remark`."""

    kind: str
    path: bytes
    detail: str


class Ended(msgspec.Struct, array_like=True, frozen=True):
    """`error` is the name of an exception's type, empty when all went well."""

    error: str = ""
    what: str = ""
    number: int | None = None
    path: str = ""

    @classmethod
    def by(cls, problem: BaseException) -> Ended:
        """The end that an exception is."""
        name = type(problem).__name__
        if isinstance(problem, OSError):
            return cls(name, str(problem), problem.errno, _text(problem.filename))
        return cls(name, str(problem).encode("utf-8", "replace").decode())

    def raise_again(self) -> None:
        """Raise what ended the child, if anything did."""
        if self.number is not None:
            raise OSError(self.number, os.strerror(self.number), self.path or None)
        if self.error:
            raise ReadingFailed(f"reading the master failed: {self.error}: {self.what}", hint="please report this")


class Frame(msgspec.Struct, array_like=True, frozen=True):
    """What is sent at a time; the last one has an `end`. `blocks`: see `blocks_read`, of the child so far."""

    items: list[Entry | Kept | Same]
    remarks: list[Remarked]
    end: Ended | None = None
    looks: list[Look] = []
    linked: list[bytes] = []
    blocks: int = 0

    def said(self) -> Iterator[Remark]:
        """Its remarks."""
        return (Remark(RemarkKind(each.kind), path=each.path, detail=each.detail) for each in self.remarks)


class Sender:
    """Gathers what the walk finds and sends it in frames."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.pipe = pipe
        self.encode = msgspec.msgpack.Encoder().encode
        self.items: list[Item] = []
        self.remarks: list[Remarked] = []
        self.looks: list[Look] = []
        self.linked: list[bytes] = []

    def emit(self, said: Said | list[Item]) -> None:
        """Take items, or a remark."""
        if isinstance(said, list):
            self.items += said
        elif isinstance(said, Remark):
            self.remarks.append(Remarked(said.kind.value, said.path, said.detail))
        elif isinstance(said, Look):
            self.looks.append(said)
        elif isinstance(said, Linked):
            self.linked.append(said.path)
        else:
            self.items.append(said)
        if len(self.items) >= BATCH or len(self.remarks) >= BATCH or len(self.linked) >= BATCH:
            self.send()

    def send(self, end: Ended | None = None) -> None:
        """Write a frame; a write to a pipe may take less than it was given."""
        payload = self.encode(Frame(self.items, self.remarks, end, self.looks, self.linked, blocks_read()))
        self.items.clear()
        self.remarks.clear()
        self.looks.clear()
        self.linked.clear()
        rest = memoryview(len(payload).to_bytes(4, "big") + payload)
        while rest:
            rest = rest[os.write(self.pipe.fileno(), rest) :]


def received(pipe: IO[bytes]) -> Iterator[Frame]:
    """The frames that come through `pipe`. Raises what ended the child, when everything before it was taken."""
    decode = msgspec.msgpack.Decoder(Frame).decode
    while True:
        length = int.from_bytes(pipe.read(4), "big")
        sent = pipe.read(length) if 0 < length <= LARGEST_FRAME else b""
        if len(sent) != length or not length:
            raise ReadingFailed("the process that read the master ended without a word", hint="start the run again")
        frame = decode(sent)
        yield frame
        if frame.end is not None:
            frame.end.raise_again()
            return


def blocks_read() -> int:
    """How many blocks of 512 bytes this process had the kernel read from disks (getrusage(2), `ru_inblock`)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock


def _text(name: object) -> str:
    return os.fsencode(name).decode("utf-8", "replace") if isinstance(name, str | bytes | os.PathLike) else ""
