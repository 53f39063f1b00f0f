"""The tools on real sticks with dm-crypt: partitions, opening, closing, pulling, and what keeps a drive busy."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flashback.core.command import Programs
from flashback.core.errors import DriveError, FlashbackError, PassphraseRefused, StillHeld
from flashback.core.heir import Heir
from flashback.core.secret import Secret
from flashback.drive.leftover import closing_with_us, guarded
from flashback.prepare.refusal import why_not
from flashback.tools import block, btrfs, cryptsetup, mount, partition, udev
from tests.conftest import run
from tests.guest.conftest import PASSPHRASE, Stick, wait_for
from tests.guest.faults import ALL
from tests.unit.drives import a_context

RIGHT, WRONG = Secret(PASSPHRASE), Secret(b"wrong")
NAME = "flashback-test"
KILLS = 150 if ALL else 5


@pytest.fixture
def volume(stick: Stick, cheap_luks: Callable[..., str]) -> Iterator[str]:
    """The device of a LUKS volume, whose mapping `NAME` is closed afterwards if the test left it."""
    cheap_luks(stick.device)
    yield str(stick.device)
    if cryptsetup.is_open(NAME):
        run("cryptsetup", "close", NAME)


def uuid_of(device: str) -> str:
    return run("cryptsetup", "luksUUID", device).strip()


def find(programs: Programs, path: str) -> tuple[block.BlockDevice, tuple[block.BlockDevice, ...]]:
    devices = block.scan(programs)
    found = block.find(devices, path)
    assert found is not None
    return found, devices


# --- partitions


def test_a_new_partition_can_be_used_as_soon_as_it_is_returned(stick: Stick, programs: Programs) -> None:
    part = partition.partition(programs, str(stick.device), name="flashback-red")
    assert part == f"{stick.device}1"
    cryptsetup.format_volume(programs, part, label="flashback-red", passphrase=RIGHT, kdf=cryptsetup.PRACTICE)
    (found,) = block.luks_volumes(programs)
    assert (found.path, found.disk, found.uuid, found.version) == (part, str(stick.device), uuid_of(part), 2)
    assert found.diskseq == block.presence(str(stick.device)).diskseq > 0
    assert found.model == "scsi_debug"


def test_an_older_partition_table_is_replaced(stick: Stick, programs: Programs) -> None:
    run("sh", "-c", f"printf 'label: dos\\n,100M\\n,100M\\n' | sfdisk -q {stick.device}")
    assert partition.partition(programs, str(stick.device), name="x") == f"{stick.device}1"
    assert not Path(f"{stick.device}2").exists()


def test_a_disk_whose_name_ends_in_a_digit_gets_p1(image_drive: Callable[[int], Path], programs: Programs) -> None:
    loop = image_drive(64 << 20)
    assert partition.partition(programs, str(loop), name="x") == f"{loop}p1"


def test_contents_of_a_disk_include_those_of_its_partitions(stick: Stick, programs: Programs) -> None:
    part = partition.partition(programs, str(stick.device), name="x")
    run("mkfs.ext4", "-q", "-L", "photos", part)
    kinds = {(each.device, each.kind, each.label) for each in partition.contents(programs, str(stick.device))}
    assert (part, "ext4", "photos") in kinds
    assert (str(stick.device), "gpt", "") in kinds


def test_a_disk_is_refused_while_its_partition_is_mounted(stick: Stick, programs: Programs, tmp_path: Path) -> None:
    part = partition.partition(programs, str(stick.device), name="x")
    run("mkfs.ext4", "-q", part)
    run("mount", part, tmp_path)
    try:
        assert why_not(*find(programs, str(stick.device))) == (f"{part} is mounted on {tmp_path}",)
        with pytest.raises(DriveError):
            partition.partition(programs, str(stick.device), name="x")
    finally:
        run("umount", tmp_path)
    assert why_not(*find(programs, str(stick.device))) == ()


def test_an_open_mapping_is_a_reason_and_a_holder(volume: str, programs: Programs) -> None:
    cryptsetup.open_with(programs, volume, NAME, secret=RIGHT)
    assert why_not(*find(programs, volume)) == (f"the mapping {NAME} is open on it",)
    assert block.holders(volume) == (os.path.basename(cryptsetup.mappings_of(uuid_of(volume))[0].path),)
    mapping, devices = find(programs, f"/dev/mapper/{NAME}")
    assert "it is neither a disk nor a partition (crypt)" in why_not(mapping, devices)


# --- opening and closing


def test_a_volume_opens_with_its_passphrase_and_closes(volume: str, programs: Programs) -> None:
    cryptsetup.open_with(programs, volume, NAME, secret=RIGHT)
    assert cryptsetup.is_open(NAME)
    (found,) = cryptsetup.mappings_of(uuid_of(volume))
    assert (found.name, found.backing) == (NAME, volume)
    table = run("dmsetup", "table", NAME)
    assert all(flag in table for flag in ("allow_discards", "no_read_workqueue", "no_write_workqueue"))
    cryptsetup.close(programs, NAME)
    assert not cryptsetup.is_open(NAME)
    cryptsetup.close(programs, NAME)


def test_opening_leaves_the_header_as_it_was(volume: str, programs: Programs) -> None:
    before = cryptsetup.header_digest(volume, 16 << 20)
    cryptsetup.open_with(programs, volume, NAME, secret=RIGHT)
    cryptsetup.close(programs, NAME)
    assert cryptsetup.header_digest(volume, 16 << 20) == before


def test_a_wrong_passphrase_is_refused_and_opens_nothing(volume: str, programs: Programs) -> None:
    with pytest.raises(PassphraseRefused):
        cryptsetup.open_with(programs, volume, NAME, secret=WRONG)
    assert not cryptsetup.is_open(NAME)


def test_a_name_that_is_taken_is_an_error(volume: str, programs: Programs) -> None:
    cryptsetup.open_with(programs, volume, NAME, secret=RIGHT)
    with pytest.raises(DriveError, match="in use, or open already"):
        cryptsetup.open_with(programs, volume, NAME, secret=RIGHT)


def test_a_volume_opened_read_only_cannot_be_written_to(volume: str, programs: Programs) -> None:
    cryptsetup.open_with(programs, volume, NAME, secret=RIGHT, read_only=True)
    assert block.read_only(f"/dev/mapper/{NAME}")


def asked(programs: Programs, device: str, given: Secret | None) -> tuple[list[str], list[str], FlashbackError | None]:
    questions: list[str] = []
    heard: list[str] = []

    def answer(question: str) -> Secret | None:
        questions.append(question)
        return given

    try:
        cryptsetup.open_by_asking(programs.environment, device, NAME, answer=answer, hear=heard.append)
    except FlashbackError as error:
        return questions, heard, error
    return questions, heard, None


def test_cryptsetups_own_question_reaches_the_person(volume: str, programs: Programs) -> None:
    assert asked(programs, volume, RIGHT) == ([f"Enter passphrase for {volume}:"], [], None)
    assert cryptsetup.is_open(NAME)


@pytest.mark.parametrize("given", [WRONG, Secret(b""), None], ids=["wrong", "empty", "none"])
def test_a_wrong_answer_an_empty_one_and_none_are_refused_after_one_question(
    given: Secret | None, volume: str, programs: Programs
) -> None:
    questions, heard, error = asked(programs, volume, given)
    assert len(questions) == 1
    assert heard == []
    assert isinstance(error, PassphraseRefused)
    assert not cryptsetup.is_open(NAME)


@pytest.fixture
def mounted(volume: str, programs: Programs, tmp_path: Path) -> Iterator[Path]:
    """A Btrfs on the open volume, mounted."""
    cryptsetup.open_with(programs, volume, NAME, secret=RIGHT)
    btrfs.make_filesystem(programs, f"/dev/mapper/{NAME}")
    target = tmp_path / "drive"
    target.mkdir()
    mount.mount(programs, f"/dev/mapper/{NAME}", target, options=["compress=zstd:1"])
    yield target
    mount.unmount(programs, target)


def test_a_mapping_with_a_mount_on_it_is_still_held(mounted: Path, programs: Programs) -> None:
    with pytest.raises(StillHeld, match=f"the mapping {NAME} is open"):
        cryptsetup.close(programs, NAME)
    assert cryptsetup.is_open(NAME)


def test_a_deferred_close_happens_when_the_mount_goes(mounted: Path, programs: Programs) -> None:
    cryptsetup.close_deferred(programs, NAME)
    (mounted / "file").write_text("still works")
    assert cryptsetup.is_open(NAME)
    mount.unmount(programs, mounted)
    assert not cryptsetup.is_open(NAME)


def test_what_is_never_mounted_is_closed_at_the_end_of_the_block(
    volume: str, programs: Programs, tmp_path: Path
) -> None:
    """And the undo, which comes while the kernel is still at it, takes that for closed."""
    for _each in range(20):
        cryptsetup.open_with(programs, volume, NAME, secret=RIGHT)
        with closing_with_us(replace(a_context(tmp_path), run=programs), NAME):
            assert cryptsetup.is_open(NAME)
        cryptsetup.close(programs, NAME)
        assert not cryptsetup.is_open(NAME)


def test_the_mount_is_found_by_the_mappings_number_whatever_the_source_is_called(mounted: Path, volume: str) -> None:
    (mapping,) = cryptsetup.mappings_of(uuid_of(volume))
    number = block.presence(mapping.path).number
    assert [each.target for each in mount.mounts_of(number)] == [str(mounted)]


def test_a_busy_drive_names_the_process_in_the_way(mounted: Path, programs: Programs) -> None:
    with (mounted / "open").open("w"), pytest.raises(StillHeld, match=rf"\(process {os.getpid()}\) is using it"):
        mount.unmount(programs, mounted, patience=0)


@pytest.mark.parametrize("killed", ["as soon as it is open", "before it is mounted", "while it is mounted"])
def test_a_killed_process_leaves_neither_mount_nor_mapping(
    volume: str, programs: Programs, tmp_path: Path, killed: str
) -> None:
    """The self-cleaning set-up of a run: private namespace, open, mount, deferred close."""

    def work() -> None:
        mount.private_namespace()
        context = replace(a_context(tmp_path), run=programs)
        with guarded(context, NAME) as heir:
            heir.begin()
            cryptsetup.open_with(heir.run, volume, NAME, secret=RIGHT)
            if killed == "as soon as it is open":
                os.kill(os.getpid(), signal.SIGKILL)
            with closing_with_us(context, NAME):
                heir.let_go()
                btrfs.make_filesystem(programs, f"/dev/mapper/{NAME}")
                if killed == "before it is mounted":
                    os.kill(os.getpid(), signal.SIGKILL)
                mount.mount(programs, f"/dev/mapper/{NAME}", tmp_path)
        (tmp_path / "file").write_text("held open until death")
        os.kill(os.getpid(), signal.SIGKILL)

    assert killed_after(None, work) == -signal.SIGKILL
    nothing_is_left(volume)


def test_a_mapping_that_its_opener_had_only_begun_does_not_keep_its_name(programs: Programs, tmp_path: Path) -> None:
    """As cryptsetup leaves it that is killed at a certain instant."""
    with guarded(replace(a_context(tmp_path), run=programs), NAME) as heir:
        heir.begin()
        run("dmsetup", "create", "--notable", NAME)
    wait_for(lambda: NAME not in run("dmsetup", "ls"), "the mapping to go")


def killed_after(seconds: float | None, work: Callable[[], None]) -> int:
    """`work` is done in a process of its own, which is killed after that time, or ends itself; how it ended."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(99)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def nothing_is_left(volume: str) -> None:
    wait_for(lambda: not at_work(), "the programs to end")
    wait_for(lambda: not cryptsetup.is_open(NAME), "the mapping to go")
    wait_for(lambda: not block.in_use(volume), "the device to be let go of")


def at_work() -> list[bytes]:
    """The programs that are about the mapping."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(file.read_bytes())
    return [each for each in found if NAME.encode() in each.split(b"\0")]


@pytest.mark.parametrize("asked", [False, True], ids=["by what is known", "by asking"])
def test_killed_at_any_instant_around_the_opening_nothing_is_left(
    volume: str, programs: Programs, tmp_path: Path, asked: bool
) -> None:
    """The last of these instants is when the kernel has been told to close it."""
    context = replace(a_context(tmp_path), run=programs)

    def opened(heir: Heir) -> None:
        heir.begin()
        if not asked:
            cryptsetup.open_with(heir.run, volume, NAME, secret=RIGHT)
            return
        cryptsetup.open_by_asking(
            programs.environment,
            volume,
            NAME,
            answer=lambda _question: RIGHT,
            hear=lambda _line: None,
            inherits=heir.descriptor,
        )

    def work() -> None:
        mount.private_namespace()
        with guarded(context, NAME) as heir:
            opened(heir)
            with closing_with_us(context, NAME):
                heir.let_go()
                os.kill(os.getpid(), signal.SIGKILL)

    clock = time.monotonic()
    assert killed_after(None, work) == -signal.SIGKILL
    whole = time.monotonic() - clock
    nothing_is_left(volume)
    chance = random.Random(11)
    for _each in range(KILLS):
        killed_after(chance.uniform(0, whole), work)
        nothing_is_left(volume)


# --- pulled


def test_a_pulled_drive_is_not_there_and_not_the_same_when_it_is_back(stick: Stick) -> None:
    seen = block.presence(str(stick.device))
    assert block.still_there(seen)
    stick.unplug()
    assert not block.still_there(seen)
    stick.replug()
    assert not block.still_there(seen)


def test_a_mapping_whose_drive_was_pulled_is_dead_and_can_be_put_away(
    mounted: Path, volume: str, stick: Stick, programs: Programs
) -> None:
    uuid = uuid_of(volume)
    stick.unplug()
    (found,) = cryptsetup.mappings_of(uuid)
    assert (found.backing, found.alive) == (None, False)
    mount.unmount(programs, mounted)
    cryptsetup.close(programs, NAME)
    assert cryptsetup.mappings_of(uuid) == ()


def test_what_was_lost_is_reported_by_the_first_sync_only(mounted: Path, stick: Stick) -> None:
    descriptor = os.open(mounted, os.O_RDONLY)
    try:
        (mounted / "lost").write_bytes(os.urandom(1 << 20))
        stick.unplug()
        with pytest.raises(OSError, match=r"Input/output error|Read-only"):
            btrfs.sync(descriptor)
    finally:
        os.close(descriptor)


def test_a_drive_pulled_during_a_scrub_does_not_count_as_sound(mounted: Path, stick: Stick) -> None:
    (mounted / "file").write_bytes(os.urandom(48 << 20))
    os.sync()
    seen = block.presence(str(stick.device))
    descriptor = os.open(mounted, os.O_RDONLY)
    fsid = btrfs.filesystem_uuid(descriptor)
    Path(f"/sys/fs/btrfs/{fsid}/devinfo/1/scrub_speed_max").write_text(str(8 << 20))
    pulled: list[int] = []

    def pull_once(done: int, _size: int) -> None:
        if not pulled:
            Path(f"/sys/fs/btrfs/{fsid}/devinfo/1/scrub_speed_max").write_text("0")
            stick.unplug()
        pulled.append(done)

    try:
        counts = btrfs.Scrub(descriptor).run(pull_once, lambda: None, 48 << 20)
        assert counts.read_errors > 0
    except FlashbackError:
        pass
    finally:
        os.close(descriptor)
    assert pulled
    assert not block.still_there(seen)


# --- waiting


def test_a_stick_that_is_plugged_in_is_noticed_by_its_event(volume: str, stick: Stick, programs: Programs) -> None:
    uuid = uuid_of(volume)
    stick.unplug()
    looks: list[int] = []

    def is_wanted() -> block.LuksVolume | None:
        looks.append(1)
        if len(looks) == 1:
            Path(f"/sys/class/scsi_host/{stick.host}/scan").write_text("- - -")
        return next((each for each in block.luks_volumes(programs) if each.uuid == uuid), None)

    assert udev.wait_for_luks(is_wanted=is_wanted, tick=60).uuid == uuid
    run("udevadm", "settle")
