"""A drive of Flashback's becomes known here: from another machine, after the ledger was lost, or with a changed header.

The drive is opened read-only and not one byte of it is changed. What this machine cannot check is said before a
passphrase is asked for: an unknown drive's header cannot be held against an earlier one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from flashback.backup.record import learn_history
from flashback.config.masters import valid_name as valid_master
from flashback.core.context import Context
from flashback.core.errors import DriveState, Exit, FlashbackError, UsageError
from flashback.core.events import Finished, Note
from flashback.core.signals import Interrupted
from flashback.core.text import number, parse_rfc3339, shown
from flashback.drive import journal
from flashback.drive.kept import keep_header
from flashback.drive.recognise import Candidate, check_identity
from flashback.drive.session import Session
from flashback.prepare.ask import Ask
from flashback.prepare.contents import Contents, contents_of
from flashback.prepare.foreign import Case, Found, examine
from flashback.prepare.take_over import Taken, take_over
from flashback.prepare.wizard import bad_name
from flashback.rotation.ledger import Ledger
from flashback.rotation.values import ErrorCounts, KnownDrive, SnapshotRecord, SpaceRecord, valid_place
from flashback.tell import explain


@dataclass(frozen=True, slots=True)
class AdoptOptions:
    """`name` is what the command line says; `asker` is `None` for a script: giving the command is the consent.

    `take_configuration`: yes, put the drive's configuration into force where there is none.
    """

    name: str | None = None
    asker: Ask | None = None
    take_configuration: bool = False


QUESTION: Final = {
    Case.UNKNOWN: "Open it and make it known here?",
    Case.CHANGED: "Did you change its keys? Open it and make the change known?",
}


def adopt(context: Context, ledger: Ledger, wanted: str, options: AdoptOptions) -> int:
    """Make the drive on this device known; tell it all, return the exit code.

    Raises `DriveError` and `UsageError` before anything was opened.
    """
    found = examine(context, ledger.drives(), wanted)
    _check_name(found, options, ledger.drives())
    _permission(context, found, options.asker)
    session = Session(context, Candidate(found.drive, found.volume))
    name = found.drive.name
    try:
        with session.held(purpose="adopt", read_only=True) as opened:
            contents = contents_of(opened)
            learn_history(opened, context)
        last = _take_in(context, ledger, session, found, contents, options)
    except (FlashbackError, Interrupted) as error:
        known = session.state if getattr(error, "drive_state", None) is DriveState.NOT_INVOLVED else None
        explanation = explain.explain(error, drive=name, state=known)
        last = explain.finished(explanation, name, {"action": "adopt"}, closed_for_sure=session.safe_to_remove)
    context.tell(last)
    return int(last.exit_code)


# --- before it is opened


def _check_name(found: Found, options: AdoptOptions, known: Sequence[KnownDrive]) -> None:
    """What the command line says must be possible, before a passphrase is asked for."""
    if options.name is None:
        return
    if found.case is not Case.UNKNOWN and options.name != found.drive.name:
        raise UsageError(
            f"this drive is known here as {found.drive.name}",
            hint=f"another name: flashback drive rename {found.drive.name} {shown(options.name)}",
        )
    if found.case is Case.UNKNOWN and (problem := bad_name(options.name, [each.name for each in known])):
        raise UsageError(f"--name {shown(options.name)}: {problem}")


def _permission(context: Context, found: Found, asker: Ask | None) -> None:
    """A person is shown what it is and asked; a script's log is told the same."""
    if asker is None:
        for line in found.lines():
            context.tell(Note(line))
        return
    asker.show("\n".join(found.lines()))
    question = QUESTION.get(found.case)
    if question is not None and not asker.confirm(question, default=False):
        raise UsageError("the drive was not opened, and nothing was changed", hint="start again when you are sure")


# --- after it was opened and closed again


def _take_in(
    context: Context, ledger: Ledger, session: Session, found: Found, contents: Contents, options: AdoptOptions
) -> Finished:
    """The ledger learns the drive and all that it remembers."""
    drive = found.drive
    if found.case is Case.UNKNOWN:
        name = _name(contents.marker.name, options, [each.name for each in ledger.drives()])
        drive = _with_memory(context, replace(drive, name=name), contents)
    keep_header(context, found.volume.path, drive.uuid)
    check_identity(Candidate(drive, found.volume))  # the copy that was kept is of the header that was opened
    if found.case is Case.UNKNOWN:
        ledger.enrol(drive)
    else:
        ledger.end_header_change(drive.uuid, digest=drive.header_digest, length=drive.header_length)
    ledger.merge(drive.uuid, (journal.as_dict(line) for line in contents.journal))
    pins = journal.pins(contents.journal)
    ledger.replace_snapshots(
        drive.uuid, [SnapshotRecord(drive.uuid, *each, pinned=each[:2] in pins) for each in contents.snapshots]
    )
    ledger.record_space(SpaceRecord(drive.uuid, context.clock(), contents.space.size, contents.space.free_estimate))
    ledger.record_errors(ErrorCounts(drive.uuid, context.clock(), contents.errors))
    taken = _configuration(context, drive, contents, options)
    return _finished(context, ledger, session, found.case, drive, taken)


def _name(said: str, options: AdoptOptions, taken: Sequence[str]) -> str:
    """The name of the command line, else the drive's own; a person is asked where that cannot be. `UsageError`."""
    name = options.name or said
    problem = bad_name(name, taken)
    if problem is None:
        return name
    if options.asker is None:
        raise UsageError(
            f"the drive calls itself {shown(name)}: {problem}", hint="give it another name with --name; nothing changed"
        )
    options.asker.show(f"The drive calls itself {shown(name)}: {problem}.")
    return options.asker.text("What shall it be called here?", check=lambda answer: bad_name(answer, taken))


def _with_memory(context: Context, drive: KnownDrive, contents: Contents) -> KnownDrive:
    """With what the lost ledger knew, as far as the drive remembers it and it can be.

    What happens on plugging in is not taken from a drive: it stays as the configuration says.
    """
    said, now = contents.marker, context.clock()
    masters = said.masters if said.masters and all(map(valid_master, said.masters)) else None
    return replace(
        drive,
        enrolled=_earlier(said.created, now),
        place=said.place if valid_place(said.place) else "",
        masters=masters,
        filesystem_uuid=contents.filesystem,
    )


def _earlier(created: str, now: datetime) -> datetime:
    try:
        return min(parse_rfc3339(created), now)
    except ValueError:
        return now


def _configuration(context: Context, drive: KnownDrive, contents: Contents, options: AdoptOptions) -> Taken:
    """Where there is no configuration here, the drive's comes into force or is put where a person finds it."""
    files, yes = contents.configuration, options.take_configuration
    try:
        return take_over(context.paths.config, drive.name, files, contents.index, asker=options.asker, yes=yes)
    except OSError as problem:
        context.tell(Note(f"The drive's copy of the configuration could not be written: {problem}."))
        return Taken()


def _finished(
    context: Context, ledger: Ledger, session: Session, case: Case, drive: KnownDrive, taken: Taken
) -> Finished:
    runs, snapshots = len(ledger.runs(drive.uuid, limit=-1)), len(ledger.snapshots(drive.uuid))
    context.tell(
        Note(
            f"{TOLD[case].format(name=drive.name)} It remembers {number(runs, 'run')} and holds "
            f"{number(snapshots, 'snapshot')}."
        )
    )
    for path in taken.in_force:
        context.tell(Note(f"From the drive, in force now: {shown(str(path))}"))
    for path in taken.beside:
        context.tell(Note(f"From the drive, to look at: {shown(str(path))}"))
    return Finished(
        result="complete",
        exit_code=Exit.DONE,
        drive=drive.name,
        drive_state=session.state,
        safe_to_remove=session.safe_to_remove,
        facts={
            "action": "adopt",
            "uuid": drive.uuid,
            "case": case.value,
            "runs": runs,
            "snapshots": snapshots,
            "configuration": [str(path) for path in taken.beside],
            "in_force": [str(path) for path in taken.in_force],
        },
        next_step=_next_step(context, drive, taken),
    )


TOLD: Final = {
    Case.UNKNOWN: "{name} is known here now.",
    Case.CHANGED: "The changed header of {name} is known here now.",
    Case.KNOWN: "{name} was known here already.",
}


def _next_step(context: Context, drive: KnownDrive, taken: Taken) -> str:
    if taken.in_force:
        return (
            "flashback config check names what this machine does not have of it; get the files back "
            "(flashback restore) before the next run, which would find their directories empty"
        )
    if context.paths.config.exists():
        return f"flashback run {drive.name}"
    folder, ending = context.paths.config.parent, f".from-{drive.name}"
    if not taken.beside:
        return f"write a configuration, {context.paths.config}; the drive holds no copy of one"
    return (
        f"there is no configuration here. Read the files ending in {ending} in {folder}; if they are yours, copy each "
        "to its name without that ending, then: flashback config check"
    )
