"""What `doctor` says of plugging in: are the rule and the units there, current, active?"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from flashback.core.command import Runner
from flashback.core.errors import FlashbackError
from flashback.prepare.doctor import Finding, Verdict
from flashback.tools import systemctl
from flashback.trigger.installation import TIMER, WATCH, State, Unseen, look
from flashback.trigger.links import SESSIONS
from flashback.trigger.pieces import PIECES, changeable_by
from flashback.trigger.words import AGENT

_ENABLE = "sudo flashback enable"


def findings(run: Runner, command: str, root: Path = Path("/"), sessions: Path = SESSIONS) -> list[Finding]:
    """The first is about all of it. `command` is this installation's; nothing is changed."""
    try:
        states = {piece: look(piece, command, root) for piece in PIECES}
    except Unseen as problem:
        return [Finding("plugging in", Verdict.NOTE, problem.what, "sudo flashback doctor")]
    except FlashbackError as problem:
        return [Finding("plugging in", Verdict.MISSING, problem.what, problem.hint)]
    there = [piece for piece, state in states.items() if state is not State.MISSING]
    if not there:
        return [Finding("plugging in", Verdict.NOTE, "a drive that is plugged in starts nothing", _ENABLE)]
    if len(there) < len(PIECES):
        gone = next(str(piece.target) for piece, state in states.items() if state is State.MISSING)
        return [Finding("plugging in", Verdict.MISSING, f"{gone} is gone", _ENABLE)]
    if old := [str(piece.target) for piece, state in states.items() if state is State.OLD]:
        return [Finding("plugging in", Verdict.MISSING, f"{old[0]} is not what this installation writes", _ENABLE)]
    return [_active(run), *_timer(run), *_session(sessions), *_weak(command)]


def _active(run: Runner) -> Finding:
    """Whether systemd knows it; it may not have read the file since it was written."""
    if not systemctl.is_running():
        return Finding("plugging in", Verdict.NOTE, "enabled, but systemd is not running here")
    unit = "flashback-plug@doctor.service"
    if systemctl.property_of(run, unit, "LoadState") != "loaded":
        return Finding(
            "plugging in", Verdict.MISSING, "enabled, but systemd has not read it", "sudo systemctl daemon-reload"
        )
    if systemctl.property_of(run, unit, "NeedDaemonReload") == "yes":
        return Finding(
            "plugging in", Verdict.MISSING, "systemd knows an older state of it", "sudo systemctl daemon-reload"
        )
    return Finding("plugging in", Verdict.GOOD, "enabled: a drive that is plugged in asks for its backup")


def _timer(run: Runner) -> list[Finding]:
    if not systemctl.is_running() or systemctl.property_of(run, TIMER, "ActiveState") == "active":
        return []
    remedy = f"sudo systemctl start {TIMER}"
    return [Finding("plugging in: reminders", Verdict.MISSING, f"{TIMER} does not run, so nobody is reminded", remedy)]


def _session(sessions: Path) -> list[Finding]:
    """Whose session can be asked; of others than oneself only root sees that."""
    folders = [each for each in sorted(sessions.glob("[0-9]*")) if os.access(each, os.X_OK)]
    asked = [each.name for each in folders if (each / AGENT).exists()]
    if asked:
        detail = f"a session of {_named(asked)} can be asked"
        return [Finding("plugging in: session", Verdict.GOOD, detail)]
    if str(os.getuid()) in [each.name for each in folders]:
        remedy = f"systemctl --user restart {WATCH}"
        return [Finding("plugging in: session", Verdict.NOTE, "your session is not asked, the consoles are", remedy)]
    return [Finding("plugging in: session", Verdict.NOTE, "no session is asked just now, the consoles are")]


def _named(uids: list[str]) -> str:
    names = []
    for uid in uids:
        try:
            names.append(pwd.getpwuid(int(uid)).pw_name)
        except KeyError:
            names.append(uid)
    return ", ".join(names)


def _weak(command: str) -> list[Finding]:
    weak = sorted(set(changeable_by(command)))
    if not weak:
        return []
    detail = f"runs as root, but others can change {weak[0]}"
    return [Finding("plugging in: program", Verdict.NOTE, detail, "install Flashback as root (pipx install --global)")]
