"""Bad input: each gets a clear error with the exit code of DESIGN part 6, and nothing is left open or changed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import run
from tests.guest.conftest import PASSPHRASE, Stick
from tests.guest.machine import (
    CHEAP_COMMAND,
    COMMAND,
    PATIENCE,
    Machine,
    PreparedDrive,
    blank_sticks,
    equal,
    is_held,
    luks_on,
    sectors_written,
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreparedDrive]:
    """The drive red, without a backup yet."""
    drive = PreparedDrive(tmp_path_factory.mktemp("prepared"))
    drive.make(Machine(tmp_path_factory.mktemp("maker")), blank_sticks()[0])
    yield drive
    drive.image.unlink()  # all this lies in memory


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    (machine.master / "file").write_bytes(b"file")
    return machine


@pytest.fixture
def red(prepared: PreparedDrive, machine: Machine, stick: Stick) -> Path:
    return prepared.onto(machine, stick)


@pytest.fixture
def untouched(prepared: PreparedDrive, machine: Machine, stick: Stick) -> Iterator[Path]:
    """The same for a run that must not write one byte to it."""
    device = prepared.onto(machine, stick)
    before = sectors_written(device)
    yield device
    assert sectors_written(device) == before
    assert is_held() == []


def script(machine: Machine, device: Path | str, *more: str) -> tuple[str, ...]:
    given = ("--name", "red", "--master", str(machine.master), "--passphrase-file", str(machine.secret))
    return ("init", str(device), *given, "--erase", "--no-recovery-key", *more)


def refused(machine: Machine, *argv: str, code: int, words: str) -> None:
    """The command ends with `code` and says `words` to a person; there is no trace of Python."""
    done = machine.flashback(*argv, command=CHEAP_COMMAND)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert re.search(words, said), said
    assert "Traceback" not in said
    assert "Next:" in said
    assert is_held() == []


def runs(machine: Machine, *argv: str) -> tuple[str, ...]:
    return ("run", *argv, "--passphrase-file", str(machine.secret))


# --- devices that init refuses, --erase or not


def test_init_of_no_such_device(machine: Machine) -> None:
    refused(machine, *script(machine, "/dev/nonexistent"), code=4, words="no device /dev/nonexistent")


def test_init_of_a_directory(machine: Machine) -> None:
    refused(machine, *script(machine, machine.home), code=2, words="is a directory")


def test_init_of_a_regular_file(machine: Machine) -> None:
    (machine.home / "image").write_bytes(b"")
    refused(machine, *script(machine, machine.home / "image"), code=2, words="is not a block device")


def test_init_of_a_character_device(machine: Machine) -> None:
    refused(machine, *script(machine, "/dev/null"), code=2, words="is not a block device")


def test_init_of_the_disk_of_the_system(machine: Machine, stick: Stick) -> None:
    """Our root is no disk here, so a disk is mounted where a part of the system belongs."""
    run("sh", "-c", f"printf 'label: gpt\\nsize=200M\\nsize=100M\\n' | sfdisk -q {stick.device}")
    run("udevadm", "settle")
    run("mkfs.ext4", "-q", f"{stick.device}1")
    run("mount", f"{stick.device}1", "/boot")
    try:
        refused(machine, *script(machine, stick.device), code=2, words="in use: .*/boot")
        refused(machine, *script(machine, f"{stick.device}2"), code=2, words="the running system")
        assert Path(f"{stick.device}2").exists()
    finally:
        run("umount", "/boot")


def test_init_of_swap_in_use(machine: Machine, stick: Stick) -> None:
    run("mkswap", stick.device)
    run("udevadm", "settle")
    if subprocess.run(["swapon", stick.device], check=False, capture_output=True).returncode:
        pytest.skip("this kernel has no swap")
    try:
        refused(machine, *script(machine, stick.device), code=2, words="swap in use")
    finally:
        run("swapoff", stick.device)


def test_init_of_a_mounted_drive(machine: Machine, red: Path) -> None:
    with machine.opened(red):
        done = machine.flashback(*script(machine, red))
        assert done.returncode == 2
        assert "by-hand" in done.stderr
    with machine.opened(red) as drive:
        assert (drive / ".flashback").is_dir()


def test_init_of_an_opened_drive(machine: Machine, red: Path, opened: Callable[[Path], Path]) -> None:
    opened(luks_on(red))
    done = machine.flashback(*script(machine, red))
    assert done.returncode == 2
    assert "is open on" in done.stderr


def test_init_of_the_partition_of_an_opened_drive(machine: Machine, red: Path, opened: Callable[[Path], Path]) -> None:
    mapping = opened(luks_on(red))
    assert machine.flashback(*script(machine, luks_on(red))).returncode == 2
    assert machine.flashback(*script(machine, mapping)).returncode == 2


def test_init_of_a_device_that_is_too_small(machine: Machine, image_drive: Callable[[int], Path]) -> None:
    refused(machine, *script(machine, image_drive(100 << 20)), code=2, words="too small: .*LUKS")


def test_init_of_a_write_protected_card(machine: Machine, stick: Stick) -> None:
    run("blockdev", "--setro", stick.device)
    try:
        refused(machine, *script(machine, stick.device), code=10, words="write-protected")
    finally:
        run("blockdev", "--setrw", stick.device)


def test_init_with_a_master_that_is_not_there(machine: Machine, stick: Stick) -> None:
    argv = [*script(machine, stick.device)]
    argv[argv.index(str(machine.master))] = str(machine.home / "nowhere")
    refused(machine, *argv, code=2, words="--master .*there is no directory")


def test_init_with_a_bad_name(machine: Machine, stick: Stick) -> None:
    argv = [*script(machine, stick.device)]
    argv[argv.index("red")] = "../red"
    refused(machine, *argv, code=2, words="--name")


def test_init_with_a_bad_configuration_erases_nothing(machine: Machine, stick: Stick) -> None:
    machine.configure("masters: {}\n")
    before = sectors_written(stick.device)
    refused(machine, *script(machine, stick.device), code=2, words="masters")
    assert sectors_written(stick.device) == before


# --- drives that are not what they should be


def test_run_on_no_such_device(machine: Machine, untouched: Path) -> None:
    refused(machine, *runs(machine, "/dev/nonexistent"), code=4, words="no device /dev/nonexistent")


def test_run_on_a_directory_and_on_a_file(machine: Machine, untouched: Path) -> None:
    refused(machine, *runs(machine, str(machine.home)), code=2, words="is a directory")
    refused(machine, *runs(machine, str(machine.secret)), code=2, words="is not a block device")


def test_run_on_a_name_that_nobody_gave(machine: Machine, untouched: Path) -> None:
    refused(machine, *runs(machine, "rde"), code=4, words=r"no drive called rde is known.*did you mean red\?")


def test_run_on_a_drive_of_somebody_else(
    machine: Machine, red: Path, sticks: list[Stick], cheap_luks: Callable[..., str]
) -> None:
    uuid = cheap_luks(sticks[1].device)
    refused(machine, *runs(machine, str(sticks[1].device)), code=4, words=f"{uuid}.* is not a drive of this machine")


def test_run_on_a_luks1_volume(machine: Machine, red: Path, sticks: list[Stick]) -> None:
    run(
        *("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks1", "--pbkdf-force-iterations", "1000"),
        *("--key-file=-", sticks[1].device),
        given=PASSPHRASE,
    )
    refused(machine, *runs(machine, str(sticks[1].device)), code=4, words="is a LUKS1 volume; Flashback uses LUKS2")


def test_run_on_a_plain_volume(machine: Machine, red: Path, sticks: list[Stick]) -> None:
    run("mkfs.btrfs", "-q", sticks[1].device)
    refused(machine, *runs(machine, str(sticks[1].device)), code=4, words="holds no LUKS2 volume")


def test_run_on_a_known_drive_with_a_changed_header(machine: Machine, red: Path) -> None:
    run("cryptsetup", "config", "--label", "somebody", luks_on(red))
    before = sectors_written(red)
    with machine.at_terminal("run", "red") as child:
        said = child.read()
        child.wait()
        assert child.exitstatus == 4
    assert "do not type the passphrase" in said
    assert "passphrase for" not in said
    assert sectors_written(red) == before


def test_run_with_two_devices_of_one_uuid(prepared: PreparedDrive, machine: Machine, sticks: list[Stick]) -> None:
    prepared.onto(machine, *sticks)
    for wanted in ((), ("red",), (str(sticks[0].device),)):
        refused(machine, *runs(machine, *wanted), code=4, words="carry the same LUKS UUID")


def test_run_on_a_drive_that_is_already_open(machine: Machine, red: Path, opened: Callable[[Path], Path]) -> None:
    mapping = opened(luks_on(red))
    done = machine.flashback(*runs(machine))
    assert done.returncode == 12
    assert "STILL HELD: do not unplug red." in done.stdout
    assert mapping.name in done.stdout
    assert mapping.exists()


def test_run_on_a_write_protected_card(machine: Machine, untouched: Path) -> None:
    run("blockdev", "--setro", luks_on(untouched))
    try:
        refused(machine, *runs(machine), code=10, words="red is write-protected")
    finally:
        run("blockdev", "--setrw", luks_on(untouched))


def test_a_dry_run_reads_a_write_protected_card(machine: Machine, untouched: Path) -> None:
    run("blockdev", "--setro", luks_on(untouched))
    try:
        assert machine.run("--dry-run")["exit_code"] == 0
    finally:
        run("blockdev", "--setrw", luks_on(untouched))


# --- passphrases


def test_a_wrong_passphrase_in_a_file(machine: Machine, untouched: Path) -> None:
    machine.secret.write_bytes(b"wrong")
    refused(machine, *runs(machine), code=5, words="not opened by this passphrase")


def test_nobody_there_to_ask_for_the_passphrase(machine: Machine, untouched: Path) -> None:
    refused(machine, "run", code=5, words="passphrase")


def test_an_empty_passphrase_file(machine: Machine) -> None:
    machine.back_up_only(machine.master)
    for content in (b"", b"\n"):
        machine.secret.write_bytes(content)
        refused(machine, *runs(machine), code=2, words="is empty")


def test_a_passphrase_file_that_is_missing(machine: Machine) -> None:
    machine.back_up_only(machine.master)
    machine.secret.unlink()
    refused(machine, *runs(machine), code=2, words="secret cannot be read: No such file")


def test_a_passphrase_file_that_others_can_read(machine: Machine) -> None:
    machine.back_up_only(machine.master)
    machine.secret.chmod(0o644)
    refused(machine, *runs(machine), code=2, words="others can read .*secret")


# --- configuration


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(
            "masters: {documents: {path: /tmp}}\nscrub_evry: 3d\n", r":2:1: scrub_evry: .*scrub_every", id="key"
        ),
        pytest.param("masters: {documents: {path: /tmp}}\nkeep: {last: three}\n", r":2:14: keep\.last: ", id="type"),
        pytest.param("masters: {documents: {path: /tmp}}\non_plug: ask\non_plug: ask\n", r":3:1: ", id="duplicate"),
        pytest.param("masters:\n\tdocuments: {path: /tmp}\n", r":2:1: .*tab", id="tab"),
        pytest.param("", r":1:1: the file is empty", id="empty"),
    ],
)
def test_a_bad_configuration(machine: Machine, text: str, words: str) -> None:
    machine.configure(text)
    refused(machine, *runs(machine), code=2, words=words)


def test_a_configuration_that_is_not_utf_8(machine: Machine) -> None:
    machine.configure("")
    machine.config.write_bytes(b"masters: {documents: {path: /tmp/\xff}}\n")
    refused(machine, *runs(machine), code=2, words=r":1:\d+: .*UTF-8")


def test_all_findings_are_told_at_once(machine: Machine) -> None:
    machine.configure("maters: {}\nkeep: {last: -1}\nrotation: {due_after: soon}\n")
    done = machine.flashback("config", "check")
    assert done.returncode == 2
    assert all(place in done.stderr for place in ("yaml:1:1:", "yaml:2:14:", "yaml:3:23:"))


def test_no_configuration(machine: Machine) -> None:
    refused(machine, *runs(machine), code=2, words="flashback.yaml")


# --- masters


def test_a_master_that_is_missing(machine: Machine, untouched: Path) -> None:
    machine.back_up_only(machine.home / "nowhere")
    refused(machine, *runs(machine), code=13, words=r"nowhere \(documents\) is not there")


def test_a_master_that_is_empty(machine: Machine, red: Path) -> None:
    machine.run()
    (machine.master / "file").unlink()
    before = sectors_written(red)
    refused(machine, *runs(machine), code=13, words="holds no file, and its copy has 1; is it mounted")
    with machine.opened(red) as drive:
        assert (drive / "documents/current/file").read_bytes() == b"file"
    assert sectors_written(red) - before < 4096, "the journal at most"


def test_a_master_that_is_a_file(machine: Machine, untouched: Path) -> None:
    machine.back_up_only(machine.master / "file")
    refused(machine, *runs(machine), code=2, words="Documents/file is not a directory")


@pytest.fixture
def of_somebody(machine: Machine) -> Iterator[Path]:
    """The master in a place that every user can reach, belonging to a user without a name."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        master = Path(place) / "files"
        master.mkdir()
        (master / "file").write_bytes(b"file")
        os.chown(master, 12345, 12345)
        machine.back_up_only(master)
        yield master


def test_a_master_that_its_owner_cannot_read(machine: Machine, red: Path, of_somebody: Path) -> None:
    of_somebody.chmod(0)
    refused(machine, *runs(machine), code=2, words="12345 cannot read .*files: Permission denied")


def test_a_master_where_drives_are_mounted(machine: Machine, untouched: Path) -> None:
    machine.back_up_only(machine.runtime / "mnt/red")
    refused(machine, *runs(machine), code=2, words="where drives are mounted")
    (machine.home / "way-in").symlink_to(machine.runtime / "mnt")
    machine.back_up_only(machine.home / "way-in")
    refused(machine, *runs(machine), code=2, words="where drives are mounted")


def test_a_master_that_contains_the_mount_points(machine: Machine, red: Path) -> None:
    """The drive does not back itself up, nor the locks and work lists beside it; and it says so."""
    machine.runtime = machine.master / "runtime"
    events = machine.events()
    assert events[-1]["safe_to_remove"] is True
    (remark,) = [event for event in events if event["event"] == "remark"]
    assert remark["path"] == "runtime"
    assert machine.run()["result"] == "nothing-to-do"
    with machine.opened(red) as drive:
        assert {path.name for path in (drive / "documents/current").iterdir()} == {"file"}


def test_a_file_that_its_owner_cannot_read(machine: Machine, red: Path, of_somebody: Path) -> None:
    (of_somebody / "secret").write_bytes(b"root's alone")
    (of_somebody / "secret").chmod(0o600)
    last = machine.run(code=11)
    assert [each["path"] for each in last["unread"]] == ["secret"]
    assert (last["result"], last["safe_to_remove"]) == ("incomplete", True)
    with machine.opened(red) as drive:
        assert {path.name for path in (drive / "documents/current").iterdir()} == {"file"}


# --- a drive that is full


ROOM = 40 << 20


@pytest.fixture
def nearly_full(machine: Machine, red: Path) -> Path:
    """The drive with little more than `ROOM` left, taken up by files that are not Flashback's."""
    with machine.opened(red, read_only=False) as drive, (drive / "foreign").open("wb") as file:
        size, step = 0, 16 << 20
        while step > 1 << 16:
            try:
                os.posix_fallocate(file.fileno(), size, step)
                size += step
            except OSError:
                step //= 2
        file.truncate(size - ROOM)
    return red


def test_more_than_the_drive_can_hold_is_refused_before_the_first_byte(machine: Machine, nearly_full: Path) -> None:
    with (machine.master / "huge").open("wb") as huge:
        os.posix_fallocate(huge.fileno(), 0, 3 * ROOM)
    refused(machine, *runs(machine), code=15, words="no snapshot may go, so nothing was removed or written")
    with machine.opened(nearly_full) as drive:
        assert not (drive / "documents").exists()
    (machine.master / "huge").unlink()  # all this lies in memory


def test_a_drive_that_is_full(machine: Machine, nearly_full: Path) -> None:
    for number in range(7):
        (machine.master / f"{number}").write_bytes(os.urandom(10 << 20))
    last = machine.run(code=15)
    assert (last["result"], last["safe_to_remove"], last["drive_state"]) == ("failed", True, "closed")
    assert is_held() == []
    for number in range(2, 7):
        (machine.master / f"{number}").unlink()
    assert machine.run()["result"] == "complete"
    with machine.opened(nearly_full) as drive:
        assert equal(machine.master, drive / "documents/current") == ""
        assert list((drive / "documents/snapshots").iterdir()) == [], "an incomplete state is no snapshot"


# --- what the machine lacks


@contextmanager
def without(program: str) -> Iterator[tuple[str, ...]]:
    """A command in a mount namespace of its own, where `program` cannot be run."""
    found = run("which", "-a", program).split()
    hidden = " && ".join(f"mount --bind /dev/null {os.path.realpath(path)}" for path in found)
    yield ("unshare", "--mount", "sh", "-c", f'{hidden} && exec "$@"', "sh", *COMMAND)


@pytest.mark.parametrize("program", ["rsync", "cryptsetup", "btrfs"])
def test_a_program_that_is_missing(machine: Machine, red: Path, program: str) -> None:
    (machine.master / "new").write_bytes(b"new")
    with without(program) as command:
        done = machine.flashback(*runs(machine), command=command)
    said = done.stdout + done.stderr
    assert done.returncode == 6, said
    assert f"the program {program} is not installed" in said
    assert is_held() == []
    assert machine.run()["safe_to_remove"] is True


@pytest.mark.parametrize("argv", [("run",), ("init", "/dev/sda"), ("close",)])
def test_not_root(machine: Machine, argv: tuple[str, ...]) -> None:
    may_read_all = ("--inh-caps", "+dac_override", "--ambient-caps", "+dac_override")  # Python may lie in root's home
    done = subprocess.run(
        ["setpriv", "--reuid", "12345", *may_read_all, sys.executable, "-m", "flashback", *argv],
        env=machine.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 6, done.stderr
    assert f"flashback {argv[0]} needs root" in done.stderr
    assert "sudo" in done.stderr
