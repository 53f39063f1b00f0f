"""`flashback mount`: every state of a drive as a folder, to look around in, for whoever asked.

Here the mounts are everybody's to see, and stay when the command has ended; `flashback close` puts them away. What is
seen of the drive are its states alone, each mounted by the number of its subvolume, read-only, so that not even the
owner of a snapshot can make it writable. The folders lie in a file system of their own in memory, which nobody can
change; only the one who asked can enter it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from flashback.core.context import Context
from flashback.core.descent import DIRECTORY
from flashback.core.errors import DriveError, DriveState, Exit, StillHeld, UsageError
from flashback.core.events import Finished, Note, Remark, Remarked, RemarkKind
from flashback.core.locks import locked
from flashback.core.stack import ResourceStack
from flashback.core.text import number, shown
from flashback.core.way import walked
from flashback.drive import layout, states
from flashback.drive.leftover import guarded, put_away_own
from flashback.drive.reading import open_elsewhere
from flashback.drive.recognise import Candidate, check_identity
from flashback.drive.session import AS_COMMITTED, OpenDrive, Session, mapping_name, prove_destination
from flashback.drive.visible import SHELL, Folder, write_list
from flashback.rotation.values import KnownDrive
from flashback.tools import block, btrfs, cryptsetup, mount


@dataclass(frozen=True, slots=True)
class Shown:
    """A state with its folder, and the number of its subvolume."""

    folder: Folder
    subvolume: int


def shells_of(known: KnownDrive) -> tuple[Path, ...]:
    """Where the drive's states are to be seen."""
    return tuple(Path(each.target) for each in mount.mounts() if each.source == f"{SHELL}{known.uuid}")


def browse(context: Context, candidate: Candidate, where: Path | None, *, caller: int) -> int:
    """Open the drive for looking around at `where` (else in a folder of ours), for the user `caller`; tell it.

    Raises `StillHeld`, `Locked`, `DriveError`, `PassphraseRefused`, `UsageError`; nothing is left open then.
    """
    known = candidate.known
    try:
        place, fresh = _browsed(context, candidate, where, caller)
    except BaseException as error:
        still = cryptsetup.mappings_of(known.uuid)
        error.drive_state = DriveState.OPEN if still else DriveState.CLOSED  # type: ignore[attr-defined]
        raise
    context.tell(
        Finished(
            result="complete" if fresh else "nothing-to-do",
            exit_code=Exit.DONE,
            drive=known.name,
            drive_state=DriveState.OPEN,
            safe_to_remove=False,
            facts={"action": "mount", "place": str(place)},
            next_step=f"look around in {shown(str(place))}; then: flashback close {known.name}",
        )
    )
    return Exit.DONE


def _browsed(context: Context, candidate: Candidate, where: Path | None, caller: int) -> tuple[Path, bool]:
    """Where it is to be seen, and whether it was opened for that just now."""
    known = candidate.known
    with (
        locked(context.paths.locks / "run.lock", purpose=f"mount {known.name}"),
        locked(context.paths.locks / f"{known.uuid}.lock", purpose=f"mount {known.name}"),
        ResourceStack(context.signals) as stack,
    ):
        place, fresh = next(iter(shells_of(known)), None), False
        if place is None:
            place, fresh = where or context.paths.mounts / f"{known.name}-browse", True
            _open(context, candidate, stack, place, own=where is None, caller=caller)
            stack.keep()
        elif where is not None and os.path.realpath(where) != str(place):
            raise UsageError(f"{known.name} is to be seen in {place} already", hint=f"flashback close {known.name}")
    return place, fresh


def _open(context: Context, candidate: Candidate, stack: ResourceStack, place: Path, *, own: bool, caller: int) -> None:
    known = candidate.known
    check_identity(candidate)
    with _mapping(context, candidate, stack) as mapping, _top(context, candidate, mapping) as drive:
        folders = _folders(context, drive)
        if not folders:
            raise DriveError(f"{known.name} holds no state of any master yet", hint=f"flashback run {known.name}")
        if own:
            _make_own(context.paths.runtime, place)
        over = _directory(place, caller)
        try:
            stack.take(
                f"the mounts at {place}",
                lambda: mount.mount_shell(over, f"{SHELL}{known.uuid}"),
                lambda: put_away_shells(context, known),
            )
        finally:
            os.close(over)
        _furnish(_shell(place, known), cryptsetup.mapper_path(mapping), known.name, folders, caller)
    context.tell(Note(f"{known.name}: {number(len(folders), 'state')} to be seen in {shown(str(place))}"))


@contextmanager
def _mapping(context: Context, candidate: Candidate, stack: ResourceStack) -> Iterator[str]:
    """The mapping: somebody else's, if there is one, else one of our own, read-only.

    Ours closes when its last mount goes, at once where it has none, should we be killed in the block.
    """
    known, volume = candidate.known, candidate.volume
    found = open_elsewhere(candidate)
    if found is not None:
        if os.path.realpath(found.backing or "") != os.path.realpath(volume.path):
            raise DriveError(f"{found.name}, which says it is {known.name}, does not lie on {volume.path}")
        yield found.name
        return
    if cryptsetup.is_open(mapping_name(known)):
        put_away_own(context, mapping_name(known))
    mapping = f"{mapping_name(known)}-browse"
    if cryptsetup.is_open(mapping):
        raise StillHeld([f"something else is open as {mapping}"], hint=f"put it away first: cryptsetup close {mapping}")
    stack.intend(f"the LUKS mapping {mapping}", lambda: cryptsetup.close(context.run, mapping))
    with guarded(context, mapping) as heir:
        Session(context, candidate).unlock(mapping, read_only=True, heir=heir)
        yield mapping
        heir.let_go()


@contextmanager
def _top(context: Context, candidate: Candidate, mapping: str) -> Iterator[OpenDrive]:
    """The drive as a whole, mounted for the block where root alone can see it, and found to be the one it should be."""
    known, target = candidate.known, context.paths.mounts / ".looking" / candidate.known.name
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    target.parent.chmod(0o700)
    device = cryptsetup.mapper_path(mapping)
    with ResourceStack(context.signals) as stack:
        stack.take(
            f"the mount at {target}",
            lambda: _mounted(context, device, target),
            lambda: mount.unmount(context.run, target),
        )
        with context.signals.held():
            root = os.open(target, DIRECTORY)
            stack.intend("the drive's top directory", lambda: os.close(root))
        filesystem, presence = btrfs.filesystem_uuid(root), block.presence(candidate.volume.path)
        errors = btrfs.error_counts(filesystem)
        drive = OpenDrive(known, candidate.volume, mapping, target, root, filesystem, presence, errors, read_only=True)
        prove_destination(drive)
        yield drive


def _mounted(context: Context, device: str, target: Path) -> None:
    try:
        mount.mount(context.run, device, target, options=AS_COMMITTED, read_only=True)
    except DriveError:  # it is mounted already, with other options
        mount.mount(context.run, device, target, read_only=True)


def _folders(context: Context, drive: OpenDrive) -> list[Shown]:
    """What can be looked into; what the drive does not give is told."""
    found = []
    for master in states.masters_on(drive.root):
        for state in states.states_of(drive.root, master):
            try:
                found.append(_folder(drive, state))
            except OSError as problem:
                drive.watch()
                what = f"{state.said} cannot be looked into: {problem.strerror}"
                context.tell(Remarked(Remark(RemarkKind.GENERAL, master, b"", what)))
    return found


def _folder(drive: OpenDrive, state: states.State) -> Shown:
    with states.opened(drive.root, state) as (folder, name), layout.directory(folder, os.fsdecode(name)) as top:
        return Shown(Folder(state, _called(state)), btrfs.subvolume(top).id)


def _called(state: states.State) -> str:
    """`2026-01-02 03.04.05` sorts as it should, and is a name on every file system."""
    if state.name == layout.CURRENT:
        return "current" if state.complete else "current (incomplete)"
    return f"{state.moment:%Y-%m-%d %H.%M.%S}" if state.moment else state.name


def _make_own(runtime: Path, place: Path) -> None:
    """The folder among ours; whoever asked must be able to pass through those above it."""
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    for each in (runtime, place.parent):
        each.chmod(each.stat().st_mode & 0o7777 | 0o111)


def _directory(place: Path, caller: int) -> int:
    """The directory to mount over, open. Raises `UsageError` for one that is not empty or that others may exchange."""
    try:
        if not os.path.lexists(place):
            place.mkdir(mode=0o755)
        found, links = walked(place)
    except OSError as problem:
        raise UsageError(f"{shown(str(place))} cannot be opened: {problem.strerror}") from problem
    try:
        over = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as problem:
        raise UsageError(f"{shown(str(place))} is not a directory") from problem
    finally:
        os.close(found)
    if os.listdir(over) or os.fstat(over).st_uid not in {0, caller} or any(who not in {0, caller} for _, who in links):
        os.close(over)
        raise UsageError(
            f"{shown(str(place))} is not an empty directory of your own", hint="name a new one, or none at all"
        )
    return over


def _shell(place: Path, known: KnownDrive) -> int:
    """The top of what was mounted at `place`, open. Raises `DriveError` where it is something else."""
    top = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    at = os.fstat(top).st_dev
    number_of = f"{os.major(at)}:{os.minor(at)}"
    if any(each.device == number_of and each.source == f"{SHELL}{known.uuid}" for each in mount.mounts()):
        return top
    os.close(top)
    raise DriveError(f"{shown(str(place))} was exchanged while it was being mounted")


def _furnish(top: int, device: str, name: str, folders: list[Shown], caller: int) -> None:
    """A folder for each state and a list of them, then nobody can change them any more. Closes `top`."""
    try:
        for each in folders:
            master, folder = each.folder.state.master, each.folder.name
            with layout.made_directory(top, master, 0o755) as above, _made(above, folder) as over:
                mount.mount_subvolume(over, device, each.subvolume)
        write_list(top, name, [each.folder for each in folders])
        os.fchown(top, caller, -1)
        mount.seal(top)
    finally:
        os.close(top)


def _made(master: int, name: str) -> AbstractContextManager[int]:
    return layout.made_directory(master, name, 0o755)


def put_away_shells(context: Context, known: KnownDrive) -> None:
    """Unmount the folders, with the states in them if they are still there. Raises `StillHeld`."""
    for shell in shells_of(known):
        inside = [Path(each.target) for each in mount.mounts() if Path(each.target).is_relative_to(shell)]
        for each in sorted(inside, key=lambda path: -len(path.parts)):
            mount.unmount(context.run, each)
        if shell.parent == Path(os.path.realpath(context.paths.mounts)):
            os.rmdir(shell)
