"""`doctor`: is everything here that is needed, and which command brings what is missing?"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from flashback.core.command import SYSTEM_PATH, Command, Runner
from flashback.core.context import Paths
from flashback.core.errors import FlashbackError
from flashback.core.text import shown
from flashback.drive.headerless import headerless
from flashback.rotation.values import KnownDrive


class Verdict(StrEnum):
    """`note` is worth knowing and stops nothing."""

    GOOD = "good"
    NOTE = "note"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `remedy` is a command or a sentence."""

    what: str
    verdict: Verdict
    detail: str = ""
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return {"what": self.what, "verdict": self.verdict.value, "detail": self.detail, "remedy": self.remedy}


PROGRAMS: Final = {
    "cryptsetup": {"apt": "cryptsetup-bin", "": "cryptsetup"},
    "dmsetup": {"apt": "dmsetup", "": "device-mapper"},
    "mkfs.btrfs": {"": "btrfs-progs"},
    "btrfs": {"": "btrfs-progs"},
    "rsync": {"": "rsync"},
    "sfdisk": {"apt": "fdisk", "": "util-linux"},
    "lsblk": {"": "util-linux"},
    "wipefs": {"": "util-linux"},
    "setpriv": {"": "util-linux"},
    "mount": {"apt": "mount", "": "util-linux"},
    "umount": {"apt": "mount", "": "util-linux"},
}
"""Each program with its package: by package manager, or for all others."""
MANAGERS: Final = {
    "apt-get": ("apt", "sudo apt install"),
    "dnf": ("dnf", "sudo dnf install"),
    "zypper": ("zypper", "sudo zypper install"),
    "pacman": ("pacman", "sudo pacman -S"),
    "apk": ("apk", "sudo apk add"),
}
VERSIONS: Final = {
    "cryptsetup": (("cryptsetup", "--version"), (2, 3)),
    "btrfs": (("btrfs", "--version"), (5, 4)),
    "rsync": (("rsync", "--version"), (3, 2, 5)),
}
"""Oldest versions: LUKS2 with labels and tokens as used here; blake2 checksums (btrfs-progs 5.4, kernel 5.5);
`--trust-sender` (rsync 3.2.5)."""


def examine_machine(run: Runner, paths: Paths, *, config_problem: Callable[[], FlashbackError | None]) -> list[Finding]:
    """Look at programs, kernel, privileges, configuration and state. Changes nothing."""
    return [
        _python(),
        *(_program(name) for name in PROGRAMS),
        *(_version(run, name) for name in VERSIONS if shutil.which(name, path=SYSTEM_PATH)),
        _kernel(run, "dm-crypt", dm_crypt_is_there),
        _kernel(run, "btrfs", btrfs_is_there),
        _udev(),
        _privilege(),
        _configuration(paths, config_problem),
        _state(paths),
    ]


def without_header(run: Runner, known: Sequence[KnownDrive]) -> list[Finding]:
    """The drives that are plugged in and whose LUKS header is gone."""
    return [
        Finding(f"drive {each.known.name}", Verdict.NOTE, each.sentence, each.remedy) for each in headerless(run, known)
    ]


def dm_crypt_is_there(run: Runner) -> bool:
    """Whether the kernel can open LUKS volumes: the module is loaded, built in, or can be loaded."""
    return Path("/sys/module/dm_crypt").exists() or _loadable(run, "dm-crypt")


def btrfs_is_there(run: Runner) -> bool:
    """Whether the kernel can mount Btrfs."""
    return "\tbtrfs\n" in Path("/proc/filesystems").read_text("ascii") or _loadable(run, "btrfs")


def _loadable(run: Runner, module: str) -> bool:
    try:
        run(Command(("modprobe", "--dry-run", "--quiet", module)))
    except FlashbackError:
        return False
    return True


def _python() -> Finding:
    return Finding("Python", Verdict.GOOD, ".".join(str(part) for part in sys.version_info[:3]))


def _program(name: str) -> Finding:
    found = shutil.which(name, path=SYSTEM_PATH)
    if found is not None:
        return Finding(name, Verdict.GOOD, found)
    return Finding(name, Verdict.MISSING, "not installed", _install(PROGRAMS[name]))


def _install(package: dict[str, str]) -> str:
    for program, (manager, command) in MANAGERS.items():
        if shutil.which(program, path=SYSTEM_PATH):
            return f"{command} {package.get(manager, package[''])}"
    return f"install the package {package['']}"


def _version(run: Runner, name: str) -> Finding:
    argv, oldest = VERSIONS[name]
    try:
        said = run(Command(argv, timeout=10)).text.split("\n")[0]
    except FlashbackError as problem:
        return Finding(f"{name}'s version", Verdict.NOTE, problem.what)
    found = _numbers(said)
    if not found:
        return Finding(f"{name}'s version", Verdict.NOTE, f"not understood: {shown(said)}")
    needed = ".".join(str(part) for part in oldest)
    if found >= oldest:
        return Finding(f"{name}'s version", Verdict.GOOD, ".".join(str(part) for part in found))
    return Finding(
        f"{name}'s version", Verdict.MISSING, said, f"{needed} or newer is needed: {_install(PROGRAMS[name])}"
    )


def _numbers(said: str) -> tuple[int, ...]:
    """The first dotted number in a line: `rsync  version 3.2.7  protocol` gives (3, 2, 7), `v6.16-rc1` (6, 16)."""
    found = re.search(r"[0-9]{1,9}(?:\.[0-9]{1,9})+", said)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _kernel(run: Runner, feature: str, is_there: Callable[[Runner], bool]) -> Finding:
    if is_there(run):
        return Finding(f"kernel: {feature}", Verdict.GOOD)
    return Finding(
        f"kernel: {feature}",
        Verdict.MISSING,
        "this kernel has no such module",
        "use a distribution kernel; in a container or small virtual machine: the host's",
    )


def _udev() -> Finding:
    if Path("/run/udev/control").exists():
        return Finding("udev", Verdict.GOOD, "running")
    return Finding("udev", Verdict.NOTE, "not running: a drive that is plugged in is noticed some seconds later")


def _privilege() -> Finding:
    if os.geteuid() == 0:
        return Finding("privileges", Verdict.GOOD, "root")
    sudo = shutil.which("sudo", path=SYSTEM_PATH)
    remedy = "begin the commands with sudo" if sudo else "log in as root"
    return Finding("privileges", Verdict.NOTE, "an ordinary user", remedy)


def _configuration(paths: Paths, problem: Callable[[], FlashbackError | None]) -> Finding:
    if not paths.config.exists():
        return Finding("configuration", Verdict.NOTE, f"{paths.config} is not there yet", "flashback init writes it")
    found = problem()
    if found is None:
        return Finding("configuration", Verdict.GOOD, str(paths.config))
    return Finding("configuration", Verdict.MISSING, found.what, "flashback config check names every line")


def _state(paths: Paths) -> Finding:
    try:
        mode = paths.state.stat().st_mode & 0o777
    except FileNotFoundError:
        return Finding("state", Verdict.NOTE, f"{paths.state} is not there yet", "flashback init makes it")
    except PermissionError:
        return Finding("state", Verdict.NOTE, f"{paths.state} is root's", "look with sudo")
    if mode & 0o077:
        return Finding("state", Verdict.MISSING, f"others may look into {paths.state}", f"sudo chmod 700 {paths.state}")
    return Finding("state", Verdict.GOOD, str(paths.state))
