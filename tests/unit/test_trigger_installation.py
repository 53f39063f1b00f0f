"""`enable` and `disable`: files for this installation, whole or not at all, and nothing left behind."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from flashback.core.command import Command, CommandFailed, Result
from flashback.core.errors import Exit, UsageError
from flashback.prepare.doctor import Verdict
from flashback.tools import systemctl
from flashback.trigger import installation, state
from flashback.trigger.installation import Change, State, look, plan_disable, plan_enable
from flashback.trigger.pieces import MARK, PIECES, changeable_by, content
from flashback.trigger.words import AGENT

COMMAND = "/opt/venv/bin/flashback"
RELOADED = [("systemctl", "daemon-reload"), ("udevadm", "control", "--reload")]
TOLD = [*RELOADED, ("systemctl", "start", "--", "flashback-remind.timer")]
TOP = Path(__file__).resolve().parents[2]


class Runner:
    """Remembers; answers `systemctl show` from a table."""

    def __init__(self, **shown: str) -> None:
        self.ran: list[tuple[str, ...]] = []
        self.shown = {"LoadState": "loaded", "NeedDaemonReload": "no", "ActiveState": "active", **shown}
        self.fails: set[str] = set()

    def __call__(self, command: Command) -> Result:
        self.ran.append(command.argv)
        if command.argv[0] in self.fails:
            raise CommandFailed(Result(command, 1, b"", b"it is not running"))
        said = self.shown.get(command.argv[3], "") if command.argv[1] == "show" else ""
        return Result(command, 0, said.encode())


@pytest.fixture(autouse=True)
def _systemd(monkeypatch) -> None:
    """It runs, and nobody is logged in."""
    monkeypatch.setattr(installation, "tell_sessions", lambda _run, *_words: None)
    monkeypatch.setattr(systemctl, "is_running", lambda: True)


@pytest.fixture
def root(tmp_path) -> Path:
    """An empty machine."""
    return tmp_path


def tree(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else path.read_text("utf-8")
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def enabled(root: Path, command: str = COMMAND) -> Runner:
    run = Runner()
    assert installation.enable(run, plan_enable(command, root), root) == []
    return run


def test_every_file_names_the_command_of_this_installation(root) -> None:
    enabled(root)
    assert any(COMMAND in text for text in tree(root).values())
    assert not any("/usr/bin/flashback" in text for text in tree(root).values())


@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.source)
def test_the_files_of_the_source_tree_are_ready_for_packagers(piece) -> None:
    assert content(piece, "/usr/bin/flashback") == (TOP / piece.source).read_text("utf-8")
    assert MARK in content(piece, COMMAND)


def test_udev_and_systemd_are_told(root) -> None:
    assert enabled(root).ran == TOLD


def test_a_second_enable_changes_nothing_and_says_so(root) -> None:
    enabled(root)
    before = tree(root)
    assert {step.change for step in plan_enable(COMMAND, root)} == {Change.NONE}
    enabled(root)
    assert tree(root) == before


def test_a_second_enable_brings_in_force_what_the_first_could_not(root) -> None:
    first = Runner()
    first.fails.add("systemctl")
    assert installation.enable(first, plan_enable(COMMAND, root), root) != []
    assert enabled(root).ran == TOLD


def test_a_session_that_is_asked_already_is_not_disturbed_by_a_second_enable(root, monkeypatch) -> None:
    told: list[tuple[str, ...]] = []
    monkeypatch.setattr(installation, "tell_sessions", lambda _run, *words: told.extend(words))
    enabled(root)
    assert told == [("daemon-reload",), ("restart", installation.WATCH)]
    told.clear()
    enabled(root)
    assert told == [("daemon-reload",), ("start", installation.WATCH)]


def test_another_installation_takes_over(root) -> None:
    enabled(root)
    steps = plan_enable("/usr/local/bin/flashback", root)
    assert Change.UPDATE in {step.change for step in steps}
    enabled(root, "/usr/local/bin/flashback")
    assert not any(COMMAND in text for text in tree(root).values())


def test_disable_leaves_nothing_behind(root) -> None:
    enabled(root, "/some/other/flashback")
    run = Runner()
    assert installation.disable(run, plan_disable(root), root) == []
    assert tree(root) == {}
    assert run.ran == [
        ("systemctl", "stop", "--", "flashback-remind.timer"),
        *RELOADED,
        ("systemctl", "reset-failed", "--", "flashback-*"),
    ]


def test_disable_leaves_the_directories_that_were_there_and_takes_along_those_that_were_not(root) -> None:
    rules = root / "etc/polkit-1/rules.d"
    there = root / "etc/udev/rules.d"
    there.mkdir(parents=True)
    enabled(root)
    assert rules.is_dir()
    installation.disable(Runner(), plan_disable(root), root)
    assert (rules.parent.exists(), os.listdir(there)) == (False, [])
    enabled(root)
    (rules / "50-theirs.rules").touch()
    installation.disable(Runner(), plan_disable(root), root)
    assert os.listdir(rules) == ["50-theirs.rules"]


def test_a_second_disable_does_nothing(root) -> None:
    assert {step.change for step in plan_disable(root)} == {Change.NONE}
    run = Runner()
    assert installation.disable(run, plan_disable(root), root) == []
    assert run.ran == []


def test_the_files_can_be_read_by_all_and_written_by_root_only(root) -> None:
    before = os.umask(0o077)
    try:
        enabled(root)
    finally:
        os.umask(before)
    assert {stat.S_IMODE((root / name).lstat().st_mode) for name in tree(root) if not (root / name).is_symlink()} == {
        0o644
    }


@pytest.mark.parametrize("foreign", ["text", "link", "directory"])
@pytest.mark.parametrize("plan", [lambda root: plan_enable(COMMAND, root), plan_disable], ids=["enable", "disable"])
def test_somebody_elses_file_is_neither_replaced_nor_removed(root, foreign, plan) -> None:
    path = root / PIECES[0].target.relative_to("/")
    path.parent.mkdir(parents=True)
    match foreign:
        case "text":
            path.write_text("[Unit]\n", "utf-8")
        case "link":
            path.symlink_to("/dev/null")
        case "directory":
            path.mkdir()
    with pytest.raises(UsageError, match="not made by Flashback"):
        plan(root)
    assert os.path.lexists(path)


@pytest.mark.parametrize(
    "command",
    ["/opt/my venv/bin/flashback", "/opt/%h/flashback", "/opt/$HOME/flashback", "flashback", "/a\n/flashback"],
)
def test_a_command_that_a_unit_would_read_otherwise_is_refused(command) -> None:
    with pytest.raises(UsageError):
        plan_enable(command)


def test_a_udev_that_does_not_run_is_told_and_no_failure(root) -> None:
    run = Runner()
    run.fails.add("udevadm")
    (said,) = installation.enable(run, plan_enable(COMMAND, root), root)
    assert said.startswith("udev did not read")


def test_what_others_can_change_is_found(root) -> None:
    command = root / "flashback"
    command.touch()
    os.chmod(command, 0o666)
    assert str(command) in set(changeable_by(str(command)))


def test_a_python_that_others_can_change_is_found(root, monkeypatch) -> None:
    """A venv of root's may stand on an interpreter in somebody's home."""
    python = root / "python3"
    python.touch()
    os.chmod(python, 0o666)
    (root / "link").symlink_to(python)
    monkeypatch.setattr("sys.executable", str(root / "link"))
    assert str(python) in set(changeable_by(COMMAND))


# --- doctor


def finding(root: Path, run: Runner | None = None):
    return state.findings(run or Runner(), COMMAND, root)[0]


def test_doctor_says_that_nothing_is_enabled(root) -> None:
    assert finding(root).verdict is Verdict.NOTE
    assert finding(root).remedy == "sudo flashback enable"


@pytest.fixture
def _program(monkeypatch) -> None:
    monkeypatch.setattr(state, "changeable_by", lambda _command: [])


@pytest.mark.usefixtures("_program")
def test_doctor_says_that_it_is_enabled(root) -> None:
    enabled(root)
    found = state.findings(Runner(), COMMAND, root, sessions=root / "run/user")
    assert [each.verdict for each in found] == [Verdict.GOOD, Verdict.NOTE]


@pytest.mark.usefixtures("_program")
def test_doctor_says_whose_session_is_asked(root) -> None:
    enabled(root)
    mine = root / "run/user" / str(os.getuid())
    mine.mkdir(parents=True)
    (first,) = state.findings(Runner(), COMMAND, root, sessions=root / "run/user")[1:]
    assert (first.verdict, first.remedy) == (Verdict.NOTE, "systemctl --user restart flashback-watch.service")
    (mine / AGENT).touch()
    (first,) = state.findings(Runner(), COMMAND, root, sessions=root / "run/user")[1:]
    assert first.verdict is Verdict.GOOD
    assert pwd.getpwuid(os.getuid()).pw_name in first.detail


@pytest.mark.usefixtures("_program")
def test_doctor_sees_that_nobody_is_reminded(root) -> None:
    enabled(root)
    found = state.findings(Runner(ActiveState="inactive"), COMMAND, root, sessions=root / "run/user")
    assert "sudo systemctl start flashback-remind.timer" in [each.remedy for each in found]


def test_the_unit_works_with_low_priority_and_may_write_where_the_machine_remembers() -> None:
    unit = content(PIECES[0], COMMAND).splitlines()
    for line in ("Nice=10", "CPUSchedulingPolicy=batch", "IOSchedulingPriority=7", "StateDirectory=flashback"):
        assert line in unit


def test_the_unit_leaves_a_master_on_btrfs_where_a_snapshot_can_be_taken() -> None:
    """What is mounted read-only for the unit is read as it is, without a snapshot (`walk.road`)."""
    assert "ProtectSystem=full" in content(PIECES[0], COMMAND).splitlines()


def test_the_unit_lets_cryptsetup_speak_to_what_systemd_cryptenroll_enrolls() -> None:
    unit = content(PIECES[0], COMMAND).splitlines()
    assert {"DeviceAllow=char-hidraw rw", "DeviceAllow=char-tpm rw"} <= set(unit)


def test_a_session_that_is_watched_by_hand_is_not_tried_for_ever() -> None:
    (watch,) = [piece for piece in PIECES if piece.target.name == installation.WATCH]
    assert f"RestartPreventExitStatus={int(Exit.LOCKED)}" in content(watch, COMMAND).splitlines()


def test_doctor_sees_a_missing_file(root) -> None:
    enabled(root)
    (root / PIECES[-1].target.relative_to("/")).unlink()
    assert finding(root).verdict is Verdict.MISSING


def test_doctor_sees_what_another_installation_wrote(root) -> None:
    enabled(root, "/elsewhere/flashback")
    assert "not what this installation writes" in finding(root).detail
    assert State.OLD in {look(piece, COMMAND, root) for piece in PIECES}


def test_doctor_does_not_call_foreign_what_only_root_can_see(root, monkeypatch) -> None:
    """Debian's polkit closes its folder of rules to all others."""

    def closed(*_anything):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", closed)
    found = finding(root)
    assert (found.verdict, found.remedy) == (Verdict.NOTE, "sudo flashback doctor")
    assert "only root can see" in found.detail


@pytest.mark.parametrize("shown", [{"LoadState": "not-found"}, {"NeedDaemonReload": "yes"}])
def test_doctor_sees_that_systemd_has_not_read_it(root, shown) -> None:
    enabled(root)
    assert finding(root, Runner(**shown)).remedy == "sudo systemctl daemon-reload"


@pytest.mark.usefixtures("_program")
def test_doctor_sees_a_foreign_file(root) -> None:
    path = root / PIECES[0].target.relative_to("/")
    path.parent.mkdir(parents=True)
    path.write_text("[Unit]\n", "utf-8")
    assert finding(root).verdict is Verdict.MISSING
