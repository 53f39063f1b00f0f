"""From where files come back: a drive that is opened for it, or one that is open already for whoever asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from flashback.core.errors import DriveGone, DriveState
from flashback.drive.proofs import Proofs, proofs
from flashback.drive.reading import Reading
from flashback.drive.states import Holding, OnDrive
from flashback.drive.visible import Visible
from flashback.rotation.ledger import Ledger


class Held(NamedTuple):
    """What is there to be read; `watch` raises `DriveGone` when it is not there any more."""

    holding: Holding
    watch: Callable[[], None]


class Source(Protocol):
    """One drive. `state` and `safe_to_remove` are what was last seen to be true of it."""

    @property
    def name(self) -> str:
        """As its owner calls it."""

    @property
    def uuid(self) -> str:
        """The LUKS UUID."""

    @property
    def state(self) -> DriveState:
        """See above."""

    @property
    def safe_to_remove(self) -> bool:
        """See above."""

    def held(self) -> AbstractContextManager[Held]:
        """It can be read as long as the block lasts."""

    def proofs(self) -> AbstractContextManager[Proofs | None]:
        """What was read of it before; `None` where whoever asks cannot know."""


@dataclass(frozen=True, slots=True)
class Plugged:
    """A drive that is opened, or read beside whoever has it open. Root alone can."""

    reading: Reading
    ledger: Ledger

    @property
    def name(self) -> str:
        """See `Source`."""
        return self.reading.candidate.known.name

    @property
    def uuid(self) -> str:
        """See `Source`."""
        return self.reading.candidate.known.uuid

    @property
    def state(self) -> DriveState:
        """See `Source`."""
        return self.reading.state

    @property
    def safe_to_remove(self) -> bool:
        """See `Source`."""
        return self.reading.safe_to_remove

    @contextmanager
    def held(self) -> Iterator[Held]:
        """See `Source`."""
        with self.reading.held(purpose="restore") as drive:
            yield Held(OnDrive(drive.root), drive.watch)

    def proofs(self) -> AbstractContextManager[Proofs | None]:
        """See `Source`."""
        return proofs(self.reading.context, self.ledger, self.uuid)


@dataclass(frozen=True, slots=True)
class Shown:
    """A drive that `flashback mount` has opened for this user; it stays as it is."""

    visible: Visible

    @property
    def name(self) -> str:
        """See `Source`."""
        return self.visible.name

    @property
    def uuid(self) -> str:
        """See `Source`."""
        return self.visible.uuid

    @property
    def state(self) -> DriveState:
        """See `Source`."""
        return DriveState.OPEN if self.visible.is_there else DriveState.GONE

    @property
    def safe_to_remove(self) -> bool:
        """See `Source`."""
        return False

    @contextmanager
    def held(self) -> Iterator[Held]:
        """See `Source`."""
        try:
            with self.visible.held() as folders:
                yield Held(folders, self.visible.watch)
        except OSError as problem:
            raise DriveGone(f"{self.name} cannot be looked into any more: {problem.strerror}") from problem

    def proofs(self) -> AbstractContextManager[Proofs | None]:
        """See `Source`."""
        return nullcontext()
