"""Why a path is in the backup or not: the walk's decisions, made for one path."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Final

from flashback.config.values import Master, Rule, Symlinks
from flashback.core.text import shown
from flashback.walk.filter import Filter
from flashback.walk.links import leaves
from flashback.walk.markers import MARKERS, NO_BACKUP, OURS, valid
from flashback.walk.master import LONGEST_PATH


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a path is `inside` the backup; `why`, as a sentence without a full stop; the `rule` that decided, if one
    did; at which path on the way (`where`, relative to the master) that was.
    """

    inside: bool
    why: str
    where: bytes = b""
    rule: Rule | None = None


_SPECIAL: Final = "a socket, a pipe or a device cannot be stored"


def verdict(master: Master, path: bytes) -> Verdict:
    """What a run would do with `path` (relative to the master). Looks, and changes nothing; never raises `OSError`."""
    rules = Filter(master.rules)
    if not path:
        return Verdict(inside=True, why=f"it is the master {master.name} itself")
    if len(path) > LONGEST_PATH:
        return Verdict(inside=False, why=f"its path is longer than {LONGEST_PATH} bytes", where=path)
    parts = path.split(b"/")
    found = Verdict(inside=True, why=f"it lies in the master {master.name}, and no rule says otherwise", where=path)
    for depth in range(1, len(parts) + 1):
        here = b"/".join(parts[:depth])
        step = _step(master, rules, here, last=depth == len(parts))
        if step is not None and not step.inside:
            return step
        found = step or found
    return found


def _step(master: Master, rules: Filter, here: bytes, *, last: bool) -> Verdict | None:
    """The decision at one path on the way; `None`: nothing speaks of it, go on."""
    if here.rpartition(b"/")[2] == OURS:
        return Verdict(inside=False, why="Flashback takes its own snapshots of a Btrfs master there", where=here)
    marked = _marked(master, here)
    if marked is not None:
        return marked
    whole = os.fsencode(master.path) + b"/" + here
    try:
        at = os.lstat(whole)
    except OSError:
        return _not_there(master, rules, here)
    is_directory = stat.S_ISDIR(at.st_mode)
    if stat.S_ISLNK(at.st_mode):
        if master.symlinks is Symlinks.KEEP or (
            master.symlinks is Symlinks.EXTERNAL and not leaves(os.readlink(whole), here)
        ):
            return _kept_link(master, rules, here, last=last)
        try:
            at = os.stat(whole)
        except OSError:
            either = _ruled(rules, here, is_directory=False) or _ruled(rules, here, is_directory=True)
            return either or Verdict(inside=False, why=f"the link {shown(here)} leads to nothing", where=here)
        is_directory = stat.S_ISDIR(at.st_mode)
    ruled = _ruled(rules, here, is_directory=is_directory)
    stays = ruled is None or ruled.inside
    if stays and is_directory and _leads_back(master, here, at):
        return Verdict(inside=False, why=f"{shown(here)} leads to a directory that it lies in", where=here)
    if stays and not is_directory and not stat.S_ISREG(at.st_mode):
        return Verdict(inside=False, why=_SPECIAL, where=here)
    return ruled


def _leads_back(master: Master, here: bytes, at: os.stat_result) -> bool:
    """Whether a directory is one of those above it, by way of a link."""
    above = here
    while above:
        above = above.rpartition(b"/")[0]
        try:
            if os.path.samestat(os.stat(os.fsencode(master.path) + b"/" + above), at):
                return True
        except OSError:
            return False
    return False


def _kept_link(master: Master, rules: Filter, here: bytes, *, last: bool) -> Verdict | None:
    ruled = _ruled(rules, here, is_directory=False)
    if ruled is not None and not ruled.inside:
        return ruled
    policy = f"symlinks: {master.symlinks.value}"
    if last:
        return Verdict(inside=True, why=f"it is a link, and kept as one ({policy})", where=here)
    return Verdict(inside=False, why=f"{shown(here)} is a link, kept as one and not followed ({policy})", where=here)


def _not_there(master: Master, rules: Filter, here: bytes) -> Verdict:
    out = _ruled(rules, here, is_directory=True) or _ruled(rules, here, is_directory=False)
    if out is not None and not out.inside:
        return out
    why = f"{shown(here)} is not there now; no rule of the master {master.name} would leave it out"
    return Verdict(inside=False, why=why, where=here)


def _ruled(rules: Filter, here: bytes, *, is_directory: bool) -> Verdict | None:
    rule = rules.verdict(here, is_directory=is_directory)
    if rule is None:
        return None
    word = "kept in" if rule.include else "excluded"
    return Verdict(rule.include, f"{shown(here)} is {word} by {rule.origin}: {_line(rule)}", here, rule)


def _line(rule: Rule) -> str:
    return ("+ " if rule.include else "") + shown(rule.pattern)


def _marked(master: Master, here: bytes) -> Verdict | None:
    """What a marker file in the directory of a path says; in the master's own it counts for nothing."""
    folder, _slash, name = here.rpartition(b"/")
    above, _slash, marker_perhaps = folder.rpartition(b"/")
    if above and marker_perhaps == NO_BACKUP:
        return Verdict(inside=False, why=f"nothing in {shown(folder)} is backed up, but itself", where=folder)
    if not folder:
        return None
    try:
        fd = os.open(os.fsencode(master.path) + b"/" + folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        marker = valid(fd, MARKERS & {os.fsencode(each) for each in os.listdir(fd)})
    except OSError:
        return None
    finally:
        os.close(fd)
    if marker is None or name == marker:
        return None
    why = f"{shown(folder + b'/' + marker)} keeps what else is in its directory out"
    return Verdict(inside=False, why=why, where=folder + b"/" + marker)
