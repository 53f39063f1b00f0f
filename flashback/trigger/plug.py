"""One drive, from the plug to "safe to remove": see which it is, decide, ask, back up, remember."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from flashback.config.values import Config
from flashback.core.context import Context, NobodyDecides
from flashback.core.errors import Exit
from flashback.core.locks import boot_id, holder
from flashback.core.secret import Secret
from flashback.core.text import age, shown
from flashback.drive import source
from flashback.drive.recognise import Candidate, reappeared, the_only
from flashback.rotation.ledger import Ledger
from flashback.rotation.plugs import PlugOutcome, PlugRecord
from flashback.rotation.values import KnownDrive, RunRecord, Standing
from flashback.tools import block
from flashback.tools.power_supply import power
from flashback.trigger.asking import Consent
from flashback.trigger.decide import Act, Decision, Seen, decide
from flashback.trigger.ending import Ending
from flashback.trigger.logged import NOTICE, WARNING, JournalTeller

LABEL: Final = "flashback-"
LATER: Final = timedelta(hours=1)
"""How long "Later" is."""


class Asker(Protocol):
    """Whoever can be asked about this drive, wherever they sit."""

    unanswered: bool
    """Nobody answered the last question in time."""
    declined: bool
    """Somebody answered the last question with a no."""

    keyring: bool
    """The session looks into its own store of passwords before it asks a person."""

    @property
    def agents(self) -> bool:
        """Whether somebody's session is there to be asked."""
        ...

    def consent(self, said: str, taken: Callable[[], bool]) -> Consent:
        """Back up now? `said` tells about the last backup; `taken`, whether a command has the drive in hand by now."""
        ...

    def passphrase(self, question: str, attempt: int) -> Secret | None:
        """As `Person`."""
        ...

    def keep(self) -> None:
        """What was typed has opened the drive: it may be kept, where that was wished."""
        ...

    def notice(self, kind: str, summary: str, body: str) -> None:
        """Tell a person something that needs no answer."""
        ...


@dataclass(slots=True)
class _Person(NobodyDecides):
    """What the run asks. A hold is decided at a terminal, not here."""

    asker: Asker
    known: Secret | None = None

    def passphrase(self, question: str, attempt: int) -> Secret | None:
        """See `Person`."""
        return self.asker.passphrase(question, attempt)

    @property
    def known_passphrase(self) -> Secret | None:
        """See `Person`."""
        return self.known


@dataclass(slots=True)
class Plug:
    """The work for one plugging in. `context.tell` reaches the journal and whoever watches.

    `last` is closed by whoever made it when nothing more is to be done: see `Ending`.
    """

    context: Context
    config: Config
    ledger: Ledger
    asker: Asker
    log: JournalTeller
    credentials: str = ""
    last: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def execute(self, uuid: str) -> int:
        """See, decide, ask, back up. Returns the exit code. Raises what nobody expected, and `DriveError` for twins."""
        volume = the_only(block.luks_volumes(self.context.run), uuid)
        if volume is None or not volume.label.startswith(LABEL):
            self.log.entry(f"no drive of Flashback's with LUKS UUID {uuid} is plugged in", FLASHBACK_EVENT="gone")
            return Exit.DONE
        drive = self.ledger.drive(uuid)
        self.log.fields |= {"FLASHBACK_DRIVE": drive.name} if drive else {}
        seen = self._seen(drive, volume)
        decision = decide(seen)
        self.log.entry(
            f"{drive.name if drive else shown(volume.path)} was plugged in: {decision.act.value} ({decision.why})",
            priority=WARNING if decision.act is Act.WARN else NOTICE,
            FLASHBACK_EVENT="plugged",
            FLASHBACK_DECISION=decision.act.value,
        )
        if drive is None or decision.act in {Act.OFFER, Act.WARN}:
            self._tell_about(drive, volume)
        elif decision.act is Act.LATER:
            self._put_off(drive, seen, decision)
        elif decision.act is not Act.LEAVE:
            return self._ask_and_run(Candidate(drive, volume), seen, decision)
        return Exit.DONE

    def _seen(self, drive: KnownDrive | None, volume: block.LuksVolume) -> Seen:
        runs = self.ledger.runs(drive.uuid, limit=1) if drive else ()
        return Seen(
            drive,
            self.config.on_plug,
            self.context.clock(),
            f"{boot_id()}:{volume.diskseq or block.presence(volume.path).number}",
            quiet_for=self.config.guards.min_interval,
            agents=self.asker.agents,
            last_run=runs[0] if runs else None,
            last_plug=self.ledger.last_plug(drive.uuid) if drive else None,
            power=power(),
            min_battery=self.config.min_battery,
            busy=drive is not None and self._is_busy(drive),
            due_after=self.config.rotation.due_after,
        )

    def _is_busy(self, drive: KnownDrive) -> bool:
        """Whether a command has it in hand: somebody at a terminal waited for it to be plugged in, or did not wait."""
        return bool(holder(self.context.paths.locks / f"{drive.uuid}.lock"))

    def _tell_about(self, drive: KnownDrive | None, volume: block.LuksVolume) -> None:
        """A drive that is not backed up to, but that somebody should know of."""
        if drive is None:
            summary = "A drive of Flashback's that this machine does not know"
            body = f"It is left alone. To make it known here: sudo flashback drive adopt {shown(volume.path)}"
        elif drive.standing is Standing.LOST:
            summary, body = f"{drive.name} was marked lost, and is plugged in", reappeared(drive)
        else:
            summary = f"{drive.name} was marked retired, and is plugged in"
            body = f"It is left alone. To use it again: flashback drive set {drive.name} standing=active"
        self.log.entry(f"{summary}. {body}", priority=WARNING, FLASHBACK_EVENT="told")
        self.asker.notice("warning" if drive else "offer", summary, body)

    def _put_off(self, drive: KnownDrive, seen: Seen, decision: Decision) -> None:
        """Nobody is here to say otherwise; the reminders' timer starts the unit anew."""
        until = seen.now + LATER
        self.ledger.record_plug(PlugRecord(drive.uuid, seen.now, seen.insertion, PlugOutcome.LATER, until))
        self.log.entry(f"{drive.name} is put off for an hour: {decision.why}", priority=NOTICE, FLASHBACK_EVENT="later")

    def _ask_and_run(self, candidate: Candidate, seen: Seen, decision: Decision) -> int:
        drive = candidate.known
        record = PlugRecord(drive.uuid, seen.now, seen.insertion, PlugOutcome.ASKED, agents=seen.agents)
        self.ledger.record_plug(record)
        outcome = PlugOutcome.UNPLUGGED
        code: int = Exit.DONE
        try:
            asked = decision.act is Act.ASK
            consent = self.asker.consent(question(seen), lambda: self._is_busy(drive)) if asked else Consent.NOW
            outcome = _outcome(consent)
            if consent is Consent.TAKEN:
                self.log.entry(f"{drive.name}: a command has it in hand; not asked any more", priority=NOTICE)
            if consent is Consent.NOW:
                outcome = PlugOutcome.UNPLUGGED
                presence = block.presence(candidate.volume.path)
                ending = Ending(self.context, candidate, self.log, self.config.power_off, self.last, self.asker.keep)
                code = self._run(candidate, ending, unattended=decision.act is Act.RUN)
                there = ending.is_off or block.still_there(presence)
                outcome = self._answer() if there else PlugOutcome.UNPLUGGED
        finally:
            until = seen.now + LATER if outcome is PlugOutcome.LATER else None
            agents = seen.agents or self.asker.agents
            with self.context.signals.held():
                self.ledger.record_plug(replace(record, outcome=outcome, until=until, agents=agents))
                self._log_outcome(drive, outcome)
        return code

    def _answer(self) -> PlugOutcome:
        if self.asker.unanswered:
            return PlugOutcome.UNANSWERED
        return PlugOutcome.DECLINED if self.asker.declined else PlugOutcome.ANSWERED

    def _log_outcome(self, drive: KnownDrive, outcome: PlugOutcome) -> None:
        words = {
            PlugOutcome.LATER: "put off; asked again in an hour if it is still plugged in",
            PlugOutcome.DECLINED: "not wanted; not backed up",
            PlugOutcome.UNANSWERED: "nobody answered; not backed up",
        }
        if outcome in words:
            fields = {"FLASHBACK_EVENT": "answer", "FLASHBACK_ANSWER": outcome.value}
            self.log.entry(f"{drive.name}: {words[outcome]}", priority=NOTICE, **fields)

    def _run(self, candidate: Candidate, ending: Ending, *, unattended: bool) -> int:
        from flashback.backup.report import RunRequest  # not needed before somebody has said yes
        from flashback.backup.service import back_up

        found = source.parse(candidate.known.passphrase)
        known = source.passphrase_from(found, self.context.run, credentials=self.credentials)
        self.asker.keyring = found.way is source.Way.KEYRING
        context = self.context.with_person(_Person(self.asker, known)).telling(ending)
        request = RunRequest(unattended=unattended, waits=True)
        return back_up(context, self.config, self.ledger, candidate, request)


def _outcome(consent: Consent) -> PlugOutcome:
    return {
        Consent.NOW: PlugOutcome.ANSWERED,
        Consent.LATER: PlugOutcome.LATER,
        Consent.NO: PlugOutcome.DECLINED,
        Consent.NOBODY: PlugOutcome.UNANSWERED,
        Consent.TAKEN: PlugOutcome.ANSWERED,
    }[consent]


def question(seen: Seen) -> str:
    """What is said beside the question: what speaks for an answer."""
    low = seen.power.too_low(seen.min_battery)
    last = last_backup(seen.last_run, seen.now)
    return f"{low[0].upper()}{low[1:]} and nothing charges it. {last}" if low else last


def last_backup(run: RunRecord | None, now: datetime) -> str:
    """One sentence about the last run, for the question."""
    if run is None or run.ended is None:
        return "No backup was finished on it yet."
    return f"The last run ended {age(run.ended, now)}: {run.result.value if run.result else 'not finished'}."
