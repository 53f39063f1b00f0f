"""A long list of entries that lies in a file of its own, so that memory does not grow with the tree that is listed."""

from __future__ import annotations

import os
import struct
import tempfile
import weakref
from collections.abc import Generator, Iterable, Iterator
from typing import Final

from flashback.drive.tree import Item

_HEAD: Final = struct.Struct("<IIIIQqIQIQQ")
_SECOND: Final = 10**9
_CHUNK: Final = 1024 * 1024


class Spool:
    """Entries in the order in which they were added; read as often as wanted, once all of them are in it.

    `files` counts files and links, `bytes` is what is in the files, `holes` how many have holes worth keeping. The
    file has no name and is gone with the last reference. Raises `OSError` where there is no room for it.
    """

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self._file = tempfile.TemporaryFile(prefix="flashback-")  # noqa: SIM115 - the next line closes it
        weakref.finalize(self, self._file.close)
        self._length = 0
        self.files = 0
        self.bytes = 0
        self.holes = 0
        self.extend(items)

    def extend(self, items: Iterable[Item]) -> None:
        """Add entries, and make them readable."""
        write = self._file.write
        for item in items:
            path, mode, uid, gid, size, mtime_ns, ino, links, blocks, changed = item
            seconds, rest = divmod(mtime_ns, _SECOND)
            write(_HEAD.pack(len(path), mode, uid, gid, size, seconds, rest, ino, links, blocks, changed) + path)
            self._length += 1
            self.files += not item.is_directory
            self.bytes += size
            self.holes += item.has_holes
        self._file.flush()

    def fileno(self) -> int:
        """The file's descriptor, for a process that is to read it, too."""
        return self._file.fileno()

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Item]:
        left, at = b"", 0
        while chunk := os.pread(self._file.fileno(), _CHUNK, at):
            at += len(chunk)
            left = yield from _decoded(left + chunk)


def _decoded(data: bytes) -> Generator[Item, None, bytes]:
    """The entries that `data` begins with; return what is left, the beginning of the next one."""
    here, size = 0, _HEAD.size
    while len(data) - here >= size:
        length, mode, uid, gid, long, seconds, rest, *numbers = _HEAD.unpack_from(data, here)
        end = here + size + length
        if end > len(data):
            break
        yield Item(data[here + size : end], mode, uid, gid, long, seconds * _SECOND + rest, *numbers)
        here = end
    return data[here:]
