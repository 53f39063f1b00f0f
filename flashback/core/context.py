"""What every piece of work is given: the outside world, as values and callables, wired once in `flashback.app`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from flashback.core.command import Programs
from flashback.core.events import Tell
from flashback.core.secret import Secret
from flashback.core.signals import StopSignals


@dataclass(frozen=True, slots=True)
class Paths:
    """Where this machine keeps things (DESIGN part 5)."""

    config: Path = Path("/etc/flashback/flashback.yaml")
    state: Path = Path("/var/lib/flashback")
    runtime: Path = Path("/run/flashback")

    @property
    def ledger(self) -> Path:
        """The SQLite file."""
        return self.state / "ledger.sqlite"

    @property
    def headers(self) -> Path:
        """LUKS header backups, one file per drive, `<uuid>.luks`."""
        return self.state / "headers"

    @property
    def catalogues(self) -> Path:
        """What the drives are known to hold, a folder for each drive."""
        return self.state / "catalogue"

    @property
    def contents(self) -> Path:
        """What was read of which version of a file, and when."""
        return self.state / "contents.sqlite"

    @property
    def mounts(self) -> Path:
        """The folder of the mount points."""
        return self.runtime / "mnt"

    @property
    def locks(self) -> Path:
        """The folder of the lock files."""
        return self.runtime / "locks"


@dataclass(frozen=True, slots=True)
class Doubt:
    """What a person is asked about a hold: `why`, a few `examples`, and all that it is about, as lines to look at."""

    drive: str
    name: str
    why: str
    examples: tuple[str, ...]
    listing: Callable[[], Iterator[str]]


class Person(Protocol):
    """Whoever can be asked: somebody at a terminal, a file with a passphrase, or nobody."""

    def passphrase(self, question: str, attempt: int) -> Secret | None:
        """The answer to what cryptsetup asks (attempt 1, 2, 3); `None`: the person gives up or cannot answer."""
        ...

    @property
    def decides(self) -> bool:
        """Whether `decide` can be asked at all: nobody sits at a script's or a timer's run."""
        ...

    def decide(self, doubt: Doubt) -> bool:
        """Whether the run may go on nevertheless. No, unless a person says so."""
        ...

    @property
    def known_passphrase(self) -> Secret | None:
        """A passphrase that is there without asking; it is tried once, byte for byte."""
        ...


class NobodyDecides:
    """The half of `Person` that is the same wherever nobody can be asked about a hold."""

    @property
    def decides(self) -> bool:
        """See `Person`."""
        return False

    def decide(self, doubt: Doubt) -> bool:  # noqa: ARG002 - the protocol's
        """See `Person`."""
        return False


@dataclass(frozen=True, slots=True)
class Context:
    """`clock` gives aware UTC moments; `machine` names this host in journals; `run` starts programs."""

    run: Programs
    signals: StopSignals
    clock: Callable[[], datetime]
    tell: Tell
    person: Person
    paths: Paths
    machine: str

    def telling(self, tell: Tell) -> Context:
        """The same with another listener."""
        return replace(self, tell=tell)

    def with_person(self, person: Person) -> Context:
        """The same with somebody else to ask."""
        return replace(self, person=person)
