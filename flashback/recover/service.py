"""`flashback restore`: from which drive and state, then plan, copy, verify, and tell what came of it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from flashback.config.values import Master
from flashback.core.context import Context
from flashback.core.errors import DriveGone, Exit, FlashbackError, UsageError
from flashback.core.events import Finished, Note, Planned, Remark, Remarked, RemarkKind, Step, StepBegun, StepDone
from flashback.core.signals import Interrupted
from flashback.core.text import number, rfc3339, size
from flashback.drive.reading import Reading
from flashback.drive.recognise import Candidate
from flashback.drive.session import OpenDrive
from flashback.drive.states import State, masters_on
from flashback.recover import in_place
from flashback.recover.choice import choose
from flashback.recover.destination import make_directory
from flashback.recover.in_place import InPlace
from flashback.recover.parts import Owner, Part, Planner, totals
from flashback.recover.wanted import Wanted, When
from flashback.recover.work import Done, Work
from flashback.rotation.ledger import Ledger
from flashback.tell import explain

AGAIN = "give the same command again: what was copied is not copied again"


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


def restore(
    context: Context, ledger: Ledger, drive: str | None, masters: Sequence[Master], request: RestoreRequest
) -> int:
    """Restore from the first of the drives that holds what was asked for; tell it, and return the exit code.

    Raises `DriveError`, `UsageError` where there is none, and what nobody expected.
    """
    last: Finished | None = None
    chosen = choose(context, ledger, drive, request.wanted, request.when)
    choice = chosen.candidates
    for count, candidate in enumerate(choice):
        errand = Errand(context, candidate, masters, request)
        last = errand.execute()
        if last is not None:
            break
        if count + 1 < len(choice):
            context.tell(
                Note(f"{candidate.known.name} does not hold it; the next one is {choice[count + 1].known.name}.")
            )
    if last is None:
        names = ", ".join(each.known.name for each in choice)
        raise UsageError(
            f"{', '.join(each.said for each in request.wanted) or 'nothing'} is on none of the drives that are here"
            f" ({names})" + (", in no state of that time or name" if request.when != When() else ""),
            hint=chosen.elsewhere
            or "`flashback find NAME` says on which drive a file is; `flashback snapshots` lists the states on each",
        )
    context.tell(last)
    return int(last.exit_code)


@dataclass(slots=True)
class Errand:
    """One restore from one drive; filled step by step, so that what it tells is true after any ending."""

    context: Context
    candidate: Candidate
    masters: Sequence[Master]
    request: RestoreRequest
    parts: list[Part] = field(default_factory=list)
    in_place: list[InPlace] = field(default_factory=list)
    done: list[Done] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def execute(self) -> Finished | None:
        """The last event; `None` where the drive does not hold what was asked for."""
        reading = Reading(self.context, self.candidate)
        begun, name = self.context.clock(), self.candidate.known.name
        try:
            with reading.held(purpose="restore") as drive, ExitStack() as opened:
                found = self._found(drive)
                if found is None:
                    return None
                self._act(drive, opened, found)
        except (FlashbackError, Interrupted) as error:
            self._say_how_to_go_on(error)
            explanation = explain.explain(error, drive=name)
            return explain.finished(explanation, name, self._facts(begun), closed_for_sure=reading.safe_to_remove)
        return self._finished(reading, begun)

    def _say_how_to_go_on(self, error: BaseException) -> None:
        if isinstance(error, DriveGone):
            error.what = f"{self.candidate.known.name} was unplugged while it was being read"
            error.hint = f"plug it in again, then {AGAIN}"

    # --- see and plan

    def _found(self, drive: OpenDrive) -> list[Wanted] | None:
        """What is wanted, with all masters of the drive where all are; `None` where something of it is not here."""
        here = masters_on(drive.root)
        homes = {each.name: each.path for each in self.masters}
        wanted = list(self.request.wanted)
        if self.request.everything and not wanted:
            wanted = [Wanted(name, home=homes.get(name)) for name in here]
        planner = Planner(drive.root, ExitStack(), self.request.when, None, ())
        missing = [each for each in wanted if each.master not in here or planner.find(each) is None]
        return wanted if wanted and not missing else None

    def _act(self, drive: OpenDrive, opened: ExitStack, wanted: Sequence[Wanted]) -> None:
        self._plan(drive, opened, wanted)
        self.context.tell(Planned(self._plan_json()))
        if self.request.dry_run:
            return
        self._ask()
        with tempfile.TemporaryDirectory(prefix="flashback-") as spool:
            work = Work(
                self.context.run,
                self.context.tell,
                drive.watch,
                drive.known.uuid,
                Path(spool),
                self.request.owner,
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

    def _plan(self, drive: OpenDrive, opened: ExitStack, wanted: Sequence[Wanted]) -> None:
        begun, request = time.monotonic(), self.request
        self.context.tell(StepBegun(Step.PLAN, ", ".join(each.said for each in wanted)))
        to = request.to
        if to is not None and not request.dry_run:
            make_directory(to, request.trusted)
        planner = Planner(drive.root, opened, request.when, to, request.trusted, request.owner)
        for each in wanted:
            found = planner.find(each)
            if found is not None:  # as was seen before
                self._plan_one(planner, each, found[0])
                self._remark_incomplete(self.parts[-1])
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

    def _plan_json(self) -> dict[str, Any]:
        return {
            "drive": self.candidate.known.name,
            "restore": [each.as_json() for each in (self.in_place or self.parts)],
        }

    # --- tell

    def _finished(self, reading: Reading, begun: datetime) -> Finished:
        code, error = self._judged()
        nothing = all(part.already is not None for part in self.parts)
        result = "incomplete" if code != Exit.DONE else "nothing-to-do" if nothing else "complete"
        return Finished(
            result=result,
            exit_code=code,
            drive=self.candidate.known.name,
            drive_state=reading.state,
            safe_to_remove=reading.safe_to_remove,
            facts=self._facts(begun),
            error=error,
            next_step=error["next"] if error else "",
        )

    def _judged(self) -> tuple[Exit, dict[str, Any] | None]:
        """Damage on the drive is said before trouble on this side."""
        troubles = [each for done in self.done for each in done.troubles]
        lost = [each for each in troubles if each.damage]
        if lost:
            what = (
                f"{number(len(lost), 'file')} could not be read from {self.candidate.known.name}, the rest is restored"
            )
            hint = "look whether another drive or snapshot has them: the same command with --drive or --snapshot"
            return Exit.DAMAGE, _error("DamageFound", what, hint)
        if troubles:
            what = f"{number(len(troubles), 'file')} could not be written as they are on the drive"
            return Exit.UNREAD, _error("FlashbackError", what, "look at the place they were to go to, or use --to DIR")
        return Exit.DONE, None

    def _facts(self, begun: datetime) -> dict[str, Any]:
        done = [
            {**each.part.as_json(each.name), "files": each.files, "bytes": each.bytes}
            for each in self.done
            if each.name is not None
        ]
        unread = [
            {
                "master": each.part.wanted.master,
                "path": os.fsdecode(each.part.in_master(trouble.path)),
                "why": trouble.why,
            }
            for each in self.done
            for trouble in each.troubles
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


def _error(kind: str, what: str, hint: str) -> dict[str, Any]:
    return {"kind": kind, "what": what, "findings": [], "held": [], "next": hint}
