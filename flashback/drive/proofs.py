"""What a drive gives is held against what was read of the same version of a file before, here or on another drive.

The drive's own checksums say that it gives what was written. They say nothing of what was changed through the file
system, or spoiled before it was written; that shows when a version with its size and time has another content than it
had. What is read for the first time proves nothing by itself: it is noted, for the next time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from flashback.core.context import Context
from flashback.core.events import Remark, Remarked, RemarkKind
from flashback.core.text import local
from flashback.drive.tree import Item
from flashback.rotation.contents import LENGTH, MASTER, Contents, Known, file_mark, version_mark
from flashback.rotation.ledger import Ledger

AT_HAND: Final = 300_000
"""So many files are remembered in memory (about 30 MB), so that those of the next snapshot need no question."""
TWO: Final = "size and time are those of the master, the content is not"


class Proofs:
    """For one drive, and one reading of it. `name` gives a drive's name for its LUKS UUID."""

    def __init__(self, contents: Contents, drive: str, name: Callable[[str], str]) -> None:
        self._contents = contents
        self._drive = drive
        self._name = name
        self._met: set[int] = set()
        """Files that were read, or are about to be: those with several names, the bad ones, and the first `AT_HAND`."""

    def unread(self, master: str, path: bytes, item: Item) -> bool:
        """Whether this very file of the drive was not read yet, whatever snapshot it was met in."""
        mark = file_mark(master, item.ino, item.changed)
        if mark in self._met:
            return False
        if item.links > 1 or len(self._met) < AT_HAND:
            self._met.add(mark)
        known = self._contents.known(version_mark(master, path, item.size, item.mtime_ns))
        return not any(each.this_turn and each.place == self._drive and each.file == mark for each in known)

    def bad(self, master: str, item: Item) -> None:
        """The file was told of, and need not be read again where another snapshot has it, too."""
        self._met.add(file_mark(master, item.ino, item.changed))

    def judged(self, master: str, path: bytes, item: Item, content: bytes) -> str:
        """What is wrong with a content that the drive gave, in words; empty where nothing is, and then it is noted."""
        version = version_mark(master, path, item.size, item.mtime_ns)
        mark = file_mark(master, item.ino, item.changed)
        return self._held_against(self._contents.known(version), version, content, mark)

    def compared(self, master: str, path: bytes, item: Item, content: bytes, its: tuple[int, int, bytes]) -> str:
        """The same for a copy and the master's file: `its` are inode number, time of change and content of that.

        Where two contents are there, what was read before says which of them is new.
        """
        version = version_mark(master, path, item.size, item.mtime_ns)
        ino, ctime_ns, masters = its
        mark, known = file_mark(master, ino, ctime_ns), self._contents.known(version)
        if content == masters:
            if said := self._held_against(known, version, content, file_mark(master, item.ino, item.changed)):
                return f"copy and master are equal, but {said}"
            self._note(known, version, MASTER, content, mark)
            return ""
        if not known:
            return TWO
        was = f"as it was read {'' if known[0].this_turn else 'on '}{self._when(known[0])}"
        if known[0].content == content[:LENGTH]:
            untouched = any(each.place == MASTER and each.file == mark for each in known)
            why = "though nothing wrote to the file: look at its disk" if untouched else "and kept its size and date"
            return f"the copy is {was}; the master has changed since, {why}"
        if known[0].content == masters[:LENGTH]:
            return f"the master is {was}; the copy is not"
        return f"{TWO}, and neither is {was}"

    def _held_against(self, known: list[Known], version: bytes, content: bytes, mark: int) -> str:
        other = self._other(known, content)
        if other is not None:
            return f"its content is not what was read {self._where(other)}, with the same size and date"
        self._note(known, version, self._drive, content, mark)
        return ""

    def _other(self, known: list[Known], content: bytes) -> Known | None:
        """What differs; first what this drive itself gave."""
        differing = [each for each in known if each.content != content[:LENGTH]]
        return min(differing, key=lambda each: each.place != self._drive, default=None)

    def _note(self, known: list[Known], version: bytes, place: str, content: bytes, mark: int) -> None:
        if not any(each.this_turn and each.place == place and each.file == mark for each in known):
            self._contents.note(version, place, content, mark)

    def _where(self, known: Known) -> str:
        when = self._when(known)
        when = when if known.this_turn else f"on {when}"
        if known.place == self._drive:
            return f"in another state {when}" if known.this_turn else f"here {when}"
        return f"in the master {when}" if known.place == MASTER else f"on {self._name(known.place)} {when}"

    @staticmethod
    def _when(known: Known) -> str:
        return "just now" if known.this_turn else local(known.at)


@contextmanager
def proofs(context: Context, ledger: Ledger, drive: str) -> Iterator[Proofs]:
    """Those of the drive with this LUKS UUID. What could not be remembered is told in the end."""
    names = {each.uuid: each.name for each in ledger.drives()}
    with Contents.open(context.paths.contents, context.clock()) as contents:
        yield Proofs(contents, drive, lambda uuid: names.get(uuid, uuid))
    if contents.trouble:
        what = f"what was read is not remembered for the next time: {contents.trouble}"
        context.tell(Remarked(Remark(RemarkKind.GENERAL, "", b"", what)))
