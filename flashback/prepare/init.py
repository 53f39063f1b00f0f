"""`init` from the first look to the first run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flashback.backup.report import RunRequest
from flashback.backup.service import back_up
from flashback.config.sample import name_for, write_first
from flashback.config.values import Config
from flashback.core.context import Context, Doubt, Person
from flashback.core.errors import ConfigError, DriveState, Exit, FlashbackError, NotFinished
from flashback.core.events import Finished, Note, Planned
from flashback.core.secret import Secret
from flashback.core.signals import Interrupted
from flashback.core.text import shown
from flashback.drive.leftover import put_away_on
from flashback.drive.recognise import Candidate, by_name
from flashback.prepare import kit
from flashback.prepare.examine import Examined, examine
from flashback.prepare.format import prepare
from flashback.prepare.handover import Handover
from flashback.prepare.make_kit import kit_of
from flashback.prepare.request import InitRequest
from flashback.prepare.wizard import Given, settle
from flashback.rotation.ledger import Ledger
from flashback.rotation.values import KnownDrive
from flashback.tell import explain
from flashback.tools.cryptsetup import STANDARD, Kdf


@dataclass(frozen=True, slots=True)
class InitOptions:
    """What the command line decided beside the answers. `show_key` shows a recovery key to the person, once."""

    given: Given
    recovery_file: Path | None = None
    first_run: bool = True
    dry_run: bool = False
    kdf: Kdf = STANDARD


class Known:
    """The person of the first run: the passphrase was chosen a moment ago; about a hold they are asked as ever."""

    def __init__(self, passphrase: Secret, person: Person | None = None) -> None:
        self._passphrase = passphrase
        self._person = person

    @property
    def decides(self) -> bool:
        """See `Person`."""
        return self._person is not None and self._person.decides

    def decide(self, doubt: Doubt) -> bool:
        """See `Person`."""
        return self._person is not None and self._person.decide(doubt)

    def passphrase(self, question: str, attempt: int) -> Secret | None:  # noqa: ARG002 - the protocol's
        """See `Person`."""
        return None

    @property
    def known_passphrase(self) -> Secret | None:
        """See `Person`."""
        return self._passphrase


def initialise(
    context: Context,
    ledger: Ledger,
    device: str,
    options: InitOptions,
    *,
    config: Callable[[], Config],
    show: Callable[[str], None] | None,
) -> int:
    """Prepare `device` and make the first run; tell it all, return the exit code.

    `config` reads the configuration, `show` prints to the person (the recovery key, once). Raises `UsageError` and
    `DriveError` before anything was changed.
    """
    drives = ledger.drives()
    put_away_on(context, device)
    examined = examine(context.run, device, drives)
    # Where a person knows the procedure already, it is not asked again where else the key shall be kept.
    handover = Handover(show, options.recovery_file, None if drives else options.given.asker)
    with _untouched():
        if context.paths.config.exists():
            settings = config()  # a bad configuration is told before anything is erased
            _say_unused(context, options.given.master, settings)
        handover.check()
        request = _request(context, examined, drives, options)
    if options.dry_run:
        context.tell(Planned({"drive": request.name, **request.as_json()}))
        context.tell(_finished(request.name, DriveState.NOT_OPENED, dry_run=True))
        return Exit.DONE
    if request.first_master is not None:
        with _untouched():
            _write_configuration(context.paths.config, request.first_master)
            config()  # it may lie where others can change it: that, too, is told before anything is erased
    try:
        known = prepare(context, ledger, request)
    except (FlashbackError, Interrupted) as error:
        if isinstance(error, NotFinished) and not error.hint:  # a run cannot carry on with a drive that is not known
            error.hint = f"start again: flashback init {examined.device.path}"
        last = explain.finished(explain.explain(error, drive=request.name), request.name, {"action": "init"})
        context.tell(last)
        return int(last.exit_code)
    if request.recovery_key is not None:
        paper = kit_of(context, ledger, known, request.recovery_key)
        handover.give(context.run, kit.text(paper), kit.page(paper))
    if not options.first_run:
        context.tell(_finished(known.name, DriveState.CLOSED))
        return Exit.DONE
    candidate: Candidate = by_name(context.run, ledger.drives(), known.name)
    first = context.with_person(Known(request.passphrase, context.person))
    return back_up(first, config(), ledger, candidate, RunRequest(scrub=True))


@contextlib.contextmanager
def _untouched() -> Iterator[None]:
    """Whatever stops the work in here is told with the state of the drive: nobody has opened it yet."""
    try:
        yield
    except (FlashbackError, Interrupted, KeyboardInterrupt) as error:
        if getattr(error, "drive_state", DriveState.NOT_INVOLVED) is DriveState.NOT_INVOLVED:
            error.drive_state = DriveState.NOT_OPENED  # type: ignore[union-attr]
        raise


def _request(context: Context, examined: Examined, drives: Sequence[KnownDrive], options: InitOptions) -> InitRequest:
    """What is to be done, with everything that was asked. A drive that is made anew may keep its name."""
    replaced = {examined.known.name} if examined.known is not None else set()
    taken = {drive.name for drive in drives} - replaced
    return settle(examined, options.given, taken=taken, configured=context.paths.config.exists(), kdf=options.kdf)


def _say_unused(context: Context, master: Path | None, settings: Config) -> None:
    """Nobody shall believe that a directory is backed up which is not."""
    if master is not None and master not in {each.path for each in settings.masters}:
        where = shown(str(context.paths.config))
        context.tell(Note(f"--master {shown(str(master))} changes nothing: {where} says what is backed up"))


def _write_configuration(file: Path, master: Path) -> None:
    try:
        write_first(file.parent, masters={name_for(master): master}, name=file.name)
    except OSError as problem:
        raise ConfigError(f"{file} cannot be written: {problem.strerror}", hint="nothing was erased") from problem


def _finished(name: str, state: DriveState, *, dry_run: bool = False) -> Finished:
    return Finished(
        result="nothing-to-do" if dry_run else "complete",
        exit_code=Exit.DONE,
        drive=name,
        drive_state=state,
        safe_to_remove=True,
        facts={"action": "init", "dry_run": dry_run},
        next_step="" if dry_run else f"flashback run {name}",
    )
