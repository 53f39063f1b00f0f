"""The closing lines of a run, and its plan, for a person. Pure: values in, lines out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, cast

from flashback.core.errors import DriveState, Exit
from flashback.core.events import UNREAD, Finished, Remark, RemarkKind
from flashback.core.text import duration, number, shown, size
from flashback.tell import Facts, Hold, PlanFacts, ScrubFacts, Space, Verbosity, pruned, restored, roads
from flashback.tell.counted import counts, intentions, total_of
from flashback.tell.explain import DRIVE_SENTENCES, still_held_line

FIRST_REMARKS: Final = 10
FIRST_FILES: Final = 50
"""So many unread or damaged files are named, unless all are asked for."""

FINISHED: Final = frozenset({Exit.DONE, Exit.UNREAD, Exit.DAMAGE})
"""The codes of a run that went all the way."""

CLOSED_UNPROVEN: Final = (
    "{drive} is closed, but it was not seen that the device has written everything; wait a minute before you unplug it."
)
CLOSED_BUT_SHARED: Final = "{drive} is closed, but the device is in use otherwise; put that away before you unplug it."
"""A run that went all the way has seen that everything is written; then this is why it is not safe."""


class Tone(StrEnum):
    """What a line means, from which a terminal makes a colour."""

    PLAIN = "plain"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    FAINT = "faint"


MARKS: Final = {Tone.WARN: ("! ", "! "), Tone.BAD: ("✗ ", "x ")}
"""What stands before a headline of that tone, with UTF-8 and without."""


@dataclass(frozen=True, slots=True)
class Line:
    """`depth` is the indentation in steps of two; a `problem` is said even when asked to be quiet."""

    text: str
    tone: Tone = Tone.PLAIN
    depth: int = 0
    problem: bool = False

    def plain(self, *, utf8: bool = True) -> str:
        """Without colour, with a mark before a headline."""
        mark = "" if self.depth else MARKS.get(self.tone, ("", ""))[0 if utf8 else 1]
        return f"{'  ' * self.depth}{mark}{self.text if utf8 else self.text.replace('…', '...')}"


WORDS: Final = {
    RemarkKind.DANGLING_LINK: "link to nothing, left out",
    RemarkKind.LOOPING_LINK: "link that runs in a circle, left out",
    RemarkKind.SPECIAL_FILE: "socket, pipe or device, left out",
    RemarkKind.VANISHED: "vanished before it could be copied",
    RemarkKind.UNREADABLE: "could not be read",
    RemarkKind.UNWRITABLE: "could not be written",
    RemarkKind.NAME_TOO_LONG: "name or path too long",
    RemarkKind.GENERAL: "",
}

COMPLETE: Final = {
    "run": "backup complete",
    "init": "drive prepared",
    "close": "put away",
    "adopt": "known here",
    "scrub": "everything read back",
    "verify": "compared with the master",
    "restore": "restored",
    "catalogue": "catalogue made anew",
    "mount": "open to look around in",
}
"""By `facts["action"]`."""

NOTHING: Final = {
    "prune": "nothing to remove: every snapshot is kept by a rule.",
    "close": "it was not open here.",
    "mount": "it is open to look around in already.",
    "verify": "there is nothing on it to be compared or read.",
    "restore": "nothing to restore: all of it is there, and equal.",
}


def closing(
    last: Finished, remarks: Sequence[Remark] = (), *, verbosity: Verbosity = Verbosity.NORMAL
) -> tuple[Line, ...]:
    """What a person reads last. `remarks` are those told during the run.

    The last line of a success is the state of the drive; a failure ends with what to do next (DESIGN part 6).
    """
    facts = cast("Facts", last.facts)
    lines = [
        _headline(last, facts, remarks),
        *_error_lines(last),
        *_done_lines(last, facts),
        *_unread_lines(facts, remarks, verbosity),
        *_scrub_lines(facts.get("scrub"), last, verbosity),
        *_remark_lines(last, remarks, verbosity),
        *(Line(text, depth=1) for text in pruned.done(last.facts)),
        *_space_lines(facts.get("space"), last),
    ]
    drive, following = _drive_lines(last), _next_lines(last)
    lines += [*following, *drive] if last.exit_code == Exit.DONE else [*drive, *following]
    if verbosity is Verbosity.QUIET:
        lines = [line for line in lines if line.problem] or lines[-1:]
    return tuple(lines)


def remark_text(remark: Remark) -> str:
    """`documents/a/b: could not be read: Permission denied`."""
    place = "/".join(part for part in (shown(remark.master), shown(remark.path)) if part)
    return ": ".join(part for part in (place, WORDS[remark.kind], shown(remark.detail)) if part)


def plan_lines(plan: Mapping[str, Any], *, details: bool = False) -> tuple[Line, ...]:
    """The plan of a run (`PlanFacts`) or of an init (`device`, `steps`) as a person reads it."""
    known = cast("PlanFacts", plan)
    name = shown(known.get("drive", ""))
    lines = [Line(f"Plan for {name}:" if name else "Plan:")]
    for master, facts in known.get("masters", {}).items():
        lines.append(Line(f"{shown(master)}: {intentions(facts)}", depth=1))
        if facts.get("snapshot"):
            lines.append(Line(f"what is on the drive now is kept as snapshot {shown(str(facts['snapshot']))}", depth=2))
        lines += [Line(each, depth=2) for each in [roads.road(facts)] if details and each]
    if plan.get("device"):
        device = ", ".join(shown(str(plan[key])) for key in ("device", "model", "serial") if plan.get(key))
        lines.append(Line(f"on {device}" + (f", {size(plan['size'])}" if plan.get("size") else ""), depth=1))
    lines += [Line(each, depth=1) for each in restored.plan_of(plan.get("restore", ()))]
    lines += [Line(f"{place}. {shown(each)}", depth=1) for place, each in enumerate(plan.get("steps", ()), 1)]
    if known.get("largest"):
        lines.append(Line("most of it is in:", depth=1))
        lines += [
            Line(f"{size(each['bytes']):>8}  {shown(each['master'])}/{shown(each['path'])}", depth=2)
            for each in known["largest"]
        ]
    lines += [Line(text, Tone.WARN if depth == 1 else Tone.PLAIN, depth) for depth, text in pruned.plan_of(plan)]
    if known.get("scrub"):
        lines.append(Line("then everything on the drive is read back (scrub)", depth=1))
    lines += _plan_space(known.get("space"))
    lines += [_hold(each, known.get("allowed", ())) for each in known.get("holds", ())]
    return tuple(lines)


def _hold(hold: Hold, allowed: Collection[str]) -> Line:
    """One that was allowed on the command line holds nothing."""
    name, why = shown(hold["name"]), shown(hold["why"])
    if hold["name"] in allowed:
        return Line(f"allowed, what the guard {name} says: {why}", Tone.WARN, 0, problem=True)
    return Line(f"held by the guard {name}: {why} (to allow it: --allow {name})", Tone.WARN, 0, problem=True)


def _plan_space(space: Space | None) -> list[Line]:
    if not space:
        return []
    parts = [f"about {size(space['needed'])} needed"] if "needed" in space else []
    if "free" in space:
        parts.append(f"{size(space['free'])} free" + (f" of {size(space['size'])}" if "size" in space else ""))
    return [Line(f"space: {', '.join(parts)}", depth=1)]


def _headline(last: Finished, facts: Facts, remarks: Sequence[Remark]) -> Line:
    if _is_held(last):
        return Line(still_held_line(last.drive, tuple((last.error or {}).get("held", ()))), Tone.BAD, problem=True)
    if last.exit_code == Exit.DONE:
        return Line(_named(last, _success(last, facts)))
    what = shown(str((last.error or {}).get("what", "")))
    if last.exit_code > 128:
        return Line(what or f"Stopped by signal {last.exit_code - 128}.", Tone.BAD, problem=True)
    if last.exit_code == Exit.UNREAD and facts.get("not_compared"):
        return Line(_named(last, f"{what}."), Tone.BAD, problem=True)
    if last.exit_code == Exit.UNREAD:
        unread = number(len(_unread(facts, remarks)), "file")
        done = "dry run, nothing was written" if facts.get("dry_run") else "finished"
        return Line(_named(last, f"{done}, but {unread} could not be read or written."), Tone.BAD, problem=True)
    return Line(_named(last, _failure(last, facts, what)), Tone.BAD, problem=True)


def _success(last: Finished, facts: Facts) -> str:
    if facts.get("dry_run"):
        return "dry run, nothing was written."
    timing = f", in {duration(facts['seconds'])}" if "seconds" in facts else ""
    action = facts.get("action", "run")
    if last.result == "nothing-to-do" and action != "run":
        return NOTHING.get(action, "nothing to do.")
    if last.result == "nothing-to-do":
        kept = total_of(facts.get("masters", {}).values())["files_unchanged"]
        which = f"all {number(kept, 'file')} are" if kept > 1 else "everything is"
        return f"nothing to do: {which} on the drive as in the master{timing}."
    if action in {"restore", "verify"}:
        return restored.headline(last.facts) if action == "restore" else restored.verified(last.facts)
    if action == "prune":
        return pruned.headline(last.facts)
    done = COMPLETE.get(action, "done")
    masters = facts.get("masters")
    return f"{done}. {counts(masters.values())}{timing}." if masters else f"{done}{timing}."


def _failure(last: Finished, facts: Facts, what: str) -> str:
    if last.exit_code == Exit.DAMAGE and facts.get("action") in {"restore", "verify"}:
        return f"{what}."
    if last.exit_code == Exit.DAMAGE:
        files = len((facts.get("scrub") or {}).get("damaged", ()))
        damage = f"{number(files, 'file')} damaged" if files else what
        words = f"DAMAGE FOUND on the drive: {damage}."
        return f"{words} The backup itself is complete." if last.result == "complete" else words
    if last.exit_code == Exit.HELD_BY_GUARD:
        return f"{what}." if what.startswith("held by") else f"held by a guard, nothing was written: {what}"
    if last.exit_code == Exit.NOT_FINISHED:
        return f"not finished: {what}"
    return what or f"failed with exit code {int(last.exit_code)}"


def _error_lines(last: Finished) -> list[Line]:
    error = last.error or {}
    names = tuple(error.get("held", ()))
    said = still_held_line(last.drive, names)
    held = [Line(shown(each), Tone.BAD, 1, problem=True) for each in names if shown(each) not in said]
    if held and error.get("what") and error.get("kind") != "StillHeld":
        held.append(Line(f"Cause: {shown(error['what'])}", depth=1, problem=True))
    return held + [Line(shown(each), depth=1, problem=True) for each in error.get("findings", ())]


def _done_lines(last: Finished, facts: Facts) -> list[Line]:
    """Per master where there are several; the sum where the headline had no room for it."""
    masters = {} if last.exit_code == Exit.HELD_BY_GUARD else facts.get("masters", {})
    if facts.get("action") in {"restore", "verify"}:
        return [Line(each, depth=1) for each in (*restored.where(last.facts), *restored.passed_over(last.facts))]
    lines = [Line(f"{shown(name)}: {counts([each])}.", depth=1) for name, each in masters.items()]
    if last.exit_code == Exit.DONE:
        return lines if len(lines) > 1 and last.result == "complete" and not facts.get("dry_run") else []
    return lines


def _unread(facts: Facts, remarks: Sequence[Remark]) -> list[str]:
    if "unread" in facts:
        return [f"{shown(each['master'])}/{shown(each['path'])}: {shown(each['why'])}" for each in facts["unread"]]
    return [remark_text(each) for each in remarks if each.kind in UNREAD]


def _unread_lines(facts: Facts, remarks: Sequence[Remark], verbosity: Verbosity) -> list[Line]:
    return _listed(_unread(facts, remarks), FIRST_FILES, "--json names all", verbosity, tone=Tone.BAD)


def _listed(names: Sequence[str], first: int, more: str, verbosity: Verbosity, *, tone: Tone) -> list[Line]:
    first = len(names) if verbosity is Verbosity.VERBOSE else first
    bad = tone is Tone.BAD
    lines = [Line(name, tone, 1, problem=bad) for name in names[:first]]
    if len(names) > first:
        lines.append(Line(f"… and {len(names) - first:,} more: {more}", Tone.FAINT, 1, problem=bad))
    return lines


def _remark_lines(last: Finished, remarks: Sequence[Remark], verbosity: Verbosity) -> list[Line]:
    texts = [remark_text(each) for each in remarks if each.kind not in UNREAD]
    if not texts or verbosity is Verbosity.VERBOSE:  # then each was said when it came
        return []
    again = f"flashback run {shown(last.drive)} --verbose" if last.drive else "--verbose"
    if last.exit_code not in FINISHED:  # nothing may stand between what happened and what to do
        return [Line(f"{number(len(texts), 'remark')} so far: {again}", Tone.FAINT, 1)]
    listed = _listed(texts, FIRST_REMARKS, again, verbosity, tone=Tone.FAINT)
    return [Line(f"{number(len(texts), 'remark')}:", depth=1), *(replace(each, depth=2) for each in listed)]


def _scrub_lines(scrub: ScrubFacts | None, last: Finished, verbosity: Verbosity) -> list[Line]:
    if not scrub:
        return []
    wrong = {
        "csum_errors": "checksum error",
        "read_errors": "read error",
        "corrected": "corrected",
        "uncorrectable": "not correctable",
    }
    found = [
        number(count, word, word if key in {"corrected", "uncorrectable"} else None)
        for key, word in wrong.items()
        if (count := cast("dict[str, int]", scrub).get(key, 0))
    ]
    timing = f" in {duration(scrub['seconds'])}" if "seconds" in scrub else ""
    words = f"Scrub: {size(scrub.get('bytes', 0))} read back{timing}, {', '.join(found) or 'no errors'}."
    bad = bool(found) or last.exit_code == Exit.DAMAGE
    names = [shown(each) for each in scrub.get("damaged", ())]
    return [
        Line(words, Tone.BAD if bad else Tone.PLAIN, 1, problem=bad),
        *_listed([f"damaged: {name}" for name in names], FIRST_FILES, "--json names all", verbosity, tone=Tone.BAD),
    ]


def _space_lines(space: Space | None, last: Finished) -> list[Line]:
    if not space or "free" not in space or "size" not in space or last.result != "complete":
        return []
    return [Line(f"{size(space['free'])} of {size(space['size'])} are free on the drive.", depth=1)]


def _drive_lines(last: Finished) -> list[Line]:
    name = shown(last.drive) or "The drive"
    failed = last.exit_code != Exit.DONE
    if last.drive_state is DriveState.CLOSED and not _is_held(last):
        unsafe = CLOSED_BUT_SHARED if last.exit_code in FINISHED else CLOSED_UNPROVEN
        words = f"{name} is closed; safe to remove." if last.safe_to_remove else unsafe.format(drive=name)
        tone = Tone.GOOD if last.safe_to_remove else Tone.WARN
        return [Line(words, tone, 1 if failed else 0, problem=failed or not last.safe_to_remove)]
    words = DRIVE_SENTENCES[DriveState.STILL_HELD if _is_held(last) else last.drive_state]
    return [Line(words, depth=1 if failed else 0, problem=True)] if words else []


def _next_lines(last: Finished) -> list[Line]:
    failed = last.exit_code != Exit.DONE
    words = f"Next: {shown(last.next_step)}"
    return [Line(words, depth=1 if failed else 0, problem=failed)] if last.next_step else []


def _is_held(last: Finished) -> bool:
    return last.exit_code == Exit.STILL_HELD or last.drive_state is DriveState.STILL_HELD


def _named(last: Finished, words: str) -> str:
    name = shown(last.drive)
    return f"{name}: {words}" if name and not words.startswith(f"{name}:") else words
