"""For the tests of drives: values that are good until a test changes them, and a kernel that only remembers."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flashback.core.command import Programs
from flashback.core.context import Context, NobodyDecides, Paths
from flashback.core.errors import DriveError, DriveGone, PassphraseRefused, StillHeld
from flashback.core.heir import Heir
from flashback.core.secret import Secret
from flashback.core.signals import StopSignals
from flashback.drive import gone, marker, session
from flashback.drive.recognise import Candidate
from flashback.rotation.values import KnownDrive
from flashback.tools import block, btrfs, cryptsetup, mount
from flashback.tools.dbus import Inhibitor

UUID = "11111111-2222-4333-8444-555555555555"
OTHER = "99999999-8888-4777-8666-555555555555"
DIGEST = "d1" * 32
PASSPHRASE = Secret(b"correct horse")
RED = KnownDrive(
    uuid=UUID, name="red", header_digest=DIGEST, header_length=16 << 20, enrolled=datetime(2026, 1, 1, tzinfo=UTC)
)
GREEN = replace(RED, uuid=OTHER, name="green")
VOLUME = block.LuksVolume(
    path="/dev/sdx1",
    disk="/dev/sdx",
    uuid=UUID,
    label="flashback-red",
    version=2,
    size=1 << 30,
    model="Stick",
    serial="S1",
    transport="usb",
    read_only=False,
    diskseq=7,
)


class Person(NobodyDecides):
    """Gives its answers one after the other, then gives up; remembers what was asked."""

    def __init__(self, *answers: Secret | None, known: Secret | None = None) -> None:
        self.answers = list(answers)
        self.known = known
        self.asked: list[tuple[str, int]] = []

    def passphrase(self, question: str, attempt: int) -> Secret | None:
        self.asked.append((question, attempt))
        return self.answers.pop(0) if self.answers else None

    @property
    def known_passphrase(self) -> Secret | None:
        return self.known


def a_context(folder: Path, person: Person | None = None, told: list | None = None) -> Context:
    return Context(
        run=Programs(),
        signals=StopSignals(),
        clock=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        tell=(told if told is not None else []).append,
        person=person or Person(known=PASSPHRASE),
        paths=Paths(config=folder / "etc/flashback.yaml", state=folder / "state", runtime=folder / "run"),
        machine="here",
    )


class FakeKernel:
    """What the kernel would hold of one drive. `trouble[step]` is called before, `trouble_after[step]` after the deed.

    `busy` keeps the mount; `device` is the file that stands for the plugged-in device.
    """

    def __init__(self, folder: Path) -> None:
        self.device = folder / "sdx1"
        self.device.write_bytes(b"")
        self.mappings: dict[str, bool] = {}
        self.mounted: list[Path] = []
        self.busy = False
        self.digest = DIGEST
        self.write_protected = False
        self.shared = False
        self.says_uuid = UUID
        self.deferred: set[str] = set()
        self.awake: list[str] = []
        self.tokens = {"0": {"type": "flashback", "keyslots": []}}
        self.flushed: list[str] = []
        self.steps: list[str] = []
        self.read_only: list[bool] = []
        self.trouble: dict[str, Callable[[], None]] = {}
        self.trouble_after: dict[str, Callable[[], None]] = {}

    @property
    def candidate(self) -> Candidate:
        return Candidate(RED, replace(VOLUME, path=str(self.device)))

    @property
    def holds_nothing(self) -> bool:
        return not self.mappings and not self.mounted

    def step(self, name: str, deed: Callable[[], object] = lambda: None) -> object:
        self.steps.append(name)
        self.trouble.get(name, lambda: None)()
        answer = deed()
        self.trouble_after.get(name, lambda: None)()
        return answer

    def open(self, mapping: str, secret: Secret | None, *, read_only: bool) -> None:
        def deed() -> None:
            if secret != PASSPHRASE:
                raise PassphraseRefused("it was not opened by this passphrase")
            self.read_only.append(read_only)
            self.mappings[mapping] = True

        self.step("open", deed)

    def tried(self, secret: Secret) -> int:
        if secret != PASSPHRASE:
            raise PassphraseRefused("it was not opened by this passphrase")
        return 0

    def close(self, mapping: str) -> None:
        def deed() -> None:
            if mapping in self.mappings and self.mounted:
                raise StillHeld((f"the mapping {mapping} is open (it is still in use)",))
            self.mappings.pop(mapping, None)

        self.step("close", deed)

    def mount(self, target: Path) -> None:
        def deed() -> None:
            self.mounted.append(target)
            ours = target / ".flashback"
            ours.mkdir(exist_ok=True)
            said = marker.Marker("red", self.says_uuid, "2026-01-01T00:00:00Z", "here")
            (ours / "drive.yaml").write_bytes(marker.encode(said))

        self.step("mount", deed)

    def unmount(self, target: Path) -> None:
        def deed() -> None:
            if target not in self.mounted:
                return
            if self.busy:
                raise StillHeld((f"{target} is still mounted: vim (process 7) is using it",))
            self.mounted.remove(target)
            for mapping in self.deferred:
                self.mappings.pop(mapping, None)

        self.step("unmount", deed)

    @contextmanager
    def closing_with_us(self, mapping: str) -> Iterator[None]:
        self.step("defer", lambda: self.deferred.add(mapping))
        try:
            yield
        finally:
            if not self.mounted:
                self.mappings.pop(mapping, None)

    def presence(self) -> block.Presence:
        """A step of opening; what is asked after a failure is none."""
        if self.steps and "presence" not in self.steps:
            self.step("presence")
        if not self.device.exists():
            raise DriveError("the device is not there")
        return block.Presence("8:17", 7)

    def flush(self, path: str) -> None:
        if not self.device.exists():
            raise DriveGone(f"{path} cannot be flushed")
        self.flushed.append(path)

    def mappings_of(self, uuid: str) -> tuple[cryptsetup.OpenMapping, ...]:
        alive = {True: "/dev/sdx1", False: None}
        found = [cryptsetup.OpenMapping(name, "/dev/dm-0", alive[state]) for name, state in self.mappings.items()]
        return tuple(found) if uuid == UUID else ()

    def mounts(self) -> tuple[mount.MountPoint, ...]:
        return tuple(
            mount.MountPoint(1, "0:40", "/dev/mapper/flashback-red", str(each.resolve()), "btrfs", (), False)
            for each in self.mounted
        )

    def ask(self, mapping: str, answer: Callable[[str], Secret | None], *, read_only: bool) -> None:
        given = answer("Enter passphrase for /dev/sdx1:")
        if given is None:
            raise PassphraseRefused("no passphrase was given")
        self.open(mapping, given, read_only=read_only)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        def tool(room: object, name: str, function: Callable) -> None:
            patch.setattr(room, name, function)

        tool(cryptsetup, "header_digest", lambda *_: self.step("digest", lambda: self.digest))
        tool(cryptsetup, "mappings_of", self.mappings_of)
        tool(cryptsetup, "metadata", lambda *_: {"tokens": self.tokens})
        tool(cryptsetup, "opened_slot", lambda _run, _device, *, secret: self.tried(secret))
        tool(cryptsetup, "is_open", lambda name: name in self.mappings)
        tool(cryptsetup, "close", lambda _run, name: self.close(name))
        tool(Heir, "begin", lambda _heir: None)
        tool(session, "closing_with_us", lambda _context, name: self.closing_with_us(name))
        tool(
            cryptsetup,
            "open_with",
            lambda _run, _device, name, *, secret, read_only: self.open(name, secret, read_only=read_only),
        )
        tool(
            cryptsetup,
            "open_by_asking",
            lambda _env, _device, name, *, answer, hear, read_only, inherits: self.ask(
                name, answer, read_only=read_only
            ),
        )
        tool(mount, "private_namespace", lambda: self.step("namespace"))
        tool(mount, "mount", lambda _run, _device, target, *, options, read_only: self.mount(target))
        tool(mount, "unmount", lambda _run, target: self.unmount(target))
        tool(mount, "mounts_of", lambda _number: self.step("look", self.mounts))
        tool(block, "read_only", lambda _path: self.step("protected", lambda: self.write_protected))
        tool(block, "presence", lambda _path: self.presence())
        tool(block, "still_there", lambda _presence: self.device.exists())
        tool(block, "bytes_written", lambda _path: self.step("counters", lambda: 4096 * len(self.steps)))
        tool(block, "in_use", lambda _path: self.shared)
        tool(block, "flush", lambda path: self.step("flush", lambda: self.flush(path)))
        tool(btrfs, "filesystem_uuid", lambda _fd: self.step("fsid", lambda: "f" * 36))
        tool(btrfs, "error_counts", lambda _fsid: self.step("errors", dict))
        tool(session, "device_number", lambda _mapping: "254:0")
        tool(Inhibitor, "take", lambda _inhibitor, why: self.step("awake", lambda: self.awake.append(why)))
        tool(Inhibitor, "release", lambda _inhibitor: self.awake and self.step("asleep", self.awake.clear))
        patch.setattr(gone, "GONE_WITHIN", -1.0)
        patch.setattr(gone, "LET_GO_WITHIN", -1.0)


def a_signal() -> None:
    """What happens when somebody presses Ctrl-C just now."""
    signal.raise_signal(signal.SIGINT)
