"""A whole tree comes back, and other people's tools hold it against the drive's. Needs root, Btrfs, rsync, acl, attr.

    python benchmarks/restoring.py                  100,000 files, as root and as the user who owns most of them
    python benchmarks/restoring.py --files 1000

The tree is that of benchmarks/trees.py (odd names, ACLs, attributes, hard links, holes) without sockets, pipes and
devices, which a copy never holds. For the user a second one is made, all of it hers: what only root may set goes.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import os
import pkgutil
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import flashback
from benchmarks import trees
from flashback.app import Unattended, now
from flashback.core.command import Programs
from flashback.core.context import Context, Paths
from flashback.core.errors import DriveState
from flashback.core.events import Event, Finished, StepDone
from flashback.core.signals import StopSignals
from flashback.drive import journal
from flashback.drive.proofs import Proofs
from flashback.drive.states import OnDrive
from flashback.recover.service import RestoreRequest, restore_from
from flashback.recover.source import Held
from flashback.recover.wanted import Wanted
from flashback.rotation.contents import Contents
from flashback.tools.mount import private_namespace
from tests.conftest import mounted_btrfs, run

ALICE = 1000
PR_SET_DUMPABLE = 4
"""linux/prctl.h: a process that was root may look into its own /proc again, as any other of that user may."""


class Lying:
    """A drive that lies open; see `recover.source.Source`."""

    state, safe_to_remove, name, uuid = DriveState.CLOSED, True, "red", "the-uuid"

    def __init__(self, top: int, contents: Path | None) -> None:
        self.top, self.contents = top, contents

    @contextmanager
    def held(self) -> Iterator[Held]:
        yield Held(OnDrive(self.top), lambda: None)

    @contextmanager
    def _remembering(self, file: Path) -> Iterator[Proofs]:
        with Contents.open(file, now()) as contents:
            yield Proofs(contents, self.uuid, str)

    def proofs(self) -> object:
        return nullcontext() if self.contents is None else self._remembering(self.contents)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--files", type=int, default=100_000)
    options.add_argument("--folder", default="/var/tmp")
    asked = options.parse_args()
    private_namespace()
    place = Path(tempfile.mkdtemp(prefix="flashback-restoring-", dir=asked.folder))
    place.chmod(0o755)
    size = f"{max(1000, asked.files // 20)}M"
    drives, homes = mounted_btrfs(place / "drive", size), mounted_btrfs(place / "home", size)
    try:
        return restored(next(drives), next(homes), asked.files, place)
    finally:
        for each in (drives, homes):
            next(each, None)
        shutil.rmtree(place)


def restored(drive: Path, home: Path, files: int, place: Path) -> int:
    wrong = 0
    for master, user in (("root", 0), ("alice", ALICE)):
        current = drive / master / "current"
        current.parent.mkdir()
        run("btrfs", "subvolume", "create", current)
        trees.plant(
            os.fsencode(current), os.fsencode(place / master / "outside"), files=files, bytes_in_all=files * 5000
        )
        run("find", current, "-type", "p", "-delete")
        run("find", current, "-not", "-type", "f", "-not", "-type", "d", "-not", "-type", "l", "-delete")
        if user:
            own(current)
        (drive / ".flashback").mkdir(mode=0o755, exist_ok=True)
        line = journal.Line(sequence=1, run="r", at="2026-01-03T00:00:00Z", mark=journal.Mark.COMPLETE, master=master)
        with (drive / ".flashback/runs.jsonl").open("ab") as file:
            file.write(journal.encode(line) + b"\n")
        run("sync", "-f", drive)
        Path("/proc/sys/vm/drop_caches").write_text("3", "ascii")
        to = home / master
        to.mkdir()
        os.chown(to, user, user)
        code = in_a_process_of(user, drive, master, to, place / "contents.sqlite" if not user else None)
        found = trees.differences(os.fsencode(current), os.fsencode(to / master))
        print(f"{master}: exit code {code}, {len(found)} differences", *found[:20], sep="\n  ", flush=True)
        wrong += bool(code or found)
    return wrong


def own(top: Path) -> None:
    """All of it Alice's, and readable for her; what she cannot set goes."""
    run("chown", "-hR", f"{ALICE}:{ALICE}", top)
    run("chmod", "-R", "u+rwX,-s", top)
    walked = (os.path.join(here, name) for here, *names in os.walk(os.fsencode(top)) for name in sum(names, [b""]))
    for path in walked:
        for name in os.listxattr(path, follow_symlinks=False):
            if not name.startswith("user.") and "posix_acl" not in name:
                os.removexattr(path, name, follow_symlinks=False)


def in_a_process_of(user: int, drive: Path, master: str, to: Path, contents: Path | None) -> int:
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            os._exit(_as(user, drive, master, to, contents))
        except BaseException:  # noqa: BLE001 - what the parent began is the parent's to give back
            traceback.print_exc()
            os._exit(1)
    _child, status, used = os.wait4(child, 0)
    print(f"{master}: {used.ru_maxrss >> 10} MiB, {used.ru_utime + used.ru_stime:.1f} s of processor time")
    return os.waitstatus_to_exitcode(status)


def _as(user: int, drive: Path, master: str, to: Path, contents: Path | None) -> int:
    """The user may be unable to read where Python's modules lie, so all that is needed is imported first."""
    for module in pkgutil.walk_packages(flashback.__path__, "flashback."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    source = Lying(os.open(drive, os.O_RDONLY), contents)
    one(source, master, to, dry_run=True)
    if user:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1)
    return one(source, master, to)


def one(source: Lying, master: str, to: Path, *, dry_run: bool = False) -> int:
    begun = time.monotonic()

    def told(event: Event) -> None:
        if isinstance(event, StepDone) and not dry_run:
            print(f"{master}: {event.step} {event.seconds:.1f} s, {event.detail}", flush=True)
        if isinstance(event, Finished) and not dry_run:
            print(f"{master}: {event.result} {event.error or ''}")
            for row in event.facts["unread"][:20]:
                print(f"    {row}")

    context = Context(Programs(), StopSignals(), now, told, Unattended(None), Paths(), "here")
    request = RestoreRequest((Wanted(master),), to=to, dry_run=dry_run)
    code = restore_from(context, [source], [], request, elsewhere="")  # type: ignore[list-item]
    if not dry_run:
        print(f"{master}: {time.monotonic() - begun:.1f} s in all", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
