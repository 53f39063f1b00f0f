"""logind's sessions: who sits at this machine now."""

from __future__ import annotations

from typing import Final

from flashback.core.command import Command, Runner
from flashback.core.errors import FlashbackError

_ANY: Final = frozenset(range(256))
_PROPERTIES: Final = ("User", "Active", "Class", "Remote")


def people_here(run: Runner) -> frozenset[int]:
    """The uids of those whose session is active and at this machine itself. Empty where there is no logind.

    `loginctl --json` differs from version to version; the first column of its list and `show-session` do not.
    """
    try:
        listed = run(Command(("loginctl", "list-sessions", "--no-legend", "--no-pager"), ok=_ANY, timeout=10)).text
        sessions = [line.split()[0] for line in listed.splitlines() if line.split()]
        return frozenset(uid for each in sessions if (uid := _person(run, each)) is not None)
    except FlashbackError:
        return frozenset()


def _person(run: Runner, session: str) -> int | None:
    options = [f"--property={name}" for name in _PROPERTIES]
    said = run(Command(("loginctl", "show-session", *options, "--", session), ok=_ANY, timeout=10)).text
    facts = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    here = facts.get("Active") == "yes" and facts.get("Class") == "user" and facts.get("Remote") == "no"
    uid = facts.get("User", "")
    return int(uid) if here and uid.isdecimal() else None
