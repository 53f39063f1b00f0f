"""Runs over drives that are full to the brim: real Btrfs, real rsync, everything of a run but opening and closing."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest

from benchmarks import copying
from flashback.app import Unattended
from flashback.backup import run as running
from flashback.backup.report import Report, RunRequest
from flashback.compare.guard import HoldName
from flashback.config.values import Config, Keep, Master, Symlinks
from flashback.core.command import Programs
from flashback.core.context import Context, Paths
from flashback.core.errors import DriveError, NoSpace
from flashback.core.events import Planned
from flashback.core.signals import StopSignals
from flashback.core.text import parse_stamp
from flashback.drive import journal, layout
from flashback.rotation.ledger import Ledger
from flashback.rotation.values import SnapshotRecord
from flashback.tools import btrfs_delete, cryptsetup
from tests.conftest import run

MIB = 1 << 20
LAST_TWO = Keep(last=2, daily=0, weekly=0, monthly=0, yearly=0, min_free=0)


class Rig:
    """A drive, a machine's state and a master; `back_up` is a whole run."""

    def __init__(self, folder: Path, mount_point: Path) -> None:
        self.state, self.master, self.mount_point = folder / "state", folder / "master", mount_point
        self.held = contextlib.ExitStack()
        opened = self.held.enter_context(copying.open_drive(mount_point))
        self.device = opened.volume.path
        self.drive = replace(opened, known=replace(opened.known, size=400 * MIB))
        self.master.mkdir()
        self.state.mkdir()
        self.now = datetime(2027, 1, 1, tzinfo=UTC)
        self.dice = random.Random(3)
        self.events: list[object] = []
        with layout.directory(self.drive.root, layout.OURS) as ours:
            layout.write_ballast(ours, layout.ballast_for(self.drive.known.size))

    def clock(self) -> datetime:
        self.now += timedelta(seconds=5)
        return self.now

    @contextlib.contextmanager
    def ledger(self) -> Iterator[Ledger]:
        with Ledger.open(self.state / "ledger.sqlite") as ledger:
            if not ledger.drives():
                ledger.enrol(self.drive.known)
            yield ledger

    def back_up(self, keep: Keep = LAST_TWO, *, dry: bool = False) -> Report:
        self.now += timedelta(days=1)
        context = Context(
            run=Programs(),
            signals=StopSignals(),
            clock=self.clock,
            tell=self.events.append,
            person=Unattended(None),
            paths=Paths(config=self.state / "no.yaml", state=self.state, runtime=self.state),
            machine="test",
        )
        master = Master("docs", self.master, "root", Symlinks.KEEP)
        config = Config(file=context.paths.config, masters=(master,), scrub_every=None, keep=keep)
        with self.ledger() as ledger:
            request = RunRequest(dry_run=dry, allowed=tuple(HoldName))
            work = running.Run(context, config, ledger, copying.Opened(self.drive), request)
            with (
                patch("flashback.backup.run.prove_destination"),  # they want to see a LUKS mapping
                patch("flashback.backup.prune.prove_destination"),
                patch.object(cryptsetup, "mapper_path", return_value=self.device),
            ):
                work.execute()
        return work.report

    def write(self, name: str, size: int) -> None:
        (self.master / name).write_bytes(self.dice.randbytes(size))

    def fill(self, keep: int = 0) -> None:
        """By another hand: a file at the top of the drive takes all but `keep` bytes."""
        os.sync()
        status = os.statvfs(self.mount_point)
        left = status.f_bavail * status.f_frsize - keep
        with contextlib.suppress(OSError), (self.mount_point / "filler").open("ab", buffering=0) as file:
            while left > 0:
                left -= file.write(os.urandom(min(left, MIB)))
        if not keep:
            with contextlib.suppress(OSError), (self.mount_point / "filler").open("ab", buffering=0) as file:
                while True:
                    file.write(os.urandom(4096))
                    os.fsync(file.fileno())
        os.sync()

    def fill_metadata(self) -> None:
        """By another hand: empty files until there is no room for one more."""
        folder = self.mount_point / "empty"
        folder.mkdir(exist_ok=True)
        with contextlib.suppress(OSError):
            for number in range(1_000_000):
                (folder / f"{number:0200}").touch()
        os.sync()

    @property
    def snapshots(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return sorted(os.listdir(self.mount_point / "docs/snapshots"))
        return []

    @property
    def ballast(self) -> bool:
        return (self.mount_point / ".flashback/ballast").exists()

    def lines(self, mark: journal.Mark) -> list[journal.Line]:
        content = (self.mount_point / ".flashback/runs.jsonl").read_bytes()
        return [line for line in journal.decode(content) if line.mark is mark]

    def wrong(self) -> str:
        return run("rsync", "-aHAXni", "--delete", "--checksum", f"{self.master}/", f"{self.mount_point}/docs/current/")


@pytest.fixture
def rig(make_btrfs: Callable[[str], Path], tmp_path: Path) -> Iterator[Rig]:
    tmp_path.chmod(0o755)
    made = Rig(tmp_path, make_btrfs("300M"))
    yield made
    made.held.close()


def history(rig: Rig, runs: int, size: int = 8 * MIB) -> None:
    """Each run finds one file new and the one from before gone, so that each snapshot holds `size` alone."""
    for number in range(runs):
        for old in rig.master.iterdir():
            old.unlink()
        rig.write(f"file{number}", size)
        rig.back_up()


def test_runs_go_on_when_the_drive_is_full_and_the_oldest_states_make_way(rig: Rig) -> None:
    history(rig, 14, 20 * MIB)
    assert rig.wrong() == ""
    assert 2 < len(rig.snapshots) < 13
    completed = [parse_stamp(line.at.replace("-", "").replace(":", "")) for line in rig.lines(journal.Mark.COMPLETE)]
    assert [parse_stamp(name) for name in rig.snapshots] == completed[-1 - len(rig.snapshots) : -1]
    assert [line.snapshot for line in rig.lines(journal.Mark.PRUNED)] == sorted(
        line.snapshot for line in rig.lines(journal.Mark.SNAPSHOT) if line.snapshot not in rig.snapshots
    )


def test_nothing_goes_as_long_as_there_is_room(rig: Rig) -> None:
    history(rig, 6)
    assert len(rig.snapshots) == 5
    assert rig.lines(journal.Mark.PRUNED) == []


def test_as_few_go_as_the_plan_needs_and_the_dry_run_names_them(rig: Rig) -> None:
    history(rig, 6)
    before = rig.snapshots
    rig.fill(keep=2 * MIB)
    rig.write("new", 12 * MIB)
    plan = rig.back_up(dry=True).plan
    assert rig.snapshots == before
    assert [each.name for each in plan.room.goes] == before[:2]
    assert plan.as_json("red")["prune"] == [f"docs/{name}" for name in before[:2]]
    report = rig.back_up()
    assert [each.name for each in report.pruned] == before[:2]
    assert rig.wrong() == ""
    assert isinstance(next(each for each in rig.events if isinstance(each, Planned)), Planned)


def test_the_reserve_is_kept_free_too(rig: Rig) -> None:
    history(rig, 6)
    before = rig.snapshots
    rig.fill(keep=10 * MIB)
    rig.write("new", MIB)
    report = rig.back_up(replace(LAST_TWO, min_free=20 * MIB))
    assert [each.name for each in report.pruned] == before[:2]
    assert report.space_after.free_estimate > 16 * MIB


def test_the_floor_stays_and_then_it_is_exit_15_with_nothing_removed_or_written(rig: Rig) -> None:
    history(rig, 6)
    before, lines = rig.snapshots, (rig.mount_point / ".flashback/runs.jsonl").read_bytes()
    rig.fill(keep=MIB)
    rig.write("new", 200 * MIB)
    with pytest.raises(NoSpace, match="4 snapshots could go, which would not be enough") as caught:
        rig.back_up()
    assert int(caught.value.exit_code) == 15
    assert rig.snapshots == before
    assert (rig.mount_point / ".flashback/runs.jsonl").read_bytes() == lines


def test_pins_make_no_way(rig: Rig) -> None:
    history(rig, 6)
    before = rig.snapshots
    with rig.ledger() as ledger:
        uuid = rig.drive.known.uuid
        ledger.replace_snapshots(uuid, [SnapshotRecord(uuid, "docs", name, rig.now) for name in before])
        ledger.pin(uuid, "docs", before[0])
    rig.fill(keep=MIB)
    rig.write("new", 12 * MIB)
    report = rig.back_up()
    assert [each.name for each in report.pruned] == before[1:3]
    assert before[0] in rig.snapshots
    assert journal.pins(rig.lines(journal.Mark.PINNED)) == {("docs", before[0])}


def test_a_pin_that_is_set_while_the_run_goes_on_is_kept(rig: Rig) -> None:
    history(rig, 6)
    before, uuid = rig.snapshots, rig.drive.known.uuid

    class PinsOnceThePlanIsShown(list[object]):
        def append(self, event: object) -> None:
            super().append(event)
            if isinstance(event, Planned):
                with rig.ledger() as ledger:
                    moments = [SnapshotRecord(uuid, "docs", name, rig.now) for name in before]
                    ledger.replace_snapshots(uuid, moments)
                    ledger.pin(uuid, "docs", before[0])

    rig.fill(keep=MIB)
    rig.write("new", 12 * MIB)
    assert [each.name for each in rig.back_up(dry=True).plan.room.goes] == before[:2]
    rig.events = PinsOnceThePlanIsShown()
    report = rig.back_up()
    assert [each.name for each in report.pruned] == before[1:3]
    assert rig.wrong() == ""


def test_where_more_is_written_than_was_planned_the_next_make_way_while_it_copies(rig: Rig) -> None:
    """A file that is changed in place: how much of it differs is only found while it is copied."""
    history(rig, 4)
    rig.write("big", 40 * MIB)
    rig.back_up()
    before = rig.snapshots
    rig.fill(keep=5 * MIB)
    rig.write("big", 40 * MIB)
    with pytest.raises(NoSpace, match="full") as caught:
        rig.back_up()
    assert "no snapshot may go any more" in caught.value.hint
    assert rig.snapshots == before[-1:] + rig.snapshots[-1:]
    (rig.mount_point / "filler").unlink()
    rig.back_up()
    assert rig.wrong() == ""


@pytest.mark.parametrize("how", ["data", "metadata", "both"])
def test_a_drive_that_is_full_to_the_last_byte_is_survived(rig: Rig, how: str) -> None:
    history(rig, 4)
    for state in range(4):  # so that snapshots hold metadata of their own
        for number in range(1500):
            rig.write(f"small{number}", 1900)
        rig.write(f"big{state}", 4 * MIB)
        rig.back_up()
    if how in {"data", "both"}:
        rig.fill()
    if how in {"metadata", "both"}:
        rig.fill_metadata()
    rig.write("new", 3 * MIB)
    for number in range(50):
        rig.write(f"other{number}", 1900)
    report = rig.back_up()
    assert report.pruned
    assert rig.wrong() == ""
    assert len(rig.snapshots) >= 2


def test_where_metadata_is_full_and_data_is_not_room_that_data_gave_up_becomes_metadata(rig: Rig) -> None:
    """Every chunk belongs to data, half of which is free; the snapshots hold no metadata to speak of."""
    history(rig, 6, 20 * MIB)
    rig.fill()
    (rig.mount_point / "filler").unlink()
    rig.fill_metadata()
    rig.write("new", MIB)
    for number in range(50):
        rig.write(f"other{number}", 1900)
    before = rig.snapshots
    report = rig.back_up()
    assert rig.wrong() == ""
    assert len(report.pruned) < len(before) - 1, "as few as will do"


def test_the_ballast_is_given_up_for_the_last_line_and_laid_anew_when_there_is_room(rig: Rig) -> None:
    history(rig, 2)
    rig.fill()
    with layout.directory(rig.drive.root, layout.OURS) as ours:
        layout.give_up_ballast(ours)
    rig.fill()
    assert not rig.ballast
    rig.write("new", MIB)
    with pytest.raises(NoSpace):
        rig.back_up()
    (rig.mount_point / "filler").unlink()
    os.sync()
    rig.back_up()
    assert rig.ballast
    assert rig.wrong() == ""


def test_a_link_at_snapshots_leads_nowhere(rig: Rig) -> None:
    history(rig, 4)
    folder, elsewhere = rig.mount_point / "docs/snapshots", rig.mount_point / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to("../elsewhere")
    before = sorted(os.listdir(elsewhere))
    rig.fill(keep=MIB)
    rig.write("new", 12 * MIB)
    with pytest.raises(DriveError, match="not a directory of its own"):
        rig.back_up()
    assert sorted(os.listdir(elsewhere)) == before


def test_what_an_earlier_run_removed_is_waited_for_before_more_goes(rig: Rig) -> None:
    """As after a pulled plug: the snapshots are out of their folder, what they hold is not yet free."""
    history(rig, 6, 12 * MIB)
    rig.fill(keep=MIB)
    descriptor = os.open(rig.mount_point / "docs/snapshots", os.O_RDONLY | os.O_DIRECTORY)
    for name in rig.snapshots[:2]:
        btrfs_delete.delete(descriptor, name)
    os.close(descriptor)
    rig.write("new", 15 * MIB)
    assert rig.back_up().pruned == []
    assert rig.wrong() == ""
