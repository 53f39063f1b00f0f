"""The rehearsal: a whole rotation on throw-away drives that are image files, told step by step."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from flashback.backup.report import RunRequest
from flashback.backup.service import back_up
from flashback.config.reader import read
from flashback.config.values import Config
from flashback.core.context import Context, Paths
from flashback.core.errors import Exit, FlashbackError, Missing, UsageError
from flashback.core.locks import locked
from flashback.core.secret import Secret
from flashback.core.signals import Interrupted
from flashback.core.stack import ResourceStack
from flashback.core.text import number, size
from flashback.drive.recognise import by_name
from flashback.drive.session import Session
from flashback.drive.status import take_stock
from flashback.prepare import practice_files
from flashback.prepare.doctor import dm_crypt_is_there
from flashback.prepare.init import InitOptions, Known, initialise
from flashback.prepare.wizard import Given
from flashback.recover.errand import RestoreRequest
from flashback.recover.service import restore
from flashback.recover.wanted import Wanted
from flashback.rotation.ledger import Ledger
from flashback.tools import cryptsetup, loop

DRIVES: Final = ("red", "green")
IMAGE_SIZE: Final = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What every scene of the rehearsal needs. `devices` are the loop devices by drive name."""

    context: Context
    say: Callable[[str], None]
    folder: Path
    ledger: Ledger
    passphrase: Secret
    devices: dict[str, str]

    @property
    def master(self) -> Path:
        """The directory that is backed up."""
        return self.folder / "Documents"

    def config(self) -> Config:
        """The configuration that the first `init` wrote."""
        return read(self.context.paths.config, runtime=self.context.paths.runtime, trusted=True)


def rehearse(context: Context, folder: Path | None, *, say: Callable[[str], None], keep: bool) -> int:
    """Play it all through in `folder` (a new one below /var/tmp by default); remove it afterwards unless `keep`.

    Needs root and dm-crypt, says so (`Missing`) where they are not. Raises `FlashbackError` when a scene does not end
    as it should.
    """
    if not dm_crypt_is_there(context.run):
        raise Missing(
            "this kernel has no dm-crypt, so no encrypted drive can be opened",
            hint="modprobe dm-crypt; in a source checkout `make try` shows the rehearsal in a kernel of its own",
        )
    place = _make_folder(folder)
    try:
        with (
            locked(context.paths.locks / "run.lock", purpose="practice"),  # a real drive may be called red, too
            ResourceStack(context.signals) as stack,
        ):
            rehearsal = _set_up(context, stack, place, say)
            with rehearsal.ledger:
                _play(rehearsal)
                left = [name for drive in rehearsal.ledger.drives() for name in cryptsetup.mappings_of(drive.uuid)]
            if left:
                raise FlashbackError("a practice drive is still open, which should not be; please report this")
    finally:
        if not keep:
            shutil.rmtree(place, ignore_errors=True)
    say(f"\nEverything is closed{f'; the files are in {place}' if keep else ' and cleared away'}.")
    say("That was a rehearsal. With a real drive: sudo flashback init /dev/sdX (`lsblk` shows which one it is).")
    return Exit.DONE


def _make_folder(folder: Path | None) -> Path:
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="flashback-practice-", dir="/var/tmp"))
    place = folder.resolve()
    if place.exists() and any(place.iterdir()):
        raise UsageError(f"{folder} is not empty", hint="name a new directory for the rehearsal")
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place


def _set_up(context: Context, stack: ResourceStack, place: Path, say: Callable[[str], None]) -> Rehearsal:
    say("A rehearsal. The drives are two image files; nothing outside of them is touched.\n")
    devices = {}
    for name in DRIVES:
        image = place / f"{name}.img"
        with image.open("wb") as file:
            file.truncate(IMAGE_SIZE)
        stack.intend(f"the loop device of {image}", lambda image=image: _detach(context, image))  # type: ignore[misc]
        devices[name] = loop.attach(context.run, image)
    practice = replace(
        context,
        paths=Paths(config=place / "etc/flashback.yaml", state=place / "state", runtime=place / "run"),
        machine="practice",
    )
    ledger = Ledger.open(practice.paths.ledger)
    passphrase = Secret(f"rehearsal {secrets.token_hex(8)}".encode())
    return Rehearsal(practice, say, place, ledger, passphrase, devices)


def _detach(context: Context, image: Path) -> None:
    for device in loop.devices_of(context.run, image):
        loop.detach(context.run, device)


def _play(scene: Rehearsal) -> None:
    practice_files.make(scene.master)
    count, total = practice_files.census(scene.master)
    _title(scene, 1, f"A directory with {number(count, 'file')} ({size(total)}) is to be backed up: {scene.master}")
    _prepare(scene, 2, "red", "the first drive. It gets a partition, LUKS2 encryption and Btrfs, then its first backup")
    _prepare(scene, 3, "green", "the second drive. One drive can be lost, stolen or washed; two rarely are at once")
    _title(scene, 4, "A day of work: files are added, changed, renamed and deleted. Then red is plugged in again")
    practice_files.a_day_of_work(scene.master)
    _run(scene, "red", RunRequest(scrub=True))
    _title(scene, 5, "What does the rotation look like? (flashback status)")
    scene.say(take_stock(scene.context, scene.ledger, scene.config()).text(colour=False))
    _title(scene, 6, "A file is deleted by mistake, and comes back from red")
    _lose_and_restore(scene)
    _title(scene, 7, "green gets the day's work, too; then every copy is held against the master, byte by byte")
    _run(scene, "green", RunRequest())
    for name in DRIVES:
        _compare(scene, name)


def _title(scene: Rehearsal, count: int, text: str) -> None:
    scene.say(f"\n--- {count}. {text}.\n")


def _prepare(scene: Rehearsal, count: int, name: str, what: str) -> None:
    device = scene.devices[name]
    _title(scene, count, f"{name}, {what} (flashback init {device})")
    given = Given(name=name, master=scene.master, erase=True, passphrase=scene.passphrase, recovery_key=False)
    options = InitOptions(given, kdf=cryptsetup.PRACTICE)
    _expect(initialise(scene.context, scene.ledger, device, options, config=scene.config, show=scene.say))


def _run(scene: Rehearsal, name: str, request: RunRequest) -> None:
    context = scene.context.with_person(Known(scene.passphrase))
    candidate = by_name(context.run, scene.ledger.drives(), name)
    code = back_up(context, scene.config(), scene.ledger, candidate, request)
    if context.signals.first is not None:  # it came when that run was over; the rehearsal is not
        raise Interrupted(context.signals.first)
    _expect(code)


def _expect(code: int) -> None:
    if code != Exit.DONE:
        raise FlashbackError(f"a scene of the rehearsal ended with exit code {int(code)}; see above")


def _lose_and_restore(scene: Rehearsal) -> None:
    lost = scene.master / practice_files.PRECIOUS
    before, folder_before = lost.read_bytes(), lost.parent.stat()
    lost.unlink()
    scene.say(f"{lost.name} is gone. (flashback restore {lost})")
    context = scene.context.with_person(Known(scene.passphrase))
    master = scene.config().masters[0]
    path = os.fsencode(lost.relative_to(master.path))
    request = RestoreRequest((Wanted(master.name, path, master.path),))
    _expect(restore(context, scene.ledger, "red", (master,), request))
    os.utime(lost.parent, ns=(folder_before.st_atime_ns, folder_before.st_mtime_ns))
    if lost.read_bytes() != before:
        raise FlashbackError("the restored file is not what it was")
    scene.say(f"{lost.name} is back, and it is what it was.")


def _compare(scene: Rehearsal, name: str) -> None:
    session = _session(scene, name)
    with session.held(purpose="practice", read_only=True) as drive:
        copy = drive.mount_point / _master_on_drive(scene) / "current"
        differing = practice_files.differences(scene.master, copy)
    if differing:
        raise FlashbackError(f"{name} differs from the master: {', '.join(differing[:10])}")
    scene.say(f"{name}: equal to the master.")


def _session(scene: Rehearsal, name: str) -> Session:
    context = scene.context.with_person(Known(scene.passphrase))
    return Session(context, by_name(context.run, scene.ledger.drives(), name))


def _master_on_drive(scene: Rehearsal) -> str:
    return scene.config().masters[0].name
