"""An exception becomes sentences: what happened, what state the drive is in now, what to do next (DESIGN part 6)."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from flashback.core import errors
from flashback.core.errors import DriveState, Exit, FlashbackError, HeldByGuard, StillHeld
from flashback.core.events import Finished
from flashback.core.signals import Interrupted
from flashback.core.text import shown

HELD_MARK: Final = " is still held: "
"""How `core.stack` joins the name of a thing that could not be given back with the reason why."""

DRIVE_SENTENCES: Final = {
    DriveState.NOT_INVOLVED: "",
    DriveState.NOT_OPENED: "The drive was not opened; it can be unplugged.",
    DriveState.CLOSED: "The drive is unmounted and closed; it can be unplugged.",
    DriveState.OPEN: "The drive is open, and stays so; do not unplug it before `flashback close` has put it away.",
    DriveState.GONE: "The drive is no longer plugged in; nothing of it is left mounted or open here.",
    DriveState.STILL_HELD: "The drive is still mounted or open; do not unplug it.",
    DriveState.UNKNOWN: "It is not known whether the drive is still open; do not unplug it before"
    " `flashback close` has said that it is closed.",
}

NEXT_STEPS: Final[dict[type[BaseException], str]] = {
    FlashbackError: "run the same command again with --verbose; if it fails again, please report it with all it says.",
    errors.UsageError: "add --help to the command: it lists what is possible, with examples.",
    errors.ConfigError: "correct the file, then run `flashback config check`.",
    errors.Locked: "wait until the other run has ended (see `flashback status`), then run the same command again.",
    errors.DriveError: "check which drive is plugged in; `flashback status` lists the drives that this machine knows.",
    errors.PassphraseRefused: "run the same command again; mind Caps Lock and the keyboard layout."
    " A recovery key, if you made one, opens the drive too.",
    errors.Missing: "run `flashback doctor`: it names what is missing and the command that installs it.",
    errors.NotFinished: "`flashback run{drive}`; it carries on from where this run stopped.",
    errors.DriveGone: "plug the drive in again, then `flashback run{drive}`; it carries on from where it stopped.",
    StillHeld: "end what is named above, then `flashback close{drive}`; it says when the drive can be unplugged.",
    HeldByGuard: "look at what would change: `flashback run{drive} --dry-run`."
    " If it is as you want it: `flashback run{drive}{allow}`.",
    errors.DamageFound: "back up to another drive of the rotation before you use this one again;"
    " `flashback run{drive} --scrub` reads all of it once more.",
    errors.NoSpace: "exclude something large (`flashback run{drive} --dry-run` names the largest directories),"
    " keep fewer snapshots (`keep:` in the configuration) or use a larger drive.",
    Interrupted: "run the same command again when you like.",
    Exception: "this should not happen. Please report it, with the trace.",
}
"""What to do next where the error itself brings no hint: of the nearest class."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The sentences for one failure, safe to print, and the exit code it ends with.

    `first_line` comes first of all; `what` is the cause (the same thing, unless something is still held); `findings`
    are further lines; `kind` is the name of the error's class.
    """

    first_line: str
    what: str
    drive: str
    next_step: str
    findings: tuple[str, ...]
    exit_code: int
    kind: str = ""
    drive_state: DriveState = DriveState.NOT_INVOLVED
    held: tuple[str, ...] = ()

    def lines(self, *, utf8: bool = True) -> tuple[str, ...]:
        """For a person, in the order that DESIGN part 6 demands; the mark is plain `x` where `utf8` is not possible."""
        held = [each for each in self.held if each not in self.first_line]
        later = [*held, *([f"Cause: {self.what}"] if self.held and self.what else []), *self.findings, self.drive]
        if self.next_step:
            later.append(f"Next: {self.next_step}")
        return (f"{'✗' if utf8 else 'x'} {self.first_line}", *(f"  {line}" for line in later if line))

    def as_json(self) -> dict[str, Any]:
        """The object `error` of docs/reference/json.md."""
        return {
            "kind": self.kind,
            "what": self.what or self.first_line,
            "findings": list(self.findings),
            "held": list(self.held),
            "next": self.next_step,
        }


def explain(
    error: BaseException,
    *,
    drive: str = "",
    state: DriveState | None = None,
    verbose: bool = False,
    trace_file: str = "",
) -> Explanation:
    """Explain `error` with all that caused it.

    `drive` is the drive's name, `state` what the caller knows of it (else what the errors say). The trace of an
    unexpected error is among the findings only when `verbose`; `trace_file` is where it was written, if it was.
    """
    chain = tuple(_chain(error))
    held = _held(chain)
    state = _state(chain, state, held=held)
    if state is DriveState.STILL_HELD:
        return _still_held(chain, held, drive)
    stopped = next((number for each in chain if (number := _signal(each))), None)
    if stopped is not None:
        return _stopped(error, stopped, state)
    if isinstance(error, FlashbackError):
        return _expected(error, drive, state)
    return _unexpected(error, state, verbose=verbose, trace_file=trace_file)


def finished(
    explanation: Explanation, drive: str, facts: dict[str, Any] | None = None, *, closed_for_sure: bool = False
) -> Finished:
    """The last event of something that failed.

    `closed_for_sure`: the mapping was seen to be gone and the device was flushed. Without that only a drive that was
    never opened is safe to remove.
    """
    results = {Exit.HELD_BY_GUARD: "held", Exit.NOT_FINISHED: "incomplete", Exit.UNREAD: "incomplete"}
    code, state = explanation.exit_code, explanation.drive_state
    return Finished(
        result="incomplete" if code > 128 else results.get(Exit(code), "failed"),
        exit_code=code,
        drive=drive,
        drive_state=state,
        safe_to_remove=state is DriveState.NOT_OPENED or (state is DriveState.CLOSED and closed_for_sure),
        facts=facts or {},
        error=explanation.as_json(),
        next_step=explanation.next_step,
    )


def still_held_line(drive: str, held: tuple[str, ...]) -> str:
    """`STILL HELD: do not unplug red.` with what is in the way, as far as it is known.

    The first of `held` is what was tried first; what lies below it (the mapping below the mount) is held because of it.
    """
    way = f" In the way: {shown(held[0].partition(HELD_MARK)[2] or held[0])}" if held else ""
    return f"STILL HELD: do not unplug {shown(drive) or 'the drive'}.{way}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    here: BaseException | None = error
    while here is not None and id(here) not in seen:
        seen.add(id(here))
        yield here
        here = here.__cause__ or here.__context__


def _held(chain: tuple[BaseException, ...]) -> tuple[str, ...]:
    """Every line about something still held, of the errors and (where an error has no such field) of their notes."""
    lines: list[str] = []
    for each in chain:
        lines += getattr(each, "held", ())
        lines += [note for note in getattr(each, "__notes__", ()) if HELD_MARK in note]
    return tuple(dict.fromkeys(lines))


def _state(chain: tuple[BaseException, ...], known: DriveState | None, *, held: tuple[str, ...]) -> DriveState:
    said = [getattr(each, "drive_state", DriveState.NOT_INVOLVED) for each in chain]
    if held or known is DriveState.STILL_HELD or DriveState.STILL_HELD in said:
        return DriveState.STILL_HELD
    return known or next((each for each in said if each is not DriveState.NOT_INVOLVED), DriveState.NOT_INVOLVED)


def _signal(error: BaseException) -> int | None:
    if isinstance(error, Interrupted):
        return error.number
    return signal.SIGINT if isinstance(error, KeyboardInterrupt) else None


def _still_held(chain: tuple[BaseException, ...], held: tuple[str, ...], drive: str) -> Explanation:
    error = chain[0]
    hint = next((each.hint for each in chain if isinstance(each, StillHeld) and each.hint), "")
    stopped = next((number for each in chain if (number := _signal(each))), None)
    cause = "" if isinstance(error, StillHeld) else f"stopped by {_signal_name(stopped)}" if stopped else _what(error)
    return Explanation(
        first_line=still_held_line(drive, held),
        what=cause,
        drive=DRIVE_SENTENCES[DriveState.STILL_HELD],
        next_step=shown(hint) or _default_next(StillHeld(held), drive),
        findings=_findings(error),
        exit_code=Exit.STILL_HELD,
        kind=type(error).__name__,
        drive_state=DriveState.STILL_HELD,
        held=tuple(shown(line) for line in held),
    )


def _stopped(error: BaseException, number: int, state: DriveState) -> Explanation:
    what = f"Stopped by {_signal_name(number)}"
    if state is not DriveState.UNKNOWN:
        what += ", everything was released."
    return Explanation(
        first_line=what,
        what=what,
        drive=DRIVE_SENTENCES[state],
        next_step=(isinstance(error, FlashbackError) and shown(error.hint)) or NEXT_STEPS[Interrupted],
        findings=() if _signal(error) else (_what(error), *_findings(error)),
        exit_code=128 + number,
        kind="Interrupted",
        drive_state=state,
    )


def _expected(error: FlashbackError, drive: str, state: DriveState) -> Explanation:
    what = _what(error)
    name = shown(drive)
    return Explanation(
        first_line=what if not name or what.startswith(f"{name}:") else f"{name}: {what}",
        what=what,
        drive=DRIVE_SENTENCES[state],
        next_step=shown(error.hint) or _default_next(error, drive),
        findings=_findings(error),
        exit_code=error.exit_code,
        kind=type(error).__name__,
        drive_state=state,
    )


def _unexpected(error: BaseException, state: DriveState, *, verbose: bool, trace_file: str) -> Explanation:
    if verbose:
        lines = [line for part in traceback.format_exception(error) for line in part.splitlines()]
        findings = [shown(line) for line in lines]
    elif trace_file:
        findings = [f"The trace was written to {shown(trace_file)}."]
    else:
        findings = ["The same command with --verbose shows the trace."]
    what = f"unexpected error: {_what(error)}"
    return Explanation(
        first_line=what,
        what=what,
        drive=DRIVE_SENTENCES[state],
        next_step=NEXT_STEPS[Exception],
        findings=tuple(findings),
        exit_code=Exit.UNEXPECTED,
        kind=type(error).__name__,
        drive_state=state,
    )


def _what(error: BaseException) -> str:
    """One line. Of a foreign error the class and its first line only: what follows may be a dump of its insides."""
    if isinstance(error, FlashbackError):
        return shown(error.what) or type(error).__name__
    words = str(error).strip().splitlines()
    return shown(f"{type(error).__name__}: {words[0]}") if words else type(error).__name__


def _findings(error: BaseException) -> tuple[str, ...]:
    """What the error lists, then what was raised `from`, unless its words are there already."""
    found = [shown(line) for line in error.findings] if isinstance(error, FlashbackError) else []
    cause = error.__cause__
    while isinstance(cause, FlashbackError | OSError):
        words = _what(cause) if isinstance(cause, FlashbackError) else _of_system(cause)
        if words not in _what(error) and words not in found:
            found.append(f"Cause: {words}")
        cause = cause.__cause__
    return tuple(found)


def _of_system(error: OSError) -> str:
    """What the system said, without Python's names for it."""
    return shown(error.strerror) if error.strerror else _what(error)


def _default_next(error: BaseException, drive: str) -> str:
    near = next(kind for kind in type(error).__mro__ if kind in NEXT_STEPS)
    holds = error.holds if isinstance(error, HeldByGuard) else ()
    name = f" {shown(drive)}" if drive else ""
    return NEXT_STEPS[near].replace("{drive}", name).replace("{allow}", "".join(f" --allow {shown(h)}" for h in holds))


def _signal_name(number: int) -> str:
    name = signal.Signals(number).name
    return f"{name} (Ctrl-C)" if number == signal.SIGINT else name
