"""The commands that hold a drive, as the fault matrix tries them: each with its stage, and with what holds afterwards.

`STEPS` lists the steps that each of them takes. A unit test holds it against the code: a new step (`core.events.Step`)
or a new command without a line here fails it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flashback.core.events import Step
from tests.guest.conftest import PASSPHRASE, Stick
from tests.guest.faults import PARTLY, SIGNALS, Ended, FaultyMachine, Kind, Scene, manifest
from tests.guest.machine import luks_on


@dataclass(frozen=True)
class Tried:
    """A command that holds a drive. `steps`: those that it says it takes. `leaves_open`: its purpose is another.

    `stage` is called before each trial and `again` after it, in the place of the command alone; `judge` looks at more than
    what holds after any command.
    """

    name: str
    steps: frozenset[Step]
    argv: Callable[[Scene], tuple[str, ...]]
    stage: Callable[[Scene], None]
    again: Callable[[Scene, Ended], None]
    judge: Callable[[Kind, str, Ended, Path], None] = lambda *_: None
    leaves_open: bool = False


def with_secret(scene: Scene, *words: str) -> tuple[str, ...]:
    return (*words, "--json", "--passphrase-file", str(scene.machine.secret))


OTHER = b"quite another passphrase"
ONE_STAYS = "keep: {last: 1, daily: 0, weekly: 0, monthly: 0, yearly: 0, min_free: 0B}\n"


def succeeded(ended: Ended) -> Ended:
    assert ended.code == 0, ended
    return ended


def nothing(*_given: object) -> None:
    """No stage is needed."""


# --- run


def changed(scene: Scene) -> None:
    scene.machine.back_up_only(scene.machine.master)
    scene.change()


def carried_on(scene: Scene, ended: Ended) -> None:
    """The next run, after another change: a half copy taken for a complete one would be a snapshot of no known state."""
    scene.finished = scene.finished[len(ended.last.get("pruned") or ()) :]  # the oldest made way on a full drive
    if "after line complete" in ended.points:
        scene.finished.append(PARTLY if ended.last.get("unread") else scene.number)
    scene.change()
    scene.complete()


def is_over(ended: Ended) -> bool:
    """The run had come to its end before the fault could change anything."""
    return ended.code == 0 and "after line complete" in ended.points


def judge_run(kind: Kind, point: str, ended: Ended, disk: Path) -> None:
    closed = "told StepDone close" in ended.points and not point.startswith("told StepDone close")
    if kind in SIGNALS and kind is not Kind.KILL:
        assert ended.code == 128 + SIGNALS[kind] or is_over(ended), ended
        assert ended.last["safe_to_remove"] or ended.last["drive_state"] == "not-involved", ended
    elif kind is Kind.UNPLUG and not closed:
        assert not ended.last or not ended.last["safe_to_remove"], ended
        assert ended.code in {10, 4} or is_over(ended), ended
    elif kind is Kind.FAIL:
        assert ended.code != 0 or ended.last["result"] == "complete", ended
    elif kind in {Kind.MASTER_RENAMED, Kind.MASTER_UNMOUNTED}:
        passed = ended.points[: ended.points.index(point)]
        assert ended.code != 0 or "told StepBegun plan" in passed, ended  # gone before anybody had looked at it
    if ended.last.get("result") == "complete":
        assert "after line complete" in ended.points, ended


# --- init


class Preparing:
    """What stands in for a `Scene` where a drive is made: a machine of its own and a stick."""

    def __init__(self, machine: FaultyMachine, stick: Stick) -> None:
        self.machine = machine
        self.stick = stick
        (machine.master / "file").write_text("content")

    def nothing(self) -> None:
        """There is no earlier state to be lost."""

    change = complete = look = nothing


def nobody_knows_it(scene: Scene) -> None:
    clear(scene.machine.state)
    (scene.machine.home / "recovery").unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Remove all that lies in it; it may be a mount point."""
    for each in folder.iterdir() if folder.exists() else ():
        shutil.rmtree(each) if each.is_dir() else each.unlink()


def init(scene: Scene) -> tuple[str, ...]:
    key = scene.machine.home / "recovery"
    more = ("--master", str(scene.machine.master), "--erase", "--recovery-key-file", str(key), "--no-first-run")
    return with_secret(scene, "init", str(scene.stick.device), "--name", "red", *more)


def prepared(scene: Scene, ended: Ended) -> None:
    """Given again it comes to its end, or the drive was known already; and a first run completes."""
    (scene.machine.home / "recovery").unlink(missing_ok=True)
    again = scene.machine.command(*init(scene))
    assert again.code == 0 or ("after ledger enrol" in ended.points and again.code == 2), again
    succeeded(scene.machine.backup())


def judge_init(kind: Kind, point: str, ended: Ended, _disk: Path) -> None:
    known = "after ledger enrol" in ended.points
    if kind in SIGNALS and kind is not Kind.KILL:
        assert ended.code == 128 + SIGNALS[kind] or known, ended
    elif kind is Kind.UNPLUG:
        assert ended.code != 0 or known, ended


# --- prune


def something_to_prune(scene: Scene) -> None:
    """One state more than the rules keep."""
    scene.machine.back_up_only(scene.machine.master)
    if len(scene.finished) < 2:
        scene.change()
        scene.complete()
    scene.machine.configure(scene.machine.config.read_text("utf-8") + ONE_STAYS)
    if len(scene.finished) > 2:
        prune_all(scene)  # else the first would have points that no later one has
    scene.change()
    scene.complete()


def pruned(scene: Scene, _ended: Ended) -> None:
    """What no rule keeps is gone in the end; what stays is looked at when all is over."""
    prune_all(scene)


def prune_all(scene: Scene) -> None:
    """All that may go, goes."""
    succeeded(scene.machine.command(*with_secret(scene, "prune", "red")))
    scene.finished = scene.finished[-2:]


# --- restore


def no_target(scene: Scene) -> None:
    shutil.rmtree(target(scene), ignore_errors=True)


def target(scene: Scene) -> Path:
    return scene.machine.home / "restored"


def restored(scene: Scene, ended: Ended) -> None:
    """Whatever has its name there already is whole, or what is missing was named; given again, the command completes it.

    Beside it, where it was not whole: nothing is replaced.
    """
    master = scene.machine.master
    ready = target(scene) / "documents"
    named = ready.exists() and bool(ended.last.get("unread"))
    if (ready.exists() or ended.code == 0) and not named:
        assert manifest(ready) == manifest(master), ended
    again = succeeded(scene.machine.command(*restore(scene)))
    whole = [path for path in target(scene).glob("documents*") if manifest(path) == manifest(master)]
    assert whole, again
    left = {path.name for path in target(scene).iterdir()} - {ready.name, whole[-1].name}
    assert left == set(), "working directories were left behind"
    assert named or whole == [ready], again


def restore(scene: Scene) -> tuple[str, ...]:
    return with_secret(scene, "restore", "--all", "--drive", "red", "--to", str(target(scene)))


# --- adopt


def forgotten(scene: Scene) -> None:
    clear(scene.machine.state)


def adopted(scene: Scene, ended: Ended) -> None:
    """Known or not, it can be adopted (again), and has all that it remembers."""
    done = succeeded(scene.machine.command(*adopt(scene)))
    assert done.last["snapshots"] == len(scene.finished) - 1, done


def adopt(scene: Scene) -> tuple[str, ...]:
    return with_secret(scene, "drive", "adopt", str(scene.stick.device), "--name", "red", "--yes")


# --- close


def being_looked_at(scene: Scene) -> None:
    succeeded(scene.machine.command(*with_secret(scene, "mount", "red")))


def closed(scene: Scene, _ended: Ended) -> None:
    succeeded(scene.machine.command("close", "red", "--json"))


# --- keys


def key_change(scene: Scene) -> tuple[str, ...]:
    """From whichever passphrase opens the drive now to the other one."""
    new = scene.machine.home / "new-secret"
    new.write_bytes(OTHER if scene.machine.secret.read_bytes() == PASSPHRASE else PASSPHRASE)
    new.chmod(0o600)
    return with_secret(scene, "key", "change", "red", "--new-passphrase-file", str(new))


def a_key_opens(scene: Scene, ended: Ended) -> None:
    """The new one, if that was said; else one of the two; and the drive is known with the header that it has now."""
    secrets = [scene.machine.home / name for name in ("new-secret", "secret")]
    opening = [each.read_bytes() for each in secrets if opens(scene.stick.device, each)]
    assert opening, f"neither passphrase opens the drive\n{ended}"
    if ended.code == 0:
        assert opening[0] == secrets[0].read_bytes(), ended
    scene.machine.secret.write_bytes(opening[0])
    succeeded(scene.machine.command(*with_secret(scene, "verify", "red", "--sample", "1")))
    for number in range(2, 8):  # a slot that was added and not settled; the next trial is to have its own
        cryptsetup = ["cryptsetup", "luksDump", str(luks_on(scene.stick.device))]
        if f"\n  {number}: luks2" in subprocess.run(cryptsetup, check=True, capture_output=True, text=True).stdout:
            removal = with_secret(scene, "key", "remove", "red", "--slot", str(number))
            scene.machine.command(*removal)


def opens(device: Path, secret: Path) -> bool:
    asked = ["cryptsetup", "open", "--test-passphrase", "--key-file=-", str(luks_on(device))]
    return subprocess.run(asked, input=secret.read_bytes(), check=False, capture_output=True).returncode == 0


OPENED = frozenset({Step.OPEN, Step.CLOSE})
RUN = Tried(
    "run",
    OPENED | {Step.PLAN, Step.SNAPSHOT, Step.MOVE, Step.COPY, Step.DELETE, Step.SYNC, Step.SCRUB},
    lambda s: with_secret(s, "run", "red", "--scrub"),
    changed,
    carried_on,
    judge_run,
)
INIT = Tried("init", frozenset({Step.PARTITION, Step.FORMAT}), init, nobody_knows_it, prepared, judge_init)
PRUNE = Tried("prune", OPENED | {Step.PRUNE}, lambda s: with_secret(s, "prune", "red"), something_to_prune, pruned)
RESTORE = Tried("restore", OPENED | {Step.PLAN, Step.RESTORE, Step.VERIFY}, restore, no_target, restored)
SCRUB = Tried(
    "scrub",
    OPENED | {Step.SCRUB},
    lambda s: with_secret(s, "scrub", "red"),
    nothing,
    lambda s, _e: nothing(succeeded(s.machine.command(*with_secret(s, "scrub", "red")))),
)
VERIFY = Tried(
    "verify",
    OPENED | {Step.VERIFY},
    lambda s: with_secret(s, "verify", "red"),
    nothing,
    lambda s, _e: nothing(succeeded(s.machine.command(*with_secret(s, "verify", "red")))),
)
ADOPT = Tried("drive adopt", OPENED, adopt, forgotten, adopted)
CLOSE = Tried("close", frozenset(), lambda _s: ("close", "red", "--json"), being_looked_at, closed, leaves_open=True)
KEY_CHANGE = Tried("key change", frozenset(), key_change, nothing, a_key_opens)
TRIED = (RUN, INIT, PRUNE, RESTORE, SCRUB, VERIFY, ADOPT, CLOSE, KEY_CHANGE)
STEPS = {each.name: each.steps for each in TRIED}
