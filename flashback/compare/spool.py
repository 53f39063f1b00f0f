"""Lists of paths on disk, in files without a name, which vanish with the process."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import IO, Final

from flashback.core.errors import NotFinished

PIECE: Final = 10_000
"""Names that one rsync is given. It holds its list in memory, and copies nothing before it has read all of it."""
_CHUNK: Final = 64 * 1024
_COMMENTS: Final = (b"#", b";")


class Spool:
    r"""A list of paths in a file without a name, NUL-separated as `rsync --files-from` reads it; iterable again.

    The root's own entry is never written as `./`, to which rsync would add all that the root holds. The first name of
    each piece is written as `./name`, which makes rsync set the root's attributes too (flist.c: "a leading ./ can be
    used in relative mode to affect the dest dir"); where there is no other name, the list is `.` and `only_root` is
    true. A name that begins with `#` or `;` gets `./` too: rsync takes it for a comment otherwise, also where names
    are NUL-separated.
    """

    def __init__(self, directory: Path, *, with_root: bool = False) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - it lives as long as the list
        weakref.finalize(self, _close, self._file)
        self._lead = b"./" if with_root else b""
        self._names = 0
        self._root = False
        self._size = 0
        self._pieces: list[int] = []
        self._in_piece = PIECE

    def add(self, path: bytes, *, bound: bool = False) -> None:
        """One more; `b""` is the root. A `bound` one is never in another piece than the one before it."""
        if not path:
            self._root = True
            return
        lead = b"./" if path.startswith(_COMMENTS) else b""
        if self._in_piece >= PIECE and not bound:
            self._pieces.append(self._size)
            self._in_piece, lead = 0, lead or self._lead
        self._size += self._file.write(lead + path + b"\0")
        self._in_piece += 1
        self._names += 1

    @property
    def only_root(self) -> bool:
        """The list names the root and nothing else."""
        return self._root and not self._names

    def __len__(self) -> int:
        return self._names + self._root

    def __iter__(self) -> Iterator[bytes]:
        if self._root:
            yield b""
        if self.only_root:
            return
        rest, position = b"", 0
        self._file.flush()
        while chunk := os.pread(self._file.fileno(), _CHUNK, position):
            position += len(chunk)
            *names, rest = (rest + chunk).split(b"\0")
            for name in names:
                yield name.removeprefix(b"./")

    def rewound(self) -> IO[bytes]:
        """The list from its beginning, for a program's standard input; nothing may be added any more."""
        self.settle()
        self._file.seek(0)
        return self._file

    def pieces(self) -> Iterator[IO[bytes]]:
        """The list as one or more of at most `PIECE` names, more only where they are bound; each as `rewound` gives it,
        open until the next one is asked for.

        They lie in memory: a directory that has no room any more must not be taken for the drive by then. Raises
        `NotFinished`.
        """
        if len(self._pieces) < 2:
            yield self.rewound()
            return
        self.settle()
        for begin, end in pairwise([*self._pieces, self._size]):
            with open(os.memfd_create("names"), "w+b") as piece:
                self._fill(piece, begin, end)
                yield piece

    def _fill(self, piece: IO[bytes], begin: int, end: int) -> None:
        chunks = range(begin, end, _CHUNK)
        try:
            piece.writelines(os.pread(self._file.fileno(), min(_CHUNK, end - at), at) for at in chunks)
            piece.seek(0)
        except OSError as problem:
            why = os.strerror(problem.errno or 0)
            raise NotFinished(f"there is no memory for a list of what is to be copied: {why}") from problem

    def settle(self) -> None:
        """Have all of it in the file. Raises `OSError` where there is no room, which must not come out later."""
        if self.only_root:
            self._file.seek(0)
            self._file.write(b".\0")
        self._file.flush()


def _close(file: IO[bytes]) -> None:
    with suppress(OSError):  # what has no room any more is not needed any more
        file.close()
