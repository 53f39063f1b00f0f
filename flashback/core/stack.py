"""Taking and giving back: everything that is held lives on one stack and is returned in reverse on every way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self, TypeVar

from flashback.core.errors import FlashbackError, StillHeld
from flashback.core.signals import GIVING_BACK, Interrupted, StopSignals

T = TypeVar("T")


class ResourceStack:
    """First the intention, then the deed; the undo asks the outside what is still held.

    `give_back` must therefore be a function that may be called twice, or after half a failure. *Look before you
    take*: what was there before must never be put on the stack, or its undo would close what somebody else holds.
    A failing undo does not stop the others. What remains becomes `StillHeld`, or, when there was an error already,
    the tuple `held` on that error: the first cause stays the first cause.
    """

    def __init__(self, signals: StopSignals) -> None:
        self._signals = signals
        self._taken: list[tuple[str, Callable[[], object]]] = []

    def __enter__(self) -> Self:
        return self

    def intend(self, name: str, give_back: Callable[[], object]) -> None:
        """Note `name` before a deed that may be interrupted half-way (a passphrase is asked for); the undo looks."""
        self._taken.append((name, give_back))

    def take(self, name: str, take: Callable[[], T], give_back: Callable[[], object]) -> T:
        """Note `name`, then run `take`, with signals held; return what `take` returned."""
        with self._signals.held():
            self.intend(name, give_back)
            return take()

    def keep(self) -> None:
        """What was taken stays taken: it is meant to outlast us, and somebody else's to give back."""
        self._taken.clear()

    def give_back_all(self) -> tuple[str, ...]:
        """Give everything back now, last taken first. Return a line for each thing that is still held."""
        stuck: list[str] = []
        while self._taken:
            name, give_back = self._taken[-1]  # it leaves the stack afterwards: a signal in between must not lose it
            try:
                give_back()
            except Exception as problem:  # noqa: BLE001 - every undo is tried, whatever another one ran into
                stuck.append(f"{name} is still held: {problem}")
            self._taken.pop()
        return tuple(stuck)

    def __exit__(self, _kind: object, error: BaseException | None, _tb: object) -> None:
        stuck = self.give_back_all()
        if stuck and error is None:
            raise StillHeld(stuck)
        if stuck and error is not None:
            if isinstance(error, FlashbackError | Interrupted):
                error.held = (*error.held, *stuck)
            for line in stuck:
                error.add_note(line)


GIVING_BACK.add(ResourceStack.__exit__.__code__)
