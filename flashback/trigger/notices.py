"""What a run says, as the few words of a notice: the drive's name first, nothing that nags. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

from flashback.core.errors import Exit
from flashback.core.events import Event, Finished, Note, Progress, Step, StepBegun, StepDone
from flashback.core.text import number, shown
from flashback.tell import Facts
from flashback.tell.counted import counts

LONGEST: Final = 400
_STEPS: Final = {
    Step.PLAN: "looking at what has changed",
    Step.COPY: "copying",
    Step.DELETE: "copying",
    Step.SYNC: "writing everything to the drive",
    Step.SCRUB: "reading everything back",
    Step.CLOSE: "closing",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """`kind` is `progress`, `done`, `remarks`, `trouble`, `held`, `damage` or `danger`."""

    kind: str
    summary: str
    body: str = ""


def notice_of(event: Event, drive: str) -> Notice | None:
    """What is shown of an event, if anything."""
    match event:
        case Note(waiting=True):
            body = "Another drive is at work. This one is not open yet; its backup follows by itself."
            return Notice("progress", f"{drive}: waits for its turn", body)
        case StepDone(step=Step.OPEN):
            return Notice("progress", f"{drive}: backup started", "Do not unplug it yet.")
        case StepBegun(step=step) if step in _STEPS:
            return Notice("progress", f"{drive}: {_STEPS[step]}", "Do not unplug it yet.")
        case Finished():
            return _finished(event, drive)
    return None


def percent(event: Progress) -> int | None:
    """How far a step is, if that is known."""
    if not event.bytes_total:
        return None
    return min(100, 100 * event.bytes_done // event.bytes_total)


def _finished(last: Finished, drive: str) -> Notice:
    error = last.error or {}
    if last.exit_code == Exit.STILL_HELD or error.get("held"):
        body = "; ".join(shown(str(each)) for each in error.get("held", ()))
        return Notice("danger", f"{drive}: still open, DO NOT UNPLUG", _short(f"{body}. {_next(last)}"))
    if last.exit_code == Exit.DONE:
        off = "It is switched off." if last.facts.get("powered_off") else ""
        body = " ".join(each for each in (_done(last), off, _remarks(last)) if each)
        return Notice("done", f"{drive}: {_removal(last)}", _short(body))
    if last.exit_code == Exit.UNREAD:
        unread = number(len(last.facts.get("unread", ())), "file")
        body = f"The backup is finished, but {unread} could not be read. {_removal(last).capitalize()}."
        return Notice("remarks", f"{drive}: finished with gaps", _short(body))
    kind = {Exit.HELD_BY_GUARD: "held", Exit.DAMAGE: "damage"}.get(cast("Exit", last.exit_code), "trouble")
    words = {"held": "held, nothing was written", "damage": "damage found", "trouble": "not backed up"}[kind]
    if kind == "trouble" and (last.exit_code == Exit.NOT_FINISHED or last.exit_code > _SIGNALS):
        words = "backup not finished"
    what = _sentence(shown(str(error.get("what", ""))))
    return Notice(kind, f"{drive}: {words}", _short(f"{what} {_removal(last).capitalize()}. {_next(last)}"))


_SIGNALS: Final = 128


def _removal(last: Finished) -> str:
    """Safe to remove is said where that was seen, and nowhere else."""
    if last.safe_to_remove:
        return "safe to remove"
    return {
        "not-opened": "not opened, can be unplugged",
        "closed": "closed, wait a minute before you unplug it",
        "gone": "no longer plugged in",
        "not-involved": "not opened, can be unplugged",
    }.get(last.drive_state.value, "do not unplug it")


def _done(last: Finished) -> str:
    facts = cast("Facts", last.facts)
    if last.result == "nothing-to-do" or not facts.get("masters"):
        return "Everything was on it already."
    return _sentence(f"Backup complete: {counts(facts['masters'].values())}")


def _remarks(last: Finished) -> str:
    remarks: Any = last.facts.get("remarks")
    return f"{number(remarks, 'remark')}, see the journal." if isinstance(remarks, int) and remarks else ""


def _next(last: Finished) -> str:
    return f"Next: {shown(last.next_step).replace('`', '')}" if last.next_step else ""


def _sentence(text: str) -> str:
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
