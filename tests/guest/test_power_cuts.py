"""The power fails at any write, and what the drive was not told to flush is lost or torn: no complete state is."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flashback.core.text import parse_stamp, stamp
from flashback.drive import journal
from tests.guest.faults import ALL, Ended, Fault, FaultyMachine, Scene, manifest, nothing_held
from tests.guest.machine import blank_sticks, copy_or_link
from tests.guest.powercut import Cuts, RecordedDrive, Write, telling

pytestmark = pytest.mark.timeout(7200 if ALL else 600)
FEW = 300 if ALL else 6
RUNS = 3 if ALL else 2


@dataclass(frozen=True)
class Recorded:
    """A drive, what was written to it by some runs, and the states of the master that they completed."""

    scene: Scene
    drive: RecordedDrive
    record: list[Write]
    before: tuple[int, ...]
    memories: list[Path]
    """This machine's state directory in the midst of each run, when it had said on the drive that it was complete."""


@pytest.fixture
def scene() -> Iterator[Scene]:
    home = Path(tempfile.mkdtemp(dir="/srv"))  # pytest's own folders let no owner but root reach the master
    home.chmod(0o755)
    below, log = (stick.device for stick in blank_sticks()[:2])
    drive = RecordedDrive(below, log, home)
    yield Scene(FaultyMachine(home), drive)  # type: ignore[arg-type]
    drive.remove()
    shutil.rmtree(home)


def recorded(scene: Scene, runs: int) -> Recorded:
    """So many runs, each with a mark in the record where it has said that it is complete."""
    drive: RecordedDrive = scene.stick  # type: ignore[assignment]
    before = tuple(scene.finished)
    drive.record()
    memories = [scene.machine.home / f"state-{number}" for number in range(runs)]
    for memory in memories:
        scene.change()

        def said(memory: Path = memory) -> None:
            drive.mark(f"complete-{scene.number}")
            shutil.copytree(scene.machine.state, memory, copy_function=copy_or_link)

        ended = scene.machine.backup(fault=Fault("after line complete", action=said))
        assert ended.code == 0, ended
        nothing_held()
        scene.finished.append(scene.number)
    return Recorded(scene, drive, drive.stop(), before, memories)


def completed(seen: Recorded, after: int) -> list[int]:
    """The states that runs called complete before the cut."""
    marks = [each.mark for each in seen.record[:after] if each.mark.startswith("complete-")]
    return [int(mark.removeprefix("complete-")) for mark in marks]


def lost(seen: Recorded, cuts: Cuts, after: int) -> str:
    """What of the completed states is not on the drive of this cut, or is there and is none; empty if all is well."""
    expected = {*seen.before, *completed(seen, after)}
    with cuts.mounted() as drive:
        lines = journal.decode((drive / ".flashback/runs.jsonl").read_bytes())
        incumbent = journal.incumbent(lines, "documents")
        folder = drive / "documents"
        names = [path for path in (folder / "snapshots").iterdir() if parse_stamp(path.name) is not None]
        states = [seen.scene.states.get(manifest(path), -1) for path in names]
        if incumbent.complete:
            states.append(seen.scene.states.get(manifest(folder / "current"), -1))
    listed = {stamp(line.moment) for line in lines if line.mark is journal.Mark.COMPLETE}
    if -1 in states:
        return f"a state that was never one: {states}, the journal ends with {lines[-1].mark}"
    if missing := expected - set(states):
        return f"the states {missing} were complete, there are {states}"
    if unnamed := {path.name for path in names} - listed:
        return f"snapshots of which the journal does not say that they were complete: {unnamed}"
    return ""


def test_after_a_power_cut_at_any_write_each_completed_state_is_there_and_the_next_run_carries_on(
    scene: Scene, tmp_path: Path
) -> None:
    seen = recorded(scene, RUNS)
    assert sum(each.is_flush for each in seen.record) > 4, "no flushes were recorded"
    chance = random.Random(7)
    cuts, wrong = Cuts(seen.drive, seen.record, tmp_path), []
    places = telling(seen.record, FEW, chance)
    carried_on = set(chance.sample(places, 20 if ALL else 2))
    for after in places:
        cuts.cut(after, chance)
        if said := lost(seen, cuts, after):
            wrong.append(f"cut after {after} of {len(seen.record)}: {said}")
        if after in carried_on:
            cuts.cut(after, chance)
            ended = next_run(seen, cuts, seen.memories[min(len(completed(seen, after)), RUNS - 1)])
            if ended.code != 0:
                wrong.append(f"cut after {after}, the next run: {ended}")
    cuts.close()
    assert not wrong, "\n".join(wrong)


def next_run(seen: Recorded, cuts: Cuts, memory: Path) -> Ended:
    """A run on the drive of the cut, with what this machine knew then."""
    machine = seen.scene.machine
    seen.drive.put_back(cuts.image)
    shutil.rmtree(machine.state)
    shutil.copytree(memory, machine.state, copy_function=copy_or_link)
    return machine.backup()


def test_a_run_that_said_complete_before_the_data_are_on_the_medium_would_be_caught(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with a Flashback that does not flush: the test above can fail."""
    from flashback.tools import btrfs

    monkeypatch.setattr(btrfs, "sync", lambda _descriptor: None)
    seen = recorded(scene, 1)
    monkeypatch.undo()
    mark = next(number for number, each in enumerate(seen.record) if each.mark)
    cuts = Cuts(seen.drive, seen.record, tmp_path)
    cuts.cut(mark + 1, random.Random(1))
    said = lost(seen, cuts, mark + 1)
    cuts.close()
    assert said, "the drive was whole although nothing had been flushed"
