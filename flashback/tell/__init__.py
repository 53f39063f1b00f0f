"""How people and scripts hear of it. Here: how much is said, and the JSON-ready facts that the other rooms hand over.

The shapes are documented in docs/reference/json.md; the schemas beside it are tested. Names that come from a file
system are text with surrogate escapes (`os.fsdecode`) in all of them; times are RFC 3339 in UTC; sizes are bytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import IntEnum
from typing import Self, TypedDict

from flashback.core.events import Event


class Verbosity(IntEnum):
    """How much is said: only problems and the last line; the steps; every remark and the trace of an error."""

    QUIET = -1
    NORMAL = 0
    VERBOSE = 1


class MasterFacts(TypedDict, total=False):
    """What a run did (or, in a plan, would do) with one master. `snapshot` is its name, `null` where none was made."""

    files_added: int
    bytes_added: int
    files_changed: int
    bytes_changed: int
    files_deleted: int
    bytes_deleted: int
    files_moved: int
    bytes_moved: int
    directories_moved: int
    files_unchanged: int
    bytes_unchanged: int
    snapshot: str | None
    unread: int


class Unread(TypedDict):
    """A file that could not be read or written."""

    master: str
    path: str
    why: str


class ScrubFacts(TypedDict, total=False):
    """What reading everything back gave: the raw counters, and the files that are named as damaged."""

    bytes: int
    seconds: float
    csum_errors: int
    read_errors: int
    uncorrectable: int
    corrected: int
    damaged: list[str]


class Space(TypedDict, total=False):
    """The drive's size and what is free on it; `needed` in a plan only."""

    size: int
    free: int
    needed: int


class Facts(TypedDict, total=False):
    """`Finished.facts`. `action` is `run` unless told; `dry_run` says that nothing was written on purpose."""

    action: str
    dry_run: bool
    begun: str
    ended: str
    seconds: float
    masters: dict[str, MasterFacts]
    bytes_written: int
    sync_seconds: float
    close_seconds: float
    unread: list[Unread]
    scrub: ScrubFacts | None
    space: Space


class LargeDirectory(TypedDict):
    """A directory (relative to its master) with the bytes that would be copied below it."""

    master: str
    path: str
    bytes: int


class Hold(TypedDict):
    """A guard that wants a person: its name for `--allow`, and why."""

    name: str
    why: str


class PlanFacts(TypedDict, total=False):
    """`Planned.plan`."""

    drive: str
    masters: dict[str, MasterFacts]
    largest: list[LargeDirectory]
    prune: list[str]
    holds: list[Hold]
    allowed: list[str]
    scrub: bool
    space: Space


class Teller:
    """Somebody who is told the events, `core.events.Tell` with a way to be silent while a person is asked something.

    Used as a context: whatever ends the work, the terminal is left as it was.
    """

    def __call__(self, event: Event) -> None:
        """Tell one event. Never raises because the listener has gone: the drive matters more than the listener."""
        raise NotImplementedError  # each way of telling has its own; the others below may be left as they are

    def pause(self) -> None:
        """Clear away what changes on the terminal: a person is about to be asked something."""

    def resume(self) -> None:
        """Go on after `pause`."""

    def close(self) -> None:
        """Leave the terminal clean. May be called twice."""

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """`pause` and `resume` around a question."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
