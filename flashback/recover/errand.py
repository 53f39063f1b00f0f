"""One restore from one drive: what of it is there, the plan, the copy, and what there is to tell."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from flashback.config.values import Master
from flashback.core.context import Context
from flashback.core.descent import allow_deep_trees
from flashback.core.errors import DamageFound, DriveGone, Exit, FlashbackError, UsageError
from flashback.core.events import Finished, Planned, Remark, Remarked, RemarkKind, Step, StepBegun, StepDone
from flashback.core.signals import Interrupted
from flashback.core.text import number, rfc3339, shown, size
from flashback.drive.states import Holding, State
from flashback.drive.tree import Trouble
from flashback.recover import in_place
from flashback.recover.destination import PREFIX, make_directory, staged
from flashback.recover.in_place import InPlace
from flashback.recover.parts import Owner, Part, Planner, totals
from flashback.recover.source import Held, Source
from flashback.recover.wanted import Wanted, When
from flashback.recover.work import Done, Work
from flashback.tell import explain

ANOTHER: Final = "look whether another drive or snapshot has them: the same command with --drive or --snapshot"
AGAIN: Final = "give the same command again: what was copied is not copied again"
HELD_OPEN: Final = 10
"""Descriptors that a part of the plan holds, at most: directories of the drive and of the place, its list."""


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """What was asked for. `everything` is all masters on the drive, or those in `wanted`.

    `in_place` is over what is there, once `agreed` was asked (`None`: nobody can be).
    `to` is `None` for where it was; `trusted` are the users whose links may be followed on the way there.
    """

    wanted: tuple[Wanted, ...]
    when: When = field(default_factory=When)
    to: Path | None = None
    owner: Owner | None = None
    everything: bool = False
    in_place: bool = False
    agreed: Callable[[], bool] | None = None
    dry_run: bool = False
    trusted: frozenset[int] = frozenset()


@dataclass(slots=True)
class Errand:
    """One restore from one drive; filled step by step, so that what it tells is true after any ending.

    `known` are the states that the drive has of each master that was looked for.
    """

    context: Context
    source: Source
    masters: Sequence[Master]
    request: RestoreRequest
    found: list[Wanted] = field(default_factory=list)
    known: dict[str, tuple[State, ...]] = field(default_factory=dict)
    closed: list[Trouble] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    in_place: list[InPlace] = field(default_factory=list)
    done: list[Done] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def execute(self) -> Finished | None:
        """The last event; `None` where the drive holds nothing of what was asked for. `found` is what it holds."""
        begun, source = self.context.clock(), self.source
        try:
            with source.held() as held, ExitStack() as opened:
                self.found = self._found(held)
                if not self.found:
                    return None
                self._act(held, opened, self.found)
        except (FlashbackError, Interrupted) as error:
            if isinstance(error, DriveGone):
                error.what = f"{source.name} was unplugged while it was being read"
            explanation = explain.explain(error, drive=source.name)
            explanation = replace(explanation, next_step=self._how_to_go_on(error) or explanation.next_step)
            return explain.finished(explanation, source.name, self._facts(begun), closed_for_sure=source.safe_to_remove)
        return self._finished(begun)

    def _how_to_go_on(self, error: BaseException) -> str:
        """What was copied waits beside its place, which has to be said: nobody else would find it."""
        first = "plug it in again, then " if isinstance(error, DriveGone) else ""
        waiting = [each.where / f"{PREFIX}{each.key(self.source.uuid)}" for each in self.parts]
        left = next((shown(str(each)) for each in waiting if os.path.lexists(each)), "")
        if left:
            hint = f"{error.hint}; then " if isinstance(error, FlashbackError) and not first and error.hint else first
            return f"{hint}{AGAIN}. Until then it waits in {left}; remove that if you do not want it any more"
        return f"{first}{AGAIN}" if first else ""

    # --- see and plan

    def _found(self, held: Held) -> list[Wanted]:
        """What of it is here; all masters of the drive where all are wanted.

        Raises `DamageFound` where it may be here and no state could be looked into.
        """
        here = held.holding.masters()
        homes = {each.name: each.path for each in self.masters}
        wanted = list(self.request.wanted)
        if self.request.everything and not wanted:
            wanted = [Wanted(name, home=homes.get(name)) for name in here]
        planner = Planner(held.holding, ExitStack(), self.request.when, None, (), found=self.known)
        closed: list[Trouble] = []
        found = [each for each in wanted if each.master in here and planner.find(each, closed) is not None]
        if closed:
            held.watch()
        if not found and closed:
            raise DamageFound(f"{self.source.name}: {closed[0].why}", hint=ANOTHER)
        return found

    def _act(self, held: Held, opened: ExitStack, wanted: Sequence[Wanted]) -> None:
        self._plan(held.holding, opened, wanted)
        self.context.tell(Planned(self._plan_json()))
        if self.request.dry_run:
            return
        self._ask()
        with tempfile.TemporaryDirectory(prefix="flashback-") as spool, self.source.proofs() as proofs:
            work = Work(
                self.context.run,
                self.context.tell,
                held.watch,
                self.source.uuid,
                Path(spool),
                self.request.owner,
                proofs,
            )
            work.expect(self.parts)
            puts = {id(each.part): each.put for each in self.in_place}
            for part in self.parts:
                self.done.append(work.restore(part, puts.get(id(part))))

    def _ask(self) -> None:
        """Nothing that is there is changed before somebody has seen what, and agreed."""
        count = sum(len(each.changes) for each in self.in_place)
        if not count:
            return
        if self.request.agreed is None:
            raise UsageError(
                f"{number(count, 'file')} would be changed; nothing was",
                hint="look at them with --dry-run; if it is as you want it: --yes",
            )
        if not self.request.agreed():
            raise UsageError("nothing was changed", hint="without --in-place it comes beside what is there")

    def _plan(self, holding: Holding, opened: ExitStack, wanted: Sequence[Wanted]) -> None:
        begun, request = time.monotonic(), self.request
        allow_deep_trees(HELD_OPEN * len(wanted))
        self.context.tell(StepBegun(Step.PLAN, ", ".join(each.said for each in wanted)))
        to = request.to
        if to is not None and not request.dry_run:
            make_directory(to, request.trusted)
        planner = Planner(holding, opened, request.when, to, request.trusted, request.owner)
        for each in wanted:
            closed: list[Trouble] = []
            found = planner.find(each, closed)
            if found is not None:  # as was seen before
                self._plan_one(planner, each, found[0])
                self.parts[-1].troubles += closed
                self.closed += closed
                self._remark_incomplete(self.parts[-1])
        self._remark_left()
        files, total = totals(self.parts)
        self.context.tell(StepDone(Step.PLAN, time.monotonic() - begun, f"{number(files, 'file')}, {size(total)}"))

    def _plan_one(self, planner: Planner, wanted: Wanted, state: State) -> None:
        if self.request.in_place:
            self.in_place.append(in_place.plan(planner, wanted, state, self.request.owner))
            self.parts.append(self.in_place[-1].part)
        else:
            self.parts.append(planner.part(wanted, state))

    def _remark_incomplete(self, part: Part) -> None:
        if not part.state.complete:
            what = "it comes from the copy of a run that was broken off; no complete state on this drive holds it"
            self.context.tell(Remarked(Remark(RemarkKind.GENERAL, part.wanted.master, part.wanted.path, what)))

    def _remark_left(self) -> None:
        """What restores that were broken off have left is named, not removed: somebody may want to go on with it."""
        ours = {f"{PREFIX}{each.key(self.source.uuid)}" for each in self.parts}
        for where, place in {each.where: each.place for each in self.parts}.items():
            for name in sorted(set(staged(place)) - ours):
                what = f"{where / name} was left by a restore that was broken off; if nobody goes on with it, remove it"
                self.context.tell(Remarked(Remark(RemarkKind.GENERAL, "", b"", what)))

    def _plan_json(self) -> dict[str, Any]:
        return {
            "drive": self.source.name,
            "restore": [each.as_json() for each in (self.in_place or self.parts)],
        }

    # --- tell

    def _finished(self, begun: datetime) -> Finished:
        code, error = self._judged()
        nothing = all(part.already is not None for part in self.parts)
        result = "incomplete" if code != Exit.DONE else "nothing-to-do" if nothing else "complete"
        return Finished(
            result=result,
            exit_code=code,
            drive=self.source.name,
            drive_state=self.source.state,
            safe_to_remove=self.source.safe_to_remove,
            facts=self._facts(begun),
            error=error,
            next_step=error["next"] if error else "",
        )

    def _judged(self) -> tuple[Exit, dict[str, Any] | None]:
        """Damage on the drive is said before trouble on this side."""
        troubles = [each for done in self.done for each in done.troubles]
        lost = [each for each in troubles if each.damage]
        if lost:
            what = f"{number(len(lost), 'file')} could not be read from {self.source.name}, the rest is restored"
            if len(lost) == len(self.closed):
                what = f"{lost[0].why}; what is restored comes from an earlier state"
            return Exit.DAMAGE, as_error("DamageFound", what, ANOTHER)
        if doubtful := sum(len(done.doubtful) for done in self.done):
            are = f"{number(doubtful, 'file')} on {self.source.name} {'is' if doubtful == 1 else 'are'}"
            hint = f"all is restored; look at what another drive or snapshot has of {'it' if doubtful == 1 else 'them'}"
            hint += ": the same command with --drive or --snapshot, and --to DIR"
            return Exit.DAMAGE, as_error("DamageFound", f"{are} not what was read before", hint)
        if troubles:
            count = number(len(troubles), "file")
            what = f"{count} could not be restored as {'it is' if len(troubles) == 1 else 'they are'} on the drive"
            hint = "look at the place they were to go to, or use --to DIR"
            if os.geteuid() != 0:
                hint = f"what you may not read, root may: the same with sudo. Else: {hint}"
            return Exit.UNREAD, as_error("FlashbackError", what, hint)
        return Exit.DONE, None

    def _facts(self, begun: datetime) -> dict[str, Any]:
        done = [
            {**each.part.as_json(each.name), "files": each.files, "bytes": each.bytes, "drive": self.source.name}
            for each in self.done
            if each.name is not None
        ]
        unread = [
            row(each.part.wanted, each.part.in_master(trouble.path), trouble.why)
            for each in self.done
            for trouble in (*each.troubles, *each.doubtful)
        ]
        return {
            "action": "restore",
            "dry_run": self.request.dry_run,
            "begun": rfc3339(begun),
            "ended": rfc3339(self.context.clock()),
            "seconds": round(time.monotonic() - self.started, 1),
            "restored": done,
            "unread": unread,
        }


def row(wanted: Wanted, path: bytes, why: str) -> dict[str, str]:
    """What could not be had, for scripts."""
    return {"master": wanted.master, "path": os.fsdecode(path or wanted.path), "why": why}


def as_error(kind: str, what: str, hint: str) -> dict[str, Any]:
    """An error of a restore that went on."""
    return {"kind": kind, "what": what, "findings": [], "held": [], "next": hint}
