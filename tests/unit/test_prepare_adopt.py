"""Adopting a drive: what is refused before it is opened, what is learnt from it, and what is never taken from it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flashback.core.errors import DriveError, DriveState, Exit, UsageError
from flashback.core.events import Finished, Note
from flashback.drive import journal, marker, recognise
from flashback.prepare import contents
from flashback.prepare.adopt import AdoptOptions, adopt
from flashback.prepare.contents import put_beside
from flashback.prepare.foreign import examine
from flashback.rotation.ledger import Ledger
from flashback.rotation.values import Standing
from flashback.tools import block, btrfs, cryptsetup
from tests.unit.drives import DIGEST, GREEN, RED, UUID, VOLUME, FakeKernel, Person, a_context

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CREATED = datetime(2025, 5, 6, 7, 8, 9, tzinfo=UTC)
TOKEN = {"0": {"type": "flashback", "keyslots": [], "v": 1}}
SLOT = {"type": "luks2", "kdf": {"type": "argon2id", "memory": 262144}}
METADATA = {"keyslots": {"0": SLOT}, "tokens": TOKEN, "segments": {"0": {"offset": str(16 << 20)}}}
SAID = marker.Marker("red", UUID, "2025-05-06T07:08:09Z", "old laptop")
RUNS = [
    journal.Line(sequence=4, run="r4", at="2025-06-01T10:00:00Z", mark=journal.Mark.BEGUN, master="documents"),
    journal.Line(sequence=4, run="r4", at="2025-06-01T10:05:00Z", mark=journal.Mark.COMPLETE, master="documents"),
]
YAML = b"masters: {documents: {path: /home/alice/Documents}}\n"


class Asker:
    """Answers as told, and remembers what it was shown."""

    def __init__(self, *, yes: bool = True, text: str = "") -> None:
        self.yes, self.answer = yes, text
        self.shown: list[str] = []
        self.asked: list[str] = []

    def show(self, text: str) -> None:
        self.shown.append(text)

    def confirm(self, question: str, *, default: bool) -> bool:
        assert default is False
        self.asked.append(question)
        return self.yes

    def text(self, question: str, *, default: str = "", check: Callable[[str], str | None] | None = None) -> str:
        self.asked.append(question)
        assert check is not None
        assert check(self.answer) is None
        return self.answer


class Bench:
    """A drive on a device, and a machine; `adopt(...)` adopts it."""

    def __init__(self, folder: Path, kernel: FakeKernel, ledger: Ledger) -> None:
        self.folder, self.kernel, self.ledger = folder, kernel, ledger
        self.metadata: dict = METADATA
        self.volumes = [replace(VOLUME, path=str(kernel.device))]
        self.marker = marker.encode(SAID)
        self.told: list = []
        self.person: Person | None = None
        self.context = a_context(folder, None, self.told)

    @property
    def config(self) -> Path:
        return self.context.paths.config

    def fill(self) -> None:
        """What is on the drive, once it is mounted."""
        top = self.kernel.mounted[-1]
        (top / ".flashback/drive.yaml").write_bytes(self.marker)
        (top / ".flashback/runs.jsonl").write_bytes(b"\n".join(map(journal.encode, RUNS)))
        (top / ".flashback/config").mkdir(exist_ok=True)
        (top / ".flashback/config/flashback.yaml").write_bytes(YAML)
        (top / ".flashback/config/exclusions.txt").write_bytes(b"*.o\n")
        for name in ("20250601T100500Z", "20250701T100500Z", "holiday"):
            (top / "documents/snapshots" / name).mkdir(parents=True, exist_ok=True)

    def adopt(self, name: str | None = None, asker: Asker | None = None) -> int:
        device = str(self.kernel.device)
        with self.context.signals:
            context = self.context if self.person is None else self.context.with_person(self.person)
            return adopt(context, self.ledger, device, AdoptOptions(name, asker))

    @property
    def last(self) -> Finished:
        assert isinstance(self.told[-1], Finished)
        return self.told[-1]


@pytest.fixture
def ledger(tmp_path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "state/ledger.sqlite") as opened:
        yield opened


@pytest.fixture
def bench(tmp_path, monkeypatch, ledger) -> Bench:
    kernel = FakeKernel(tmp_path)
    kernel.install(monkeypatch)
    bench = Bench(tmp_path, kernel, ledger)
    kernel.trouble_after["mount"] = bench.fill
    monkeypatch.setattr(recognise, "block_device", lambda path: path)
    monkeypatch.setattr(block, "luks_volumes", lambda _run: tuple(bench.volumes))
    monkeypatch.setattr(block, "scan", lambda _run: ())
    monkeypatch.setattr(cryptsetup, "metadata", lambda _run, _device: bench.metadata)
    monkeypatch.setattr(cryptsetup, "backup_header", lambda _run, _device, file: file.write_bytes(b"header"))
    monkeypatch.setattr(contents, "space_for", lambda _drive: a_space())
    return bench


def a_space() -> btrfs.Space:
    return btrfs.Space(**{field.name: 400 for field in fields(btrfs.Space)})


def refusal(bench: Bench, *, known=(), wanted: str | None = None) -> DriveError:
    with pytest.raises(DriveError) as caught:
        examine(bench.context, known, wanted or str(bench.kernel.device))
    return caught.value


# --- what is refused before anything is opened


def test_luks1_is_refused(bench) -> None:
    bench.volumes = [replace(bench.volumes[0], version=1)]
    assert "LUKS1" in refusal(bench).what


def test_a_volume_with_neither_token_nor_label_is_none_of_ours(bench) -> None:
    bench.volumes = [replace(bench.volumes[0], label="photos")]
    bench.metadata = METADATA | {"tokens": {}}
    assert "none that Flashback made" in refusal(bench).what


@pytest.mark.parametrize(("label", "tokens"), [("flashback-red", {}), ("", TOKEN)])
def test_one_of_label_and_token_is_enough_to_go_on(bench, label, tokens) -> None:
    bench.volumes = [replace(bench.volumes[0], label=label)]
    bench.metadata = METADATA | {"tokens": tokens}
    assert examine(bench.context, (), str(bench.kernel.device)).drive.uuid == UUID


@pytest.mark.parametrize("tokens", [[], None, {"0": 7}, {"0": {"type": ["flashback"]}}, {"0": {"v": 1}}])
def test_tokens_that_are_none_are_none(bench, tokens) -> None:
    bench.volumes = [replace(bench.volumes[0], label="")]
    bench.metadata = METADATA | {"tokens": tokens}
    assert "none that Flashback made" in refusal(bench).what


def test_a_later_format_asks_for_a_newer_flashback(bench) -> None:
    bench.metadata = METADATA | {"tokens": {"0": {"type": "flashback", "v": 2}}}
    assert "newer" in refusal(bench).hint


def test_a_slot_that_wants_more_than_a_gibibyte_is_refused(bench) -> None:
    greedy = {"kdf": {"type": "argon2id", "memory": 1024 * 1024 + 1}}
    bench.metadata = METADATA | {"keyslots": {"0": SLOT, "5": greedy}}
    assert "key slot 5" in refusal(bench).what


def test_a_slot_of_a_gibibyte_is_not(bench) -> None:
    bench.metadata = METADATA | {"keyslots": {"0": {"kdf": {"memory": 1024 * 1024}}}}
    assert "1.0 GiB of memory" in " ".join(examine(bench.context, (), str(bench.kernel.device)).lines())


def test_a_uuid_that_is_none_is_refused(bench) -> None:
    bench.volumes = [replace(bench.volumes[0], uuid="")]
    assert "no UUID" in refusal(bench).what


def test_two_devices_with_its_uuid_are_refused(bench) -> None:
    bench.volumes.append(replace(bench.volumes[0], path="/dev/sdy1", disk="/dev/sdy"))
    assert "one is a copy of the other" in refusal(bench).what


@pytest.mark.parametrize("standing", [Standing.LOST, Standing.RETIRED])
def test_a_drive_that_was_lost_or_retired_is_not_adopted_by_the_way(bench, standing) -> None:
    assert f"marked {standing.value}" in refusal(bench, known=[replace(RED, standing=standing)]).what


@pytest.mark.parametrize("name", ["green", "GREEN", "a b", "../x", ""])
def test_a_bad_or_taken_name_is_told_before_anything_is_opened(bench, name) -> None:
    bench.ledger.enrol(GREEN)
    with pytest.raises(UsageError, match="--name"):
        bench.adopt(name)
    assert bench.kernel.steps == ["digest"]


def test_a_known_drive_is_not_renamed_by_the_way(bench) -> None:
    bench.ledger.enrol(RED)
    with pytest.raises(UsageError, match="known here as red") as caught:
        bench.adopt("ruby")
    assert "flashback drive rename red ruby" in caught.value.hint


def test_a_person_who_says_no_has_nothing_opened(bench) -> None:
    with pytest.raises(UsageError, match="not opened"):
        bench.adopt(asker=Asker(yes=False))
    assert "open" not in bench.kernel.steps


def test_a_person_is_warned_that_the_header_cannot_be_checked(bench) -> None:
    asker = Asker()
    bench.adopt(asker=asker)
    assert "cannot tell whether its header was changed" in asker.shown[0]


def test_a_script_is_told_the_same_in_its_log(bench) -> None:
    bench.adopt()
    notes = [event.text for event in bench.told if isinstance(event, Note)]
    assert any("cannot tell whether its header was changed" in note for note in notes)


def test_a_label_cannot_paint_the_terminal(bench) -> None:
    bench.volumes = [replace(bench.volumes[0], label="flashback-\x1b[31m", model="\x1b[2J")]
    asker = Asker()
    bench.adopt(asker=asker)
    assert "\x1b" not in asker.shown[0]


# --- what is learnt


def test_an_unknown_drive_is_known_afterwards_as_it_calls_itself(bench) -> None:
    assert bench.adopt() == Exit.DONE
    drive = bench.ledger.drive(UUID)
    assert (drive.name, drive.header_digest, drive.enrolled) == ("red", DIGEST, CREATED)


def test_it_is_opened_read_only_and_safe_to_remove_afterwards(bench) -> None:
    bench.adopt()
    assert bench.kernel.read_only == [True]
    assert bench.kernel.holds_nothing
    assert (bench.last.drive_state, bench.last.safe_to_remove) == (DriveState.CLOSED, True)


def test_its_runs_are_in_the_ledger(bench) -> None:
    bench.adopt()
    (backup,) = bench.ledger.backups()
    assert (backup.master, backup.sequence) == ("documents", 4)


def test_its_snapshots_are_in_the_ledger_and_nothing_else_that_lies_there(bench) -> None:
    bench.adopt()
    assert [each.name for each in bench.ledger.snapshots(UUID)] == ["20250601T100500Z", "20250701T100500Z"]


def test_its_room_is_in_the_ledger(bench) -> None:
    bench.adopt()
    assert bench.ledger.spaces()[UUID].size == 400


def test_a_backup_of_its_header_is_kept(bench) -> None:
    bench.adopt()
    assert (bench.context.paths.headers / f"{UUID}.luks").read_bytes() == b"header"


def test_place_and_masters_come_back_from_the_drive(bench) -> None:
    bench.marker = marker.encode(replace(SAID, place="offsite", masters=("documents",)))
    bench.adopt()
    drive = bench.ledger.drive(UUID)
    assert (drive.place, drive.masters) == ("offsite", ("documents",))


@pytest.mark.parametrize(
    "said",
    [{"place": "x\ny", "masters": ("../x",)}, {"place": "x" * 99, "masters": ()}],
)
def test_place_and_masters_that_cannot_be_are_left_out(bench, said) -> None:
    bench.marker = marker.encode(replace(SAID, **said))
    bench.adopt()
    drive = bench.ledger.drive(UUID)
    assert (drive.place, drive.masters) == ("", None)


def test_what_happens_on_plugging_in_is_never_taken_from_a_drive(bench) -> None:
    bench.marker += b'on_plug: "always"\n'
    bench.adopt()
    assert bench.ledger.drive(UUID).on_plug is None


@pytest.mark.parametrize("created", ["2099-01-01T00:00:00Z", "yesterday"])
def test_a_drive_cannot_have_been_made_in_the_future(bench, created) -> None:
    bench.marker = marker.encode(replace(SAID, created=created))
    bench.adopt()
    assert bench.ledger.drive(UUID).enrolled == NOW


def test_the_size_is_the_disks_where_the_drive_is_its_only_partition(bench, monkeypatch) -> None:
    part = block.BlockDevice(bench.volumes[0].path, "sdx1", "part", 1 << 30, parent="/dev/sdx")
    disk = block.BlockDevice("/dev/sdx", "sdx", "disk", 2 << 30, children=(part,))
    monkeypatch.setattr(block, "scan", lambda _run: (disk,))
    bench.adopt()
    assert bench.ledger.drive(UUID).size == 2 << 30


def test_adopted_twice_changes_nothing(bench) -> None:
    bench.adopt()
    before = bench.ledger.drives(), bench.ledger.runs(), bench.ledger.snapshots(UUID)
    assert bench.adopt() == Exit.DONE
    assert (bench.ledger.drives(), bench.ledger.runs(), bench.ledger.snapshots(UUID)) == before


# --- the name


def test_the_name_of_the_command_line_comes_first(bench) -> None:
    bench.adopt("ruby")
    assert bench.ledger.drive(UUID).name == "ruby"


def test_a_script_whose_drive_has_a_taken_name_is_told_to_give_one(bench) -> None:
    bench.ledger.enrol(replace(GREEN, name="Red"))
    assert bench.adopt() == Exit.USAGE
    assert "--name" in bench.last.next_step
    assert bench.ledger.drive(UUID) is None


def test_a_person_is_asked_for_another_name(bench) -> None:
    bench.ledger.enrol(replace(GREEN, name="Red"))
    bench.adopt(asker=Asker(text="ruby"))
    assert bench.ledger.drive(UUID).name == "ruby"


def test_a_drive_whose_name_cannot_be_one_needs_another(bench) -> None:
    bench.marker = marker.encode(replace(SAID, name="../../etc"))
    assert bench.adopt() == Exit.USAGE


# --- what makes it fail


def test_a_file_system_that_flashback_did_not_make_is_not_made_known(bench) -> None:
    bench.kernel.trouble_after["mount"] = lambda: shutil.rmtree(bench.kernel.mounted[-1] / ".flashback")
    assert bench.adopt() == Exit.DRIVE
    assert bench.ledger.drives() == ()


def test_a_marker_that_names_another_drive_makes_nothing_known(bench) -> None:
    bench.marker = marker.encode(replace(SAID, uuid=GREEN.uuid))
    assert bench.adopt() == Exit.DRIVE
    assert bench.ledger.drives() == ()


def test_a_refused_passphrase_makes_nothing_known(bench) -> None:
    bench.person = Person()
    assert bench.adopt() == Exit.PASSPHRASE
    assert bench.ledger.drives() == ()


def test_a_header_that_changes_meanwhile_makes_nothing_known(bench) -> None:
    bench.kernel.trouble_after["flush"] = lambda: setattr(bench.kernel, "digest", "ee" * 32)
    assert bench.adopt() == Exit.DRIVE
    assert bench.ledger.drives() == ()


# --- a known drive with a changed header


@pytest.fixture
def changed(bench) -> Bench:
    bench.ledger.enrol(replace(RED, place="pocket"))
    bench.kernel.digest = "ee" * 32
    return bench


def test_a_changed_header_is_known_afterwards(changed) -> None:
    assert changed.adopt() == Exit.DONE
    assert changed.ledger.drive(UUID) == replace(RED, place="pocket", header_digest="ee" * 32)


def test_a_person_is_asked_whether_they_changed_it(changed) -> None:
    asker = Asker(yes=False)
    with pytest.raises(UsageError):
        changed.adopt(asker=asker)
    assert "do not type the passphrase" in asker.shown[0]
    assert "Did you change its keys?" in asker.asked[0]


def test_a_changed_header_stays_unknown_where_no_passphrase_opens_it(changed) -> None:
    changed.person = Person()
    assert changed.adopt() == Exit.PASSPHRASE
    assert changed.ledger.drive(UUID).header_digest == DIGEST


def test_a_known_drive_with_its_own_header_is_not_asked_about(bench) -> None:
    bench.ledger.enrol(RED)
    asker = Asker(yes=False)
    assert bench.adopt(asker=asker) == Exit.DONE


# --- the copy of the configuration


def test_without_a_configuration_the_copy_is_put_beside(bench) -> None:
    bench.adopt()
    beside = bench.config.with_name("flashback.yaml.from-red")
    assert beside.read_bytes() == YAML
    assert beside.stat().st_mode & 0o777 == 0o600


def test_the_copy_is_never_put_into_force(bench) -> None:
    bench.adopt()
    assert not bench.config.exists()
    assert "config check" in bench.last.next_step


def test_where_there_is_a_configuration_nothing_is_put_beside(bench) -> None:
    bench.config.parent.mkdir()
    bench.config.write_bytes(b"mine")
    bench.adopt()
    assert [each.name for each in bench.config.parent.iterdir()] == ["flashback.yaml"]


def test_what_lies_beside_already_is_not_replaced(tmp_path) -> None:
    config = tmp_path / "flashback.yaml"
    first = put_beside(config, "red", {"flashback.yaml": b"one"})
    second = put_beside(config, "red", {"flashback.yaml": b"two"})
    assert [path.read_bytes() for path in (*first, *second)] == [b"one", b"two"]


def test_the_same_content_is_put_beside_once(tmp_path) -> None:
    config = tmp_path / "flashback.yaml"
    assert put_beside(config, "red", {"a": b"one"}) == put_beside(config, "red", {"a": b"one"})


def test_a_link_that_waits_beside_is_not_followed(tmp_path) -> None:
    (tmp_path / "a.from-red").symlink_to(tmp_path / "elsewhere")
    put_beside(tmp_path / "flashback.yaml", "red", {"a": b"one"})
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("plant", ["symlink", "fifo", "large", "hidden"])
def test_planted_files_among_the_copy_are_passed_over(bench, plant) -> None:
    def fill() -> None:
        bench.fill()
        folder = bench.kernel.mounted[-1] / ".flashback/config"
        make = {
            "symlink": lambda: (folder / "x").symlink_to("/etc/shadow"),
            "fifo": lambda: os.mkfifo(folder / "x"),
            "large": lambda: (folder / "x").write_bytes(b"x" * (contents.LARGEST_FILE + 1)),
            "hidden": lambda: (folder / ".x").write_bytes(b"x"),
        }
        make[plant]()

    bench.kernel.trouble_after["mount"] = fill
    bench.adopt()
    names = sorted(each.name for each in bench.config.parent.iterdir())
    assert names == ["exclusions.txt.from-red", "flashback.yaml.from-red"]


# --- a changed header, held against the copy of the one before


@pytest.fixture
def with_copy(bench, monkeypatch):
    """The drive is known with another header, of which a copy was kept; `with_copy(**sections)` is what that says."""
    bench.ledger.enrol(replace(RED, header_digest="0d" * 32))
    kept = bench.context.paths.headers / f"{UUID}.luks"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(b"kept")
    digests = {"0": {"type": "pbkdf2", "salt": "s", "digest": "d", "segments": ["0"], "keyslots": ["0"]}}
    bench.metadata = {**METADATA, "digests": digests}

    def with_copy(**sections) -> Bench:
        there = {**bench.metadata, **sections}
        answers = {str(kept): there}
        monkeypatch.setattr(cryptsetup, "metadata", lambda _run, place: answers.get(str(place), bench.metadata))
        monkeypatch.setattr(block, "luks_header", lambda _path: (2, UUID, "flashback-red"))
        return bench

    return with_copy


def test_other_key_slots_of_the_same_volume_are_told_as_such(with_copy) -> None:
    bench = with_copy(keyslots={"5": SLOT})
    asker = Asker()
    bench.adopt(asker=asker)
    assert "those of the copy of its header" in asker.shown[0]
    assert bench.ledger.drive(UUID).header_digest == DIGEST


def test_another_volume_with_the_same_uuid_is_refused_before_a_passphrase_is_asked_for(with_copy) -> None:
    bench = with_copy(digests={"0": {"type": "pbkdf2", "salt": "s", "digest": "other", "segments": ["0"]}})
    bench.person = Person()
    with pytest.raises(DriveError, match="volume key"):
        bench.adopt()
    assert bench.person.asked == []


def test_another_encryption_is_refused(with_copy) -> None:
    segments = {"0": {"offset": str(16 << 20), "encryption": "cipher_null-ecb"}}
    with pytest.raises(DriveError, match="encryption"):
        with_copy(segments=segments).adopt()


def test_the_configuration_comes_into_force_where_a_script_says_so(bench) -> None:
    with bench.context.signals:
        options = AdoptOptions(None, None, take_configuration=True)
        assert adopt(bench.context, bench.ledger, str(bench.kernel.device), options) == Exit.DONE
    assert bench.config.read_bytes() == YAML
    assert bench.last.facts["in_force"][0] == str(bench.config)
    assert "config check" in bench.last.next_step
