"""The keys of a drive: key slots are added, proven and only then removed; at no moment is there none that works.

No drive is opened for it: cryptsetup tries a passphrase without making anything accessible. After each change the copy
of the header and its digest are renewed (`drive.kept`), or the drive would be refused as changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from flashback.core.context import Context
from flashback.core.errors import DriveError, DriveGone, PassphraseRefused, UsageError
from flashback.core.locks import locked
from flashback.core.secret import TRIES, Secret
from flashback.core.text import number
from flashback.drive import header
from flashback.drive.header import Slot, SlotKind
from flashback.drive.kept import changing
from flashback.drive.recognise import Candidate, check_identity, refuse_unwanted
from flashback.prepare.ask import Ask
from flashback.prepare.passphrase import new_passphrase
from flashback.prepare.recovery import new_recovery_key
from flashback.rotation.ledger import Ledger
from flashback.tools import block, cryptsetup


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line said. `asker` is `None` for a script; `present` opens the drive now, `new` shall open it.

    Of what is to be removed: the `slot`, or its own passphrase `doomed`.
    """

    asker: Ask | None = None
    present: Secret | None = field(default=None, repr=False)
    new: Secret | None = field(default=None, repr=False)
    doomed: Secret | None = field(default=None, repr=False)
    slot: int | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """What was done to the slots; `slots` are those that there are now."""

    slots: tuple[Slot, ...]
    added: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For scripts (docs/reference/json.md)."""
        return {
            "slots": [slot.as_json() for slot in self.slots],
            "added": list(self.added),
            "removed": list(self.removed),
        }


@dataclass(frozen=True, slots=True)
class Work:
    """One drive whose slots are worked on; its header was found to be the known one, and nobody else is at it."""

    context: Context
    ledger: Ledger
    candidate: Candidate
    given: Given

    @property
    def device(self) -> str:
        """The device with the header."""
        return self.candidate.volume.path

    def slots(self) -> dict[int, Slot]:
        """The slots as they are at this moment, by number."""
        return {slot.number: slot for slot in slots_on(self.context, self.device)}

    def present(self) -> tuple[Secret, int]:
        """A key that opens the drive now, and its slot. Raises `PassphraseRefused`, `UsageError`."""
        what = f"Passphrase or recovery key of {self.candidate.known.name}:"
        return self._tried(self.given.present, what, "--passphrase-file")

    def doomed(self) -> tuple[Secret, int]:
        """The key that is to be removed, and its slot."""
        return self._tried(self.given.doomed, "The passphrase that is to be removed:", "--slot")

    def _tried(self, given: Secret | None, question: str, option: str) -> tuple[Secret, int]:
        if given is not None:
            return given, self.opened_by(given)
        asker = asked(self.given, option)
        for attempt in range(1, TRIES + 1):
            typed = asker.secret(question)
            try:
                return typed, self.opened_by(typed)
            except PassphraseRefused:
                if attempt == TRIES:
                    raise
                asker.show("That opens no key slot; try again.")
        raise AssertionError  # the last attempt returns or raises

    def opened_by(self, secret: Secret, slot: int | None = None) -> int:
        """The slot that a key opens."""
        return cryptsetup.opened_slot(self.context.run, self.device, secret=secret, slot=slot)

    def chosen(self, question: str) -> Secret:
        """The new passphrase."""
        if self.given.new is not None:
            return self.given.new
        about = (self.candidate.known.name, "flashback")
        return new_passphrase(asked(self.given, "--new-passphrase-file"), about=about, question=question)

    def add(self, new: Secret, *, present: Secret) -> int:
        """A new slot, proven to open; its number. Raises `DriveError` when it does not."""
        before = set(self.slots())
        run, device = self.context.run, self.device
        cryptsetup.add_key(run, device, passphrase=present, new=new, kdf=cryptsetup.STANDARD)
        added = set(self.slots()) - before
        if len(added) != 1:
            raise DriveError(f"{device} did not take the new key: {number(len(added), 'slot')} more than before")
        slot = added.pop()
        self._flushed(f"the new key slot {slot}")
        try:
            self.opened_by(new, slot)
        except PassphraseRefused as problem:
            raise DriveError(
                f"the new key slot {slot} of {device} was written and does not open, so nothing was removed",
                hint="the drive may be dying: flashback run --scrub tells more",
            ) from problem
        return slot

    def remove(self, slot: int, *, staying: Secret) -> None:
        """Destroy a slot after `staying` was proven to open another. Raises `DriveError`, `UsageError`."""
        self._prove_other(slot, staying)
        cryptsetup.remove_slot(self.context.run, self.device, slot, staying=staying)
        if slot in self.slots():
            raise DriveError(f"key slot {slot} of {self.device} is still there after it was removed")
        self._flushed(f"the header without key slot {slot}")

    def _flushed(self, what: str) -> None:
        """See that it is on the medium, from which all is read from now on: cryptsetup does not say if it is not."""
        try:
            block.flush(self.device)
        except DriveGone as problem:
            raise DriveError(
                f"{self.device} did not confirm that {what} is on the medium; nothing else was changed",
                hint="check the cable and the port, then the same command again; keep the old key until it succeeds",
            ) from problem

    def _prove_other(self, slot: int, staying: Secret) -> int:
        opened = self.opened_by(staying)
        if opened != slot:
            return opened
        for other in self.slots().keys() - {slot}:  # the same key may open two slots, and the first was tried first
            try:
                return self.opened_by(staying, other)
            except PassphraseRefused:
                continue
        raise UsageError(
            f"the passphrase that was given opens key slot {slot}, which is to be removed, and no other",
            hint="give the one that is to stay: only what was proven to open the drive counts as left",
        )

    def mark_recovery(self, slots: Iterable[int]) -> None:
        """Have our token say which slots hold a recovery key. cryptsetup takes a slot out when it is removed."""
        metadata = cryptsetup.metadata(self.context.run, self.device)
        old = header.token_number(metadata)
        cryptsetup.import_token(self.context.run, self.device, header.token_for(slots))
        if old is not None:
            cryptsetup.remove_token(self.context.run, self.device, old)


def slots_on(context: Context, place: str) -> tuple[Slot, ...]:
    """The key slots in the header on a device or in a file."""
    return header.slots_of(cryptsetup.metadata(context.run, place))


@contextmanager
def at_work(context: Context, ledger: Ledger, candidate: Candidate, given: Given, what: str) -> Iterator[Work]:
    """Hold the locks, and see that it is the drive that it says it is, before a passphrase is asked for."""
    known = candidate.known
    with (
        locked(context.paths.locks / "run.lock", purpose=f"{what} {known.name}"),
        locked(context.paths.locks / f"{known.uuid}.lock", purpose=f"{what} {known.name}"),
    ):
        refuse_unwanted(known)
        check_identity(candidate)
        if block.read_only(candidate.volume.path):
            raise DriveError(
                f"{known.name} is write-protected", hint="look for a lock switch on the card or its adapter"
            )
        yield Work(context, ledger, candidate, given)


def add(context: Context, ledger: Ledger, candidate: Candidate, given: Given) -> Changed:
    """One more passphrase opens the drive."""
    with at_work(context, ledger, candidate, given, "key add") as work:
        present, _slot = work.present()
        new = work.chosen("One more passphrase (it is not shown):")
        with _noted(work, "key add"):
            slot = work.add(new, present=present)
        return Changed(tuple(work.slots().values()), added=(slot,))


def change(context: Context, ledger: Ledger, candidate: Candidate, given: Given) -> Changed:
    """Another passphrase in place of the one that is given. The new slot opens before the old one goes."""
    with at_work(context, ledger, candidate, given, "key change") as work:
        present, old = work.present()
        if work.slots()[old].kind is SlotKind.RECOVERY:
            name = candidate.known.name
            raise UsageError(
                "that is the recovery key; it was left as it is",
                hint=f"a passphrase in place of a forgotten one: flashback key add {name} (with the recovery key), "
                f"then flashback key remove {name}",
            )
        new = work.chosen("The new passphrase (it is not shown):")
        if new == present:
            raise UsageError("the new passphrase is the old one, so nothing was changed")
        with _noted(work, "key change"):
            slot = work.add(new, present=present)
            work.remove(old, staying=new)
        return Changed(tuple(work.slots().values()), added=(slot,), removed=(old,))


def remove(context: Context, ledger: Ledger, candidate: Candidate, given: Given) -> Changed:
    """A key opens the drive no more. Never the last one, and only after another was proven to open."""
    with at_work(context, ledger, candidate, given, "key remove") as work:
        slots = work.slots()
        if len(slots) < 2:
            raise UsageError(
                f"{candidate.known.name} has one key slot; without it nobody could open the drive again",
                hint=f"another one first: flashback key add {candidate.known.name}",
            )
        slot = _which(work, slots)
        if given.asker is not None:
            given.asker.show(f"Slot {slot}, {slots[slot].words}, is to be removed. First, what is to stay:")
        staying, _slot = work.present()
        with _noted(work, "key remove"):
            work.remove(slot, staying=staying)
        return Changed(tuple(work.slots().values()), removed=(slot,))


def _which(work: Work, slots: dict[int, Slot]) -> int:
    """The slot that is to be removed: the one that was named, the one that was chosen, the one that a key opens."""
    if work.given.slot is not None:
        if work.given.slot not in slots:
            there = ", ".join(str(number) for number in slots)
            raise UsageError(f"there is no key slot {work.given.slot}; there are {there}")
        return work.given.slot
    if work.given.doomed is None and work.given.asker is not None:
        by_line = {f"{slot.number}: {slot.words}": slot.number for slot in slots.values()}
        other = "the one that a passphrase opens"
        answer = work.given.asker.choose("Which key slot shall go?", [*by_line, other])
        if answer != other:
            return by_line[answer]
    return work.doomed()[1]


def renew_recovery_key(
    context: Context, ledger: Ledger, candidate: Candidate, given: Given, hand_over: Callable[[Secret], None]
) -> Changed:
    """A new recovery key; the old one goes after the new one was proven to open and given to `hand_over`."""
    with at_work(context, ledger, candidate, given, "key recovery") as work:
        present, _slot = work.present()
        old = [slot.number for slot in work.slots().values() if slot.kind is SlotKind.RECOVERY]
        key = new_recovery_key()
        with _noted(work, "key recovery"):
            slot = work.add(key, present=present)
            work.mark_recovery([*old, slot])
            try:
                hand_over(key)
            except BaseException:
                with context.signals.held():
                    work.remove(slot, staying=present)  # nobody has it
                raise
            for each in old:
                work.remove(each, staying=key)
        return Changed(tuple(work.slots().values()), added=(slot,), removed=tuple(old))


def _noted(work: Work, what: str) -> AbstractContextManager[None]:
    return changing(work.context, work.ledger, work.candidate.known.uuid, work.device, what)


def asked(given: Given, option: str) -> Ask:
    """Whoever can be asked. Raises `UsageError` where nobody can."""
    if given.asker is None:
        raise UsageError("a passphrase is missing, and there is nobody to ask", hint=f"say it with {option}")
    return given.asker
