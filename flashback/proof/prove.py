"""`flashback verify`: copy and master compared by content, versions read out of the snapshots, and what that proves."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from flashback.config.values import Master
from flashback.core.context import Context
from flashback.core.errors import ConfigError, DriveGone, Exit, FlashbackError
from flashback.core.events import Finished, Progress, Remarked, Step, StepBegun, StepDone
from flashback.core.signals import Interrupted
from flashback.core.text import number, rfc3339, size
from flashback.drive import layout, states
from flashback.drive.proofs import Proofs, proofs
from flashback.drive.reading import Reading
from flashback.drive.recognise import Candidate
from flashback.drive.session import OpenDrive
from flashback.health.drill import Drill, drill
from flashback.proof.remembered import remembered
from flashback.proof.verify import Compared, compare_content
from flashback.rotation.ledger import Ledger
from flashback.rotation.values import ProofKind, ProofRecord
from flashback.tell import explain
from flashback.walk.there import absence

AGAIN: Final = "have the directory there (is a disk to be mounted?), then verify again"


def verify_drive(
    context: Context, ledger: Ledger, candidate: Candidate, masters: Sequence[Master], *, sample: int | None
) -> int:
    """Verify a drive, all of it (`sample` is `None`) or so many files; tell it, and return the exit code.

    `masters` are those that it is to carry.
    """
    return Proving(context, ledger, candidate, masters, sample).execute()


@dataclass(slots=True)
class Proving:
    """One verification; filled step by step, so that what it tells is true after any ending.

    `passed` are the masters that were not compared, by name: why, and what to do about it.
    """

    context: Context
    ledger: Ledger
    candidate: Candidate
    masters: Sequence[Master]
    sample: int | None
    compared: list[Compared] = field(default_factory=list)
    passed: dict[str, tuple[str, str]] = field(default_factory=dict)
    drilled: Drill | None = None
    rng: random.Random = field(default_factory=random.SystemRandom)
    started: float = field(default_factory=time.monotonic)

    def execute(self) -> int:
        """See `verify_drive`. Only what nobody expected is raised."""
        reading, begun, name = Reading(self.context, self.candidate), self.context.clock(), self.candidate.known.name
        try:
            with (
                reading.held(purpose="verify") as drive,
                proofs(self.context, self.ledger, self.candidate.known.uuid) as proven,
            ):
                self._compare(drive, proven)
                self._drill(drive, proven)
            self._remember()
            last = self._finished(reading, begun)
        except (FlashbackError, Interrupted) as error:
            if isinstance(error, DriveGone):
                error.what = f"{name} was unplugged while it was being read"
                error.hint = f"plug it in again, then: flashback verify {name}"
            explanation = explain.explain(error, drive=name)
            last = explain.finished(explanation, name, self._facts(begun), closed_for_sure=reading.safe_to_remove)
        self.context.tell(last)
        return int(last.exit_code)

    def _compare(self, drive: OpenDrive, proven: Proofs) -> None:
        for master in self.masters:
            state = next(iter(s for s in states.states_of(drive.root, master.name) if s.name == layout.CURRENT), None)
            if state is None or not state.complete:
                which = "there is no copy of it on the drive yet" if state is None else "its copy is not complete"
                self._pass_over(master, which, f"flashback run {drive.known.name}")
            elif obstacle := _obstacle(master):
                self._pass_over(master, *obstacle)
            else:
                self._compare_one(drive, master, state, proven)

    def _compare_one(self, drive: OpenDrive, master: Master, state: states.State, proven: Proofs) -> None:
        begun = time.monotonic()
        self.context.tell(StepBegun(Step.VERIFY, f"{master.name}: the copy and {master.path}"))
        try:
            done = compare_content(
                drive.root,
                master,
                state,
                sample=self.sample,
                rng=self.rng,
                proofs=proven,
                watch=drive.watch,
                told=lambda so_far, total: self.context.tell(
                    Progress(Step.VERIFY, so_far.equal_bytes, total, so_far.equal_files)
                ),
            )
        except OSError as problem:
            drive.watch()
            self._pass_over(master, f"{master.path} cannot be read: {problem.strerror}", AGAIN)
            return
        self.compared.append(done)
        for each in done.unread:
            self.context.tell(Remarked(each))
        words = f"{number(done.equal_files, 'file')} ({size(done.equal_bytes)}) equal"
        self.context.tell(StepDone(Step.VERIFY, time.monotonic() - begun, f"{master.name}: {words}"))

    def _drill(self, drive: OpenDrive, proven: Proofs) -> None:
        begun = time.monotonic()
        self.context.tell(StepBegun(Step.VERIFY, "files out of the snapshots"))
        with remembered(self.context.paths.catalogues, drive.known.uuid) as memory:
            self.drilled = drill(
                drive.root,
                sample=self.sample,
                rng=self.rng,
                proofs=proven,
                watch=drive.watch,
                told=lambda done: self.context.tell(Progress(Step.VERIFY, done.bytes, None, done.files)),
                memory=memory,
            )
        words = f"{number(self.drilled.files, 'file')} ({size(self.drilled.bytes)}) read out of the snapshots"
        self.context.tell(StepDone(Step.VERIFY, time.monotonic() - begun, words))

    def _remember(self) -> None:
        """What was proven, with what there was to be proven."""
        with suppress(FlashbackError):  # where it cannot be remembered, it was proven all the same
            for proof in self._proofs():
                self.ledger.record_proof(proof)

    def _proofs(self) -> Iterator[ProofRecord]:
        uuid, now, drilled = self.candidate.known.uuid, self.context.clock(), self.drilled
        files, equal = (sum(getattr(each, f"equal_{what}") for each in self.compared) for what in ("files", "bytes"))
        total, bad = sum(each.bytes for each in self.compared), sum(len(each.damaged) for each in self.compared)
        differing = sum(len(each.differing) for each in self.compared)
        if self.compared:
            yield ProofRecord(uuid, now, ProofKind.COMPARED, files, equal, total, bad)
        if drilled is not None and (drilled.files or drilled.damaged):
            unread = len(drilled.damaged) - drilled.differing
            yield ProofRecord(uuid, now, ProofKind.DRILLED, drilled.files, drilled.bytes, 0, unread)
            differing += drilled.differing
        if differing or self.sample is None:
            yield ProofRecord(uuid, now, ProofKind.DIFFERING, 0, 0, 0, differing)

    def _pass_over(self, master: Master, why: str, remedy: str) -> None:
        """A master that cannot be compared: whoever asks whether the drive equals it has no answer then."""
        self.passed[master.name] = (why, remedy)

    # --- tell

    def _wrong(self) -> list[dict[str, str]]:
        """Every file that is not as it should be, and why."""
        wrong = [
            _said(each.master, os.fsdecode(trouble.path), trouble.why)
            for each in self.compared
            for trouble in (*each.differing, *each.damaged)
        ]
        found = self.drilled.damaged if self.drilled is not None else []
        drilled = {(s.master, s.name, t.path): t.why for s, t in found}  # a sample may come upon one file twice
        return wrong + [
            _said(f"{master}/{name}", os.fsdecode(_inside(path)), why) for (master, name, path), why in drilled.items()
        ]

    def _finished(self, reading: Reading, begun: datetime) -> Finished:
        wrong, unread = self._wrong(), [each for done in self.compared for each in done.unread]
        code = Exit.DAMAGE if wrong else Exit.UNREAD if unread or self.passed else Exit.DONE
        error = self._error(len(wrong)) if wrong else self._not_compared() if self.passed else None
        nothing = not self.compared and not (self.drilled and self.drilled.files)
        whole = "nothing-to-do" if nothing else "complete"
        return Finished(
            result="failed" if wrong else "incomplete" if code != Exit.DONE else whole,
            exit_code=code,
            drive=self.candidate.known.name,
            drive_state=reading.state,
            safe_to_remove=reading.safe_to_remove,
            facts=self._facts(begun),
            error=error,
            next_step=error["next"] if error else "make the files readable for their owner" if unread else "",
        )

    def _not_compared(self) -> dict[str, Any]:
        names = ", ".join(self.passed)
        what = f"{names} {'was' if len(self.passed) == 1 else 'were'} not compared with the master"
        remedies = "; ".join(dict.fromkeys(remedy for _why, remedy in self.passed.values()))
        return {"kind": "FlashbackError", "what": what, "findings": [], "held": [], "next": remedies}

    def _error(self, count: int) -> dict[str, Any]:
        name = self.candidate.known.name
        hint = (
            "look which of the two is right. If the master's is: `touch` it, and the next run copies it again. "
            f"If the copy is: flashback restore PATH --drive {name}. What the drive does not give is on another one, "
            f"perhaps; flashback scrub {name} reads all of it"
        )
        what = f"{number(count, 'file')} {'is' if count == 1 else 'are'} not as they should be"
        return {"kind": "DamageFound", "what": what, "findings": [], "held": [], "next": hint}

    def _facts(self, begun: datetime) -> dict[str, Any]:
        drilled = self.drilled
        unread = [
            {"master": each.master, "path": os.fsdecode(each.path), "why": each.detail}
            for done in self.compared
            for each in done.unread
        ]
        return {
            "action": "verify",
            "begun": rfc3339(begun),
            "ended": rfc3339(self.context.clock()),
            "seconds": round(time.monotonic() - self.started, 1),
            "unread": self._wrong() + unread,
            "not_compared": [{"master": name, "why": why} for name, (why, _remedy) in self.passed.items()],
            "compared": {each.master: each.as_json() for each in self.compared},
            "drilled": {"files": drilled.files, "bytes": drilled.bytes, "remembered": drilled.remembered}
            if drilled is not None
            else None,
        }


def _obstacle(master: Master) -> tuple[str, str] | None:
    """What keeps the master from being compared, and what to do about it; the others are compared all the same."""
    try:
        why = absence(master)
    except ConfigError as problem:
        return problem.what, "see to that, then verify again"
    return (f"{master.path} {why}", AGAIN) if why else None


def _inside(path: bytes) -> bytes:
    """Below the state that it lies in."""
    return path.partition(b"/")[2] or path


def _said(master: str, path: str, why: str) -> dict[str, str]:
    return {"master": master, "path": path, "why": why}
